//! A directory of a cgroup file system, held by fd.
//!
//! Every file of a group is reached with `openat` from such an fd, so that a group that is removed
//! and made again under the same name is never mistaken for the old one. Paths are kept for
//! messages only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A cgroup directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

impl Dir {
    /// Opens a mount point.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        // A mount point may be reached through symbolic links (`/sys/fs/cgroup/cpu`), groups not.
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the group `name` directly below.
    pub(crate) fn child(&self, name: &str) -> Result<Self, Errno> {
        Ok(Self {
            fd: rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty())?,
            path: self.path.join(name),
        })
    }

    /// Opens the same group again, for holding it longer than `self`.
    pub(crate) fn again(&self) -> Result<Self, Errno> {
        Ok(Self {
            fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)?,
            path: self.path.clone(),
        })
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Makes the group `name` directly below.
    pub(crate) fn make(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
    }

    /// Removes the group `name` directly below; it must hold neither processes nor groups.
    pub(crate) fn unmake(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Whether the group has the file.
    pub(crate) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.fd, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Opens a file of the group for writing.
    pub(crate) fn writer(&self, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.fd,
            file,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Opens a file of the group for reading.
    pub(crate) fn reader(&self, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.fd,
            file,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Writes `value` to a file of the group in one write(2), as the kernel wants it.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        put(self.writer(file)?.as_fd(), value)
    }

    /// Reads a whole file of the group.
    pub(crate) fn read(&self, file: &str) -> Result<String, Errno> {
        slurp(self.reader(file)?.as_fd())
    }

    /// [`Dir::read`] with the file in the error.
    pub(crate) fn text(&self, file: &str) -> Result<String> {
        self.read(file)
            .map_err(|source| Error::io("read", self.path.join(file), source))
    }

    /// [`Dir::write`] with the file and the value in the error.
    pub(crate) fn set(&self, file: &str, value: &str) -> Result<()> {
        self.write(file, value).map_err(|source| Error::Rejected {
            file: self.path.join(file),
            value: value.to_owned(),
            hint: String::new(),
            source,
        })
    }

    /// Reads a file that holds one number, or `max` (which is `None`).
    pub(crate) fn number(&self, file: &str) -> Result<Option<u64>, Errno> {
        let text = self.read(file)?;
        let text = text.trim();
        if text == "max" {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| Errno::INVAL)
    }

    /// The names of the groups directly below.
    pub(crate) fn children(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory {
                continue;
            }
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Calls `visit` on this group and on every group below it, parents first. Groups that vanish
    /// meanwhile are passed over.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Self) -> Result<()>) -> Result<()> {
        visit(self)?;
        let names = self
            .children()
            .map_err(|source| Error::io("list", &self.path, source))?;
        for name in names {
            match self.child(&name) {
                Ok(child) => child.walk(visit)?,
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(source) => return Err(Error::io("open", self.path.join(name), source)),
            }
        }
        Ok(())
    }

    /// The processes of this group alone, without those whose PID namespace hides them from us.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        match self.read("cgroup.procs") {
            Ok(text) => Ok(parse_pids(&text)),
            // A group that vanished has none; those of a threaded group are listed by its domain.
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(source) => Err(Error::io("read", self.path.join("cgroup.procs"), source)),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The lines of `cgroup.procs`; 0 stands for a process of a PID namespace that is not below ours.
fn parse_pids(text: &str) -> Vec<i32> {
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|&pid| pid > 0)
        .collect()
}

/// One write(2) of the whole value: cgroup files take a value per call, never a part of one.
pub(crate) fn put(fd: BorrowedFd<'_>, value: &str) -> Result<(), Errno> {
    loop {
        match rustix::io::write(fd, value.as_bytes()) {
            Ok(written) if written == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads to the end, from the current offset.
pub(crate) fn slurp(fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut bytes = Vec::with_capacity(512);
    let mut chunk = [0u8; 4096];
    loop {
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_processes_are_left_out() {
        assert_eq!(parse_pids("12\n0\n345\n"), [12, 345]);
        assert_eq!(parse_pids(""), Vec::<i32>::new());
    }
}
