//! One mount of the specification, parsed: mount(8) options become mount attributes, propagation
//! and parameters of the file system.

use super::IdMaps;
use crate::error::{Error, Result};
use barque_sys::mount::{Attributes, Propagation};
use barque_types::spec;
use std::path::{Component, Path, PathBuf};

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A file or directory of the host.
    Bind {
        /// Its path on the host.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// The container's own part of the cgroup hierarchies.
    Cgroup,
    /// A new instance of a file system.
    Filesystem {
        /// Type.
        kind: String,
        /// Device or name.
        source: String,
        /// Parameters, with or without a value.
        parameters: Vec<(String, Option<String>)>,
    },
}

/// The map of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdmapSource {
    /// That of the container's user namespace.
    Container,
    /// One of its own.
    Own(IdMaps),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub what: What,
    /// Attributes of the mount itself.
    pub set: Attributes,
    /// Attributes to take away from a bind mount.
    pub clear: Attributes,
    /// The same for everything below a bind mount (`rro` and its kin).
    pub recursive_set: Attributes,
    /// See `recursive_set`.
    pub recursive_clear: Attributes,
    /// Propagation types in their order; `true` is for everything below, too.
    pub propagation: Vec<(Propagation, bool)>,
    /// Ids mapped by the mount, and whether everything below is mapped too.
    pub idmap: Option<(IdmapSource, bool)>,
}

