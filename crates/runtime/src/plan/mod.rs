//! A specification, parsed into what is to be done: checked as a whole before anything is made.
//!
//! Nothing here touches the system. What needs the host (opening the sources of bind mounts, the
//! namespaces to join) is done by the parent from this plan; what needs the container is done by
//! the child in `init`.

mod attributes;
mod mounts;
mod options;
mod process;
mod sysctl;

pub(crate) use attributes::Attributes;
pub(crate) use mounts::{Filesystem, IdmapSource, MountPlan, What};
pub use options::mount_options;
pub(crate) use process::{CapsPlan, ProcessPlan, RlimitPlan};

use crate::error::{Error, Result};
use crate::hooks::HookPlan;
use crate::namespaces::{Joined, path_of};
use crate::netdevices;
use crate::{CreateOptions, Lifetime, Stdio};
use barque_sys::mount::Propagation;
use barque_sys::process::Namespaces;
use barque_types::spec::{self, IdMapping, NamespaceKind, NetDevice, TimeOffset};
use std::collections::BTreeMap;

/// What is to be made of a container's specification.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The container's id.
    pub id: String,
    /// Namespaces that are made new (the cgroup namespace among them).
    pub new: Namespaces,
    /// The map of the user namespace, when there is one that is new or joined.
    pub id_maps: Option<IdMaps>,
    /// Interfaces that become the container's.
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Clock offsets of a new time namespace.
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Hostname to set.
    pub hostname: Option<String>,
    /// Domain name to set.
    pub domainname: Option<String>,
    /// Whether the root is made read-only.
    pub root_readonly: bool,
    /// Propagation of the root, and whether it goes for everything below.
    pub root_propagation: (Propagation, bool),
    /// Mounts in their order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes.
    pub devices: Vec<spec::Device>,
    /// Paths to hide.
    pub masked: Vec<String>,
    /// Paths to make read-only.
    pub readonly: Vec<String>,
    /// Kernel parameters: path below `/proc/sys`, value.
    pub sysctl: Vec<(String, String)>,
    /// Programs of the host and the container that are told of its life.
    pub hooks: HookPlan,
    /// The program.
    pub process: ProcessPlan,
}

/// The maps of a user namespace (user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
}

impl IdMaps {
    /// What uid 0 and gid 0 are outside.
    pub fn root(&self) -> (u32, u32) {
        let of = |map: &[IdMapping]| {
            map.iter()
                .find(|m| m.container_id == 0)
                .map_or(u32::MAX, |m| m.host_id)
        };
        (of(&self.uid), of(&self.gid))
    }

    /// Whether both say the same, in whatever order and whatever pieces.
    fn same(&self, other: &Self) -> bool {
        let of = |map: &[IdMapping]| {
            let mut map: Vec<(u32, u32, u32)> = map
                .iter()
                .filter(|m| m.size > 0)
                .map(|m| (m.container_id, m.host_id, m.size))
                .collect();
            map.sort_unstable();
            map.dedup_by(|b, a| {
                let follows =
                    a.0.checked_add(a.2) == Some(b.0) && a.1.checked_add(a.2) == Some(b.1);
                if follows {
                    a.2 += b.2;
                }
                follows
            });
            map
        };
        of(&self.uid) == of(&other.uid) && of(&self.gid) == of(&other.gid)
    }

    /// Whether a group id of the container has an id outside.
    fn maps_gid(&self, gid: u32) -> bool {
        self.gid
            .iter()
            .any(|m| gid >= m.container_id && gid - m.container_id < m.size)
    }
}

/// The namespaces(7) kinds as bits.
pub(crate) fn kind_bits(kind: NamespaceKind) -> Namespaces {
    match kind {
        NamespaceKind::Pid => Namespaces::PID,
        NamespaceKind::Network => Namespaces::NETWORK,
        NamespaceKind::Mount => Namespaces::MOUNT,
        NamespaceKind::Ipc => Namespaces::IPC,
        NamespaceKind::Uts => Namespaces::UTS,
        NamespaceKind::User => Namespaces::USER,
        NamespaceKind::Cgroup => Namespaces::CGROUP,
        NamespaceKind::Time => Namespaces::TIME,
    }
}

