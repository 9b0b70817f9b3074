//! A container's record becomes an OCI specification: pure, so that tests can compare it.
//!
//! What must be looked up first (the host's name, the numbers of devices, the kernel's version) is
//! handed in as [`Facts`].

mod mounts;
mod process;
mod resources;
mod security;

use super::record::Config;
use crate::error::Result;
use barque_runtime::seccomp::KernelVersion;
use barque_types::container::{NamespaceMode, NetworkMode};
use barque_types::spec::{
    Device, DeviceRule, Linux, Namespace, NamespaceKind, Root, SPEC_VERSION, Spec, ThrottleDevice,
};
use std::path::PathBuf;

pub(crate) use process::environment_without_host;
pub(crate) use security::capabilities;

/// What the lowering needs to know of the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// What may be granted at all.
    pub capabilities: Vec<String>,
    /// Kernel version.
    pub kernel: KernelVersion,
    /// The host's name, for containers that share its network or UTS namespace.
    pub hostname: String,
    /// Whether swap can be limited here: what the user did not ask for must not warn.
    pub swap_limit: bool,
    /// `--device`s with their numbers.
    pub devices: Vec<(Device, DeviceRule)>,
    /// Every device node of the host, for privileged containers.
    pub host_devices: Vec<Device>,
    /// Rates with device numbers.
    pub throttles: Throttles,
    /// The container's directory, with its `hostname`, `hosts` and `resolv.conf`.
    pub dir: PathBuf,
    /// The directory of the container whose network it uses: its own, usually.
    pub network_dir: PathBuf,
}

/// Rates with device numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttles {
    pub read_bps: Vec<ThrottleDevice>,
    pub write_bps: Vec<ThrottleDevice>,
    pub read_iops: Vec<ThrottleDevice>,
    pub write_iops: Vec<ThrottleDevice>,
}

/// The specification of a container.
pub(crate) fn spec(config: &Config, facts: &Facts) -> Result<Spec> {
    let request = &config.request;
    let shares_uts = matches!(
        request.uts,
        NamespaceMode::Host | NamespaceMode::Container(_)
    );
    let hostname = match config.process.hostname.as_str() {
        "" => facts.hostname.clone(),
        name => name.to_owned(),
    };
    let capabilities = capabilities(request, &facts.capabilities);
    let (uid_mappings, gid_mappings) = config.ids.clone().unwrap_or_default();
    Ok(Spec {
        oci_version: SPEC_VERSION.to_owned(),
        process: Some(process::process(config, facts, &capabilities, &hostname)),
        root: Some(Root {
            path: PathBuf::from("rootfs"),
            readonly: request.read_only,
        }),
        hostname: (!shares_uts).then_some(hostname),
        domainname: request.domainname.clone().filter(|_| !shares_uts),
        mounts: mounts::mounts(config, facts),
        linux: Some(Linux {
            namespaces: namespaces(config, config.ids.is_some()),
            uid_mappings,
            gid_mappings,
            devices: security::devices(request, facts),
            resources: Some(resources::resources(request, facts)),
            sysctl: request.sysctls.clone(),
            seccomp: security::seccomp(request, &capabilities, facts.kernel)?,
            masked_paths: security::masked_paths(request),
            readonly_paths: security::readonly_paths(request),
            ..Linux::default()
        }),
        ..Spec::default()
    })
}

/// New namespaces; the ones shared with another container are handed to the runtime as descriptors.
fn namespaces(config: &Config, user: bool) -> Vec<Namespace> {
    let request = &config.request;
    let mut kinds = vec![NamespaceKind::Mount];
    let mut new = |kind, private: bool| {
        if private {
            kinds.push(kind);
        }
    };
    let private = |mode: &NamespaceMode| {
        matches!(
            mode,
            NamespaceMode::Private | NamespaceMode::Shareable | NamespaceMode::None
        )
    };
    new(NamespaceKind::Network, request.network == NetworkMode::None);
    new(NamespaceKind::Pid, private(&request.pid));
    new(NamespaceKind::Ipc, private(&request.ipc));
    new(NamespaceKind::Uts, private(&request.uts));
    new(NamespaceKind::Cgroup, private(&request.cgroupns));
    new(NamespaceKind::User, user);
    kinds
        .into_iter()
        .map(|kind| Namespace { kind, path: None })
        .collect()
}

/// The other containers whose namespaces this one shares, by the word the request has.
pub(crate) fn joined(config: &Config) -> Vec<(NamespaceKind, &str)> {
    let request = &config.request;
    let mut joined = Vec::new();
    if let NetworkMode::Container(other) = &request.network {
        joined.push((NamespaceKind::Network, other.as_str()));
    }
    for (kind, mode) in [
        (NamespaceKind::Pid, &request.pid),
        (NamespaceKind::Ipc, &request.ipc),
        (NamespaceKind::Uts, &request.uts),
    ] {
        if let NamespaceMode::Container(other) = mode {
            joined.push((kind, other.as_str()));
        }
    }
    joined
}

/// Paths under `/proc` and `/sys` that the specification protects, for `inspect`.
pub(crate) fn protected_paths(config: &Config) -> (Vec<String>, Vec<String>) {
    (
        security::masked_paths(&config.request),
        security::readonly_paths(&config.request),
    )
}

/// Docker's default for `/dev/shm`: 64 MiB.
pub(crate) const DEFAULT_SHM: u64 = 64 << 20;

#[cfg(test)]
mod tests;
