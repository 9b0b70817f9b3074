//! The container's view of its cgroups: of every hierarchy its own part, and nothing above it.
//!
//! Bind mounts of the host's hierarchies, not new instances of them: they work with and without a
//! cgroup namespace and inside a user namespace, and cost neither a superblock each at the start
//! nor its teardown at the end. In a cgroup namespace they look exactly like new instances,
//! because paths are shown relative to its root.

use crate::error::{Context as _, Result};
use crate::fsctx::{Context, attach, clone_tree};
use crate::hierarchies::Hierarchy;
use crate::path;
use crate::plan::{MountPlan, What};
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Makes the mount: unified v2 directly; v1 and hybrid as a tmpfs with a directory per hierarchy.
pub(super) fn mount(
    mount: &MountPlan,
    place: &OwnedFd,
    own: &[(PathBuf, Hierarchy)],
) -> Result<Option<OwnedFd>> {
    let step = || mount.describe();
    let v2 = own.iter().find(|(_, h)| h.controllers.is_empty());
    let made = match (&mount.what, own, v2) {
        (What::Cgroup { v2_only: true }, _, Some((dir, _))) => part(mount, dir)?,
        // Mounted nowhere on this host, or not where we are in it; the kernel has it all the same.
        (What::Cgroup { v2_only: true }, _, None) => new_v2(mount)?,
        // A host without cgroups: the container has none to see.
        (_, [], _) => return Ok(None),
        (_, [(dir, only)], _) if only.controllers.is_empty() => part(mount, dir)?,
        _ => {
            let base = directory(mount)?;
            attach(&base, place).step(step)?;
            for (dir, hierarchy) in own {
                hierarchy_in(mount, &base, dir, hierarchy)?;
            }
            // Only now that its directories are made.
            let set = Change {
                set: mount.set,
                ..Change::default()
            };
            set_attributes(&base, false, set).step(step)?;
            return Ok(Some(base));
        }
    };
    attach(&made, place).step(step)?;
    Ok(Some(made))
}

fn new_v2(mount: &MountPlan) -> Result<OwnedFd> {
    let context = Context::open("cgroup2", mount.describe())?;
    context.set("source", "cgroup2")?;
    context.mount(mount.set)
}

/// The directory for the hierarchies.
fn directory(mount: &MountPlan) -> Result<OwnedFd> {
    let context = Context::open("tmpfs", mount.describe())?;
    context.set("source", "cgroup")?;
    context.set("mode", "755")?;
    context.set("size", "64k")?;
    if let Some(label) = &mount.label {
        context.set("context", label)?;
    }
    context.mount(mount.set.without(Attributes::RDONLY))
}

/// One hierarchy under the name that it has on the host, and under each controller's own.
fn hierarchy_in(
    mount: &MountPlan,
    base: &OwnedFd,
    dir: &Path,
    hierarchy: &Hierarchy,
) -> Result<()> {
    let name = hierarchy
        .mount_point
        .file_name()
        .unwrap_or(OsStr::new("cgroup"));
    let step = || format!("{}: {name:?}", mount.describe());
    mkdirat(base, name, Mode::from_raw_mode(0o755)).step(step)?;
    let place = rustix::fs::openat(
        base,
        name,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(step)?;
    attach(part(mount, dir)?, place).step(step)?;
    for alias in hierarchy.controllers.split(',') {
        let alias = OsStr::new(alias);
        if hierarchy.controllers.contains(',') && alias != name && !path::exists_at(base, alias) {
            symlinkat(name, base.as_fd(), alias).step(step)?;
        }
    }
    Ok(())
}

fn part(mount: &MountPlan, dir: &Path) -> Result<OwnedFd> {
    let step = || format!("{} from {dir:?}", mount.describe());
    let tree = clone_tree(CWD, dir, false).step(step)?;
    let change = Change {
        set: mount.set,
        propagation: Some(Propagation::Private),
        ..Change::default()
    };
    set_attributes(&tree, false, change).step(step)?;
    Ok(tree)
}
