//! A container's writable layer over its image's: directories for an overlay mount, which the runtime makes.
//!
//! ```text
//! overlay2/<container id>/diff    the upper directory; its own mode and owner are those of the container's `/`
//!                         work/   overlayfs's scratch space, on the same file system
//!                         merged/ where Docker would mount; empty here, for the mount lives in the container's namespace
//!                         link    the short name of diff
//!                         lower   l/SHORT:l/SHORT:…, top first, as Docker writes it; or one absolute path (--rootfs)
//! ```
//! Nothing but `lower` is ever synced ([`Store::sync_container`]): a container's files are as durable as its programs
//! make them.

use crate::error::{Context, Error, Result, io_error};
use crate::image::Image;
use crate::layer::{discard, write_file, write_link};
use crate::layout::short_name;
use crate::names;
use crate::store::Store;
use crate::unpack::privileged;
use barque_state::layout::make_dir;
use barque_state::lock::FileLock;
use barque_types::digest::Digest;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a container's file system stands on.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The layers of an image.
    Image(&'a Image),
    /// A directory of the host (`run --rootfs`), used read-only. An absolute path.
    Directory(&'a Path),
}

/// A container's overlay: everything that a mount needs. Nothing is mounted by this crate.
///
/// Mount it with `redirect_dir=off,metacopy=off,index=off` where the kernel defaults to other values: [`Store::diff`]
/// reads the upper directory as plain files, directories and whiteouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The container's id.
    pub id: String,
    /// Lower directories, top first (the order of overlay's `lowerdir`); at least one.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Overlay's work directory.
    pub work: PathBuf,
    /// Where `inspect` says that the container's root is seen; an empty directory on the host.
    pub merged: PathBuf,
    /// Whether whiteouts and opaque marks are `user.overlay.*` (an unprivileged store): mount with `userxattr`.
    pub userxattr: bool,
}

/// What a `lower` file says.
pub(crate) enum Lower {
    /// Short names of layers, top first.
    Layers(Vec<String>),
    /// A directory of the host.
    Directory(PathBuf),
}

/// Reads a snapshot's `lower`; `None` for a directory that has none (a layer).
pub(crate) fn read_lower(dir: &Path) -> Result<Option<Lower>> {
    let path = dir.join("lower");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e).context("read", &path),
    };
    if bytes.first() == Some(&b'/') {
        return Ok(Some(Lower::Directory(PathBuf::from(OsStr::from_bytes(
            &bytes,
        )))));
    }
    let text = String::from_utf8_lossy(&bytes);
    let names = text.split(':').filter_map(|part| part.strip_prefix("l/"));
    Ok(Some(Lower::Layers(names.map(str::to_owned).collect())))
}

impl Store {
    /// Makes a container's directories. The id must be new; what fails halfway is removed again.
    pub fn prepare_container(&self, id: &str, base: Base<'_>) -> Result<Snapshot> {
        let dir = self.snapshot_dir(id)?;
        // Shared with other starts, held against the collector: the layers that are checked here are spared from then on.
        let _lock = FileLock::shared(&self.paths.lock())?;
        let (lower, text) = match base {
            Base::Image(image) => self.lower_of(image)?,
            Base::Directory(path) => (vec![path.to_owned()], path.as_os_str().as_bytes().to_vec()),
        };
        match rustix::fs::mkdir(&dir, Mode::from_raw_mode(0o710)) {
            Ok(()) => {}
            Err(e) => return Err(io_error("create", &dir, e.into())),
        }
        let filled = self.fill(id, &dir, lower, &text);
        if filled.is_err() {
            // The first error is the one to report; what cannot be removed is found by `snapshots`.
            let _ = discard(&self.paths, &dir, id);
        }
        filled
    }

    fn lower_of(&self, image: &Image) -> Result<(Vec<PathBuf>, Vec<u8>)> {
        let mut lower = Vec::new();
        let mut text = String::new();
        for (layer, path) in self.lower(image) {
            if !path.is_dir() {
                return Err(Error::MissingLayer { layer, path });
            }
            text.push_str(if text.is_empty() { "l/" } else { ":l/" });
            text.push_str(&short_name(&layer.hex()));
            lower.push(path);
        }
        Ok((lower, text.into_bytes()))
    }

    fn fill(&self, id: &str, dir: &Path, lower: Vec<PathBuf>, text: &[u8]) -> Result<Snapshot> {
        // The lower file comes first: from here on the collector knows what this snapshot needs.
        write_file(&dir.join("lower"), text)?;
        let snapshot = self.assemble(id, dir, lower);
        let top = snapshot.lower.first().map_or(dir, PathBuf::as_path);
        if snapshot
            .lower
            .first()
            .is_some_and(|l| *l == dir.join("empty"))
        {
            make_dir(&dir.join("empty"), 0o755)?;
        }
        make_like(&snapshot.upper, top)?;
        make_dir(&snapshot.work, 0o700)?;
        make_dir(&snapshot.merged, 0o755)?;
        write_link(&self.paths, dir, id)?;
        Ok(snapshot)
    }

