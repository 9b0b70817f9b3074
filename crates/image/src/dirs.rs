//! The directories that the unpacker keeps open, so that a file's parent costs no path walk.
//!
//! Archives list a directory's files together, so the parents of the next entry are nearly always those of the last one: a
//! stack of open directories, each beneath the one before, answers most questions without a system call.

use crate::path::within;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::rc::Rc;

/// Open directories kept per layer.
const MAX_OPEN: usize = 24;

/// How parents are opened: as places, for nothing is read from them.
pub(crate) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Open directories of one layer; paths as [`crate::path::clean`] makes them.
pub(crate) struct OpenDirs {
    root: Rc<OwnedFd>,
    open: Vec<(Vec<u8>, Rc<OwnedFd>)>,
}

impl OpenDirs {
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            open: Vec::new(),
        }
    }

    /// The layer's top.
    pub fn root(&self) -> Rc<OwnedFd> {
        self.root.clone()
    }

    /// Forgets what is at or beneath a path that is being removed.
    pub fn forget(&mut self, path: &[u8]) {
        self.open.retain(|(open, _)| !within(open, path));
    }

    /// Opens `dir` from the nearest open directory; says whether no symbolic link was met.
    pub fn resolve(&mut self, dir: &[u8]) -> Result<(Rc<OwnedFd>, bool), Errno> {
        while self.open.last().is_some_and(|(open, _)| !within(dir, open)) {
            self.open.pop();
        }
        let (open, fd) = match self.open.last() {
            Some((open, fd)) => (open.len(), fd),
            None => (0, &self.root),
        };
        let rest = dir[open..].strip_prefix(b"/").unwrap_or(&dir[open..]);
        if rest.is_empty() {
            return Ok((fd.clone(), false)); // "not plain": it needs no remembering
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&**fd, rest, DIRECTORY, Mode::empty(), resolve) {
            Ok(fd) => Ok((Rc::new(fd), true)),
            Err(Errno::LOOP) => self.resolve_in_root(dir),
            Err(e) => Err(e),
        }
    }

    /// Opens `dir` as in a chroot: links lead within the layer, absolute ones from its top.
    pub fn resolve_in_root(&self, dir: &[u8]) -> Result<(Rc<OwnedFd>, bool), Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&*self.root, dir, DIRECTORY, Mode::empty(), resolve)
            .map(|fd| (Rc::new(fd), false))
    }

    /// Keeps an open directory for what comes next. [`OpenDirs::resolve`] has just dropped all that it does not lie in.
    pub fn remember(&mut self, dir: &[u8], fd: &Rc<OwnedFd>) {
        if self.open.len() >= MAX_OPEN {
            self.open.pop();
        }
        self.open.push((dir.to_vec(), fd.clone()));
    }
}
