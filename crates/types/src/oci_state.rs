//! The state of a container as the runtime specification defines it (runtime.md, "State"): what hooks and
//! seccomp agents read, and the core of what `state` prints.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Complete, and waiting to be started.
    Created,
    /// Its program was started and has not ended.
    Running,
    /// Running, and frozen (not of the specification, but every runtime has it).
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification that this state complies with.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process, outside; absent when there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Those of its configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}
