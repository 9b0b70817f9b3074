//! The texts of `--network`, `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`, `--uidmap` and `--gidmap`.

use crate::container::{NamespaceMode, NetworkMode, UserNsMode};
use crate::spec::IdMapping;
use std::fmt;

/// What a user who names a network is told.
pub const NETWORKS_LATER: &str =
    "networks come with a later version; use none, host or container:ID";

/// Why a mode is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidMode(String);

impl fmt::Display for InvalidMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidMode {}

/// The name after `container:`, when the mode is of that kind.
fn container(text: &str, kind: &str) -> Option<Result<String, InvalidMode>> {
    let name = text.strip_prefix("container:")?;
    Some(if name.is_empty() {
        Err(InvalidMode(format!(
            "invalid {kind} mode \"{text}\": container:ID needs a container's name or id"
        )))
    } else {
        Ok(name.to_owned())
    })
}

/// `none`, `host`, `container:ID`; `default` and nothing mean `none`, until networks exist.
pub fn network(text: &str) -> Result<NetworkMode, InvalidMode> {
    match text {
        "" | "none" | "default" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => match container(text, "network") {
            Some(name) => Ok(NetworkMode::Container(name?)),
            None => Err(InvalidMode(format!(
                "no network \"{text}\": {NETWORKS_LATER}"
            ))),
        },
    }
}

/// `private` (the default) and whatever else `accepted` lists of `host`, `container`, `shareable`, `none`.
fn namespace(text: &str, kind: &str, accepted: &[&str]) -> Result<NamespaceMode, InvalidMode> {
    let mode = match text {
        "" | "private" => return Ok(NamespaceMode::Private),
        "host" => NamespaceMode::Host,
        "shareable" => NamespaceMode::Shareable,
        "none" => NamespaceMode::None,
        _ => match container(text, kind) {
            Some(name) => NamespaceMode::Container(name?),
            None => return Err(unknown(text, kind, accepted)),
        },
    };
    let word = if matches!(mode, NamespaceMode::Container(_)) {
        "container:ID"
    } else {
        text
    };
    if accepted.contains(&word) {
        Ok(mode)
    } else {
        Err(unknown(text, kind, accepted))
    }
}

fn unknown(text: &str, kind: &str, accepted: &[&str]) -> InvalidMode {
    InvalidMode(format!(
        "invalid {kind} mode \"{text}\": use private, {}",
        accepted.join(", ")
    ))
}

/// `--pid`: `private`, `host`, `container:ID`.
pub fn pid(text: &str) -> Result<NamespaceMode, InvalidMode> {
    namespace(text, "PID", &["host", "container:ID"])
}

/// `--ipc`: `private`, `none`, `shareable`, `host`, `container:ID`.
pub fn ipc(text: &str) -> Result<NamespaceMode, InvalidMode> {
    namespace(text, "IPC", &["host", "shareable", "none", "container:ID"])
}

/// `--uts`: `private`, `host`, `container:ID`.
pub fn uts(text: &str) -> Result<NamespaceMode, InvalidMode> {
    namespace(text, "UTS", &["host", "container:ID"])
}

/// `--cgroupns`: `private`, `host`.
pub fn cgroupns(text: &str) -> Result<NamespaceMode, InvalidMode> {
    namespace(text, "CGROUP", &["host"])
}

/// One `--uidmap` or `--gidmap`: `CONTAINER_ID:HOST_ID:SIZE`.
pub fn id_map(text: &str) -> Result<IdMapping, InvalidMode> {
    let invalid = |why: &str| InvalidMode(format!("invalid id map \"{text}\": {why}"));
    let fields: Vec<u32> = text
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            invalid("write CONTAINER_ID:HOST_ID:SIZE with numbers, such as 0:100000:65536")
        })?;
    let &[container_id, host_id, size] = fields.as_slice() else {
        return Err(invalid(
            "write CONTAINER_ID:HOST_ID:SIZE, such as 0:100000:65536",
        ));
    };
    if size == 0 || container_id.checked_add(size).is_none() || host_id.checked_add(size).is_none()
    {
        return Err(invalid(
            "the size must be at least 1 and the ids must stay below 4294967295",
        ));
    }
    Ok(IdMapping {
        container_id,
        host_id,
        size,
    })
}

