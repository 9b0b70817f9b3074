//! Locking what a bind mount has: in a user namespace with `CAP_SYS_ADMIN`, a container could otherwise
//! take `ro`, `nosuid` and the like away from what the host, or the configuration, gave it with them.
//!
//! The kernel locks the flags of mounts when a mount namespace is copied for another user namespace
//! (mount_namespaces(7), "Restrictions on mount namespaces"), and not when a detached mount is attached
//! in one. So a helper has them attached, copies its mount namespace for a user namespace that nobody
//! will ever use, and sends detached copies back: what is locked stays locked.

use crate::channel::{self, FromChild, Socket};
use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, attach, clone_tree, propagate};
use barque_sys::mount::{Attributes, Propagation};
use barque_sys::process::{CloneArgs, Namespaces, clone_process, reap, unshare};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const STEP: &str = "locking the flags of bind mounts";

/// What the helper, and nobody else, covers.
const PLACE: &str = "/proc";

/// Locked copies of detached mounts, in their order; each with whether it is a directory.
pub(crate) fn locked(trees: &[(BorrowedFd<'_>, bool)]) -> Result<Vec<OwnedFd>> {
    let (ours, theirs) = channel::pair()?;
    let mut keep = vec![theirs.as_fd()];
    keep.extend(trees.iter().map(|(tree, _)| *tree));
    let args = CloneArgs {
        namespaces: Namespaces::MOUNT,
        ..CloneArgs::default()
    };
    let child = clone_process(args, &keep, || match copies(trees, &theirs) {
        Ok(()) => 0,
        Err(error) => {
            let _ = theirs.send(&FromChild::Failed(error), None);
            1
        }
    })
    .step(|| STEP)?;
    drop(theirs);
    let received = trees.iter().map(|_| receive(&ours)).collect();
    // Closed first, so that it does not wait for us to hear the rest.
    drop(ours);
    let _ = reap(child.pidfd.as_fd());
    received
}

fn receive(socket: &Socket) -> Result<OwnedFd> {
    match socket.receive::<FromChild>()? {
        Some((FromChild::Mounted, Some(fd))) => Ok(fd),
        Some((FromChild::Failed(error), _)) => Err(error),
        _ => Err(Error::Died {
            doing: STEP.to_owned(),
            how: "without a word".to_owned(),
        }),
    }
}

/// The helper's work.
fn copies(trees: &[(BorrowedFd<'_>, bool)], socket: &Socket) -> Result<()> {
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| STEP)
    };
    propagate(open("/")?, &[(Propagation::Private, true)]).step(|| STEP)?;
    let context = Context::open("tmpfs", STEP)?;
    context.set("source", "barque")?;
    let base = context.mount(Attributes::NONE)?;
    // A place that is sure to be there. Not "/": beneath another root we would be as in a chroot, from
    // where no user namespace can be made (user_namespaces(7)).
    attach(&base, open(PLACE)?).step(|| STEP)?;
    for (index, (tree, directory)) in trees.iter().enumerate() {
        let place = place(&base, &index.to_string(), *directory).step(|| STEP)?;
        attach(tree, place).step(|| STEP)?;
    }
    unshare(Namespaces::USER | Namespaces::MOUNT).step(|| STEP)?;
    for index in 0..trees.len() {
        let path = Path::new(PLACE).join(index.to_string());
        let copy = clone_tree(CWD, &path, true).step(|| STEP)?;
        socket
            .send(&FromChild::Mounted, Some(copy.as_fd()))
            .step(|| STEP)?;
    }
    Ok(())
}

fn place(base: &OwnedFd, name: &str, directory: bool) -> rustix::io::Result<OwnedFd> {
    if directory {
        mkdirat(base, name, Mode::RWXU)?;
    } else {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(base, name, new, Mode::RUSR)?;
    }
    openat(base, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
