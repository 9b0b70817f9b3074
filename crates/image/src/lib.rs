//! Images and layers: manifests and configurations, unpacking, overlay snapshots, collection.
//!
//! [`Store`] is the way in. It knows neither registries (a pull hands it streams) nor containers' records (a removal is
//! told what is in use), and it mounts nothing. How it lies on the disk is drawn at the heads of the modules `layout`,
//! `layer`, `image`, `names`, `ingest` and `snapshot`.

mod archive;
mod builtin;
mod change;
mod check;
mod collect;
mod diff;
mod dirs;
mod elf;
mod error;
mod image;
mod import;
mod ingest;
mod layer;
mod layout;
mod load;
mod names;
mod path;
mod pipeline;
mod share;
mod snapshot;
mod store;
mod tape;
mod tree;
mod unpack;

pub use builtin::BUILTIN;
pub use check::{Problem, Report};
pub use diff::{Change, ChangeKind};
pub use error::{Error, Result};
pub use image::{
    GraphDirs, Image, ImageLayer, InUse, Listing, Names, NewImage, RemoveEvent, Removed,
};
pub use import::ImportOptions;
pub use ingest::{Ingest, Slot};
pub use layer::{Layer, LayerWriter};
pub use load::Loaded;
pub use share::Shared;
pub use snapshot::{Base, Snapshot};
pub use store::Store;
pub use tape::LayerTar;
pub use unpack::Limits;
