//! A layer on its way to disk.
//!
//! ```text
//! tmp/image-layer-<hex>.lock   held (flock) by the one process that unpacks this diff id
//! tmp/image-layer-<hex>.…/     diff/ filled, tape.zst, files.idx, link, work/, merged/, layer.json
//!      └─ rename ─→ overlay2/<hex>/          the commit: a layer is there whole or not at all
//! layer.json  {"version":1,"diff_id","size","entries","opaque","boot","tar","blob":{"mediaType","digest","size"}?}
//! ```
//! The rename makes a layer complete towards processes, not towards a power cut: its data are still in the page cache. So
//! the record names the boot that wrote it. In that boot the layer is good; in a later one it is only if an image names
//! it, because an image's record is written after syncfs(2). A layer without either is unpacked again.

use crate::archive::TarReader;
use crate::error::{Context, Error, Result, io_error};
use crate::layout::{Paths, short_name, unique};
use crate::pipeline::{Hashing, Stop, connect};
use crate::share::{Pool, Share};
use crate::tape::{Keep, TAPE, Taped};
use crate::tree;
use crate::unpack::{self, Beside, Failure, Limits, Unpacked};
use barque_state::lock::FileLock;
use barque_state::process::boot_id;
use barque_state::record::{self, Record};
use barque_state::{Durability, layout::make_dir};
use barque_types::digest::Digest;
use barque_types::oci::Descriptor;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A layer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// Whether it hides everything beneath it.
    pub opaque: bool,
    /// The blob it was unpacked from.
    pub blob: Option<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub diff_id: Digest,
    pub size: u64,
    pub entries: u64,
    pub opaque: bool,
    pub boot: String,
    /// Bytes of the tar that the tape gives; layers of earlier versions have no tape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
}

impl Record for LayerRecord {
    const WHAT: &'static str = "layer";
}

impl From<LayerRecord> for Layer {
    fn from(r: LayerRecord) -> Self {
        Self {
            diff_id: r.diff_id,
            size: r.size,
            opaque: r.opaque,
            blob: r.blob,
        }
    }
}

