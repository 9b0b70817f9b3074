//! What is known of a container beside its configuration.

use barque_state::process::ProcessId;
use barque_state::record;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Who created it.
    pub owner_uid: u32,
    /// Its cgroups.
    pub group: GroupRecord,
    /// Whether processes of it can outlive the first one: it has no pid namespace of its own.
    pub shares_pids: bool,
    /// The first process; absent while the container is being made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<ProcessId>,
}

/// Where its cgroups are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupRecord {
    /// Path below the mount point of each hierarchy; empty when there are no cgroups.
    pub path: String,
    /// `slice:prefix:name`, when systemd makes and removes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl record::Record for Record {
    const WHAT: &'static str = "container state";
}
