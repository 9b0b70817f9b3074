//! The mounts of the specification, in its order, before the root is entered: sources of the host
//! are still there, and so is the host's `/proc`, without a full view of which the kernel lets no
//! user namespace mount one of its own.

use super::{Birth, cgroups, copyup, destination};
use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, attach, clone_tree, propagate};
use crate::hierarchies::Hierarchy;
use crate::path;
use crate::plan::{Filesystem, MountPlan, Plan, What};
use crate::rootfs;
use crate::seccomp::KernelVersion;
use crate::sources::{Source, refused};
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// File systems of which the kernel has one, or one a namespace: a flag of its superblock would be
/// the host's too.
const SHARED_SUPERBLOCKS: [&str; 13] = [
    "binfmt_misc",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "mqueue",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// A string for fsconfig(2) ends here (`strndup_user(…, 256)` in fs/fsopen.c).
const MAX_STRING: usize = 255;

/// What has to wait until everything else is made: a mount, by descriptor, and its change.
pub(super) struct Late {
    mount: OwnedFd,
    step: String,
    change: Change<'static>,
}

/// Makes all of them.
pub(super) fn all(
    birth: &Birth<'_>,
    root: &OwnedFd,
    own_cgroups: &[(PathBuf, Hierarchy)],
) -> Result<Vec<Late>> {
    let mut late = Vec::new();
    for (mount, source) in birth.plan.mounts.iter().zip(birth.sources) {
        let source = source.as_ref();
        let made = match &mount.what {
            What::Bind { .. } => bind(mount, source, root.as_fd())?,
            What::Cgroup { .. } => {
                let place = destination::open(mount, source, root.as_fd())?;
                cgroups::mount(mount, &place, own_cgroups)?
            }
            What::Filesystem(filesystem) => {
                let made = self::filesystem(birth.plan, mount, filesystem, source, root.as_fd())?;
                if is_late(mount, filesystem) && mount.set.contains(Attributes::RDONLY) {
                    late.push(later(mount, &made, read_only())?);
                }
                Some(made)
            }
            What::Remount(filesystem) => {
                remount(mount, filesystem.as_ref(), root.as_fd())?;
                None
            }
        };
        let Some(made) = made else { continue };
        // Again, now that it is attached: below a shared mount, it has become shared.
        propagate(&made, &mount.propagation).step(|| mount.describe())?;
        if mount.propagation.is_empty()
            && birth.plan.root_propagation == (Propagation::Unbindable, true)
        {
            let unbindable = Change {
                propagation: Some(Propagation::Unbindable),
                ..Change::default()
            };
            late.push(later(mount, &made, unbindable)?);
        }
    }
    Ok(late)
}

fn later(mount: &MountPlan, made: &OwnedFd, change: Change<'static>) -> Result<Late> {
    Ok(Late {
        mount: rustix::io::fcntl_dupfd_cloexec(made, 3).step(|| mount.describe())?,
        step: mount.describe(),
        change,
    })
}

fn read_only() -> Change<'static> {
    Change {
        set: Attributes::RDONLY,
        ..Change::default()
    }
}

/// What had to wait until everything else was made.
pub(super) fn finish(late: Vec<Late>) -> Result<()> {
    for Late {
        mount,
        step,
        change,
    } in late
    {
        set_attributes(mount, false, change).step(|| step)?;
    }
    Ok(())
}