/// The record of a layer, if it is on disk whole.
///
/// A record that cannot be understood is none: a power cut leaves it empty, and the layer is unpacked again.
pub(crate) fn load(paths: &Paths, diff_id: &Digest) -> Result<Option<LayerRecord>> {
    let record = match record::load::<LayerRecord>(&paths.layer(diff_id).join("layer.json")) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(None),
        Err(e @ barque_state::Error::Corrupt { .. }) => {
            tracing::warn!(error = %e, "unpacked again if it is needed");
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    Ok(paths.layer_diff(diff_id).is_dir().then_some(record))
}

/// The exclusive right to unpack one layer.
#[derive(Debug)]
pub struct LayerWriter {
    staging: Staging,
    diff_id: Digest,
    pool: Arc<Pool>,
    limits: Limits,
}

impl LayerWriter {
    /// Waits until nobody else unpacks this layer.
    pub(crate) fn acquire(
        paths: &Paths,
        diff_id: &Digest,
        pool: &Arc<Pool>,
        limits: Limits,
    ) -> Result<Self> {
        let staging = Staging::acquire(paths, &diff_id.hex())?;
        Ok(Self {
            staging,
            diff_id: *diff_id,
            pool: pool.clone(),
            limits,
        })
    }

    /// Which layer it is.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Other limits than the default.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Unpacks a blob, gzip, zstd or plain by its first bytes, and puts the layer in its place.
    ///
    /// The diff id is always verified, the blob's digest and size against `expected` if given. On any error nothing of
    /// the layer stays. Two threads work on it, the caller's one reads `blob`.
    pub fn apply(self, blob: impl Read, expected: Option<&Descriptor>) -> Result<Layer> {
        let name = expected.map_or(self.diff_id, |e| e.digest).to_string();
        let pool = &self.pool;
        let done = self
            .staging
            .unpack(blob, expected, pool, self.limits, &name)?;
        if done.diff_id != self.diff_id {
            return Err(Error::DigestMismatch {
                what: format!("diff id of layer {name}"),
                expected: self.diff_id,
                actual: done.diff_id,
            });
        }
        self.staging.commit(&done)
    }
}

/// What unpacking found out.
pub(crate) struct Applied {
    pub diff_id: Digest,
    pub blob: Descriptor,
    pub unpacked: Unpacked,
}

/// A locked directory in tmp/ that becomes a layer, or vanishes.
#[derive(Debug)]
pub(crate) struct Staging {
    paths: Paths,
    name: String,
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: FileLock,
}

impl Staging {
    pub fn acquire(paths: &Paths, name: &str) -> Result<Self> {
        let lock_path = paths.staging_lock(name);
        let lock = FileLock::exclusive(&lock_path)?;
        Ok(Self::locked(paths, name, paths.staging(name), lock))
    }

    /// For a layer whose diff id is not known before it is unpacked.
    pub fn anonymous(paths: &Paths) -> Result<Self> {
        Self::acquire(paths, &format!("new-{}", unique()))
    }

    /// The directory `dir`, made or found by who holds `lock`, the lock of `name`.
    pub fn locked(paths: &Paths, name: &str, dir: PathBuf, lock: FileLock) -> Self {
        let lock_path = paths.staging_lock(name);
        Self {
            paths: paths.clone(),
            name: name.to_owned(),
            dir,
            lock_path,
            _lock: lock,
        }
    }

    /// Unpacks into the directory.
    pub fn unpack(
        &self,
        blob: impl Read,
        expected: Option<&Descriptor>,
        pool: &Arc<Pool>,
        limits: Limits,
        name: &str,
    ) -> Result<Applied> {
        make_dir(&self.dir, 0o710)?;
        for sub in ["diff", "work", "merged"] {
            make_dir(
                &self.dir.join(sub),
                if sub == "work" { 0o700 } else { 0o755 },
            )?;
        }
        let diff = self.dir.join("diff");
        let root = unpack::prepare_root(&diff).context("prepare", &diff)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.dir, flags, Mode::empty()).context("open", &self.dir)?;
        let beside = Beside {
            keep: Keep::new(rustix::io::dup(&dir).context("open", &self.dir)?),
            share: Share::new(pool.clone()),
            dir,
        };
        let (feeder, chunks) = connect(limits.bytes);
        let taped = Taped::new(chunks, &self.dir)?;
        // One byte more than announced is enough to know that the blob is too long.
        let most = expected.map_or(u64::MAX, |e| e.size.saturating_add(1));
        let mut source = Hashing::new(blob.take(most));
        let (read, unpacked) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("unpack".into());
            let unpacking = thread.spawn_scoped(scope, move || {
                unpack::unpack(TarReader::new(taped), root, beside, limits)
            });
            match unpacking {
                Ok(unpacking) => {
                    let read = feeder.run(&mut source);
                    let unpacked = unpacking.join();
                    (
                        read,
                        unpacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    )
                }
                Err(e) => (Err(Stop::Abandoned), Err(Failure::Source(e))),
            }
        });
        let bad_content = matches!(read, Err(Stop::Source(_)))
            || matches!(unpacked, Err(Failure::Archive(_) | Failure::Source(_)));
        if bad_content && !source.failed && expected.is_some() {
            // Are these the promised bytes at all? Only their digest tells, so the rest is read too.
            let _ = std::io::copy(&mut source, &mut std::io::sink());
        }
        let (size, whole) = (
            source.count,
            !source.failed && (read.is_ok() || bad_content),
        );
        let digest = source.digest();
        if let (Some(expected), true) = (expected, whole) {
            verify_blob(expected, digest, size, name)?;
        }
        let bad = |reason| Error::BadLayer {
            layer: name.to_owned(),
            reason,
        };
        let diff_id = match read {
            Ok(diff_id) => Some(diff_id),
            Err(Stop::Source(e)) => return Err(bad(format!("cannot read it: {e}"))),
            Err(Stop::Abandoned) => None, // the other side says why
        };
        let unpacked = unpacked.map_err(|failure| self.explain(failure, name))?;
        let diff_id = diff_id.ok_or_else(|| bad("its end was never reached".to_owned()))?;
        let blob = Descriptor {
            media_type: expected.map(|e| e.media_type.clone()).unwrap_or_default(),
            digest,
            size,
            platform: None,
            annotations: Default::default(),
        };
        Ok(Applied {
            diff_id,
            blob,
            unpacked,
        })
    }

    fn explain(&self, failure: Failure, name: &str) -> Error {
        match failure {
            Failure::Archive(reason) => Error::BadLayer {
                layer: name.to_owned(),
                reason,
            },
            Failure::Source(e) => Error::BadLayer {
                layer: name.to_owned(),
                reason: e.to_string(),
            },
            Failure::Tape(e) => io_error("write", &self.dir.join(TAPE), e),
            Failure::System { op, path, errno } => {
                let path = self.dir.join("diff").join(OsStr::from_bytes(&path));
                match errno {
                    // What the archive wants and the file system cannot have.
                    Errno::NAMETOOLONG | Errno::INVAL | Errno::FBIG | Errno::MLINK => {
                        Error::BadLayer {
                            layer: name.to_owned(),
                            reason: format!("cannot {op} {}: {errno}", path.display()),
                        }
                    }
                    _ => io_error(op, &path, errno.into()),
                }
            }
        }
    }

    /// Puts the unpacked layer in its place. The caller holds the layer's lock and found none that is good there.
    pub fn commit(self, applied: &Applied) -> Result<Layer> {
        let hex = applied.diff_id.hex();
        let record = LayerRecord {
            diff_id: applied.diff_id,
            size: applied.unpacked.size,
            entries: applied.unpacked.entries,
            opaque: applied.unpacked.opaque_root,
            boot: boot_id()?.to_owned(),
            tar: Some(applied.unpacked.tar),
            blob: Some(applied.blob.clone()),
        };
        write_link(&self.paths, &self.dir, &hex)?;
        record::store(&self.dir.join("layer.json"), &record, Durability::None)?;
        let target = self.paths.layer(&applied.diff_id);
        match rustix::fs::renameat_with(
            CWD,
            &self.dir,
            CWD,
            &target,
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // A layer of an earlier boot that never became durable, or one that somebody damaged.
                discard(&self.paths, &target, &hex)?;
                // Its short name, which is ours too, went with it.
                write_link(&self.paths, &self.dir, &hex)?;
                rustix::fs::rename(&self.dir, &target)
                    .context("put the layer in place as", &target)?;
            }
            Err(e) => return Err(io_error("put the layer in place as", &target, e.into())),
        }
        Ok(record.into())
    }
}

