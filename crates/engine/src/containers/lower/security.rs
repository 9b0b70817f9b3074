//! The fences: capabilities, system call filter, devices, protected paths.

use super::Facts;
use crate::error::{Error, Kind, Result};
use barque_runtime::defaults;
use barque_runtime::seccomp::{self as filter, KernelVersion};
use barque_types::container::{CreateContainer, SeccompMode};
use barque_types::spec::{Device, DeviceRule, Seccomp};

/// Docker's rule: `--privileged` is all that we have; else the default set less the dropped and with the
/// added ones, where `ALL` in one list makes the other the exceptions.
pub(crate) fn capabilities(request: &CreateContainer, available: &[String]) -> Vec<String> {
    if request.privileged {
        return available.to_vec();
    }
    let all = |list: &[String]| list.iter().any(|cap| cap == "ALL");
    let base: Vec<String> = if all(&request.cap_add) {
        available.to_vec()
    } else if all(&request.cap_drop) {
        Vec::new()
    } else {
        defaults::CAPABILITIES.map(str::to_owned).to_vec()
    };
    let mut kept: Vec<String> = base
        .into_iter()
        .filter(|cap| !request.cap_drop.contains(cap))
        .collect();
    for cap in request.cap_add.iter().filter(|cap| *cap != "ALL") {
        if !kept.contains(cap) {
            kept.push(cap.clone());
        }
    }
    kept
}

/// The filter, resolved against what the container may do.
pub(super) fn seccomp(
    request: &CreateContainer,
    capabilities: &[String],
    kernel: KernelVersion,
) -> Result<Option<Seccomp>> {
    match &request.seccomp {
        SeccompMode::Unconfined => Ok(None),
        SeccompMode::Default if request.privileged => Ok(None),
        SeccompMode::Default => Ok(Some(filter::default_profile(capabilities, kernel))),
        SeccompMode::Filter(filter) => Ok(Some((**filter).clone())),
        SeccompMode::Profile(json) => filter::load_profile(json, capabilities, kernel)
            .map_err(|e| Error::new(Kind::Invalid, format!("seccomp profile: {e}"))),
    }
}

/// Device nodes in `/dev`.
pub(super) fn devices(request: &CreateContainer, facts: &Facts) -> Vec<Device> {
    let mut devices = match request.privileged {
        true => facts.host_devices.clone(),
        false => defaults::devices(),
    };
    for (device, _) in &facts.devices {
        devices.retain(|have| have.path != device.path);
        devices.push(device.clone());
    }
    devices
}

/// Device access rules.
pub(super) fn device_rules(request: &CreateContainer, facts: &Facts) -> Vec<DeviceRule> {
    if request.privileged {
        return defaults::privileged_device_rules();
    }
    let mut rules = defaults::device_rules();
    rules.extend(facts.devices.iter().map(|(_, rule)| rule.clone()));
    rules
}

/// Hidden paths; none when privileged or told so.
pub(super) fn masked_paths(request: &CreateContainer) -> Vec<String> {
    match request.privileged || request.systempaths_unconfined {
        true => Vec::new(),
        false => defaults::masked_paths(),
    }
}

/// Read-only paths; none when privileged or told so.
pub(super) fn readonly_paths(request: &CreateContainer) -> Vec<String> {
    match request.privileged || request.systempaths_unconfined {
        true => Vec::new(),
        false => defaults::readonly_paths(),
    }
}