    fn assemble(&self, id: &str, dir: &Path, mut lower: Vec<PathBuf>) -> Snapshot {
        if lower.is_empty() {
            // An image without layers (FROM scratch): overlayfs wants at least one lower directory.
            lower.push(dir.join("empty"));
        }
        Snapshot {
            id: id.to_owned(),
            lower,
            upper: dir.join("diff"),
            work: dir.join("work"),
            merged: dir.join("merged"),
            userxattr: !privileged(),
        }
    }

    /// An existing container's directories, the lower ones checked to be there.
    pub fn snapshot(&self, id: &str) -> Result<Snapshot> {
        let dir = self.snapshot_dir(id)?;
        let lower = match read_lower(&dir)? {
            None => {
                return Err(Error::NoSuchSnapshot {
                    id: id.to_owned(),
                    path: dir,
                });
            }
            Some(Lower::Directory(path)) => vec![path],
            Some(Lower::Layers(names)) => {
                let paths = names.iter().map(|short| self.layer_by_short_name(short));
                paths.collect::<Result<Vec<_>>>()?
            }
        };
        Ok(self.assemble(id, &dir, lower))
    }

    fn layer_by_short_name(&self, short: &str) -> Result<PathBuf> {
        let link = self.paths.short_names().join(short);
        let target = rustix::fs::readlink(&link, Vec::new()).context("read the link", &link)?;
        let hex = target
            .as_bytes()
            .strip_prefix(b"../")
            .and_then(|t| t.strip_suffix(b"/diff"));
        let hex = hex
            .map(|h| String::from_utf8_lossy(h).into_owned())
            .unwrap_or_default();
        let layer = format!("sha256:{hex}").parse::<Digest>().map_err(|e| {
            let reason = e.to_string();
            Error::State(barque_state::Error::Corrupt {
                what: "short name",
                path: link.clone(),
                reason,
            })
        })?;
        let path = self.paths.layer_diff(&layer);
        if path.is_dir() {
            Ok(path)
        } else {
            Err(Error::MissingLayer { layer, path })
        }
    }

    /// The ids of all containers that have a snapshot, for finding those whose record a crash took.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        let mut out = names::list(&self.paths.overlay2())?;
        out.retain(|name| name != "l" && !self.paths.dir(name).join("layer.json").exists());
        out.sort();
        Ok(out)
    }

    /// Makes `lower` durable, which cannot be told from elsewhere. The directories are so when the caller syncs anything that it
    /// wrote later: a file system's journal keeps the order.
    pub fn sync_container(&self, id: &str) -> Result<()> {
        let path = self.snapshot_dir(id)?.join("lower");
        let file = std::fs::File::open(&path).context("open", &path)?;
        file.sync_data().context("sync", &path)
    }

    /// Removes a container's files. One rename makes them gone; a crash after it leaves the rest to [`Store::sweep`].
    /// No error if there are none.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        let dir = self.snapshot_dir(id)?;
        if dir.join("layer.json").exists() {
            return Err(Error::NoSuchSnapshot {
                id: id.to_owned(),
                path: dir,
            });
        }
        discard(&self.paths, &dir, id).map(|_| ())
    }

    /// Ids come from records and command lines: one that is no plain name must not become a path.
    pub(crate) fn snapshot_dir(&self, id: &str) -> Result<PathBuf> {
        let plain = !id.is_empty()
            && id != "l"
            && id.len() <= 200
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let path = self.paths.dir(id);
        if plain {
            Ok(path)
        } else {
            Err(Error::NoSuchSnapshot {
                id: id.to_owned(),
                path,
            })
        }
    }
}

/// Makes the upper directory with the mode and owner of the topmost lower one: overlayfs takes those of `/` from it.
fn make_like(upper: &Path, top: &Path) -> Result<()> {
    let like = std::fs::metadata(top).context("look at", top)?;
    make_dir(upper, like.mode() & 0o7777)?;
    let ours = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if (like.uid(), like.gid()) != ours {
        let (uid, gid) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
        match rustix::fs::chown(upper, Some(uid), Some(gid)) {
            Ok(()) => {}
            // Unprivileged over somebody else's --rootfs: `/` belongs to us, which is all that can be.
            Err(Errno::PERM) if !privileged() => {}
            Err(e) => return Err(io_error("set the owner of", upper, e.into())),
        }
    }
    Ok(())
}
