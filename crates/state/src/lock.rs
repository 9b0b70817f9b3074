//! Locks between processes: flock(2) on a file.
//!
//! A flock belongs to the open file description: it goes when the holder drops it, exits or is killed,
//! and it is shared with nobody, for the fd is O_CLOEXEC. (A forked child that keeps the fd keeps the
//! lock; the monitor closes all fds it was not given.)
//!
//! Deleting a lock file is a race by nature: a waiter may hold the old inode while a newcomer creates a
//! new one, and both believe to hold the lock. Two rules make it sound. Only the holder of the exclusive
//! lock removes the file, as the last thing it does under it (a newcomer may hold the lock from then on).
//! After each acquisition [`FileLock`] compares the inode it locked with the one at the path, and starts
//! over when they differ. So a lock may lie in its object's own directory: the holder renames the
//! directory away, then deletes it, and whoever waited for the object gets "not found".

use crate::error::{Context, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A lock held; dropping it releases.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct FileLock {
    fd: OwnedFd,
}

impl AsFd for FileLock {
    /// For a forked child that is to keep the lock.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl FileLock {
    /// Waits until no other process or thread holds the lock in any way. Creates the file (0600).
    pub fn exclusive(path: &Path) -> Result<Self> {
        Self::acquire(path, FlockOperation::LockExclusive).map(|l| l.expect("a blocking flock"))
    }

    /// Waits until nobody holds the lock exclusively; others may share it. Creates the file (0600).
    pub fn shared(path: &Path) -> Result<Self> {
        Self::acquire(path, FlockOperation::LockShared).map(|l| l.expect("a blocking flock"))
    }

    /// Takes the lock exclusively if that needs no waiting; `None` when another holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::acquire(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Shares the lock if that needs no waiting; `None` when another holds it exclusively.
    pub fn try_shared(path: &Path) -> Result<Option<Self>> {
        Self::acquire(path, FlockOperation::NonBlockingLockShared)
    }

    /// One more holder of the same lock: it is held until both are dropped, also by different processes.
    pub fn share(&self) -> Result<Self> {
        let fd = self.fd.try_clone();
        let fd = fd.context("duplicate the descriptor of", Path::new("a lock"))?;
        Ok(Self { fd })
    }

    fn acquire(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))
                .context("open the lock file", path)?;
            match retry_on_intr(|| rustix::fs::flock(&fd, operation)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e).context("lock", path),
            }
            if is_still_at(&fd, path)? {
                return Ok(Some(Self { fd }));
            }
        }
    }
}

/// Whether the locked inode is still the one that newcomers will find at `path`.
fn is_still_at(fd: &OwnedFd, path: &Path) -> Result<bool> {
    let ours = rustix::fs::fstat(fd).context("stat", path)?;
    match rustix::fs::lstat(path) {
        Ok(theirs) => Ok(ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e).context("stat", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn exclusion_and_sharing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let shared = FileLock::shared(&path).unwrap();
        let second = FileLock::try_shared(&path).unwrap();
        assert!(second.is_some());
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop((shared, second));
        let exclusive = FileLock::try_exclusive(&path).unwrap();
        assert!(exclusive.is_some());
        assert!(FileLock::try_shared(&path).unwrap().is_none());
    }

    #[test]
    fn a_shared_lock_is_held_by_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::exclusive(&path).unwrap();
        let second = first.share().unwrap();
        drop(first);
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(second);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn two_holders_never_meet_although_each_deletes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let _lock = FileLock::exclusive(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        std::fs::remove_file(&path).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn the_lock_of_a_removed_object_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("object");
        std::fs::create_dir(&object).unwrap();
        let path = object.join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| FileLock::exclusive(&path));
            std::fs::rename(&object, dir.path().join("gone")).unwrap();
            drop(held);
            assert!(waiter.join().unwrap().unwrap_err().is_not_found());
        });
    }
}
