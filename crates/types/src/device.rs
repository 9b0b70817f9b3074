//! The texts of `--device` and of `--device-read-bps` with its three siblings.

use crate::container::DeviceRequest;
use crate::docker::ThrottleView;
use std::fmt;
use std::path::PathBuf;

/// Why a device or a rate is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDevice(String);

impl fmt::Display for InvalidDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidDevice {}

/// A combination of `r`, `w` and `m`, each at most once.
fn is_permissions(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| "rwm".contains(c) && text.matches(c).count() == 1)
}

/// `HOST[:CONTAINER][:PERMISSIONS]`.
pub fn device(text: &str) -> Result<DeviceRequest, InvalidDevice> {
    let invalid = |why: &str| InvalidDevice(format!("invalid device specification: {text}: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (host, host, permissions),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] => (host, container, permissions),
        _ => return Err(invalid("write HOST[:CONTAINER[:rwm]]")),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(invalid("a device is named by its absolute path"));
    }
    if !is_permissions(permissions) {
        return Err(invalid("the permissions are some of r, w and m"));
    }
    Ok(DeviceRequest {
        path_on_host: PathBuf::from(host),
        path_in_container: PathBuf::from(container),
        cgroup_permissions: permissions.to_owned(),
    })
}

fn throttle(
    text: &str,
    rate: impl Fn(&str) -> Option<u64>,
    form: &str,
) -> Result<ThrottleView, InvalidDevice> {
    let Some((path, rate_text)) = text.rsplit_once(':') else {
        return Err(InvalidDevice(format!("bad format: {text}: {form}")));
    };
    if !path.starts_with("/dev/") {
        return Err(InvalidDevice(format!(
            "bad format for device path: {text}: it begins with /dev/"
        )));
    }
    match rate(rate_text) {
        Some(rate) if rate > 0 => Ok(ThrottleView {
            path: path.to_owned(),
            rate,
        }),
        _ => Err(InvalidDevice(format!(
            "invalid rate for device: {text}. {form}"
        ))),
    }
}

/// `/dev/sda:10mb`: bytes per second.
pub fn throttle_bps(text: &str) -> Result<ThrottleView, InvalidDevice> {
    throttle(
        text,
        |rate| {
            crate::size::parse_binary(rate)
                .ok()
                .and_then(|rate| u64::try_from(rate).ok())
        },
        "The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
    )
}

/// `/dev/sda:1000`: operations per second.
pub fn throttle_iops(text: &str) -> Result<ThrottleView, InvalidDevice> {
    throttle(
        text,
        |rate| rate.parse().ok(),
        "The correct format is <device-path>:<number>. Number must be a positive integer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let shown = |text: &str| {
            device(text).map(|d| {
                format!(
                    "{} {} {}",
                    d.path_on_host.display(),
                    d.path_in_container.display(),
                    d.cgroup_permissions
                )
            })
        };
        assert_eq!(shown("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(shown("/dev/fuse:rw").unwrap(), "/dev/fuse /dev/fuse rw");
        assert_eq!(shown("/dev/a:/dev/b").unwrap(), "/dev/a /dev/b rwm");
        assert_eq!(shown("/dev/a:/dev/b:r").unwrap(), "/dev/a /dev/b r");
        for text in [
            "",
            "fuse",
            "/dev/a:b",
            "/dev/a:/dev/b:x",
            "/dev/a:/dev/b:rr",
            "/dev/a:/dev/b:",
            "/a:/b:r:w",
        ] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        let view = |path: &str, rate| ThrottleView {
            path: path.into(),
            rate,
        };
        assert_eq!(
            throttle_bps("/dev/sda:10mb"),
            Ok(view("/dev/sda", 10 << 20))
        );
        assert_eq!(throttle_iops("/dev/sda:1000"), Ok(view("/dev/sda", 1000)));
        for text in ["x", "/dev/x:1z", "/dev/x:0", "/dev/x:", "sda:1"] {
            assert!(throttle_bps(text).is_err(), "{text}");
        }
        assert!(throttle_iops("/dev/sda:1k").is_err());
    }
}
