//! placeholder
#![allow(missing_docs, unused_variables)]
use crate::*;
use barque_state::layout::DataRoot;
use barque_types::digest::Digest;
use barque_types::oci::{Descriptor, ImageConfig};
use barque_types::reference::Reference;
use std::io::Read;

/// The images and layers of one data root. Cheap to open and clone; every method may be called from any thread and process.
#[derive(Debug, Clone)]
pub struct Store {
    root: DataRoot,
}

impl Store {
    /// No I/O.
    pub fn open(root: &DataRoot) -> Self {
        Self { root: root.clone() }
    }
    /// All images, newest first.
    pub fn images(&self) -> Result<Vec<(Image, Names)>> {
        todo!()
    }
    /// By name, `name@digest`, id or unique prefix of an id, in Docker's order.
    pub fn resolve(&self, text: &str) -> Result<Image> {
        todo!()
    }
    pub fn image(&self, id: &Digest) -> Result<Image> {
        todo!()
    }
    pub fn config(&self, image: &Image) -> Result<ImageConfig> {
        todo!()
    }
    /// The exact bytes of a config or manifest.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        todo!()
    }
    pub fn names(&self, id: &Digest) -> Result<Names> {
        todo!()
    }
    pub fn graph(&self, image: &Image) -> Result<GraphDirs> {
        todo!()
    }
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> {
        todo!()
    }
    /// `rmi`
    pub fn remove(&self, text: &str, force: bool, in_use: &[InUse]) -> Result<Removed> {
        todo!()
    }
    /// Begins to add an image with these layers: nothing of it is collected while the `Ingest` lives.
    pub fn ingest(&self, diff_ids: &[Digest]) -> Result<Ingest> {
        todo!()
    }
    pub fn import(&self, archive: impl Read, options: &ImportOptions) -> Result<Image> {
        todo!()
    }
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>> {
        todo!()
    }
    /// The image carried in the binary, if `name` is its name; put into the store if needed.
    pub fn ensure_builtin(&self, name: &str) -> Result<Option<Image>> {
        todo!()
    }
    pub fn prepare_container(&self, id: &str, base: Base<'_>) -> Result<Snapshot> {
        todo!()
    }
    pub fn snapshot(&self, id: &str) -> Result<Snapshot> {
        todo!()
    }
    /// Ids of all containers that have a snapshot.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        todo!()
    }
    pub fn remove_container(&self, id: &str) -> Result<()> {
        todo!()
    }
    pub fn diff(&self, id: &str) -> Result<Vec<Change>> {
        todo!()
    }
    /// Bytes in the container's own files (`ps --size`).
    pub fn container_size(&self, id: &str) -> Result<u64> {
        todo!()
    }
    pub fn sweep(&self) -> Result<()> {
        todo!()
    }
}

/// An image on its way into the store. Dropped without commit, what it brought is removed again.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
}

impl Ingest {
    /// The layer if it is here; else the right (exclusive among all processes) to unpack it. Waits while another unpacks it.
    pub fn layer(&self, diff_id: &Digest) -> Result<Slot> {
        todo!()
    }
    /// All layers must be present. Durable when it returns. `blobs`: one per layer, base first, or empty.
    pub fn commit(self, image: NewImage, blobs: &[Descriptor]) -> Result<Image> {
        todo!()
    }
}

/// See [`Ingest::layer`].
#[derive(Debug)]
pub enum Slot {
    Present(Layer),
    Missing(LayerWriter),
}

/// A layer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub diff_id: Digest,
    pub size: u64,
}

/// The right to unpack one layer.
#[derive(Debug)]
pub struct LayerWriter {
    store: Store,
}

impl LayerWriter {
    /// Unpacks (gzip, zstd or plain, by magic) and verifies: the blob's digest and size if given, and the diff id.
    pub fn apply(self, blob: impl Read, expected: Option<&Descriptor>) -> Result<Layer> {
        todo!()
    }
}

/// `docker import`'s options.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Commit message.
    pub message: String,
    /// Dockerfile instructions (`CMD`, `ENV`, …), as `--change` takes them.
    pub changes: Vec<String>,
    /// Names to give the image.
    pub tags: Vec<Reference>,
    /// Platform to write into the configuration; the host's if none.
    pub platform: Option<barque_types::platform::Platform>,
}

/// An image that came with an archive.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub image: Image,
    /// Its names, as the archive says; none when it has none (`Loaded image ID: …`).
    pub names: Vec<Reference>,
}
