//! Which hierarchies this machine has, and where: found at run time, never assumed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::tables::{self, Kind, Mounted};

/// `f_type` of a v1 hierarchy (`linux/magic.h`).
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
/// `f_type` of the v2 hierarchy.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The controllers that v1 hierarchies are entered for. A hierarchy of others only (a named one
/// of some session manager, a controller of a future kernel) is none of our business; `name=systemd`
/// is, because systemd kills what it finds in the group of a service that it stops.
const KNOWN: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "name=systemd",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The v2 controllers whose being on v1 makes the machine a v1 one for its users.
const RESOURCE: [&str; 6] = ["blkio", "cpu", "cpuacct", "cpuset", "memory", "pids"];

/// What the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No hierarchy that can be used: processes run without groups.
    None,
    /// v1 only.
    V1,
    /// v1 with the v2 tree beside it, with or without controllers.
    Hybrid,
    /// v2 for all that is limited (a stray v1 hierarchy such as `net_cls` may exist).
    V2,
}

/// A mounted hierarchy, opened.
#[derive(Debug)]
pub struct Hierarchy {
    mounted: Mounted,
    /// What `cgroup.controllers` lists at the mount point; empty for v1.
    offered: Vec<String>,
    root: Dir,
}

impl Hierarchy {
    /// What the tables say about it.
    #[must_use]
    pub fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    /// Whether this is the v2 hierarchy.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.mounted.kind == Kind::V2
    }

    /// The controllers that are to be had here. On v2, `devices` and `freezer` are not controllers
    /// but always there, and not listed.
    #[must_use]
    pub fn controllers(&self) -> &[String] {
        match &self.mounted.kind {
            Kind::V1(controllers) => controllers,
            Kind::V2 => &self.offered,
        }
    }

    /// The group at the mount point.
    pub(crate) fn root(&self) -> &Dir {
        &self.root
    }

    fn open(mounted: Mounted) -> Result<Option<Self>> {
        let root = match Dir::open(&mounted.mount_point) {
            Ok(root) => root,
            // Mounted where this process cannot see it (below another mount, outside a chroot).
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
            Err(source) => return Err(Error::io("open", &mounted.mount_point, source)),
        };
        let magic = rustix::fs::fstatfs(&root)
            .map_err(|source| Error::io("statfs", &mounted.mount_point, source))?
            .f_type;
        let expected = match mounted.kind {
            Kind::V1(_) => CGROUP_SUPER_MAGIC,
            Kind::V2 => CGROUP2_SUPER_MAGIC,
        };
        // f_type is a signed long on most architectures; the magics fit 32 bits.
        if magic as u64 & 0xffff_ffff != expected {
            // Something else was mounted over it.
            return Ok(None);
        }
        let offered = match mounted.kind {
            Kind::V1(_) => Vec::new(),
            Kind::V2 => root
                .text("cgroup.controllers")?
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        Ok(Some(Self {
            mounted,
            offered,
            root,
        }))
    }
}

/// The hierarchies of this machine, opened: found once, used for any number of groups.
#[derive(Debug, Clone)]
pub struct Layout {
    hierarchies: Vec<Arc<Hierarchy>>,
}

impl Layout {
    /// Looks at `/proc/self/mountinfo` and `/proc/self/cgroup` and opens every mount point.
    ///
    /// # Errors
    /// `/proc` not readable, or a mount point that cannot be opened. A machine without any
    /// hierarchy is not an error: see [`Mode::None`].
    pub fn detect() -> Result<Self> {
        let mountinfo = read_proc("/proc/self/mountinfo")?;
        // Without cgroups in the kernel the file does not exist.
        let membership = read_proc("/proc/self/cgroup").or_else(|error| match error {
            Error::Io { source, .. } if source == Errno::NOENT => Ok(String::new()),
            other => Err(other),
        })?;
        Self::from_tables(&mountinfo, &membership)
    }

    /// [`Layout::detect`] from given texts of the two tables, for other mount points.
    ///
    /// # Errors
    /// A mount point that cannot be opened.
    pub fn from_tables(mountinfo: &str, membership: &str) -> Result<Self> {
        let mut hierarchies = Vec::new();
        for mounted in tables::hierarchies(mountinfo, membership) {
            let wanted = match &mounted.kind {
                Kind::V1(names) => names.iter().any(|name| KNOWN.contains(&name.as_str())),
                Kind::V2 => true,
            };
            if wanted && let Some(hierarchy) = Hierarchy::open(mounted)? {
                hierarchies.push(Arc::new(hierarchy));
            }
        }
        Ok(Self { hierarchies })
    }