fn bind(
    mount: &MountPlan,
    source: Option<&Source>,
    root: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>> {
    let step = || mount.describe();
    let Some(Source::Tree { tree, directory }) = source else {
        return Err(Error::invalid(step(), "its source was not opened"));
    };
    let place = destination::open(mount, source, root)?;
    let place_is = path::file_type(&place).step(step)?;
    if *directory != (place_is == FileType::Directory) {
        return Err(Error::step(step(), Errno::NOTDIR)
            .with_hint("a directory goes on a directory, a file on a file"));
    }
    attach(tree, &place).step(step)?;
    rustix::io::fcntl_dupfd_cloexec(tree, 3)
        .step(step)
        .map(Some)
}

fn filesystem(
    plan: &Plan,
    mount: &MountPlan,
    filesystem: &Filesystem,
    source: Option<&Source>,
    root: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let step = || mount.describe();
    let place = destination::open(mount, source, root)?;
    let made = new(mount, filesystem, &place);
    let tree = match (made, host_instance(&filesystem.kind)) {
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
            set_attributes(&tree, true, change).step(step)?;
            tree
        }
        (made, _) => made?,
    };
    if let Some(Source::Map(map)) = source {
        rootfs::map_ids(&tree, map.as_fd(), false, Path::new(&filesystem.kind))?;
    }
    if mount.propagation.is_empty() && plan.root_propagation == (Propagation::Shared, true) {
        propagate(&tree, &[plan.root_propagation]).step(step)?;
    }
    propagate(&tree, &mount.propagation).step(step)?;
    attach(&tree, &place).step(step)?;
    Ok(tree)
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

/// A new file system, detached, complete but for what is late.
fn new(mount: &MountPlan, filesystem: &Filesystem, place: &OwnedFd) -> Result<OwnedFd> {
    let step = || mount.describe();
    let kind = filesystem.kind.as_str();
    let context = Context::open(kind, step())?;
    context.set("source", &filesystem.source)?;
    let has = |name: &str| filesystem.parameters.iter().any(|(key, _)| key == name);
    if kind == "tmpfs" && !has("mode") {
        // It takes the place of a directory: with that directory's permissions (as runc).
        let mode = rustix::fs::fstat(place).step(step)?.st_mode & 0o7777;
        context.set("mode", &format!("{mode:o}"))?;
    }
    configure(&context, mount, filesystem)?;
    let late = is_late(mount, filesystem);
    if let Some(label) = mount.label.as_deref().filter(|_| !has("context")) {
        // The kernel labels these by itself, or (mqueue) takes it only afterwards.
        if !matches!(kind, "proc" | "sysfs" | "mqueue") {
            context.set("context", label)?;
        }
    }
    let mut attributes = mount.set;
    if late {
        attributes = attributes.without(Attributes::RDONLY);
    } else if mount.set.contains(Attributes::RDONLY) && !SHARED_SUPERBLOCKS.contains(&kind) {
        // mount(2) makes both read-only, the mount and its file system; a read-only device could
        // not be mounted otherwise.
        context.flag("ro")?;
    }
    let made = context.mount(attributes)?;
    if let (Some(label), "mqueue") = (&mount.label, kind) {
        let name = path::by_descriptor(&made);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(name, "security.selinux", label.as_bytes(), flags)
            .step(|| format!("{}: labelling it {label:?}", step()))?;
    }
    if filesystem.copy_up {
        copyup::copy(place, &made, (!has("uid"), !has("gid")), &step())?;
    }
    Ok(made)
}

/// Sets the parameters and flags of a file system.
fn configure(context: &Context, mount: &MountPlan, filesystem: &Filesystem) -> Result<()> {
    if !SHARED_SUPERBLOCKS.contains(&filesystem.kind.as_str()) {
        for (name, on) in &filesystem.flags {
            match (*on, *name) {
                (true, name) => context.flag(name)?,
                (false, "sync") => context.flag("async")?,
                (false, "lazytime") => context.flag("nolazytime")?,
                (false, "mand") => context.flag("nomand")?,
                (false, _) => {}
            }
        }
    }
    for name in &filesystem.switches {
        context.switch(name)?;
    }
    for (key, value) in &filesystem.parameters {
        match value {
            Some(layers) if layers.len() > MAX_STRING && key == "lowerdir" => {
                // One at a time: all of them in one string are too many. An older kernel takes any
                // parameter here, and would fail in the end without a word.
                let version = KernelVersion::running();
                if (version.major, version.minor) < (6, 5) {
                    return Err(Error::invalid(
                        mount.describe(),
                        format!("a lowerdir of more than {MAX_STRING} bytes needs Linux 6.5"),
                    ));
                }
                for layer in layers.split(':') {
                    context.set("lowerdir+", layer)?;
                }
            }
            Some(value) if value.len() > MAX_STRING => {
                return Err(Error::invalid(
                    mount.describe(),
                    format!("the value of {key:?} is longer than {MAX_STRING} bytes"),
                ));
            }
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    Ok(())
}

/// A tmpfs, and whatever is at `/dev`, is read-only only in the end: other mounts may want a directory
/// made in it, and devices their nodes (as runc).
fn is_late(mount: &MountPlan, filesystem: &Filesystem) -> bool {
    filesystem.kind == "tmpfs" || mount.destination == Path::new("/dev")
}

/// Changes what is mounted at the destination: mount(8)'s `remount`.
fn remount(mount: &MountPlan, filesystem: Option<&Filesystem>, root: BorrowedFd<'_>) -> Result<()> {
    let step = || mount.describe();
    let place = path::open_in(root, &mount.destination, OFlags::PATH).step(step)?;
    let stat = statx(&place, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).step(step)?;
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Error::step(step(), Errno::INVAL).with_hint("nothing is mounted there"));
    }
    if let Some(filesystem) = filesystem {
        let context = Context::pick(&place, step())?;
        configure(&context, mount, filesystem)?;
        if !SHARED_SUPERBLOCKS.contains(&filesystem.kind.as_str()) {
            if mount.set.contains(Attributes::RDONLY) {
                context.flag("ro")?;
            } else if mount.clear.contains(Attributes::RDONLY) {
                context.flag("rw")?;
            }
        }
        context.reconfigure()?;
    }
    for (recursive, set, clear) in [
        (true, mount.recursive_set, mount.recursive_clear),
        (false, mount.set, mount.clear),
    ] {
        let change = Change {
            set,
            clear,
            ..Change::default()
        };
        if !(set.is_empty() && clear.is_empty()) {
            set_attributes(&place, recursive, change).map_err(|e| refused(mount, e))?;
        }
    }
    propagate(&place, &mount.propagation).step(step)
}
