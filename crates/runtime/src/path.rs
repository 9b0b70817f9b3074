//! Paths of a container, resolved so that nothing in them can lead out of its root.
//!
//! Two ways, both by descriptors only. Opening what exists is `openat2(RESOLVE_IN_ROOT)` (5.6):
//! the kernel takes absolute symbolic links and `..` from the given root and follows no magic
//! link. Making what is missing is a walk of our own, one component at a time, that never follows
//! a link (`O_NOFOLLOW`) but reads it and continues with its text, and that goes up only along the
//! descriptors by which it came down.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// Opens what `path` means inside `root`.
pub(crate) fn open_in(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_resolved(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The same, but fails with `ELOOP` when any component is a symbolic link.
pub(crate) fn open_in_without_links(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    open_resolved(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// `openat2` that repeats itself: it fails with `EAGAIN` when something on its way was renamed, or
/// mounted, meanwhile, because it cannot tell then whether it left the root.
pub(crate) fn open_resolved(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < 128 => tries += 1,
            other => return other,
        }
    }
}

/// What a missing last component becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    /// A directory, mode 0755.
    Directory,
    /// A directory that everybody may write to and nobody may clear of others' files, mode 1777.
    SharedDirectory,
    /// An empty file, mode 0644.
    File,
}

/// Opens `path` inside `root` (`O_PATH`), making what is missing of it.
pub(crate) fn make_in(root: BorrowedFd<'_>, path: &Path, make: Make) -> Result<OwnedFd> {
    // Nearly always everything is there.
    match open_in(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => walk(root, path, make)
            .map_err(|e| Error::step(format!("making {path:?} in the root file system"), e)),
        other => {
            other.map_err(|e| Error::step(format!("opening {path:?} in the root file system"), e))
        }
    }
}

/// Opens the directory that holds the last component of `path`, making what is missing, and
/// returns it with that component.
pub(crate) fn make_parent_in<'p>(
    root: BorrowedFd<'_>,
    path: &'p Path,
) -> Result<(OwnedFd, &'p OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(
            format!("{path:?}"),
            "is not the path of a file",
        ));
    };
    Ok((make_in(root, parent, Make::Directory)?, name))
}

fn walk(root: BorrowedFd<'_>, path: &Path, make: Make) -> rustix::io::Result<OwnedFd> {
    const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let mut todo: VecDeque<OsString> = components(path);
    // The way down: going up means going back along it, and never above the root.
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(root, AsFd::as_fd);
        let fd = match openat(here, &*name, STEP, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_one(
                    here,
                    &name,
                    if todo.is_empty() {
                        make
                    } else {
                        Make::Directory
                    },
                )?;
                openat(here, &*name, STEP, Mode::empty())?
            }
            other => other?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                way.clear();
            }
            let target = OsString::from_vec(target);
            for part in components(Path::new(&target)).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        if kind != FileType::Directory && !todo.is_empty() {
            return Err(Errno::NOTDIR);
        }
        way.push(fd);
    }
    match way.pop() {
        Some(fd) => Ok(fd),
        None => openat(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn make_one(dir: BorrowedFd<'_>, name: &OsStr, make: Make) -> rustix::io::Result<()> {
    let made = match make {
        Make::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        // In one step, and with the umask that `init` has set to 0: a chmod(2) by name could be led
        // elsewhere by whoever exchanges the directory for a link in between.
        Make::SharedDirectory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o1777)),
        Make::File => openat(
            dir,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(drop),
    };
    match made {
        // Somebody else was faster; what it is, the caller sees when it opens it.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// A name for what a descriptor refers to, for system calls that take no descriptor, or none that was
/// opened with `O_PATH`. Of the host's `/proc`: it is of use only before the root is entered.
pub(crate) fn by_descriptor(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The type of what a descriptor refers to.
pub(crate) fn file_type(fd: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Whether the name exists in the directory, whatever it is.
pub(crate) fn exists_at(dir: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A path as bytes for messages and system calls that take no `Path`.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .expect("open");
        (dir, fd)
    }

    #[test]
    fn missing_directories_are_made_below_the_root() {
        let (dir, root) = root();
        make_in(root.as_fd(), Path::new("/a/b/c"), Make::Directory).expect("make");
        make_in(root.as_fd(), Path::new("/a/f"), Make::File).expect("make");
        assert!(dir.path().join("a/b/c").is_dir());
        assert!(dir.path().join("a/f").is_file());
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().expect("tempdir");
        symlink(outside.path(), dir.path().join("absolute")).expect("symlink");
        symlink("../../../../../../escape", dir.path().join("relative")).expect("symlink");
        for path in [
            "/absolute/made",
            "/relative/made",
            "/../../../../up/made",
            "/x/../../y",
        ] {
            make_in(root.as_fd(), Path::new(path), Make::Directory).expect("make");
        }
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
        let inside = dir
            .path()
            .join(outside.path().strip_prefix("/").expect("absolute"));
        assert!(inside.join("made").is_dir());
        assert!(dir.path().join("escape/made").is_dir());
        assert!(dir.path().join("up/made").is_dir());
        assert!(dir.path().join("y").is_dir());
    }

    #[test]
    fn loops_end_and_files_are_no_directories() {
        let (dir, root) = root();
        symlink("loop", dir.path().join("loop")).expect("symlink");
        fs::write(dir.path().join("file"), "").expect("write");
        assert!(make_in(root.as_fd(), Path::new("/loop/x"), Make::Directory).is_err());
        assert!(make_in(root.as_fd(), Path::new("/file/x"), Make::Directory).is_err());
        assert_eq!(
            open_in_without_links(&root, Path::new("/loop"), OFlags::PATH).map(drop),
            Err(Errno::LOOP)
        );
    }
}
