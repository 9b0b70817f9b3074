//! Images and layers: manifests, configurations, unpacking, overlay snapshots.

mod diff;
mod error;
mod image;
mod snapshot;
mod store;

pub use diff::*;
pub use error::{Error, Result};
pub use image::*;
pub use snapshot::*;
pub use store::*;
