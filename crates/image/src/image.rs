//! What the store knows about an image, and its record.
//!
//! ```text
//! image/images/<id hex>.json   {"version":1,"id","created","size","config":Descriptor,"manifest":Descriptor?,
//!                               "layers":[{"diff_id","size","opaque"?,"blob":Descriptor?}], "tagged"}
//! image/blobs/<hex>            configurations and manifests, the exact bytes they came as
//! ```
//! The record is written after everything it names has reached the disk: an image that has one is whole.

use barque_state::record::Record;
use barque_types::digest::Digest;
use barque_types::oci::Descriptor;
use barque_types::reference::Reference;
use barque_types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// When it was built, by its configuration; "never" when that does not say.
    pub created: Timestamp,
    /// When it last got a name here (Docker's `Metadata.LastTagTime`).
    pub tagged: Timestamp,
    /// Bytes of the files in its layers.
    pub size: u64,
    /// Its configuration blob; the bytes are in the store.
    pub config: Descriptor,
    /// Its manifest blob, when it came with one; the bytes are in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Descriptor>,
    /// Its layers, base first.
    pub layers: Vec<ImageLayer>,
}

/// A layer as an image has it: the facts that a bit-exact push will need are kept although the blob is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the files in it.
    pub size: u64,
    /// Whether it hides all layers beneath it: those are not mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The (compressed) blob it came as: media type, digest, size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
}

impl Record for Image {
    const WHAT: &'static str = "image";
}

/// The names that an image has, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `name:tag`s (`RepoTags` are their familiar forms).
    pub tags: Vec<Reference>,
    /// `name@digest`s (`RepoDigests`).
    pub digests: Vec<Reference>,
}

/// The directories of an image or a container as `inspect` shows them under `GraphDriver.Data`. All exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphDirs {
    /// `LowerDir`: what lies beneath, top first.
    pub lower: Vec<PathBuf>,
    /// `UpperDir`.
    pub upper: PathBuf,
    /// `WorkDir`.
    pub work: PathBuf,
    /// `MergedDir`.
    pub merged: PathBuf,
}

/// What a new image consists of, apart from its layers' content.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// The exact bytes of the configuration; their digest is the image's id.
    pub config: Vec<u8>,
    /// Media type of the configuration; empty means OCI's.
    pub config_media_type: String,
    /// The exact bytes and the media type of the manifest, when there is one.
    pub manifest: Option<(Vec<u8>, String)>,
    /// Names to give it: `name:tag`. An image that had the name loses it.
    pub tags: Vec<Reference>,
    /// Digests it is known by elsewhere: `name@digest`, the digest being the index's if it came by one.
    pub digests: Vec<Reference>,
}

/// A container that uses an image, for [`crate::Store::remove`].
#[derive(Debug, Clone)]
pub struct InUse {
    /// The image it was made from.
    pub image: Digest,
    /// The container's id.
    pub container: String,
    /// Whether it runs or is paused.
    pub running: bool,
}

/// All images of a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those whose record can be read.
    pub images: Vec<(Image, Names)>,
    /// Why others could not be read, each naming its record.
    pub unreadable: Vec<crate::Error>,
}

/// What a removal did, in Docker's words and order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// One entry per line of `rmi`'s output.
    pub events: Vec<RemoveEvent>,
    /// Bytes of files freed.
    pub freed: u64,
}

/// One line of `rmi`'s output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveEvent {
    /// `Untagged: name:tag` or `Untagged: name@digest` (familiar form).
    Untagged(String),
    /// `Deleted: sha256:…`, an image or a layer.
    Deleted(Digest),
}
