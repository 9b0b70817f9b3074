//! What this runtime can do, as runtime-spec's `features.md` has it.
//!
//! Nothing here is written down twice: lists come from the tables that configurations are read with, and whether
//! something is supported is found out by planning a container that asks for it.

use crate::namespaces::Joined;
use crate::options::{CreateOptions, Rootfs, Stdio};
use crate::plan::{Plan, mount_options};
use crate::seccomp::known;
use barque_types::caps;
use barque_types::spec::{
    self, Hook, Hooks, IdMapping, IntelRdt, Linux, MemoryPolicy, Mount, Namespace, NamespaceKind,
    NetDevice, Process, Spec,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Oldest version of the specification.
    pub oci_version_min: &'static str,
    /// Newest one.
    pub oci_version_max: &'static str,
    /// Kinds of hooks.
    pub hooks: Vec<String>,
    /// Options of mounts that are not passed to the file system.
    pub mount_options: Vec<String>,
    /// What is Linux's own.
    pub linux: LinuxFeatures,
    /// Facts beyond the specification.
    pub annotations: BTreeMap<&'static str, String>,
    /// Annotations of a configuration that change what the runtime does.
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// The `linux` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    pub namespaces: Vec<String>,
    /// Capabilities by name.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: CgroupFeatures,
    /// System call filters.
    pub seccomp: SeccompFeatures,
    /// Whether `process.apparmorProfile` is understood.
    pub apparmor: Enabled,
    /// Whether `process.selinuxLabel` is understood.
    pub selinux: Enabled,
    /// `linux.intelRdt`.
    pub intel_rdt: Enabled,
    /// `linux.memoryPolicy`.
    pub memory_policy: MemoryPolicyFeatures,
    /// Mounts beyond mount(8).
    pub mount_extensions: MountExtensions,
    /// `linux.netDevices`.
    pub net_devices: Enabled,
}

/// Something that is there or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether it is.
    pub enabled: bool,
}

/// The `cgroup` member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFeatures {
    /// Hierarchies of version 1.
    pub v1: bool,
    /// The unified tree.
    pub v2: bool,
    /// The systemd driver.
    pub systemd: bool,
    /// The systemd driver for users.
    pub systemd_user: bool,
    /// `linux.resources.rdma`.
    pub rdma: bool,
}

