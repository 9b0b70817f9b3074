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
    /// Where the archive comes from, for messages: a path, or `standard input`.
    pub source: String,
    /// The history's comment; when empty, Docker's.
    pub message: String,
    /// Dockerfile instructions (`CMD`, `ENV`, …), as `--change` takes them.
    pub changes: Vec<String>,
    /// Names to give the image.
    pub tags: Vec<Reference>,
    /// What the configuration says; the host's platform if none.
    pub platform: Option<Platform>,
}

/// What Docker's history says when the user says nothing, whether the archive came from a file or a pipe: the
/// engine gets a stream in either case.
const COMMENT: &str = "Imported from -";

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
        let layer = ingest
            .unknown_layer(archive)
            .map_err(|e| name_source(e, &options.source))?;
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
                comment: Some(match options.message.as_str() {
                    "" => COMMENT.to_owned(),
                    given => given.to_owned(),
                }),
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

/// To the user the archive is what was named, not a layer.
fn name_source(e: Error, source: &str) -> Error {
    match e {
        Error::BadLayer { reason, .. } => Error::BadImage {
            what: match source {
                "" => "the archive".to_owned(),
                named => named.to_owned(),
            },
            reason: format!(
                "{reason}; import takes a root file system as a tar archive, plain or compressed with gzip or zstd"
            ),
        },
        other => other,
    }
}
