//! `tmpcopyup`: a tmpfs that begins with the content of the directory which it covers.
//!
//! The copy goes into the tmpfs while it is attached nowhere: nobody sees it half-made, and nobody can
//! lead the writing elsewhere. The reading follows no link; every object is opened once (`O_PATH`),
//! and everything else is done to that descriptor.

use crate::error::{Error, Result};
use crate::path::by_descriptor;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmod, chownat, fstat, ftruncate, getxattr, linkat, listxattr, mkdirat, mknodat,
    openat, readlinkat, seek, setxattr, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies what is in the directory `from` into the new file system `to`. `owner`: whether its root takes
/// the directory's owner and group, which options may have said otherwise.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd, owner: (bool, bool), step: &str) -> Result<()> {
    let mut copy = Copy {
        to,
        links: HashMap::new(),
        at: PathBuf::new(),
    };
    let copied = copy.directory(from.as_fd(), to.as_fd()).and_then(|()| {
        let stat = fstat(from)?;
        // The mode was a parameter of the file system.
        let (uid, gid) = ids(&stat);
        let (uid, gid) = (owner.0.then_some(uid), owner.1.then_some(gid));
        chownat(to, "", uid, gid, AtFlags::EMPTY_PATH)?;
        attributes(from.as_fd(), to.as_fd())?;
        times(to.as_fd(), &stat)
    });
    copied.map_err(|e| {
        let error = Error::step(format!("{step}: copying {:?} into it", copy.at), e);
        match e {
            Errno::NOSPC => error.with_hint("the size of the tmpfs is too small for its content"),
            _ => error,
        }
    })
}

struct Copy<'a> {
    /// The root of the new file system.
    to: &'a OwnedFd,
    /// Where the first name of a file with several is, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// What is being copied, relative to the root.
    at: PathBuf,
}

impl Copy<'_> {
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let list = openat(from, ".", flags, Mode::empty())?;
        for entry in Dir::read_from(&list)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.at.push(name);
            self.object(openat(from, name, LOOK, Mode::empty())?, to, name)?;
            self.at.pop();
        }
        Ok(())
    }

    /// One directory entry. After a failure, `at` names it.
    fn object(
        &mut self,
        from: OwnedFd,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> rustix::io::Result<()> {
        let stat = fstat(&from)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                return linkat(self.to, first, dir, name, AtFlags::empty());
            }
            self.links.insert(key, self.at.clone());
        }
        match kind {
            FileType::Directory => mkdirat(dir, name, Mode::RWXU)?,
            FileType::Symlink => symlinkat(readlinkat(&from, "", Vec::new())?, dir, name)?,
            FileType::RegularFile => contents(&from, dir, name, stat.st_size as u64)?,
            _ => match mknodat(dir, name, kind, Mode::RUSR, stat.st_rdev) {
                // A user namespace can make no devices (mknod(2)); nor could it have used this one.
                Err(Errno::PERM) => return Ok(()),
                other => other?,
            },
        }
        let to = openat(dir, name, LOOK, Mode::empty())?;
        if kind == FileType::Directory {
            self.directory(from.as_fd(), to.as_fd())?;
        }
        like(from.as_fd(), to.as_fd(), &stat)
    }
}

/// Copies the data of a file, and leaves its holes holes: they cost no memory.
fn contents(
    from: &OwnedFd,
    dir: BorrowedFd<'_>,
    name: &OsStr,
    size: u64,
) -> rustix::io::Result<()> {
    let from = rustix::fs::open(
        by_descriptor(from),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = openat(dir, name, new, Mode::RUSR | Mode::WUSR)?;
    let (mut from, mut to) = (File::from(from), File::from(to));
    let mut end = 0;
    while end < size {
        let start = match seek(&from, SeekFrom::Data(end)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e),
        };
        end = seek(&from, SeekFrom::Hole(start))?;
        seek(&from, SeekFrom::Start(start))?;
        seek(&to, SeekFrom::Start(start))?;
        let mut part = std::io::Read::take(&mut from, end - start);
        std::io::copy(&mut part, &mut to)
            .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    }
    ftruncate(&to, size)
}

fn ids(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Makes a new object like the other: owner, then what a change of the owner takes away.
fn like(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = ids(stat);
    chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    // A symbolic link has no permissions of its own.
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) as RawMode);
        chmod(by_descriptor(to), mode)?;
    }
    attributes(from, to)?;
    times(to, stat)
}

/// Copies extended attributes: capabilities, access control lists, users' own.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let (from, to) = (by_descriptor(from), by_descriptor(to));
    let mut names = Vec::with_capacity(64 << 10);
    match listxattr(&from, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    }
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = Vec::with_capacity(64 << 10);
        match getxattr(&from, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => {}
            // Listed, but not for us.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
            Err(e) => return Err(e),
        }
        match setxattr(&to, name, &value, XattrFlags::empty()) {
            // `user.` on tmpfs needs Linux 6.6, `trusted.` the host's root, and a label its module.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn times(to: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    utimensat(rustix::fs::CWD, by_descriptor(to), &times, AtFlags::empty())
}
