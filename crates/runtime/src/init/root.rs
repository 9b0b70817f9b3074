//! The root: cutting the mount namespace off from the host's, attaching the new root, moving in.

use crate::error::{Context, Error, Result};
use crate::fsctx;
use crate::plan::Plan;
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use barque_sys::process::{Namespaces, setns};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{PidfdFlags, chdir, chroot, fchdir, getpid, pidfd_open, pivot_root};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Makes every mount private: what is mounted from here on stays here. The host's later mounts do
/// not come in either; a bind mount that asks for them (`rslave`) was taken from the host's tree
/// before, and has its own propagation.
///
/// Every mount of the namespace, also those that a caller in a chroot does not see: letting go of the
/// host's tree would otherwise unmount at the host what is shared with it there. Returns whether we are in one.
pub(super) fn cut_propagation() -> Result<bool> {
    let step = || "making the mount namespace private";
    let ours = host_root()?;
    to_the_top()?;
    let private = Change {
        propagation: Some(Propagation::Private),
        ..Change::default()
    };
    let top = host_root()?;
    set_attributes(&top, true, private).step(step)?;
    if identity(&ours)? == identity(&top)? {
        return Ok(false);
    }
    // The paths that we know are those below it.
    fchdir(&ours).step(step)?;
    chroot(".").step(step)?;
    Ok(true)
}

/// What a directory is, and of which mount.
fn identity(dir: &OwnedFd) -> Result<(u64, u64)> {
    let wanted = StatxFlags::MNT_ID | StatxFlags::INO;
    let stat = statx(dir, "", AtFlags::EMPTY_PATH, wanted).step(|| "looking at /")?;
    Ok((stat.stx_mnt_id, stat.stx_ino))
}

/// Makes the root of the mount namespace our own, which in a chroot it is not.
///
/// A container that is made from within a chroot would have the chroot exchanged for its root, and the
/// host's root left in its namespace, above it: there is where setns(2) takes whoever enters the namespace
/// later, `exec` first of all.
fn to_the_top() -> Result<()> {
    let step = || "going to the root of the mount namespace";
    let us = pidfd_open(getpid(), PidfdFlags::empty()).step(step)?;
    setns(us.as_fd(), Namespaces::MOUNT).step(step)
}

fn host_root() -> Result<OwnedFd> {
    rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| "opening /")
}

/// Attaches the new root where hooks know it to be, or on top of the old one.
///
/// For that, `/` serves as well as any directory, and better: it is always there. Paths of the host keep
/// working meanwhile, because a lookup begins at our root directory and not at what lies over it.
pub(super) fn attach(root: &OwnedFd, place: Option<&Path>) -> Result<()> {
    let step = || "attaching the root file system";
    let place = match place {
        Some(path) => {
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(step)?
        }
        None => host_root()?,
    };
    fsctx::attach(root, place).step(step)
}

/// Gives what is mounted below the root already its propagation, where that is to be recursive. The root
/// itself has to wait (`enter`): what is mounted on a shared mount becomes shared, and of an unbindable
/// one no copy can be made. What comes later has its own (see `mounts`).
pub(super) fn spread(root: &OwnedFd, plan: &Plan) -> Result<()> {
    let not_yet = match plan.root_propagation {
        (Propagation::Shared, true) => Propagation::Slave,
        (Propagation::Unbindable, true) => Propagation::Private,
        // The parent has seen to it.
        _ => return Ok(()),
    };
    let list = [plan.root_propagation, (not_yet, false)];
    fsctx::propagate(root, &list).step(|| "setting the propagation of the root")
}

/// Moves in and lets go of the host's tree; `in_chroot` is what [`cut_propagation`] has found.
pub(super) fn enter(
    root: &OwnedFd,
    plan: &Plan,
    no_pivot: bool,
    in_chroot: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    // Private and slave it is already. Shared is shared among what the container itself makes: a
    // private or slave mount gets a peer group of its own, never the host's back.
    let (propagation, _) = plan.root_propagation;
    if matches!(propagation, Propagation::Shared | Propagation::Unbindable) {
        fsctx::propagate(root, &[(propagation, false)])
            .step(|| "setting the propagation of the root")?;
    }
    // Without a chroot we are at the top already, and the new root may lie over it: that is not to be our own
    // yet, for it could not be pivoted to.
    if in_chroot {
        to_the_top()?;
    }
    fchdir(root).step(|| "entering the root file system")?;
    let pivoted = if no_pivot {
        Err(Errno::INVAL)
    } else {
        pivot_root(".", ".")
    };
    match pivoted {
        Ok(()) => {
            // pivot_root(2), "pivot_root(".", ".")": the old root now lies on top of the new one.
            unmount(".", UnmountFlags::DETACH).step(|| "letting go of the host's root")?;
        }
        Err(Errno::INVAL) => {
            cover_host_root(root)?;
            if !no_pivot {
                let warning = "the host's root cannot be pivoted away; it is covered instead";
                warnings.push(warning.into());
            }
        }
        Err(e) => return Err(Error::step("changing the root (pivot_root)", e)),
    }
    chdir("/").step(|| "entering the root")?;
    if plan.root_readonly {
        fsctx::set(root, Attributes::RDONLY).step(|| "making the root read-only")?;
    }
    Ok(())
}

/// For a host that runs from its initramfs, which cannot be pivoted away (pivot_root(2)): our root
/// covers it at its very root, from where no `..` leads down to what is covered (the kernel goes up
/// from one mount's root to the next and stops at the last, fs/namei.c, `choose_mountpoint`).
///
/// Where our `/` is not the root of a mount (we are in a chroot), there would be such a way.
fn cover_host_root(new: &OwnedFd) -> Result<()> {
    let root = statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS);
    let step = || "changing the root (pivot_root)";
    if !root
        .step(step)?
        .stx_attributes
        .contains(StatxAttributes::MOUNT_ROOT)
    {
        return Err(Error::step(step(), Errno::INVAL)
            .with_hint("we are in a chroot, out of which a container could break"));
    }
    // It may be attached elsewhere; where it is on top already, this moves it onto itself, which is refused.
    match fsctx::attach(new, host_root()?) {
        Ok(()) | Err(Errno::LOOP | Errno::INVAL) => {}
        Err(e) => {
            return Err(Error::step(
                "moving the root file system over the host's",
                e,
            ));
        }
    }
    chroot(".").step(|| "changing the root")
}
