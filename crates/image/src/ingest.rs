//! Bringing an image in: lease, layers, commit.
//!
//! ```text
//! 1  lease   tmp/image-lease-….lock, flocked, lists the layers to come: the collector spares them while we live
//! 2  layers  each unpacked once among all processes, in any order, in parallel; those that are here are used
//! 3  commit  syncfs: all layers have reached the disk → blobs → record → names, each atomic and synced
//! ```
//! Killed before the record is written, an ingest leaves layers that nobody names; the next sweep sees the dead lease and
//! collects them. Nobody ever sees an image of which something is missing.

use crate::error::{Context, Error, Result};
use crate::image::{Image, ImageLayer, NewImage};
use crate::layer::{self, Layer, LayerWriter, Staging};
use crate::layout::spread;
use crate::pipeline::digest_of;
use crate::share::Pool;
use crate::store::Store;
use crate::unpack::Limits;
use crate::{collect, names};
use barque_state::lock::FileLock;
use barque_state::process::boot_id;
use barque_state::record;
use barque_state::{Durability, atomic, layout::make_dir};
use barque_types::digest::Digest;
use barque_types::oci::{Descriptor, ImageConfig, media_type};
use barque_types::time::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// An image on its way into the store. Dropped without [`Ingest::commit`], the layers it brought are removed again.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    lease: PathBuf,
    lock: Option<FileLock>,
    leased: Mutex<Vec<Digest>>,
    limits: Limits,
    pool: Arc<Pool>,
    committed: bool,
}

/// What [`Ingest::layer`] finds.
#[derive(Debug)]
pub enum Slot {
    /// The layer is here; nothing needs to be fetched.
    Present(Layer),
    /// It is not, and nobody else fetches it: unpack it with this, or drop this to let another try.
    Missing(LayerWriter),
}

impl Ingest {
    pub(crate) fn begin(store: &Store, diff_ids: &[Digest]) -> Result<Self> {
        let lease = store.paths.lease();
        // Under the shared lock, so that a collector sees either the lease or none of its layers in use.
        let _lock = FileLock::shared(&store.paths.lock())?;
        let lock = FileLock::exclusive(&lease)?;
        let ingest = Self {
            store: store.clone(),
            lease,
            lock: Some(lock),
            leased: Mutex::new(diff_ids.to_vec()),
            limits: Limits::default(),
            pool: Pool::new(&store.paths),
            committed: false,
        };
        ingest.write_lease(diff_ids)?;
        for dir in [store.paths.tmp(), store.paths.overlay2()] {
            spread(&dir);
        }
        Ok(ingest)
    }

