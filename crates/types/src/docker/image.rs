//! Images as the API shows them.

use super::{Config, GraphDriver};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `docker inspect IMAGE` (`GET /images/{name}/json`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Names, familiar.
    pub repo_tags: Vec<String>,
    /// Names with the digest that the registry knows.
    pub repo_digests: Vec<String>,
    /// Always empty: only classic builders had parents.
    pub parent: String,
    /// The last history entry's comment.
    pub comment: String,
    /// RFC 3339 time of the build.
    pub created: String,
    /// Always empty; clients expect it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// Defaults for containers.
    pub config: Config,
    /// The same under the name that docker-compose 1.29 reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_config: Option<Config>,
    /// GOARCH.
    pub architecture: String,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// GOOS.
    pub os: String,
    /// Bytes of the files in its layers.
    pub size: u64,
    /// The same, for old clients.
    pub virtual_size: u64,
    /// Where its layers lie.
    pub graph_driver: GraphDriver,
    /// Its layers' diff ids.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFsView,
    /// When it was last tagged here.
    pub metadata: ImageMetadata,
}

/// `RootFS` of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFsView {
    /// Always `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff ids, base first.
    pub layers: Vec<String>,
}

/// `Metadata` of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// RFC 3339 time.
    pub last_tag_time: String,
}

/// One entry of `GET /images/json`; `docker images` prints one row per name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Always empty.
    pub parent_id: String,
    /// Names, familiar.
    pub repo_tags: Vec<String>,
    /// Names with the digest that the registry knows.
    pub repo_digests: Vec<String>,
    /// Seconds since the epoch of the build.
    pub created: i64,
    /// Bytes of the files in its layers.
    pub size: u64,
    /// Bytes that it shares with other images; -1: not computed.
    pub shared_size: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers were made from it; -1: not computed.
    pub containers: i64,
}

/// One entry of `GET /images/{name}/history`, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryEntry {
    /// The image's id for the newest entry, `<missing>` for the others.
    pub id: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// Names of the image, at the newest entry.
    pub tags: Vec<String>,
    /// Bytes of the step's layer; 0 if it made none.
    pub size: u64,
    /// Free text.
    pub comment: String,
}
