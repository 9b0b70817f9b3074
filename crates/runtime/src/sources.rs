//! What the mounts need of the host: opened by the parent, in the host's mount namespace and with its
//! rights, as descriptors that the child only has to attach.
//!
//! A path of the host is thus looked up once, before the container exists, and what it meant then
//! is what is mounted.

use crate::error::{Context, Error, Result};
use crate::fsctx::{clone_tree, propagate};
use crate::labels::selinux_enabled;
use crate::locks::locked;
use crate::path;
use crate::plan::{IdmapSource, MountPlan, What};
use crate::{rootfs, userns};
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What one mount needs.
#[derive(Debug)]
pub(crate) enum Source {
    /// A bind mount: the detached copy, with its attributes and propagation, and whether it is a
    /// directory.
    Tree { tree: OwnedFd, directory: bool },
    /// A new file system with a map of its own: the user namespace that has the map.
    Map(OwnedFd),
}

impl Source {
    /// The descriptor that the child inherits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tree { tree, .. } => tree.as_fd(),
            Self::Map(map) => map.as_fd(),
        }
    }
}

/// Opens them, in the order of the mounts; most of those that are no bind mounts need nothing.
/// `given`: trees that the caller has, by destination.
pub(crate) fn open(
    mounts: &[MountPlan],
    root_propagation: (Propagation, bool),
    mut given: Vec<(PathBuf, OwnedFd)>,
) -> Result<Vec<Option<Source>>> {
    if let Some(mount) = mounts.iter().find(|m| m.label.is_some())
        && !selinux_enabled()
    {
        return Err(Error::invalid(
            "linux.mountLabel",
            format!(
                "the label {:?} cannot be set: SELinux is not enabled on this host",
                mount.label.as_deref().unwrap_or_default()
            ),
        ));
    }
    let unasked = unasked(root_propagation);
    mounts
        .iter()
        .map(|mount| {
            let at = given
                .iter()
                .position(|(path, _)| *path == mount.destination);
            open_one(mount, at.map(|at| given.swap_remove(at).1), unasked)
        })
        .collect()
}

/// Locks the flags of bind mounts, for a container with a user namespace (see `locks`). Those that are
/// shared with the host, or cannot be copied, stay as they are: a locked copy of a shared mount would
/// be its slave.
pub(crate) fn lock(
    mounts: &[MountPlan],
    root_propagation: (Propagation, bool),
    sources: &mut [Option<Source>],
) -> Result<()> {
    let can_be = |mount: &MountPlan| {
        let asked = &mount.propagation[..];
        let effective = if asked.is_empty() {
            unasked(root_propagation)
        } else {
            asked
        };
        effective
            .iter()
            .all(|(p, _)| matches!(p, Propagation::Private | Propagation::Slave))
    };
    let mut chosen: Vec<(&mut OwnedFd, bool)> = mounts
        .iter()
        .zip(sources)
        .filter(|(mount, _)| can_be(mount))
        .filter_map(|(_, source)| match source {
            Some(Source::Tree { tree, directory }) => Some((tree, *directory)),
            _ => None,
        })
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let trees: Vec<(BorrowedFd<'_>, bool)> =
        chosen.iter().map(|(tree, d)| (tree.as_fd(), *d)).collect();
    let copies = locked(&trees)?;
    for ((tree, _), copy) in chosen.iter_mut().zip(copies) {
        **tree = copy;
    }
    Ok(())
}

/// The propagation of a bind mount that asks for none.
///
/// The container's mounts below it stay in the container, and the host's out of it, unless the whole
/// root is to have them. A shared one is shared among what the container makes: it leaves the host's
/// peer group first. An unbindable one becomes it in the end, when nothing is to be copied from it
/// any more.
fn unasked(root: (Propagation, bool)) -> &'static [(Propagation, bool)] {
    match root {
        (Propagation::Slave, true) => &[(Propagation::Slave, true)],
        (Propagation::Shared, true) => &[(Propagation::Private, true), (Propagation::Shared, true)],
        (Propagation::Unbindable, true) => &[
            (Propagation::Unbindable, true),
            (Propagation::Private, false),
        ],
        _ => &[(Propagation::Private, true)],
    }
}

