//! The facts of the host that a start needs: device numbers, kernel, capabilities, the host's name.

use super::record::{Config, Container};
use super::{Containers, lower};
use crate::error::{Context, Error, Kind, Result};
use barque_runtime::defaults;
use barque_runtime::seccomp::KernelVersion;
use barque_types::container::{DeviceRequest, NetworkMode};
use barque_types::docker::ThrottleView;
use barque_types::spec::{Device, DeviceRule, ThrottleDevice};
use rustix::fs::{FileType, Stat};
use std::path::Path;

impl Containers<'_> {
    /// Looks up what the lowering of this container needs.
    pub(super) fn facts(&self, container: &Container) -> Result<lower::Facts> {
        let config = &container.config;
        let request = &config.request;
        let uname = rustix::system::uname();
        let mut facts = lower::Facts {
            capabilities: defaults::all_capabilities(),
            kernel: KernelVersion::running(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            host_devices: if request.privileged {
                defaults::privileged_devices()
            } else {
                Vec::new()
            },
            throttles: throttles(config)?,
            swap_limit: request.resources.memory.is_some() && self.has_swap_limit()?,
            dir: container.dir.clone(),
            network_dir: container.dir.clone(),
            ..lower::Facts::default()
        };
        for device in &request.devices {
            facts.devices.extend(host_device(device)?);
        }
        if let NetworkMode::Container(other) = &request.network {
            let other = self.find(other)?;
            facts.network_dir = other.dir;
            if !other.config.process.hostname.is_empty() {
                facts.hostname = other.config.process.hostname;
            }
        }
        Ok(facts)
    }

    /// v1 shows the file where the kernel counts swap; v2 counts it wherever there is swap at all.
    fn has_swap_limit(&self) -> Result<bool> {
        let layout = self.engine.cgroups()?;
        Ok(layout
            .controller("memory")
            .is_some_and(|hierarchy| match hierarchy.is_v2() {
                true => Path::new("/proc/swaps").exists(),
                false => hierarchy
                    .mounted()
                    .mount_point
                    .join("memory.memsw.limit_in_bytes")
                    .exists(),
            }))
    }
}

fn throttles(config: &Config) -> Result<lower::Throttles> {
    let asked = &config.request.throttles;
    Ok(lower::Throttles {
        read_bps: rates(&asked.read_bps)?,
        write_bps: rates(&asked.write_bps)?,
        read_iops: rates(&asked.read_iops)?,
        write_iops: rates(&asked.write_iops)?,
    })
}

fn rates(asked: &[ThrottleView]) -> Result<Vec<ThrottleDevice>> {
    asked
        .iter()
        .map(|view| {
            let stat = stat(Path::new(&view.path))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "{} is not a block device: a rate limit needs one (see lsblk)",
                        view.path
                    ),
                ));
            }
            let (major, minor) = numbers(&stat);
            Ok(ThrottleDevice {
                major,
                minor,
                rate: view.rate,
            })
        })
        .collect()
}

fn stat(path: &Path) -> Result<Stat> {
    rustix::fs::stat(path)
        .while_("find the device", path)
        .map_err(|e| e.with_kind(Kind::Invalid))
}

fn numbers(stat: &Stat) -> (i64, i64) {
    (
        i64::from(rustix::fs::major(stat.st_rdev)),
        i64::from(rustix::fs::minor(stat.st_rdev)),
    )
}

/// A device node, or all nodes below a directory (Docker's rule).
fn host_device(request: &DeviceRequest) -> Result<Vec<(Device, DeviceRule)>> {
    let on_host = &request.path_on_host;
    let mut found = Vec::new();
    if on_host.is_dir() {
        for entry in std::fs::read_dir(on_host).while_("list", on_host)? {
            let entry = entry.while_("list", on_host)?;
            let below = DeviceRequest {
                path_on_host: entry.path(),
                path_in_container: request.path_in_container.join(entry.file_name()),
                cgroup_permissions: request.cgroup_permissions.clone(),
            };
            found.extend(host_device(&below)?);
        }
        return Ok(found);
    }
    let stat = stat(on_host)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "error gathering device information while adding custom device {:?}: not a device node",
                    on_host.display()
                ),
            ));
        }
    };
    let (major, minor) = numbers(&stat);
    let device = Device {
        kind: kind.to_owned(),
        path: request.path_in_container.clone(),
        major,
        minor,
        file_mode: Some(stat.st_mode & 0o7777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
    };
    let rule = DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some(request.cgroup_permissions.clone()),
    };
    found.push((device, rule));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_block_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let view = ThrottleView {
            path: file.path().display().to_string(),
            rate: 1,
        };
        assert!(
            rates(&[view])
                .unwrap_err()
                .to_string()
                .contains("not a block device")
        );
        let null = DeviceRequest {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/nix".into(),
            cgroup_permissions: "r".into(),
        };
        let (device, rule) = host_device(&null).unwrap().remove(0);
        assert_eq!(
            (device.kind.as_str(), device.major, device.minor),
            ("c", 1, 3)
        );
        assert_eq!(rule.access.as_deref(), Some("r"));
    }
}
