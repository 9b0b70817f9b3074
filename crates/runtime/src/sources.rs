//! The sources of bind mounts: opened by the parent, in the host's mount namespace and with its
//! rights, as detached copies that the child only has to attach.
//!
//! A path of the host is thus looked up once, before the container exists, and what it meant then
//! is what is mounted.

use crate::error::{Context, Error, Result};
use crate::fsctx::clone_tree;
use crate::path;
use crate::plan::{IdmapSource, MountPlan, What};
use crate::{rootfs, userns};
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    /// The detached copy, with its attributes and propagation.
    pub tree: OwnedFd,
    /// Whether it is a directory.
    pub directory: bool,
}

/// Opens the sources, in the order of the mounts; mounts that are no bind mounts have none. `given`:
/// sources that the caller has, by destination.
pub(crate) fn open(
    mounts: &[MountPlan],
    mut given: Vec<(PathBuf, OwnedFd)>,
) -> Result<Vec<Option<Source>>> {
    mounts
        .iter()
        .map(|mount| {
            let at = given
                .iter()
                .position(|(path, _)| *path == mount.destination);
            open_one(mount, at.map(|at| given.swap_remove(at).1))
        })
        .collect()
}

fn open_one(mount: &MountPlan, given: Option<OwnedFd>) -> Result<Option<Source>> {
    let What::Bind { source, recursive } = &mount.what else {
        return Ok(None);
    };
    let step = || mount.describe();
    let tree = match given {
        Some(tree) => tree,
        None => clone_tree(CWD, source, *recursive).map_err(|e| {
            let error = Error::step(step(), e);
            match e {
                Errno::NOENT => error.with_hint("the source does not exist on the host"),
                _ => error,
            }
        })?,
    };
    let directory = path::file_type(&tree).step(step)? == FileType::Directory;
    if let Some((IdmapSource::Own(maps), recursive)) = &mount.idmap {
        let user_namespace = userns::for_maps(maps)?;
        rootfs::map_ids(
            &tree,
            std::os::fd::AsFd::as_fd(&user_namespace),
            *recursive,
            source,
        )?;
    }
    attributes(mount, &tree)?;
    Ok(Some(Source { tree, directory }))
}

fn attributes(mount: &MountPlan, tree: &OwnedFd) -> Result<()> {
    let step = || mount.describe();
    let change = |set, clear| Change {
        set,
        clear,
        ..Change::default()
    };
    if !(mount.recursive_set.is_empty() && mount.recursive_clear.is_empty()) {
        set_attributes(
            tree,
            true,
            change(mount.recursive_set, mount.recursive_clear),
        )
        .step(step)?;
    }
    if mount.set != Attributes::NONE || mount.clear != Attributes::NONE {
        set_attributes(tree, false, change(mount.set, mount.clear)).step(step)?;
    }
    // Unless something is asked for, the container's mounts below it stay in the container, and
    // the host's out of it.
    let unasked = [(Propagation::Private, true)];
    let wanted = if mount.propagation.is_empty() {
        &unasked[..]
    } else {
        &mount.propagation
    };
    for (propagation, recursive) in wanted {
        let change = Change {
            propagation: Some(*propagation),
            ..Change::default()
        };
        set_attributes(tree, *recursive, change).step(step)?;
    }
    Ok(())
}

/// Maps the ids of those sources that want the container's own map, which exists only after the
/// container's birth. The child has the same open files: it sees the change.
pub(crate) fn map_to_container(
    mounts: &[MountPlan],
    sources: &[Option<Source>],
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    for (mount, source) in mounts.iter().zip(sources) {
        let (Some((IdmapSource::Container, recursive)), Some(source)) = (&mount.idmap, source)
        else {
            continue;
        };
        let What::Bind { source: path, .. } = &mount.what else {
            continue;
        };
        let Some(user_namespace) = user_namespace else {
            return Err(Error::invalid(
                mount.describe(),
                "idmap without mappings needs a container with a user namespace",
            ));
        };
        rootfs::map_ids(&source.tree, user_namespace, *recursive, path)?;
    }
    Ok(())
}
