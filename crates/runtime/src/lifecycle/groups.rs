//! The cgroups of a container: where its configuration wants them.

use super::record::GroupRecord;
use crate::defaults;
use crate::error::Result;
use barque_cgroup::{Cgroup, Layout};
use barque_types::spec::{Resources, Spec};

/// Where the cgroups of a container are to be.
///
/// `linux.cgroupsPath` as it stands: absolute from the mount point of each hierarchy, relative from the runtime's
/// own group (config-linux.md, "Cgroups Path"). Without one, at the top under the container's id, which is where
/// crun puts it: below our own group no v2 controller could be handed down, for we are in it.
pub(super) fn place(id: &str, spec: &Spec) -> GroupRecord {
    let path = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.cgroups_path.clone());
    GroupRecord {
        path: path
            .filter(|p| !p.is_empty())
            .unwrap_or_else(|| format!("/{id}")),
    }
}

/// Makes them and sets the limits; returns what could not be limited, too.
pub(super) fn make(record: &GroupRecord, spec: &Spec) -> Result<(Cgroup, Vec<String>)> {
    let resources = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone());
    let layout = Layout::detect()?;
    Ok(Cgroup::create(
        &layout,
        &record.path,
        &with_supplied_devices(resources.unwrap_or_default()),
    )?)
}

/// Whoever restricts the devices still gets those that the runtime supplies (config-linux.md, "Default
/// Devices"), as with runc: its callers' rules do not name them all.
fn with_supplied_devices(mut resources: Resources) -> Resources {
    if !resources.devices.is_empty() {
        resources.devices.extend(defaults::supplied_device_rules());
    }
    resources
}

/// Opens them; `None` when they are gone, or were never made.
pub(super) fn open(record: &GroupRecord) -> Result<Option<Cgroup>> {
    match Cgroup::open(&Layout::detect()?, &record.path) {
        Err(barque_cgroup::Error::NotFound { .. }) => Ok(None),
        other => Ok(other.map(Some)?),
    }
}
