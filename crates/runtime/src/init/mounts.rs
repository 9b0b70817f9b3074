//! The mounts of the specification, in its order, before the root is entered: sources of the host
//! are still there, and so is the host's `/proc`, without a full view of which the kernel lets no
//! user namespace mount one of its own.

use super::{Birth, cgroups};
use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, attach, clone_tree, set};
use crate::hierarchies::Hierarchy;
use crate::path::{self, Make};
use crate::plan::{MountPlan, Plan, What};
use barque_sys::mount::{Attributes, Change, set_attributes};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Makes all of them.
pub(super) fn all(
    birth: &Birth<'_>,
    root: &OwnedFd,
    own_cgroups: &[(PathBuf, Hierarchy)],
) -> Result<()> {
    for (mount, source) in birth.plan.mounts.iter().zip(birth.sources) {
        match (&mount.what, source) {
            (What::Bind { .. }, Some(source)) => {
                let make = if source.directory {
                    Make::Directory
                } else {
                    Make::File
                };
                let place = path::make_in(root.as_fd(), &mount.destination, make)?;
                let place_is = path::file_type(&place).step(|| mount.describe())?;
                if source.directory != (place_is == FileType::Directory) {
                    return Err(Error::step(mount.describe(), Errno::NOTDIR)
                        .with_hint("a directory goes on a directory, a file on a file"));
                }
                attach(&source.tree, &place).step(|| mount.describe())?;
            }
            (What::Bind { .. }, None) => {
                return Err(Error::invalid(
                    mount.describe(),
                    "its source was not opened",
                ));
            }
            (What::Cgroup, _) => cgroups::mount(mount, root.as_fd(), own_cgroups)?,
            (
                What::Filesystem {
                    kind,
                    source,
                    parameters,
                },
                _,
            ) => {
                filesystem(birth.plan, mount, root.as_fd(), (kind, source, parameters))?;
            }
        }
    }
    Ok(())
}

type Parameters = Vec<(String, Option<String>)>;

fn filesystem(
    plan: &Plan,
    mount: &MountPlan,
    root: BorrowedFd<'_>,
    (kind, source, parameters): (&str, &str, &Parameters),
) -> Result<()> {
    let place = destination(mount, root, kind)?;
    let made = new_filesystem(mount, &place, (kind, source, parameters));
    let tree = match (made, host_instance(kind)) {
        // Only the owner of the pid, network or IPC namespace behind it may mount one of these. A
        // user namespace that shares the host's gets the host's instance instead.
        (Err(error), Some(host))
            if plan.id_maps.is_some() && error.errno() == Some(Errno::PERM) =>
        {
            let tree = clone_tree(CWD, Path::new(host), true).map_err(|_| error)?;
            let change = Change {
                set: mount.set,
                ..Change::default()
            };
            set_attributes(&tree, true, change).step(|| mount.describe())?;
            tree
        }
        (made, _) => made?,
    };
    for (propagation, recursive) in &mount.propagation {
        let change = Change {
            propagation: Some(*propagation),
            ..Change::default()
        };
        set_attributes(&tree, *recursive, change).step(|| mount.describe())?;
    }
    attach(&tree, &place).step(|| mount.describe())
}

/// Where the host has the instance of its own namespace.
fn host_instance(kind: &str) -> Option<&'static str> {
    match kind {
        "proc" => Some("/proc"),
        "sysfs" => Some("/sys"),
        "mqueue" => Some("/dev/mqueue"),
        _ => None,
    }
}

/// Opens the place of a mount. For proc and sysfs it must be a real directory: masks, read-only
/// paths and everything that trusts `/proc` name it by this path, and a link would send the mount
/// elsewhere (CVE-2019-19921, CVE-2023-27561).
fn destination(mount: &MountPlan, root: BorrowedFd<'_>, kind: &str) -> Result<OwnedFd> {
    if matches!(kind, "proc" | "sysfs") {
        match path::open_in_without_links(root, &mount.destination, OFlags::PATH) {
            Ok(place) if path::file_type(&place) == Ok(FileType::Directory) => return Ok(place),
            Err(Errno::NOENT) => {}
            _ => {
                return Err(Error::invalid(
                    mount.describe(),
                    "the root file system has a link or a file there; it must be a directory",
                ));
            }
        }
    }
    let make = match kind {
        // With the permissions that an empty tmpfs has by default, and gets from here: see
        // `new_filesystem`. Set on the directory, so that they are the same at every start.
        "tmpfs" => Make::SharedDirectory,
        _ => Make::Directory,
    };
    path::make_in(root, &mount.destination, make)
}

fn new_filesystem(
    mount: &MountPlan,
    place: &OwnedFd,
    (kind, source, parameters): (&str, &str, &Parameters),
) -> Result<OwnedFd> {
    let context = Context::open(kind, mount.describe())?;
    context.set("source", source)?;
    if kind == "tmpfs" && !parameters.iter().any(|(key, _)| key == "mode") {
        // It takes the place of a directory: with that directory's permissions (as runc).
        let mode = rustix::fs::fstat(place).step(|| mount.describe())?.st_mode & 0o7777;
        context.set("mode", &format!("{mode:o}"))?;
    }
    for (key, value) in parameters {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    let mut attributes = mount.set;
    if is_late(mount) {
        attributes = attributes.without(Attributes::RDONLY);
    }
    context.mount(attributes)
}

/// `/dev` can be read-only only after the devices are in it.
fn is_late(mount: &MountPlan) -> bool {
    mount.destination == Path::new("/dev") && mount.set.contains(Attributes::RDONLY)
}

/// What had to wait until everything else was made.
pub(super) fn finish(plan: &Plan, root: &OwnedFd) -> Result<()> {
    for mount in plan
        .mounts
        .iter()
        .filter(|m| matches!(m.what, What::Filesystem { .. }))
    {
        if is_late(mount) {
            let place =
                path::open_in(root, &mount.destination, OFlags::PATH).step(|| mount.describe())?;
            set(place, Attributes::RDONLY).step(|| mount.describe())?;
        }
    }
    Ok(())
}