impl Plan {
    /// Checks and parses everything that can be checked without touching the system.
    pub fn new(options: &CreateOptions<'_>, joined: &Joined) -> Result<Self> {
        let spec = options.spec;
        let empty = spec::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        refuse_unsupported(linux)?;
        let (new, own) = namespaces(linux, joined)?;
        let id_maps = id_maps(linux, new, joined)?;
        netdevices::check(&linux.net_devices, own.contains(Namespaces::NETWORK))?;
        if (spec.hostname.is_some() || spec.domainname.is_some()) && !own.contains(Namespaces::UTS)
        {
            return Err(Error::invalid(
                "hostname",
                "cannot be set in the host's UTS namespace: the container needs one of its own",
            ));
        }
        let mut mounts = spec
            .mounts
            .iter()
            .map(|m| MountPlan::parse(m, id_maps.as_ref(), options.bundle))
            .collect::<Result<Vec<_>>>()?;
        let label = linux.mount_label.as_ref().filter(|l| !l.is_empty());
        for mount in &mut mounts {
            mount.label = label.cloned();
        }
        let terminal = matches!(options.stdio, Stdio::Terminal);
        let filter = linux.seccomp.as_ref();
        let mut process = match (&spec.process, options.lifetime) {
            (Some(process), _) => ProcessPlan::new(process, &options.user, filter, terminal)?,
            (None, Lifetime::Own { .. }) => ProcessPlan::absent(filter)?,
            (None, Lifetime::Caller) => {
                return Err(Error::invalid("process", "the specification has none"));
            }
        };
        let (personality, memory_policy) = (&linux.personality, &linux.memory_policy);
        process
            .attributes
            .of_container(personality.as_ref(), memory_policy.as_ref())?;
        Ok(Self {
            id: options.id.to_owned(),
            new,
            id_maps,
            net_devices: linux.net_devices.clone(),
            time_offsets: linux.time_offsets.clone(),
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            root_readonly: spec.root.as_ref().is_some_and(|r| r.readonly),
            root_propagation: root_propagation(linux.rootfs_propagation.as_deref())?,
            mounts,
            devices: linux.devices.clone(),
            masked: linux.masked_paths.clone(),
            readonly: linux.readonly_paths.clone(),
            sysctl: sysctl::parse(&linux.sysctl, own)?,
            hooks: HookPlan::new(options.id, options.bundle, spec)?,
            process,
        })
    }
}

/// The kinds that are made new, and all that are not the caller's own.
fn namespaces(linux: &spec::Linux, joined: &Joined) -> Result<(Namespaces, Namespaces)> {
    let (mut new, mut listed) = (Namespaces::NONE, Namespaces::NONE);
    for namespace in &linux.namespaces {
        let bit = kind_bits(namespace.kind);
        if listed.contains(bit) {
            let name = format!("linux.namespaces: {:?}", namespace.kind).to_lowercase();
            return Err(Error::invalid(name, "is listed twice"));
        }
        listed |= bit;
        if path_of(namespace).is_none() && !joined.has(namespace.kind) {
            new |= bit;
        }
    }
    // In the host's, the mounts of the container would be the host's, and so would be its new root.
    if !new.contains(Namespaces::MOUNT) && !joined.foreign.contains(Namespaces::MOUNT) {
        return Err(Error::invalid(
            "linux.namespaces: mount",
            "a container needs a mount namespace that is not the host's",
        ));
    }
    if !linux.time_offsets.is_empty() && !new.contains(Namespaces::TIME) {
        return Err(Error::invalid(
            "linux.timeOffsets",
            "need a new time namespace",
        ));
    }
    Ok((new, new | joined.foreign))
}

/// The maps of a user namespace that is new, or that is joined and has them already.
fn id_maps(linux: &spec::Linux, new: Namespaces, joined: &Joined) -> Result<Option<IdMaps>> {
    let given = IdMaps {
        uid: linux.uid_mappings.clone(),
        gid: linux.gid_mappings.clone(),
    };
    let none = given.uid.is_empty() && given.gid.is_empty();
    let maps = match &joined.id_maps {
        // containerd repeats the pod's mappings beside the path.
        Some(theirs) if !none && !given.same(theirs) => {
            return Err(Error::invalid(
                "linux.uidMappings",
                "differ from those of the user namespace that is joined",
            ));
        }
        Some(theirs) => theirs.clone(),
        None if new.contains(Namespaces::USER) => given,
        None if none => return Ok(None),
        None => {
            return Err(Error::invalid(
                "linux.uidMappings",
                "id mappings need a user namespace",
            ));
        }
    };
    for (name, map) in [
        ("linux.uidMappings", &maps.uid),
        ("linux.gidMappings", &maps.gid),
    ] {
        // The container is set up by its own root: without one, nothing in it could be mounted.
        if !map.iter().any(|m| m.container_id == 0 && m.size > 0) {
            return Err(Error::invalid(name, "must map id 0 of the container"));
        }
    }
    Ok(Some(maps))
}

fn root_propagation(value: Option<&str>) -> Result<(Propagation, bool)> {
    let Some(value) = value.filter(|v| !v.is_empty()) else {
        return Ok((Propagation::Private, true));
    };
    mounts::propagation(value).ok_or_else(|| {
        Error::invalid(
            "linux.rootfsPropagation",
            format!("{value:?} is not a propagation type"),
        )
    })
}

/// Members of the specification that ask for what is not built: an error, never a silent skip.
fn refuse_unsupported(linux: &spec::Linux) -> Result<()> {
    let asked = [("linux.intelRdt", linux.intel_rdt.is_some())];
    match asked.iter().find(|(_, set)| *set) {
        Some((what, _)) => Err(Error::invalid(*what, "is not supported by Barque")),
        None => Ok(()),
    }
}