/// The user namespace from `--userns`, `--uidmap` and `--gidmap` together. Where only one kind of map is given, it
/// serves for both.
pub fn userns(
    mode: Option<&str>,
    uidmap: &[String],
    gidmap: &[String],
) -> Result<UserNsMode, InvalidMode> {
    let maps = |texts: &[String]| {
        texts
            .iter()
            .map(|text| id_map(text))
            .collect::<Result<Vec<_>, _>>()
    };
    if uidmap.is_empty() && gidmap.is_empty() {
        return match mode.unwrap_or_default() {
            "" | "host" => Ok(UserNsMode::Host),
            "auto" => Ok(UserNsMode::Auto),
            other => Err(InvalidMode(format!(
                "invalid USER mode \"{other}\": use host, auto, or --uidmap and --gidmap"
            ))),
        };
    }
    if let Some(mode) = mode.filter(|mode| !matches!(*mode, "" | "private")) {
        return Err(InvalidMode(format!(
            "--userns {mode} and --uidmap or --gidmap exclude each other"
        )));
    }
    let (uid, gid) = (maps(uidmap)?, maps(gidmap)?);
    let both = |own: &Vec<IdMapping>, other: &Vec<IdMapping>| {
        if own.is_empty() {
            other.clone()
        } else {
            own.clone()
        }
    };
    Ok(UserNsMode::Mapped {
        uid: both(&uid, &gid),
        gid: both(&gid, &uid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(network("none"), Ok(NetworkMode::None));
        assert_eq!(network("host"), Ok(NetworkMode::Host));
        assert_eq!(
            network("container:web"),
            Ok(NetworkMode::Container("web".into()))
        );
        assert_eq!(
            network("bridge").unwrap_err().to_string(),
            "no network \"bridge\": networks come with a later version; use none, host or container:ID"
        );
        assert!(network("container:").is_err());
    }

    #[test]
    fn namespaces() {
        assert_eq!(pid(""), Ok(NamespaceMode::Private));
        assert_eq!(pid("host"), Ok(NamespaceMode::Host));
        assert_eq!(pid("container:a"), Ok(NamespaceMode::Container("a".into())));
        assert_eq!(
            pid("foo").unwrap_err().to_string(),
            "invalid PID mode \"foo\": use private, host, container:ID"
        );
        assert!(pid("shareable").is_err());
        assert_eq!(ipc("shareable"), Ok(NamespaceMode::Shareable));
        assert_eq!(ipc("none"), Ok(NamespaceMode::None));
        assert_eq!(uts("host"), Ok(NamespaceMode::Host));
        assert_eq!(cgroupns("private"), Ok(NamespaceMode::Private));
        assert!(cgroupns("container:a").is_err());
    }

    #[test]
    fn user_namespaces() {
        let map = |text: &str| vec![text.to_owned()];
        assert_eq!(userns(None, &[], &[]), Ok(UserNsMode::Host));
        assert_eq!(userns(Some("auto"), &[], &[]), Ok(UserNsMode::Auto));
        assert!(userns(Some("foo"), &[], &[]).is_err());
        let line = IdMapping {
            container_id: 0,
            host_id: 100_000,
            size: 65_536,
        };
        assert_eq!(
            userns(None, &map("0:100000:65536"), &[]),
            Ok(UserNsMode::Mapped {
                uid: vec![line],
                gid: vec![line]
            })
        );
        assert!(userns(Some("host"), &map("0:100000:65536"), &[]).is_err());
        for text in ["", "0:1", "0:1:0", "a:b:c", "0:1:2:3", "1:2:4294967295"] {
            assert!(id_map(text).is_err(), "{text}");
        }
    }
}
