//! What a container changed: its upper directory compared with the layers beneath (`docker diff`).
//!
//! Overlayfs writes every change into the upper directory: a changed file is copied there, a removed one becomes a
//! character device 0:0, a replaced directory carries the xattr `overlay.opaque`. So only the upper tree is walked; the
//! lower layers are asked, per path, whether they have it. Symbolic links in lower layers are never followed: a lower
//! path counts only if each part above it is a real directory in the same layer, and if no layer above hides it.

use crate::error::{Result, io_error};
use crate::store::Store;
use crate::unpack::{is_whiteout, opaque_name};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How a path differs from what lies beneath. The values are those of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// `C`
    Modified = 0,
    /// `A`
    Added = 1,
    /// `D`
    Deleted = 2,
}

/// One line of `diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How it changed.
    pub kind: ChangeKind,
    /// The path within the container, absolute.
    pub path: PathBuf,
}

impl Store {
    /// What a container changed, parents before children, each directory's entries by name.
    pub fn diff(&self, id: &str) -> Result<Vec<Change>> {
        let snapshot = self.snapshot(id)?;
        let open = |path: &Path| open_path(path).map_err(|e| io_error("open", path, e.into()));
        let lowers = snapshot
            .lower
            .iter()
            .map(|path| open(path))
            .collect::<Result<Vec<_>>>()?;
        let upper = open(&snapshot.upper)?;
        let mut walk = Walk {
            opaque: opaque_name(!snapshot.userxattr),
            changes: Vec::new(),
            path: Vec::new(),
        };
        walk.dir(&upper, &lowers).map_err(|e| {
            let at = snapshot.upper.join(OsStr::from_bytes(
                walk.path.strip_prefix(b"/").unwrap_or_default(),
            ));
            io_error("compare", &at, e.into())
        })?;
        Ok(walk.changes)
    }

    /// Bytes of the files in a container's own layer (`SizeRw`), each hard link counted once.
    pub fn container_size(&self, id: &str) -> Result<u64> {
        let upper = self.snapshot_dir(id)?.join("diff");
        let mut seen = std::collections::HashSet::new();
        let counted = open_path(&upper).and_then(|fd| size_of(&fd, &mut seen));
        counted.map_err(|e| io_error("measure", &upper, e.into()))
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn open_sub(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(
        dir,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

fn stat(dir: &OwnedFd, name: &CStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A directory's names in order, with what they are.
fn list(dir: &OwnedFd) -> Result<BTreeMap<CString, Stat>, Errno> {
    let mut out = BTreeMap::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"."
            && name != c".."
            && let Some(stat) = stat(dir, name)?
        {
            out.insert(name.to_owned(), stat);
        }
    }
    Ok(out)
}

struct Walk {
    opaque: &'static str,
    changes: Vec<Change>,
    /// The path of what is being compared, with a leading slash; the root is empty.
    path: Vec<u8>,
}

impl Walk {
    /// Compares one upper directory with the same directory of all lower layers that have it, top first.
    /// On an error `path` says where.
    fn dir(&mut self, upper: &OwnedFd, lowers: &[OwnedFd]) -> Result<(), Errno> {
        let entries = list(upper)?;
        let hidden = if !lowers.is_empty() && self.is_opaque(upper)? {
            self.visible(lowers)?
        } else {
            BTreeMap::new()
        };
        let lowers = if self.is_opaque(upper)? { &[] } else { lowers };
        // An opaque directory replaced the lower one: what that had and this has not is gone.
        let gone = hidden
            .keys()
            .filter(|name| !entries.contains_key(*name))
            .map(|name| (name, None));
        let mut all: Vec<_> = entries
            .iter()
            .map(|(name, stat)| (name, Some(stat)))
            .chain(gone)
            .collect();
        all.sort_by_key(|(name, _)| *name);
        for (name, there) in all {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            match there {
                None => self.record(ChangeKind::Deleted),
                Some(there) => self.entry(upper, name, there, lowers, hidden.contains_key(name))?,
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        upper: &OwnedFd,
        name: &CStr,
        there: &Stat,
        lowers: &[OwnedFd],
        replaced: bool,
    ) -> Result<(), Errno> {
        let (below, beneath) = self.below(lowers, name)?;
        if is_whiteout(there) {
            // A whiteout over nothing (made, then removed) hides nothing.
            if below.is_some() {
                self.record(ChangeKind::Deleted);
            }
            return Ok(());
        }
        let at = self.changes.len();
        let kind = if below.is_some() || replaced {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        self.record(kind);
        if !is_dir(there) {
            return Ok(());
        }
        let sub = open_sub(upper, name)?;
        self.dir(&sub, &beneath)?;
        // A directory that was only copied up (for a file that was then not changed) is no change.
        let untouched = self.changes.len() == at + 1
            && below.is_some_and(|below| same_attributes(there, &below));
        if untouched && !self.is_opaque(&sub)? {
            self.changes.truncate(at);
        }
        Ok(())
    }

    fn record(&mut self, kind: ChangeKind) {
        self.changes.push(Change {
            kind,
            path: PathBuf::from(OsStr::from_bytes(&self.path)),
        });
    }

    /// What the lower layers show under a name, and the directories that merge there.
    fn below(
        &self,
        lowers: &[OwnedFd],
        name: &CStr,
    ) -> Result<(Option<Stat>, Vec<OwnedFd>), Errno> {
        let mut first = None;
        let mut dirs = Vec::new();
        for lower in lowers {
            let Some(stat) = stat(lower, name)? else {
                continue;
            };
            if is_whiteout(&stat) {
                break;
            }
            let merges = is_dir(&stat);
            if first.is_some() && !merges {
                break; // a file beneath a directory is hidden
            }
            first.get_or_insert(stat);
            if !merges {
                break;
            }
            let dir = open_sub(lower, name)?;
            let opaque = self.is_opaque(&dir)?;
            dirs.push(dir);
            if opaque {
                break;
            }
        }
        Ok((first, dirs))
    }

    /// The names that the lower layers together show in a directory.
    fn visible(&self, lowers: &[OwnedFd]) -> Result<BTreeMap<CString, ()>, Errno> {
        let mut out = BTreeMap::new();
        let mut whiteouts = std::collections::HashSet::new();
        for lower in lowers {
            for (name, stat) in list(lower)? {
                if is_whiteout(&stat) {
                    whiteouts.insert(name);
                } else if !whiteouts.contains(&name) {
                    out.insert(name, ());
                }
            }
            whiteouts.extend(out.keys().cloned());
        }
        Ok(out)
    }

    fn is_opaque(&self, dir: &OwnedFd) -> Result<bool, Errno> {
        let mut value = [0u8; 2];
        match rustix::fs::fgetxattr(dir, self.opaque, &mut value) {
            // "x" (6.8) marks a directory with escaped whiteouts inside, which merges.
            Ok(n) => Ok(value[..n] == *b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn same_attributes(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_mtime, a.st_mtime_nsec)
        == (b.st_mode, b.st_uid, b.st_gid, b.st_mtime, b.st_mtime_nsec)
}

fn size_of(dir: &OwnedFd, seen: &mut std::collections::HashSet<u64>) -> Result<u64, Errno> {
    let mut total = 0;
    for (name, stat) in list(dir)? {
        if is_dir(&stat) {
            total += size_of(&open_sub(dir, &name)?, seen)?;
        } else if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && (stat.st_nlink == 1 || seen.insert(stat.st_ino))
        {
            total += stat.st_size as u64;
        }
    }
    Ok(total)
}