    /// v1, hybrid, v2 or nothing.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let resource_on_v1 = self
            .hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.is_v2())
            .flat_map(|hierarchy| hierarchy.controllers())
            .any(|name| RESOURCE.contains(&name.as_str()));
        match (resource_on_v1, self.v2().is_some()) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (false, false) => Mode::None,
        }
    }

    /// What `docker info` prints as "Cgroup Version": 1 for v1 and hybrid, else 2.
    #[must_use]
    pub fn version(&self) -> u8 {
        match self.mode() {
            Mode::V1 | Mode::Hybrid => 1,
            Mode::V2 | Mode::None => 2,
        }
    }

    /// What `docker info` prints as "Cgroup Driver": groups are made by us in the cgroup file system.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match self.mode() {
            Mode::None => "none",
            _ => "cgroupfs",
        }
    }

    /// Every hierarchy found, read-only ones included.
    #[must_use]
    pub fn hierarchies(&self) -> &[Arc<Hierarchy>] {
        &self.hierarchies
    }

    /// The v2 hierarchy.
    #[must_use]
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.is_v2())
            .map(Arc::as_ref)
    }

    /// Where a controller is to be had. v1 names are used throughout: `blkio` also finds v2's `io`.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| offers(hierarchy, name))
            .map(Arc::as_ref)
    }

    /// The directories of `path` in every hierarchy, whether they exist or not.
    ///
    /// # Errors
    /// A path that cannot be used.
    pub fn paths_of(&self, path: &str) -> Result<Vec<PathBuf>> {
        self.hierarchies
            .iter()
            .map(|hierarchy| {
                let names = components(hierarchy, path)?;
                let mut full = hierarchy.mounted.mount_point.clone();
                full.extend(names);
                Ok(full)
            })
            .collect()
    }
}

/// Whether the hierarchy has the controller (v1 name).
pub(crate) fn offers(hierarchy: &Hierarchy, name: &str) -> bool {
    let wanted = if hierarchy.is_v2() {
        v2_name(name)
    } else {
        name
    };
    hierarchy.controllers().iter().any(|c| c == wanted)
}

/// The v2 name of a v1 controller.
pub(crate) fn v2_name(name: &str) -> &str {
    if name == "blkio" { "io" } else { name }
}

/// The names from the mount point of `hierarchy` down to the group `path`.
///
/// An absolute path starts at the mount point: in a container whose visible root is not the real
/// one, `/barque/x` is a group below the container's own, which is what is meant. A relative path
/// starts at the group of this process.
pub(crate) fn components(hierarchy: &Hierarchy, path: &str) -> Result<Vec<String>> {
    let bad = |reason| Error::BadPath {
        path: path.to_owned(),
        reason,
    };
    let base = if path.starts_with('/') {
        ""
    } else {
        hierarchy.mounted.own.as_deref().ok_or_else(|| {
            bad("it is relative, and the group of this process lies outside what is mounted; give it with a leading /")
        })?
    };
    let given = names(path)?;
    let names = base.split('/').filter(|name| !name.is_empty());
    Ok(names.chain(given).map(str::to_owned).collect())
}

/// Whether a group can have this path, in whatever hierarchy; [`Error::BadPath`] says why not.
///
/// For who keeps a path in a record: one that no group can have is refused before anything is made.
pub fn check_path(path: &str) -> Result<()> {
    names(path).map(drop)
}

/// The names in a path as it was given.
fn names(path: &str) -> Result<Vec<&str>> {
    let bad = |reason| Error::BadPath {
        path: path.to_owned(),
        reason,
    };
    let given: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if given.is_empty() {
        return Err(bad("it names no group"));
    }
    if given.iter().any(|name| matches!(*name, "." | "..")) {
        return Err(bad("it holds . or .."));
    }
    // The kernel refuses a newline (cgroup_mkdir) and a name above NAME_MAX.
    if given.iter().any(|name| name.contains(['\n', '\0'])) {
        return Err(bad("it holds a newline or a zero byte"));
    }
    if given.iter().any(|name| name.len() > 255) {
        return Err(bad("a component is longer than 255 bytes"));
    }
    Ok(given)
}

/// Reads a file of `/proc`.
pub(crate) fn read_proc(path: impl AsRef<Path>) -> Result<String> {
    use rustix::fs::{Mode, OFlags};
    let path = path.as_ref();
    let io = |source| Error::io("read", path, source);
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(io)?;
    crate::dir::slurp(std::os::fd::AsFd::as_fd(&fd)).map_err(io)
}
