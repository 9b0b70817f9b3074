//! What the tests of this crate share: stores in temporary directories, tars of any kind, overlay mounts.
#![allow(dead_code)] // each test file uses its part

use barque_image::{Error, Image, Layer, NewImage, Slot, Snapshot, Store};
use barque_state::layout::DataRoot;
use barque_types::digest::Digest;
use barque_types::reference::Reference;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use sha2::Digest as _;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct Fixture {
    pub store: Store,
    pub root: PathBuf,
    _dir: TempDir,
}

/// A store in an empty directory on a file system that takes overlay's upper directories.
pub fn fixture() -> Fixture {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make devices, owners and overlay mounts: run them as root"
    );
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = dir.path().join("root");
    let store = Store::open(&DataRoot::open(&root).unwrap());
    Fixture {
        store,
        root,
        _dir: dir,
    }
}

impl Fixture {
    /// Names in `dir` of the data root.
    pub fn list(&self, dir: &str) -> Vec<String> {
        list(&self.root.join(dir))
    }

    /// Layers on disk, by directory.
    pub fn layers(&self) -> Vec<String> {
        self.list("overlay2")
            .into_iter()
            .filter(|n| n != "l")
            .collect()
    }

    /// Nothing half-made is anywhere.
    pub fn assert_clean(&self) {
        assert_eq!(self.list("tmp"), [""; 0], "garbage in tmp");
        for short in self.list("overlay2/l") {
            let link = self.root.join("overlay2/l").join(short);
            assert!(link.exists(), "dangling {}", link.display());
        }
    }

    /// A layer's files.
    pub fn diff_of(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("overlay2").join(diff_id.hex()).join("diff")
    }
}

pub fn list(dir: &Path) -> Vec<String> {
    let mut out: Vec<_> = match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect(),
        Err(_) => Vec::new(),
    };
    out.sort();
    out
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Unpacks one layer and keeps it only if it is good; the image exists so that it is not collected.
pub fn apply(store: &Store, tar: &[u8]) -> Result<Layer, Error> {
    let diff_id = digest(tar);
    let ingest = store.ingest(&[diff_id])?;
    let layer = match ingest.layer(&diff_id)? {
        Slot::Present(layer) => layer,
        Slot::Missing(writer) => writer.apply(tar, None)?,
    };
    ingest.commit(
        NewImage {
            config: config(&[diff_id], "apply"),
            ..NewImage::default()
        },
        &[],
    )?;
    // Whatever it is made of, it comes back bit for bit.
    assert!(
        replay(store, &diff_id).unwrap() == tar,
        "another tar came back"
    );
    Ok(layer)
}

/// The tar of a layer, written again.
pub fn replay(store: &Store, diff_id: &Digest) -> Result<Vec<u8>, String> {
    let mut tar = store.layer_tar(diff_id).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    tar.read_to_end(&mut out).map_err(|e| e.to_string())?;
    assert_eq!(out.len() as u64, tar.size());
    Ok(out)
}

/// A configuration over these layers; `salt` makes it unlike others over the same.
pub fn config(diff_ids: &[Digest], salt: &str) -> Vec<u8> {
    let ids: Vec<_> = diff_ids.iter().map(|d| format!("\"{d}\"")).collect();
    format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"author\":\"{salt}\",\"created\":\"2024-01-02T03:04:05Z\",\
         \"config\":{{\"Cmd\":[\"/x\"]}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
        ids.join(",")
    )
    .into_bytes()
}

/// An image of these layers with these names.
pub fn image(store: &Store, layers: &[&[u8]], salt: &str, tags: &[&str]) -> Image {
    let ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
    let ingest = store.ingest(&ids).unwrap();
    for (id, tar) in ids.iter().zip(layers) {
        if let Slot::Missing(writer) = ingest.layer(id).unwrap() {
            writer.apply(*tar, None).unwrap();
        }
    }
    let tags = tags.iter().map(|t| name(t)).collect();
    ingest
        .commit(
            NewImage {
                config: config(&ids, salt),
                tags,
                ..NewImage::default()
            },
            &[],
        )
        .unwrap()
}

pub fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap().or_latest()
}

/// Builds tars, also such as no honest program writes.
#[derive(Default)]
pub struct Tar {
    bytes: Vec<u8>,
    pax: Vec<u8>,
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A record for the next entry.
    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let body = key.len() + value.len() + 3;
        let mut len = body + 1;
        while len != body + len.to_string().len() {
            len = body + len.to_string().len();
        }
        self.pax
            .extend_from_slice(format!("{len} {key}=").as_bytes());
        self.pax.extend_from_slice(value);
        self.pax.push(b'\n');
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path, b'0', 0o644, "", data)
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(path, b'5', 0o755, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', 0o777, target, b"")
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', 0o644, target, b"")
    }

    pub fn entry(self, path: &str, kind: u8, mode: u32, link: &str, data: &[u8]) -> Self {
        self.custom(path, kind, mode, link, data, |_| {})
    }

    pub fn custom(
        mut self,
        path: &str,
        kind: u8,
        mode: u32,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        if !self.pax.is_empty() {
            let pax = std::mem::take(&mut self.pax);
            self.raw("pax", b'x', 0o644, "", &pax, |_| {});
        }
        self.raw(path, kind, mode, link, data, change);
        self
    }

    fn raw(
        &mut self,
        path: &str,
        kind: u8,
        mode: u32,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_old_mut().linkflag = [kind];
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A snapshot mounted by the kernel; nothing of it is in any namespace, so nothing is left when it is dropped.
pub struct Mounted(OwnedFd);

impl Mounted {
    pub fn new(snapshot: &Snapshot) -> Self {
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        let set = |key: &str, value: &Path| {
            rustix::mount::fsconfig_set_string(&fs, key, value)
                .unwrap_or_else(|e| panic!("{key}={value:?}: {e}"));
        };
        for lower in &snapshot.lower {
            set("lowerdir+", lower);
        }
        set("upperdir", &snapshot.upper);
        set("workdir", &snapshot.work);
        for option in ["redirect_dir", "metacopy", "index"] {
            set(option, Path::new("off"));
        }
        Self::finish(fs)
    }

    /// A tmpfs of so many bytes.
    pub fn tmpfs(size: u64) -> Self {
        let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        rustix::mount::fsconfig_set_string(&fs, "size", size.to_string()).unwrap();
        Self::finish(fs)
    }

    fn finish(fs: OwnedFd) -> Self {
        rustix::mount::fsconfig_create(&fs).unwrap();
        Self(
            rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
                .unwrap(),
        )
    }

    /// A path by which this process reaches it.
    pub fn path(&self, sub: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(sub)
    }

    pub fn read(&self, sub: &str) -> String {
        std::fs::read_to_string(self.path(sub)).unwrap_or_else(|e| panic!("{sub}: {e}"))
    }

    pub fn list(&self, sub: &str) -> Vec<String> {
        list(&self.path(sub))
    }
}
