//! Files that another layer has already: one inode for both.
//!
//! ```text
//! overlay2/<hex>/files.idx     sorted 64-bit keys, little endian, of the layer's files that others may share
//! ```
//! Snapshots of one distribution differ in a few of their many thousand files. While a layer is unpacked, each file is looked
//! up by a key of its path and attributes; when another layer has such a file, what arrives is compared with it byte by
//! byte, and if all is the same, linked instead of written. That is less work than writing it, so a pull gets faster by it and a
//! container's start is not concerned. A difference on the way costs a copy of what was the same until there.
//!
//! Only a file at the same path is shared. Of one path, a container sees one file, whatever layers its image has; two
//! paths that became one inode would look like hard links to `tar`, `rsync` and `cp -a`, which they are not in the image. For the
//! same reason a file that has hard links in its own layer is not offered to others. (That its link count is larger than the image
//! says, can be seen in a container.)

use crate::archive::Entry;
use crate::dirs::OpenDirs;
use crate::error::{Context, Result};
use crate::layout::Paths;
use crate::names;
use crate::path::split;
use crate::store::Store;
use crate::tree;
use crate::unpack::wanted;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

pub(crate) const INDEX: &str = "files.idx";
/// Keys of other layers that are held in memory, 16 bytes each: further layers are not looked at.
const MAX_KEYS: usize = 4 << 20;
/// Layers of which directories are kept open at a time.
const MAX_OPEN: usize = 16;

/// What the layers of a store offer. Loaded when the first file comes.
#[derive(Debug)]
pub(crate) struct Pool {
    paths: Paths,
    loaded: OnceLock<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    layers: Vec<PathBuf>,
    files: HashMap<u64, u32, BuildHasherDefault<Ready>>,
}

/// The keys are hashes already.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv(self.0, bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Pool {
    pub fn new(paths: &Paths) -> Arc<Self> {
        Arc::new(Self {
            paths: paths.clone(),
            loaded: OnceLock::new(),
        })
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            let mut loaded = Loaded::default();
            // Sharing is worth nothing that would make a pull fail.
            for name in names::list(&self.paths.overlay2()).unwrap_or_default() {
                let dir = self.paths.dir(&name);
                let Ok(keys) = std::fs::read(dir.join(INDEX)) else {
                    continue;
                };
                if loaded.files.len() + keys.len() / 8 > MAX_KEYS {
                    tracing::debug!("more files than are looked at for sharing");
                    break;
                }
                let number = loaded.layers.len() as u32;
                loaded.layers.push(dir.join("diff"));
                let keys = keys
                    .as_chunks()
                    .0
                    .iter()
                    .map(|key| u64::from_le_bytes(*key));
                loaded.files.extend(keys.map(|key| (key, number)));
            }
            loaded
        })
    }
}

