//! The namespaces that a container shares: opened and verified before anything is made.

use crate::error::{Context, Error, Result};
use crate::plan::{IdMaps, kind_bits};
use crate::userns;
use barque_sys::process::{Namespaces, namespace_kind};
use barque_types::spec::{self, NamespaceKind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What is to be joined, and what that means for the rest of the specification.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// In the order of joining: the user namespace last, because the privilege over the others may
    /// be that of the namespace we leave.
    pub list: Vec<(NamespaceKind, OwnedFd)>,
    /// Those of `list` that are not the caller's own.
    pub foreign: Namespaces,
    /// The maps of the joined user namespace.
    pub id_maps: Option<IdMaps>,
}

impl Joined {
    /// Opens the paths of `linux.namespaces`; `by_fd` overrides those of the same kind.
    pub fn open(linux: Option<&spec::Linux>, by_fd: Vec<(NamespaceKind, OwnedFd)>) -> Result<Self> {
        let mut joined = Self {
            list: by_fd,
            ..Self::default()
        };
        for (kind, fd) in &joined.list {
            verify(*kind, fd, &format!("{kind:?} namespace"))?;
        }
        for namespace in linux.map_or(&[][..], |l| &l.namespaces) {
            let kind = namespace.kind;
            let Some(path) = path_of(namespace) else {
                continue;
            };
            if !joined.list.iter().any(|(k, _)| *k == kind) {
                joined.list.push((kind, open(kind, path)?));
            }
        }
        let own = |kind, fd: &OwnedFd| Ok::<_, Error>(is_ours(kind, fd)?.then_some(kind));
        let mut ours = Vec::new();
        for (kind, fd) in &joined.list {
            match own(*kind, fd)? {
                Some(kind) => ours.push(kind),
                None => joined.foreign |= kind_bits(*kind),
            }
        }
        // One's own user namespace cannot be joined again (setns(2)), and need not be.
        joined
            .list
            .retain(|(kind, _)| *kind != NamespaceKind::User || !ours.contains(kind));
        joined.list.sort_by_key(|(kind, _)| match kind {
            NamespaceKind::User => 2,
            NamespaceKind::Mount => 1,
            _ => 0,
        });
        joined.id_maps = joined
            .list
            .iter()
            .find(|(kind, _)| *kind == NamespaceKind::User)
            .map(|(_, fd)| userns::maps_of(fd.as_fd()))
            .transpose()?;
        Ok(joined)
    }

    /// Whether one of that kind is joined.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.list.iter().any(|(k, _)| *k == kind)
    }

    /// Whether the caller cannot enter them for the time of a birth and come back: not from a user
    /// namespace (where it loses the right to), and from a mount namespace only with another root and
    /// working directory.
    pub fn is_one_way(&self) -> bool {
        self.has(NamespaceKind::User) || self.has(NamespaceKind::Mount)
    }
}

/// An empty path means a new namespace, as an absent one does (runc).
pub(crate) fn path_of(namespace: &spec::Namespace) -> Option<&Path> {
    let path = namespace.path.as_deref();
    path.filter(|p| !p.as_os_str().is_empty())
}

fn open(kind: NamespaceKind, path: &Path) -> Result<OwnedFd> {
    let what = format!("{} namespace {path:?}", file_of(kind));
    if !path.is_absolute() {
        return Err(Error::invalid(what, "is not an absolute path"));
    }
    // Not blocked by a FIFO that somebody has put there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).step(|| format!("opening the {what}"))?;
    verify(kind, &fd, &what)?;
    Ok(fd)
}

fn verify(kind: NamespaceKind, fd: &OwnedFd, what: &str) -> Result<()> {
    match namespace_kind(fd.as_fd()) {
        Ok(found) if found == kind_bits(kind) => Ok(()),
        Ok(_) => Err(Error::invalid(what, "is a namespace of another kind")),
        Err(Errno::NOTTY | Errno::BADF) => Err(Error::invalid(what, "is not a namespace")),
        Err(e) => Err(Error::step(format!("asking for the kind of the {what}"), e)),
    }
}

fn is_ours(kind: NamespaceKind, fd: &OwnedFd) -> Result<bool> {
    let path = format!("/proc/self/ns/{}", file_of(kind));
    let ours = rustix::fs::stat(&*path).step(|| format!("looking at {path}"))?;
    let theirs = rustix::fs::fstat(fd).step(|| "looking at a namespace")?;
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}

/// The file of a kind in `/proc/PID/ns`.
pub(crate) fn file_of(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}