/// `private`, `rslave`, …: the type, and whether it is recursive.
pub(crate) fn propagation(option: &str) -> Option<(Propagation, bool)> {
    Some(match option {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

/// Attribute options: name, what is set, what is cleared. Each also exists with an `r` in front,
/// for the mount and everything below it.
const ATTRIBUTES: [(&str, Attributes, Attributes); 17] = [
    ("ro", Attributes::RDONLY, Attributes::NONE),
    ("rw", Attributes::NONE, Attributes::RDONLY),
    ("nosuid", Attributes::NOSUID, Attributes::NONE),
    ("suid", Attributes::NONE, Attributes::NOSUID),
    ("nodev", Attributes::NODEV, Attributes::NONE),
    ("dev", Attributes::NONE, Attributes::NODEV),
    ("noexec", Attributes::NOEXEC, Attributes::NONE),
    ("exec", Attributes::NONE, Attributes::NOEXEC),
    ("nosymfollow", Attributes::NOSYMFOLLOW, Attributes::NONE),
    ("symfollow", Attributes::NONE, Attributes::NOSYMFOLLOW),
    ("nodiratime", Attributes::NODIRATIME, Attributes::NONE),
    ("diratime", Attributes::NONE, Attributes::NODIRATIME),
    // Setting a mode of access times means clearing the mask of all of them first.
    ("noatime", Attributes::NOATIME, Attributes::ATIME),
    ("strictatime", Attributes::STRICTATIME, Attributes::ATIME),
    ("relatime", Attributes::NONE, Attributes::ATIME),
    ("atime", Attributes::NONE, Attributes::ATIME),
    ("norelatime", Attributes::NONE, Attributes::ATIME),
];

/// Options that mean nothing: the default, or what mount(8) keeps for itself.
const IGNORED: [&str; 9] = [
    "defaults",
    "async",
    "nolazytime",
    "loud",
    "nostrictatime",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
];

fn attribute(option: &str) -> Option<(Attributes, Attributes)> {
    ATTRIBUTES
        .iter()
        .find(|(name, ..)| *name == option)
        .map(|(_, set, clear)| (*set, *clear))
}

impl MountPlan {
    /// Parses one entry. `maps` are those of the container's new user namespace.
    pub fn parse(mount: &spec::Mount, maps: Option<&IdMaps>) -> Result<Self> {
        let mut plan = Self {
            destination: absolute(&mount.destination)?,
            what: What::Cgroup,
            set: Attributes::NONE,
            clear: Attributes::NONE,
            recursive_set: Attributes::NONE,
            recursive_clear: Attributes::NONE,
            propagation: Vec::new(),
            idmap: None,
        };
        let mut bind = None;
        let mut idmap = None;
        let mut rest = Vec::new();
        for option in mount
            .options
            .iter()
            .flat_map(|o| o.split(','))
            .filter(|o| !o.is_empty())
        {
            if let Some((set, clear)) = attribute(option) {
                plan.add(set, clear);
            } else if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute) {
                plan.add_recursive(set, clear);
            } else if let Some(found) = propagation(option) {
                plan.propagation.push(found);
            } else {
                match option {
                    "bind" => bind = Some(false),
                    "rbind" => bind = Some(true),
                    "idmap" => idmap = Some(false),
                    "ridmap" => idmap = Some(true),
                    _ if IGNORED.contains(&option) => {}
                    _ => rest.push(option.to_owned()),
                }
            }
        }
        let kind = mount.kind.as_deref().unwrap_or("none");
        if bind.is_none() && matches!(kind, "bind" | "none" | "") {
            // crun and runc take the type alone for a bind mount, recursive as mount --rbind.
            bind = Some(true);
        }
        plan.what = plan.what(mount, kind, bind, rest, maps)?;
        plan.idmap = plan.idmap_source(mount, idmap)?;
        Ok(plan)
    }

    fn add(&mut self, set: Attributes, clear: Attributes) {
        // The last word counts: `ro,rw` is writable, `noatime,relatime` is relatime.
        self.set = self.set.without(clear) | set;
        self.clear = self.clear.without(set) | clear;
    }

    fn add_recursive(&mut self, set: Attributes, clear: Attributes) {
        self.recursive_set = self.recursive_set.without(clear) | set;
        self.recursive_clear = self.recursive_clear.without(set) | clear;
    }

    fn what(
        &mut self,
        mount: &spec::Mount,
        kind: &str,
        bind: Option<bool>,
        rest: Vec<String>,
        maps: Option<&IdMaps>,
    ) -> Result<What> {
        if let Some(recursive) = bind {
            // Options of a file system mean nothing for a bind mount; engines leave them there.
            let source = mount.source.clone().unwrap_or_default();
            if !source.is_absolute() {
                return Err(self.invalid(format!("the source {source:?} is not an absolute path")));
            }
            return Ok(What::Bind { source, recursive });
        }
        // A new file system has nothing below it.
        self.set = self.set | self.recursive_set;
        if matches!(kind, "cgroup" | "cgroup2") {
            return Ok(What::Cgroup);
        }
        let mut parameters = Vec::new();
        for option in rest {
            match option.split_once('=') {
                // devpts refuses a group that the user namespace does not map; the terminals then
                // belong to root's group, as they do where there is no group 5.
                Some(("gid", gid))
                    if kind == "devpts"
                        && maps.is_some_and(|m| gid.parse().is_ok_and(|g| !m.maps_gid(g))) => {}
                Some((key, value)) => parameters.push((key.to_owned(), Some(value.to_owned()))),
                None => parameters.push((option, None)),
            }
        }
        let source = mount.source.as_deref().unwrap_or(Path::new(kind));
        Ok(What::Filesystem {
            kind: kind.to_owned(),
            source: source.to_string_lossy().into_owned(),
            parameters,
        })
    }

    fn idmap_source(
        &self,
        mount: &spec::Mount,
        option: Option<bool>,
    ) -> Result<Option<(IdmapSource, bool)>> {
        let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        if option.is_none() && !own {
            return Ok(None);
        }
        if !matches!(self.what, What::Bind { .. }) {
            return Err(self.invalid("only a bind mount can map ids".to_owned()));
        }
        let source = if own {
            IdmapSource::Own(IdMaps {
                uid: mount.uid_mappings.clone(),
                gid: mount.gid_mappings.clone(),
            })
        } else {
            IdmapSource::Container
        };
        Ok(Some((source, option.unwrap_or(false))))
    }

    fn invalid(&self, why: String) -> Error {
        Error::invalid(format!("mount at {:?}", self.destination), why)
    }

    /// `mounting "proc" at "/proc"`, for messages.
    pub fn describe(&self) -> String {
        let what = match &self.what {
            What::Bind { source, .. } => source.to_string_lossy().into_owned(),
            What::Cgroup => "cgroup".to_owned(),
            What::Filesystem { kind, .. } => kind.clone(),
        };
        format!("mounting {what:?} at {:?}", self.destination)
    }
}

/// The destination as a clean absolute path; a relative one (which the specification tolerates)
/// is taken from the root. `..` is left to the resolution inside the root.
fn absolute(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => clean.push(".."),
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Error::invalid(
            format!("mount at {path:?}"),
            "the destination is the root",
        ));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, source: &str, options: &[&str]) -> MountPlan {
        let mount = spec::Mount {
            destination: "/x".into(),
            kind: Some(kind.into()),
            source: Some(source.into()),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..spec::Mount::default()
        };
        MountPlan::parse(&mount, None).expect("valid")
    }

    #[test]
    fn the_last_of_two_contradicting_options_counts() {
        let plan = parse("tmpfs", "tmpfs", &["ro", "rw", "noatime", "strictatime"]);
        assert_eq!(plan.set, Attributes::STRICTATIME);
    }

    #[test]
    fn options_fall_into_attributes_propagation_and_parameters() {
        let plan = parse(
            "tmpfs",
            "shm",
            &["nosuid", "rshared", "size=64m", "mode=1777"],
        );
        assert_eq!(plan.set, Attributes::NOSUID);
        assert_eq!(plan.propagation, [(Propagation::Shared, true)]);
        let What::Filesystem { parameters, .. } = plan.what else {
            panic!("not a file system")
        };
        assert_eq!(parameters[0], ("size".to_owned(), Some("64m".to_owned())));
    }

    #[test]
    fn a_recursively_read_only_bind_keeps_its_two_sets_apart() {
        let plan = parse("bind", "/srv", &["rbind", "rro", "nosuid"]);
        assert_eq!(plan.recursive_set, Attributes::RDONLY);
        assert_eq!(plan.set, Attributes::NOSUID);
        assert_eq!(
            plan.what,
            What::Bind {
                source: "/srv".into(),
                recursive: true
            }
        );
    }

    #[test]
    fn tmpfs_options_on_a_bind_mount_are_tolerated() {
        let plan = parse("bind", "/srv", &["bind", "size=64m", "mode=755"]);
        assert_eq!(
            plan.what,
            What::Bind {
                source: "/srv".into(),
                recursive: false
            }
        );
    }

    #[test]
    fn the_root_is_no_destination() {
        let mount = spec::Mount {
            destination: "/./".into(),
            ..spec::Mount::default()
        };
        assert!(MountPlan::parse(&mount, None).is_err());
    }

    #[test]
    fn an_unmapped_terminal_group_is_dropped() {
        let maps = IdMaps {
            uid: Vec::new(),
            gid: vec![spec::IdMapping {
                container_id: 0,
                host_id: 1000,
                size: 1,
            }],
        };
        let mount = spec::Mount {
            destination: "/dev/pts".into(),
            kind: Some("devpts".into()),
            options: vec!["gid=5".into(), "mode=0620".into()],
            ..spec::Mount::default()
        };
        let plan = MountPlan::parse(&mount, Some(&maps)).expect("valid");
        let What::Filesystem { parameters, .. } = plan.what else {
            panic!("not a file system")
        };
        assert_eq!(parameters, [("mode".to_owned(), Some("0620".to_owned()))]);
    }
}
