//! A mount of another container, copied out of its mount namespace: what `--ipc container:` needs for
//! the other's `/dev/shm`, which no path of the host shows.
//!
//! open_tree(2) clones only mounts of the caller's own mount namespace, so the caller goes there for a
//! moment. It is single-threaded, as for everything here.

use crate::error::{Context, Error, Result};
use crate::fsctx::clone_tree;
use barque_sys::process::{Namespaces, setns};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::process::{chroot, fchdir};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A detached copy of the mount at `path` as the process of `pidfd` sees it, for
/// [`CreateOptions::trees`](crate::CreateOptions::trees).
///
/// # Errors
/// A failed step; after a failure to return the process must end, for it looks at another's files.
pub fn tree_of(pidfd: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let place = |path: &'static str| {
        open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .step(|| format!("opening {path}"))
    };
    let (own_root, own_cwd) = (place("/")?, place(".")?);
    let own = open(
        "/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| "opening /proc/self/ns/mnt")?;
    setns(pidfd, Namespaces::MOUNT)
        .map_err(|e| Error::step("entering the other container's mount namespace", e))?;
    let tree = clone_tree(CWD, path, false);
    // setns(2) moves root and working directory to the namespace's root: both are put back.
    setns(own.as_fd(), Namespaces::MOUNT).step(|| "returning to our own mount namespace")?;
    fchdir(&own_root)
        .and_then(|()| chroot("."))
        .and_then(|()| fchdir(&own_cwd))
        .step(|| "returning to our own root directory")?;
    tree.step(|| {
        format!(
            "copying the mount at {} of the other container",
            path.display()
        )
    })
}
