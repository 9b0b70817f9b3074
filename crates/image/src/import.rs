//! `import`: a plain root file system archive becomes an image of one layer.

use crate::change;
use crate::error::{Error, Result};
use crate::image::{Image, NewImage};
use crate::store::Store;
use barque_types::oci::{History, ImageConfig, RootFs, RunConfig};
use barque_types::platform::Platform;
use barque_types::reference::Reference;
use barque_types::time::Timestamp;
use std::io::Read;

/// What `import` takes besides the archive.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The history's comment.
    pub message: String,
    /// Dockerfile instructions (`CMD`, `ENV`, …), as `--change` takes them.
    pub changes: Vec<String>,
    /// Names to give the image.
    pub tags: Vec<Reference>,
    /// What the configuration says; the host's platform if none.
    pub platform: Option<Platform>,
}

impl Store {
    /// Makes an image of a tar archive (gzip, zstd or plain).
    pub fn import(&self, archive: impl Read, options: &ImportOptions) -> Result<Image> {
        let mut run = RunConfig::default();
        for line in &options.changes {
            change::apply(&mut run, line).map_err(|reason| Error::BadImage {
                what: format!("change {line:?}"),
                reason,
            })?;
        }
        let ingest = self.ingest(&[])?;
        let layer = ingest.unknown_layer(archive)?;
        let created = Some(Timestamp::now().to_string());
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let config = ImageConfig {
            created: created.clone(),
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: run,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![layer.diff_id],
            },
            history: vec![History {
                created,
                comment: (!options.message.is_empty()).then(|| options.message.clone()),
                ..History::default()
            }],
        };
        let config = serde_json::to_vec(&config).map_err(|e| Error::BadImage {
            what: "new image configuration".into(),
            reason: e.to_string(),
        })?;
        let image = NewImage {
            config,
            tags: options.tags.clone(),
            ..NewImage::default()
        };
        ingest.commit(image, &[])
    }
}