    /// Other limits than the default for the layers to come.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    fn write_lease(&self, diff_ids: &[Digest]) -> Result<()> {
        let text = diff_ids
            .iter()
            .map(|d| format!("{d}\n"))
            .collect::<String>();
        // In place, not by rename: the lock is on this inode. Readers hold the store's lock exclusively, we share it.
        layer::write_file(&self.lease, text.as_bytes())
    }

    /// The layer if it is here, else the right to unpack it. Waits while another thread or process unpacks it.
    ///
    /// Who holds a [`LayerWriter`] must not call this for another layer on the same thread: two could wait for each other.
    pub fn layer(&self, diff_id: &Digest) -> Result<Slot> {
        if !self
            .leased
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .contains(diff_id)
        {
            self.lease_also(diff_id)?;
        }
        if let Some(layer) = self.present(diff_id)? {
            return Ok(Slot::Present(layer));
        }
        let writer = LayerWriter::acquire(&self.store.paths, diff_id, &self.pool, self.limits)?;
        Ok(match self.present(diff_id)? {
            Some(layer) => Slot::Present(layer),
            None => Slot::Missing(writer),
        })
    }

    /// Unpacks a layer whose diff id only its content will tell.
    pub(crate) fn unknown_layer(&self, blob: impl Read) -> Result<Layer> {
        let staging = Staging::anonymous(&self.store.paths)?;
        let applied = staging.unpack(blob, None, &self.pool, self.limits, "(new)")?;
        self.lease_also(&applied.diff_id)?;
        // The lock of the layer proper, as if it had been known all along.
        let _held =
            LayerWriter::acquire(&self.store.paths, &applied.diff_id, &self.pool, self.limits)?;
        match self.present(&applied.diff_id)? {
            Some(layer) => Ok(layer),
            None => staging.commit(&applied),
        }
    }

    fn lease_also(&self, diff_id: &Digest) -> Result<()> {
        let _lock = FileLock::shared(&self.store.paths.lock())?;
        let mut leased = self.leased.lock().unwrap_or_else(|e| e.into_inner());
        leased.push(*diff_id);
        self.write_lease(&leased)
    }

    /// The layer if it is whole, by the rule at the head of [`crate::layer`].
    fn present(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let Some(record) = layer::load(&self.store.paths, diff_id)? else {
            return Ok(None);
        };
        let good =
            record.boot == boot_id()? || collect::in_use(&self.store.paths)?.contains(diff_id);
        Ok(good.then(|| record.into()))
    }

    /// Makes the image visible, durably: when this returns, a power cut takes nothing of it away.
    ///
    /// All layers of the configuration must be present. `blobs` are the manifest's layer descriptors, base first, kept
    /// for a later push; empty when there is no manifest. An image that is here already gets the new names.
    pub fn commit(mut self, image: NewImage, blobs: &[Descriptor]) -> Result<Image> {
        let id = digest_of(&image.config);
        let config: ImageConfig =
            serde_json::from_slice(&image.config).map_err(|e| Error::BadImage {
                what: format!("image configuration {id}"),
                reason: e.to_string(),
            })?;
        let diff_ids = &config.rootfs.diff_ids;
        if !blobs.is_empty() && blobs.len() != diff_ids.len() {
            let reason = format!(
                "the manifest has {} layers, the configuration {}",
                blobs.len(),
                diff_ids.len()
            );
            return Err(Error::BadImage {
                what: format!("image {id}"),
                reason,
            });
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (n, diff_id) in diff_ids.iter().enumerate() {
            let path = self.store.paths.layer(diff_id);
            let layer = self.present(diff_id)?.ok_or(Error::MissingLayer {
                layer: *diff_id,
                path,
            })?;
            let blob = blobs.get(n).cloned().or(layer.blob);
            layers.push(ImageLayer {
                diff_id: *diff_id,
                size: layer.size,
                opaque: layer.opaque,
                blob,
            });
        }
        self.sync()?;
        let record = new_record(id, &config, layers, &image);
        let record = self.publish(record, &image)?;
        self.committed = true;
        Ok(record)
    }

    /// Everything unpacked so far onto the disk, in one go: fsync of each file would take minutes.
    fn sync(&self) -> Result<()> {
        let dir = self.store.paths.overlay2();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &dir, flags, Mode::empty()).context("open", &dir)?;
        rustix::fs::syncfs(&fd).context("write to disk", &dir)
    }

    fn publish(&self, mut record: Image, image: &NewImage) -> Result<Image> {
        let paths = &self.store.paths;
        let _lock = FileLock::exclusive(&paths.lock())?;
        for dir in [paths.blobs(), paths.images(), paths.names()] {
            make_dir(&dir, 0o700)?;
        }
        if let Some(old) = record::load::<Image>(&paths.image(&record.id))? {
            record.keep_from(old);
        }
        atomic::write(&paths.blob(&record.id), &image.config, Durability::Synced)?;
        if let (Some(descriptor), Some((bytes, _))) = (&record.manifest, &image.manifest)
            && digest_of(bytes) == descriptor.digest
        {
            atomic::write(&paths.blob(&descriptor.digest), bytes, Durability::Synced)?;
        }
        record::store(&paths.image(&record.id), &record, Durability::Synced)?;
        for name in image.tags.iter().chain(&image.digests) {
            names::set(paths, name, &record.id)?;
        }
        Ok(record)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // An unlocked lease is a dead one. It is removed last: killed before that, the next sweep collects for us.
        self.lock = None;
        if !self.committed
            && let Err(e) = self.store.collect()
        {
            tracing::warn!(error = %e, "layers of an image that failed stay for the next sweep");
            return;
        }
        let _ = std::fs::remove_file(&self.lease);
    }
}

fn new_record(
    id: Digest,
    config: &ImageConfig,
    layers: Vec<ImageLayer>,
    image: &NewImage,
) -> Image {
    let descriptor = |media_type: &str, digest, size: usize| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as u64,
        platform: None,
        annotations: Default::default(),
    };
    let media_type = match image.config_media_type.as_str() {
        "" => media_type::OCI_CONFIG,
        given => given,
    };
    let manifest = image
        .manifest
        .as_ref()
        .map(|(bytes, kind)| descriptor(kind, digest_of(bytes), bytes.len()));
    Image {
        id,
        created: config
            .created
            .as_deref()
            .and_then(|c| c.parse().ok())
            .unwrap_or_default(),
        tagged: if image.tags.is_empty() {
            Timestamp::default()
        } else {
            Timestamp::now()
        },
        size: layers.iter().map(|l| l.size).sum(),
        config: descriptor(media_type, id, image.config.len()),
        manifest,
        layers,
    }
}

impl Image {
    /// What the same image's older record knows and this one does not.
    fn keep_from(&mut self, old: Image) {
        if self.manifest.is_none() {
            self.manifest = old.manifest;
            for (layer, old) in self.layers.iter_mut().zip(old.layers) {
                layer.blob = old.blob.or(layer.blob.take());
            }
        }
        self.tagged = self.tagged.max(old.tagged);
    }
}
