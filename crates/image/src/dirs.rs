//! The directories that the unpacker keeps open, so that a file's parent costs no path walk.
//!
//! Archives list a directory's files together, so the parents of the next entry are nearly always those of the last one: a
//! stack of open directories, each beneath the one before, answers most questions without a system call.

use crate::path::{join, split, within};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Open directories kept per layer.
const MAX_OPEN: usize = 24;

/// How parents are opened: as places, for nothing is read from them.
pub(crate) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Open directories of one layer; paths as [`crate::path::clean`] makes them.
pub(crate) struct OpenDirs {
    root: Arc<OwnedFd>,
    /// Whether the last answer led through a symbolic link, so that the path does not say where it is.
    linked: bool,
    open: Vec<(Vec<u8>, Arc<OwnedFd>)>,
}

impl OpenDirs {
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root: Arc::new(root),
            linked: false,
            open: Vec::new(),
        }
    }

    /// The layer's top.
    pub fn root(&self) -> Arc<OwnedFd> {
        self.root.clone()
    }

    /// Forgets what is at or beneath a path that is being removed.
    pub fn forget(&mut self, path: &[u8]) {
        self.open.retain(|(open, _)| !within(open, path));
    }

    /// Opens `dir`; says whether it is worth remembering. Symbolic links lead as in a chroot.
    pub fn resolve(&mut self, dir: &[u8]) -> Result<(Arc<OwnedFd>, bool), Errno> {
        match self.resolve_plain(dir) {
            Err(Errno::LOOP) => self.resolve_in_root(dir).map(|fd| (fd, false)),
            other => other,
        }
    }

    /// As [`OpenDirs::resolve`], from the nearest open directory and through no symbolic link.
    pub fn resolve_plain(&mut self, dir: &[u8]) -> Result<(Arc<OwnedFd>, bool), Errno> {
        self.linked = false;
        while self.open.last().is_some_and(|(open, _)| !within(dir, open)) {
            self.open.pop();
        }
        let (open, fd) = match self.open.last() {
            Some((open, fd)) => (open.len(), fd),
            None => (0, &self.root),
        };
        let rest = dir[open..].strip_prefix(b"/").unwrap_or(&dir[open..]);
        if rest.is_empty() {
            return Ok((fd.clone(), false)); // it is remembered already
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&**fd, rest, DIRECTORY, Mode::empty(), resolve)
            .map(|fd| (Arc::new(fd), true))
    }

    /// Opens `dir` as in a chroot: links lead within the layer, absolute ones from its top.
    pub fn resolve_in_root(&mut self, dir: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        self.linked = true;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&*self.root, dir, DIRECTORY, Mode::empty(), resolve).map(Arc::new)
    }

    /// Where `path` really is, `parent` being the answer for the directory it lies in.
    pub fn real_path<'a>(
        &self,
        parent: &OwnedFd,
        path: &'a [u8],
    ) -> Result<std::borrow::Cow<'a, [u8]>, Errno> {
        if !self.linked {
            return Ok(path.into());
        }
        let where_is = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::readlink(link, Vec::new()).map(CString::into_bytes)
        };
        let (top, dir) = (where_is(&self.root)?, where_is(parent)?);
        if !within(&dir, &top) {
            return Err(Errno::XDEV);
        }
        let dir = dir[top.len()..].strip_prefix(b"/").unwrap_or_default();
        Ok(join(dir, split(path).1).into())
    }

    /// Keeps an open directory for what comes next. [`OpenDirs::resolve`] has just dropped all that it does not lie in.
    pub fn remember(&mut self, dir: &[u8], fd: &Arc<OwnedFd>) {
        if self.open.len() >= MAX_OPEN {
            self.open.pop();
        }
        self.open.push((dir.to_vec(), fd.clone()));
    }
}