/// Whether the blob is the one that was announced.
fn verify_blob(expected: &Descriptor, actual: Digest, size: u64, name: &str) -> Result<()> {
    let bad = |reason| {
        Err(Error::BadLayer {
            layer: name.to_owned(),
            reason,
        })
    };
    if size > expected.size {
        return bad(format!(
            "it is longer than the {} bytes that were announced",
            expected.size
        ));
    }
    if actual == expected.digest {
        return Ok(());
    }
    if size < expected.size {
        return bad(format!(
            "it is truncated: {size} of {} bytes came (digest {actual})",
            expected.size
        ));
    }
    Err(Error::DigestMismatch {
        what: format!("layer {name}"),
        expected: expected.digest,
        actual,
    })
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit nothing is there. The lock file goes last, while the lock is still held (see FileLock).
        if let Err(e) = remove_dir(&self.dir) {
            tracing::warn!(error = %e, "a half-unpacked layer stays for the next sweep");
            return;
        }
        // Killed between the two steps of a commit, it has a short name that leads nowhere. The lock is held, so nobody
        // is about to make it lead somewhere.
        if !self.paths.dir(&self.name).exists() {
            let _ = std::fs::remove_file(self.paths.short_names().join(short_name(&self.name)));
        }
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// Writes `link` into a layer's or snapshot's directory, and the symbolic link it names.
pub(crate) fn write_link(paths: &Paths, dir: &Path, id: &str) -> Result<()> {
    let short = short_name(id);
    write_file(&dir.join("link"), short.as_bytes())?;
    let links = paths.short_names();
    let target = format!("../{id}/diff");
    match rustix::fs::symlink(&target, links.join(&short)) {
        Err(Errno::NOENT) => {
            make_dir(&links, 0o710)?;
            match rustix::fs::symlink(&target, links.join(&short)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(io_error("create", &links.join(&short), e.into())),
            }
        }
        // The same id has the same name and target.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(io_error("create", &links.join(&short), e.into())),
    }
}

/// A small file in a directory that is not visible yet, so neither atomic nor synced.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).context("create", path)?;
    std::io::Write::write_all(&mut std::fs::File::from(fd), bytes).context("write", path)
}

/// Takes a layer or snapshot out of overlay2/ in one step, then deletes it.
pub(crate) fn discard(paths: &Paths, dir: &Path, id: &str) -> Result<bool> {
    match detach(paths, dir, id)? {
        Some(removed) => delete_detached(&removed).map(|()| true),
        None => Ok(false),
    }
}

/// The first half of [`discard`]: cheap, so fit to be done under a lock. `None` when it is not there.
pub(crate) fn detach(paths: &Paths, dir: &Path, id: &str) -> Result<Option<PathBuf>> {
    let removed = paths.removed(id);
    let link = paths.short_names().join(short_name(id));
    let moved = match rustix::fs::rename(dir, &removed) {
        Ok(()) => Some(removed),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(io_error("remove", dir, e.into())),
    };
    match rustix::fs::unlink(&link) {
        Ok(()) | Err(Errno::NOENT) => Ok(moved),
        Err(e) => Err(io_error("remove", &link, e.into())),
    }
}

/// The second half. A directory that another process is deleting is left to it: a command that comes by while gigabytes
/// are removed does not have to wait for that.
pub(crate) fn delete_detached(dir: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(io_error("open", dir, e.into())),
    };
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(()),
        _ => remove_dir(dir),
    }
}

/// Removes a directory and all in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io_error("remove", dir, Errno::INVAL.into()));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty()).context("open", parent)?;
    let name = CString::new(name.to_owned().into_vec())
        .map_err(std::io::Error::from)
        .context("remove", dir)?;
    tree::remove(&parent, &name).context("remove", dir)
}