/// A file of another layer that may be the one that comes.
pub(crate) struct Twin {
    pub file: File,
    parent: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl Twin {
    /// Gives it another name. Fails where there are too many already, or where it has gone.
    pub fn link(&self, parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(&*self.parent, self.name.as_slice(), parent, name, flags)
    }

    /// Whether its bytes at an offset are these.
    pub fn has(&self, at: u64, bytes: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.resize(bytes.len(), 0);
        self.file.read_exact_at(buffer, at).is_ok() && buffer[..] == *bytes
    }
}

/// What sharing saves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// Files that are not there once more.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

impl Store {
    /// Counts what layers share, by looking at every file of theirs.
    pub fn shared(&self) -> Result<Shared> {
        let mut seen = HashSet::new();
        let mut shared = Shared::default();
        for name in names::list(&self.paths.overlay2())? {
            let dir = self.paths.dir(&name);
            if !dir.join(INDEX).exists() {
                continue;
            }
            let mut own = HashSet::new();
            let each = |stat: &Stat| {
                let inode = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 && own.insert(inode) && !seen.insert(inode) {
                    shared.files += 1;
                    shared.bytes += stat.st_size as u64;
                }
            };
            tree::files(&dir.join("diff"), each).context("look at the files of", &dir)?;
        }
        Ok(shared)
    }
}

/// One layer's part in sharing.
pub(crate) struct Share {
    pool: Arc<Pool>,
    open: BTreeMap<u32, OpenDirs>,
    own: Vec<u64>,
    withdrawn: HashSet<u64>,
}

impl Share {
    pub fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            open: BTreeMap::new(),
            own: Vec::new(),
            withdrawn: HashSet::new(),
        }
    }

    /// Notes a file that is coming, and finds one like it. `path` is where it really is.
    pub fn twin(&mut self, path: &[u8], entry: &Entry) -> Option<Twin> {
        let key = key(
            path,
            entry.size,
            entry.mode,
            (entry.uid, entry.gid),
            entry.mtime,
        );
        self.own.push(key);
        let loaded = self.pool.loaded();
        let number = *loaded.files.get(&key)?;
        let layer = &loaded.layers[number as usize];
        if !self.open.contains_key(&number) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // It may have been removed since.
            let top = rustix::fs::openat(CWD, layer, flags, Mode::empty()).ok()?;
            if self.open.len() >= MAX_OPEN {
                self.open.pop_first();
            }
            self.open.insert(number, OpenDirs::new(top));
        }
        let dirs = self.open.get_mut(&number)?;
        let (dir, name) = split(path);
        let (parent, new) = dirs.resolve_plain(dir).ok()?;
        if new {
            dirs.remember(dir, &parent);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*parent, name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        (is_like(&stat, entry) && has_attributes(&file, entry)).then(|| Twin {
            file: File::from(file),
            parent,
            name: name.to_vec(),
        })
    }

    /// Offers a file to nobody: it gets a hard link within its layer, or is replaced.
    pub fn withdraw(&mut self, path: &[u8], stat: &Stat) {
        let mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
        let (size, mode) = (stat.st_size as u64, stat.st_mode & 0o7777);
        self.withdrawn
            .insert(key(path, size, mode, (stat.st_uid, stat.st_gid), mtime));
    }

    /// Writes the index into the layer's directory.
    pub fn finish(mut self, dir: impl AsFd) -> std::io::Result<()> {
        self.own.retain(|key| !self.withdrawn.contains(key));
        self.own.sort_unstable();
        self.own.dedup();
        if self.own.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = self.own.iter().flat_map(|key| key.to_le_bytes()).collect();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, INDEX, flags, Mode::from_raw_mode(0o600))?;
        File::from(fd).write_all(&bytes)
    }
}

fn is_like(stat: &Stat, entry: &Entry) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_size as u64 == entry.size
        && stat.st_mode & 0o7777 == entry.mode
        && (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid)
        && (stat.st_mtime, stat.st_mtime_nsec as u32) == entry.mtime
}

/// Whether a file has exactly the attributes that the entry brings, but for labels, which the host's policy gives.
fn has_attributes(file: &OwnedFd, entry: &Entry) -> bool {
    let mut left: HashMap<&[u8], &[u8]> = wanted(&entry.xattrs).collect();
    let mut list = vec![0u8; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else {
        return left.is_empty();
    };
    for name in list[..length].split(|b| *b == 0) {
        if name.is_empty() || name == b"security.selinux" {
            continue;
        }
        let Some(value) = left.remove(name) else {
            return false;
        };
        let mut now = vec![0; value.len() + 1];
        if rustix::fs::fgetxattr(file, name, &mut now[..]).map(|n| &now[..n]) != Ok(value) {
            return false;
        }
    }
    left.is_empty()
}

/// What two files must have in common to be compared at all.
fn key(path: &[u8], size: u64, mode: u32, owner: (u32, u32), mtime: (i64, u32)) -> u64 {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, path);
    for number in [
        size,
        mode.into(),
        owner.0.into(),
        owner.1.into(),
        mtime.0 as u64,
        mtime.1.into(),
    ] {
        hash = fnv(hash, &number.to_le_bytes());
    }
    hash
}

/// FNV-1a: the keys lie on disk, so they must not depend on a library's choice.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(hash, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_what_they_are() {
        // The reference value of FNV-1a for "a".
        assert_eq!(fnv(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
        let one = key(b"usr/bin/ls", 5, 0o755, (0, 0), (1, 2));
        assert_ne!(one, key(b"usr/bin/ls", 5, 0o755, (0, 1), (1, 2)));
        assert_ne!(one, key(b"usr/bin/l", 5, 0o755, (0, 0), (1, 2)));
    }
}
