//! The store itself: finding images by what users type.

use crate::error::{Context, Error, Result};
use crate::image::{GraphDirs, Image, Listing, Names};
use crate::ingest::Ingest;
use crate::layout::Paths;
use crate::names;
use barque_state::Durability;
use barque_state::layout::DataRoot;
use barque_state::lock::FileLock;
use barque_state::record;
use barque_types::digest::Digest;
use barque_types::oci::ImageConfig;
use barque_types::reference::Reference;
use barque_types::time::Timestamp;
use std::path::PathBuf;

/// The images, layers and snapshots of one data root.
///
/// It holds nothing in memory: opening and cloning cost no I/O, and every method may be called from any thread of any
/// process at any time.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) paths: Paths,
}

impl Store {
    /// No I/O; directories are made when something is put into them.
    pub fn open(root: &DataRoot) -> Self {
        Self {
            paths: Paths::new(root),
        }
    }

    /// All images, the newest first. One whose record is damaged must neither hide the others nor drop out silently.
    pub fn images(&self) -> Result<Listing> {
        let mut names = names::all(&self.paths)?;
        let (mut images, mut unreadable) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.find(&id) {
                Ok(Some(image)) => images.push((image, names.remove(&id).unwrap_or_default())),
                // Removed since it was listed: not an error.
                Ok(None) => {}
                Err(e) => unreadable.push(e),
            }
        }
        images.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
        Ok(Listing { images, unreadable })
    }

    /// The image that a user means: a whole id, `name[:tag]`, `name@digest`, or the beginning of an id, tried in
    /// Docker's order.
    pub fn resolve(&self, text: &str) -> Result<Image> {
        self.resolve_named(text).map(|(image, _)| image)
    }

    /// As [`Store::resolve`], with the name if it was one.
    pub(crate) fn resolve_named(&self, text: &str) -> Result<(Image, Option<Reference>)> {
        let missing = || Error::NoSuchImage(text.to_owned());
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = format!("sha256:{hex}").parse::<Digest>() {
            return Ok((self.find(&id)?.ok_or_else(missing)?, None));
        }
        let name = Reference::parse(text);
        if let Ok(name) = &name {
            let name = name.clone().or_latest();
            if let Some(id) = names::get(&self.paths, &name)? {
                return Ok((self.find(&id)?.ok_or_else(missing)?, Some(name)));
            }
        }
        if !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok((self.by_prefix(hex)?.ok_or_else(missing)?, None));
        }
        match name {
            Ok(_) => Err(missing()),
            Err(source) => Err(Error::InvalidName {
                text: text.to_owned(),
                source,
            }),
        }
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<Image>> {
        let mut candidates: Vec<_> = self
            .ids()?
            .into_iter()
            .filter(|id| id.hex().starts_with(prefix))
            .collect();
        candidates.sort();
        match candidates.as_slice() {
            [] => Ok(None),
            [one] => self.find(one),
            _ => Err(Error::Ambiguous {
                prefix: prefix.to_owned(),
                candidates,
            }),
        }
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Result<Image> {
        self.find(id)?
            .ok_or_else(|| Error::NoSuchImage(id.to_string()))
    }

    pub(crate) fn find(&self, id: &Digest) -> Result<Option<Image>> {
        Ok(record::load(&self.paths.image(id))?)
    }

    /// The ids of all images.
    pub(crate) fn ids(&self) -> Result<Vec<Digest>> {
        let files = names::list(&self.paths.images())?;
        let hexes = files.iter().filter_map(|f| f.strip_suffix(".json"));
        Ok(hexes
            .filter_map(|hex| format!("sha256:{hex}").parse().ok())
            .collect())
    }

    /// The image's configuration.
    pub fn config(&self, image: &Image) -> Result<ImageConfig> {
        let path = self.paths.blob(&image.config.digest);
        serde_json::from_slice(&self.blob(&image.config.digest)?).map_err(|e| {
            let reason = e.to_string();
            Error::State(barque_state::Error::Corrupt {
                what: "image configuration",
                path,
                reason,
            })
        })
    }

    /// The exact bytes of a configuration or manifest.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.paths.blob(digest);
        std::fs::read(&path).context("read", &path)
    }

    /// All names of one image.
    pub fn names(&self, id: &Digest) -> Result<Names> {
        Ok(names::all(&self.paths)?.remove(id).unwrap_or_default())
    }

    /// The directories of an image for `inspect`; `None` for one without layers.
    pub fn graph(&self, image: &Image) -> Option<GraphDirs> {
        let mut dirs = image
            .layers
            .iter()
            .rev()
            .map(|l| self.paths.layer(&l.diff_id));
        let top = dirs.next()?;
        Some(GraphDirs {
            lower: dirs.map(|dir| dir.join("diff")).collect(),
            upper: top.join("diff"),
            work: top.join("work"),
            merged: top.join("merged"),
        })
    }

    /// The lower directories for a mount, top first: none beneath a layer that hides all beneath it.
    pub(crate) fn lower(&self, image: &Image) -> Vec<(Digest, PathBuf)> {
        let mut out = Vec::with_capacity(image.layers.len());
        for layer in image.layers.iter().rev() {
            out.push((layer.diff_id, self.paths.layer_diff(&layer.diff_id)));
            if layer.opaque {
                break;
            }
        }
        out
    }

    /// Gives an image another name; one that had the name loses it. Durable.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> {
        let _lock = FileLock::exclusive(&self.paths.lock())?;
        let mut image = self.image(id)?;
        names::set(&self.paths, &name.clone().or_latest(), id)?;
        image.tagged = Timestamp::now();
        // Synced although the time is a courtesy: a power cut could leave the new record empty.
        Ok(record::store(
            &self.paths.image(id),
            &image,
            Durability::Synced,
        )?)
    }

    /// Begins to bring in an image whose layers have these diff ids, as far as they are known.
    pub fn ingest(&self, diff_ids: &[Digest]) -> Result<Ingest> {
        Ingest::begin(self, diff_ids)
    }
}
