//! Removing trees by fds: nothing outside the tree is reached, whatever the tree holds.
//!
//! Every directory is opened relative to its parent with O_NOFOLLOW and RESOLVE_NO_XDEV: a symbolic link is unlinked, not
//! followed, and what is mounted inside is an error, not a victim. Deep trees cost no fds: beyond [`MAX_DEPTH`] a directory
//! is first renamed to the top of the tree. A name that has gone meanwhile is no error, so two may remove one tree.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// Open directories at a time.
const MAX_DEPTH: usize = 64;

/// Opens a directory beneath `parent` in which files may be listed and removed.
pub(crate) fn open_dir(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

/// Calls with every regular file beneath a directory. What vanishes meanwhile is passed over.
pub(crate) fn files(top: &std::path::Path, mut each: impl FnMut(&Stat)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::openat(CWD, top, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        top => top?,
    };
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut left = vec![top];
    while let Some(dir) = left.pop() {
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => match open_dir(&dir, name) {
                    Ok(sub) => left.push(sub),
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                },
                FileType::RegularFile => {
                    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => each(&stat),
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(e),
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes `name` in `parent` with all that is in it. The first failure is returned after the rest was tried.
pub(crate) fn remove(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let parent = parent.as_fd();
    match unlink(parent, name) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let top = match open_dir(parent, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut remover = Remover {
        top,
        buffer: vec![MaybeUninit::uninit(); 32 << 10],
        moved: 0,
        failed: None,
    };
    let top = rustix::io::dup(&remover.top)?;
    remover.empty(&top, 0);
    match rmdir(parent, name) {
        Ok(()) => Ok(()),
        Err(e) => Err(remover.failed.unwrap_or(e)),
    }
}

struct Remover {
    top: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
    moved: usize,
    failed: Option<Errno>,
}

impl Remover {
    /// Empties a directory. Subdirectories come after the listing, so one buffer serves all levels.
    fn empty(&mut self, dir: &OwnedFd, depth: usize) {
        loop {
            let moved = self.moved;
            let Some(subdirs) = self.unlink_files(dir) else {
                return;
            };
            for name in &subdirs {
                self.remove_subdir(dir, name, depth);
            }
            // What was too deep now lies in the top directory, which is listed again.
            if depth > 0 || self.moved == moved {
                return;
            }
        }
    }

    /// Unlinks all that is no directory; returns the directories.
    fn unlink_files(&mut self, dir: &OwnedFd) -> Option<Vec<CString>> {
        if let Err(e) = rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0)) {
            self.fail(e);
            return None;
        }
        let mut subdirs = Vec::new();
        let mut failed = None;
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                subdirs.push(name.to_owned());
                continue;
            }
            match unlink(dir.as_fd(), name) {
                Ok(()) => {}
                Err(Errno::ISDIR) => subdirs.push(name.to_owned()),
                Err(e) => failed = Some(e),
            }
        }
        if let Some(e) = failed {
            self.fail(e);
        }
        Some(subdirs)
    }

    fn remove_subdir(&mut self, dir: &OwnedFd, name: &CStr, depth: usize) {
        if depth >= MAX_DEPTH {
            self.moved += 1;
            let target = format!(".barque-removing-{}-{}", std::process::id(), self.moved);
            if let Err(e) = rustix::fs::renameat(dir, name, &self.top, target.as_str()) {
                self.fail(e);
            }
            return;
        }
        match rmdir(dir.as_fd(), name) {
            Ok(()) => return,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return self.fail(e),
        }
        match open_dir(dir, name) {
            Ok(sub) => self.empty(&sub, depth + 1),
            Err(Errno::NOENT) => return,
            Err(e) => return self.fail(e),
        }
        if let Err(e) = rmdir(dir.as_fd(), name)
            && self.failed.is_none()
        {
            self.fail(e);
        }
    }

    fn fail(&mut self, e: Errno) {
        self.failed.get_or_insert(e);
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    unprotecting(dir, name, AtFlags::empty())
}

fn rmdir(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    unprotecting(dir, name, AtFlags::REMOVEDIR)
}

/// unlinkat(2); what chattr(1) made immutable or append-only is released first: it is to be removed with its tree.
fn unprotecting(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let child = rustix::fs::openat(dir, name, open, Mode::empty());
            let released = release(dir) | child.is_ok_and(|fd| release(fd.as_fd()));
            if !released {
                return Err(Errno::PERM);
            }
            rustix::fs::unlinkat(dir, name, flags)
        }
        other => other,
    }
}

fn release(fd: BorrowedFd<'_>) -> bool {
    let Ok(flags) = rustix::fs::ioctl_getflags(fd) else {
        return false;
    };
    let held = IFlags::IMMUTABLE | IFlags::APPEND;
    flags.intersects(held) && rustix::fs::ioctl_setflags(fd, flags - held).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn fd(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_with_links_to_the_outside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        for n in 0..3000 {
            std::fs::write(tree.join(format!("a/b/{n}")), b"").unwrap();
        }
        remove(fd(dir.path()), c"tree").unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove(fd(dir.path()), c"tree").unwrap();
    }

    #[test]
    fn a_tree_deeper_than_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = fd(dir.path());
        for depth in 0..3000 {
            let name = if depth == 0 { c"tree" } else { c"d" };
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .unwrap();
        }
        rustix::fs::mkdirat(&at, c"leaf", Mode::RWXU).unwrap();
        remove(fd(dir.path()), c"tree").unwrap();
        assert!(!dir.path().join("tree").exists());
    }

    #[test]
    fn an_immutable_file_goes_with_its_tree() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("tree/sub");
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join("file"), b"x").unwrap();
        let file = std::fs::File::open(sub.join("file")).unwrap();
        let parent = std::fs::File::open(&sub).unwrap();
        match rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE) {
            // tmpfs before 6.6 and some others have no such flag.
            Err(Errno::NOTTY | Errno::OPNOTSUPP) => return,
            other => other.unwrap(),
        }
        rustix::fs::ioctl_setflags(&parent, IFlags::IMMUTABLE).unwrap();
        assert!(std::fs::remove_dir_all(dir.path().join("tree")).is_err());
        remove(fd(dir.path()), c"tree").unwrap();
    }
}