fn open_one(
    mount: &MountPlan,
    given: Option<OwnedFd>,
    unasked: &[(Propagation, bool)],
) -> Result<Option<Source>> {
    let own_map = match &mount.idmap {
        Some((IdmapSource::Own(maps), recursive)) => Some((userns::for_maps(maps)?, *recursive)),
        _ => None,
    };
    let What::Bind { source, recursive } = &mount.what else {
        return Ok(own_map.map(|(map, _)| Source::Map(map)));
    };
    let step = || mount.describe();
    let tree = match given {
        Some(tree) => tree,
        None => clone_tree(CWD, source, *recursive).map_err(|e| cannot_open(mount, e))?,
    };
    let directory = path::file_type(&tree).step(step)? == FileType::Directory;
    if let Some((map, recursive)) = &own_map {
        rootfs::map_ids(&tree, map.as_fd(), *recursive, source)?;
    }
    attributes(mount, &tree)?;
    let asked = &mount.propagation[..];
    propagate(&tree, if asked.is_empty() { unasked } else { asked }).step(step)?;
    Ok(Some(Source::Tree { tree, directory }))
}

fn cannot_open(mount: &MountPlan, errno: Errno) -> Error {
    let error = Error::step(mount.describe(), errno);
    match errno {
        Errno::NOENT => error.with_hint("the source does not exist on the host"),
        Errno::INVAL => error.with_hint(
            "the source is an unbindable mount, or has mounts below it that a user namespace \
             cannot leave out: bind it with rbind",
        ),
        _ => error,
    }
}

/// Sets and clears what the options name, and nothing else: what the source has beyond that, and what
/// is locked in a user namespace (mount_namespaces(7)), stays.
fn attributes(mount: &MountPlan, tree: &OwnedFd) -> Result<()> {
    for (recursive, set, clear) in [
        (true, mount.recursive_set, mount.recursive_clear),
        (false, mount.set, mount.clear),
    ] {
        if set.is_empty() && clear.is_empty() {
            continue;
        }
        let change = Change {
            set,
            clear,
            ..Change::default()
        };
        set_attributes(tree, recursive, change).map_err(|e| refused(mount, e))?;
    }
    Ok(())
}

/// A change of attributes that the kernel refuses.
pub(crate) fn refused(mount: &MountPlan, errno: Errno) -> Error {
    let error = Error::step(mount.describe(), errno);
    let wanted = mount.set | mount.recursive_set;
    match errno {
        Errno::PERM => error.with_hint(
            "an option takes away what is locked in this user namespace (ro, nosuid, nodev, \
             noexec or a mode of access times); leave that option out",
        ),
        Errno::INVAL if wanted.contains(Attributes::NOSYMFOLLOW) => {
            error.with_hint("nosymfollow needs Linux 5.14")
        }
        _ => error,
    }
}

/// Maps the ids of those sources that want the container's own map, which exists only after the
/// container's birth. The child has the same open files: it sees the change.
pub(crate) fn map_to_container(
    mounts: &[MountPlan],
    sources: &[Option<Source>],
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    for (mount, source) in mounts.iter().zip(sources) {
        let Some((IdmapSource::Container, recursive)) = &mount.idmap else {
            continue;
        };
        let Some(user_namespace) = user_namespace else {
            return Err(Error::invalid(
                mount.describe(),
                "idmap without mappings needs a container with a user namespace",
            ));
        };
        // A new file system belongs to the container's user namespace already.
        if let (What::Bind { source: path, .. }, Some(Source::Tree { tree, .. })) =
            (&mount.what, source)
        {
            rootfs::map_ids(tree, user_namespace, *recursive, path)?;
        }
    }
    Ok(())
}
