//! What is kept beside CRIU's own files in the directory of an image, for the restore: `barque.json`.
//!
//! ```text
//! { "version": 1,
//!   "mounts":  [ { "cookie", "mountPoint", "from" } … ]   mounts from outside
//!   "streams": [ key | null, …, … ] }                     what 0, 1 and 2 are called there
//! ```

use super::mounts::External;
use crate::error::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const NAME: &str = "barque.json";
const VERSION: u32 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Image {
    version: u32,
    /// Mounts from outside.
    pub mounts: Vec<External>,
    /// What CRIU calls the files behind 0, 1 and 2 that are given anew at a restore.
    pub streams: [Option<String>; 3],
}

impl Image {
    pub fn new(mounts: Vec<External>, streams: [Option<String>; 3]) -> Self {
        Self {
            version: VERSION,
            mounts,
            streams,
        }
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::invalid(NAME, e.to_string()))?;
        let path = dir.join(NAME);
        std::fs::write(&path, text).step(|| format!("writing {}", path.display()))
    }

    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_image(dir)),
            other => other.step(|| format!("reading {}", path.display()))?,
        };
        let image: Self = serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(path.display().to_string(), e.to_string()))?;
        if image.version != VERSION {
            return Err(Error::invalid(
                path.display().to_string(),
                format!("is of version {}; this is for {VERSION}", image.version),
            ));
        }
        Ok(image)
    }
}

/// Nothing that could be restored is there.
fn no_image(dir: &Path) -> Error {
    let why = match dir.is_dir() {
        true => format!("holds no checkpoint (no {NAME})"),
        false => "is not there".to_owned(),
    };
    Error::invalid(format!("checkpoint {}", dir.display()), why)
}