/// The `seccomp` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompFeatures {
    /// Whether filters are understood.
    pub enabled: bool,
    /// `SCMP_ACT_*`.
    pub actions: Vec<String>,
    /// `SCMP_CMP_*`.
    pub operators: Vec<String>,
    /// `SCMP_ARCH_*`.
    pub archs: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*` that are understood.
    pub known_flags: Vec<String>,
    /// Those of them that this kernel has.
    pub supported_flags: Vec<String>,
}

/// The `memoryPolicy` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicyFeatures {
    /// `MPOL_*`.
    pub modes: Vec<String>,
    /// `MPOL_F_*`.
    pub flags: Vec<String>,
}

/// The `mountExtensions` member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Idmapped mounts.
    pub idmap: Enabled,
}

/// What this runtime can do. Loads nothing and makes nothing; asks the kernel for its seccomp flags.
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: spec::SPEC_VERSION,
        hooks: hooks(),
        mount_options: mount_options(),
        linux: linux(),
        annotations: BTreeMap::from([
            ("org.barque.version", env!("CARGO_PKG_VERSION").to_owned()),
            // The name that containerd and others look for.
            (
                "org.opencontainers.runc.checkpoint.enabled",
                "true".to_owned(),
            ),
        ]),
        potentially_unsafe_config_annotations: crate::lifecycle::UNSAFE_ANNOTATIONS
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    }
}

fn linux() -> LinuxFeatures {
    let (known_flags, supported_flags) = known::flags();
    LinuxFeatures {
        namespaces: namespaces(),
        capabilities: caps::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        cgroup: CgroupFeatures {
            v1: true,
            v2: true,
            systemd: crate::lifecycle::SYSTEMD,
            // A user's manager is not asked.
            systemd_user: false,
            rdma: true,
        },
        seccomp: SeccompFeatures {
            enabled: true,
            actions: known::actions(),
            operators: known::operators(),
            archs: known::architectures(),
            known_flags,
            supported_flags,
        },
        apparmor: asked_process(|p| p.apparmor_profile = Some("unconfined".to_owned())),
        selinux: asked_process(|p| p.selinux_label = Some("a:b:c".to_owned())),
        intel_rdt: asked(|l| l.intel_rdt = Some(IntelRdt::default())),
        memory_policy: MemoryPolicyFeatures {
            modes: policy_modes(),
            flags: policy_flags(),
        },
        mount_extensions: MountExtensions {
            idmap: plans(|spec| spec.mounts.push(idmapped())),
        },
        net_devices: asked(|l| {
            l.net_devices
                .insert("eth9".to_owned(), NetDevice::default());
        }),
    }
}

/// The kinds that the specification's own type has, by their names in it.
fn hooks() -> Vec<String> {
    let hook = || {
        vec![Hook {
            path: PathBuf::from("/x"),
            args: Vec::new(),
            env: Vec::new(),
            timeout: None,
        }]
    };
    let all = Hooks {
        prestart: hook(),
        create_runtime: hook(),
        create_container: hook(),
        start_container: hook(),
        poststart: hook(),
        poststop: hook(),
    };
    match serde_json::to_value(&all) {
        Ok(serde_json::Value::Object(members)) => members.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// All kinds that a configuration may ask for, sorted.
fn namespaces() -> Vec<String> {
    use NamespaceKind as N;
    let all = [
        (N::Cgroup, "cgroup"),
        (N::Ipc, "ipc"),
        (N::Mount, "mount"),
        (N::Network, "network"),
        (N::Pid, "pid"),
        (N::Time, "time"),
        (N::User, "user"),
        (N::Uts, "uts"),
    ];
    let supported = all.iter().filter(|(kind, _)| {
        let asked = asked(|l| {
            if *kind != N::Mount {
                l.namespaces.push(namespace(*kind));
            }
            if *kind == N::User {
                l.uid_mappings = vec![mapping()];
                l.gid_mappings = vec![mapping()];
            }
        });
        asked.enabled
    });
    supported.map(|(_, name)| (*name).to_owned()).collect()
}

const MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
const MODE_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

fn policy(mode: &str, flags: &[&str]) -> MemoryPolicy {
    MemoryPolicy {
        mode: mode.to_owned(),
        // The only node that every machine has; for the modes that take none, none.
        nodes: match mode {
            "MPOL_DEFAULT" | "MPOL_LOCAL" => String::new(),
            _ => "0".to_owned(),
        },
        flags: flags.iter().map(|f| (*f).to_owned()).collect(),
    }
}

fn policy_modes() -> Vec<String> {
    let modes = MODES
        .iter()
        .filter(|m| asked(|l| l.memory_policy = Some(policy(m, &[]))).enabled);
    modes.map(|m| (*m).to_owned()).collect()
}

fn policy_flags() -> Vec<String> {
    let flags = MODE_FLAGS
        .iter()
        .filter(|f| asked(|l| l.memory_policy = Some(policy("MPOL_BIND", &[f]))).enabled);
    flags.map(|f| (*f).to_owned()).collect()
}

fn namespace(kind: NamespaceKind) -> Namespace {
    Namespace { kind, path: None }
}

fn mapping() -> IdMapping {
    IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65_536,
    }
}

fn idmapped() -> Mount {
    Mount {
        destination: PathBuf::from("/mnt"),
        kind: Some("bind".to_owned()),
        source: Some(PathBuf::from("/srv")),
        options: vec!["bind".to_owned(), "idmap".to_owned()],
        uid_mappings: vec![mapping()],
        gid_mappings: vec![mapping()],
    }
}

fn asked(edit: impl FnOnce(&mut Linux)) -> Enabled {
    plans(|spec| edit(spec.linux.get_or_insert_default()))
}

fn asked_process(edit: impl FnOnce(&mut Process)) -> Enabled {
    plans(|spec| edit(spec.process.get_or_insert_default()))
}

/// Whether a container with this configuration can be planned.
fn plans(edit: impl FnOnce(&mut Spec)) -> Enabled {
    let mut spec = Spec {
        process: Some(Process {
            args: vec!["x".to_owned()],
            cwd: "/".to_owned(),
            ..Process::default()
        }),
        linux: Some(Linux {
            namespaces: vec![namespace(NamespaceKind::Mount)],
            ..Linux::default()
        }),
        ..Spec::default()
    };
    edit(&mut spec);
    let rootfs = Rootfs::Directory(PathBuf::from("/"));
    let options = CreateOptions::new("features", &spec, rootfs, Stdio::Terminal);
    Enabled {
        enabled: Plan::new(&options, &Joined::default()).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_can_be_planned_and_what_is_not_cannot() {
        let all = features();
        assert!(plans(|_| {}).enabled, "the probe itself");
        assert_eq!(all.hooks.len(), 6);
        assert_eq!(all.linux.namespaces.len(), 8);
        assert_eq!(all.linux.seccomp.actions.len(), 9);
        assert_eq!(all.linux.seccomp.operators.len(), 7);
        assert_eq!(all.linux.memory_policy.modes, MODES);
        assert_eq!(all.linux.memory_policy.flags, MODE_FLAGS);
        assert!(all.linux.mount_extensions.idmap.enabled);
        assert!(all.linux.apparmor.enabled && all.linux.selinux.enabled);
        // Neither is a list of words that anything would be taken for.
        assert!(!asked(|l| l.memory_policy = Some(policy("MPOL_NONE", &[]))).enabled);
        for arch in &all.linux.seccomp.archs {
            let profile = spec::Seccomp {
                default_action: "SCMP_ACT_ALLOW".to_owned(),
                architectures: vec![arch.clone()],
                ..spec::Seccomp::default()
            };
            assert!(asked(|l| l.seccomp = Some(profile)).enabled, "{arch}");
        }
        // Every flag that is known to this kernel is known at all.
        let seccomp = &all.linux.seccomp;
        assert_eq!(seccomp.known_flags.len(), 4);
        assert!(
            seccomp
                .supported_flags
                .iter()
                .all(|flag| seccomp.known_flags.contains(flag))
        );
        assert!(
            seccomp
                .supported_flags
                .contains(&"SECCOMP_FILTER_FLAG_LOG".to_owned()),
            "4.14 has it"
        );
    }
}
