//! What the disk knows of a container: `config.json`, written once, and `state.json`, replaced at every turn.
//!
//! ```text
//! containers/<id>/
//! ├─ config.json      Config: what was asked and what was resolved from the image
//! ├─ state.json       RunState: status, pid, exit code, times
//! ├─ lock             flock: held while one of the two, or the container itself, is changed
//! ├─ hostname hosts resolv.conf   bound into the container
//! └─ <id>-json.log[.N]            its output
//! ```

use barque_state::process::ProcessId;
use barque_state::record::Record;
use barque_types::container::CreateContainer;
use barque_types::digest::Digest;
use barque_types::docker::Status;
use barque_types::id::ContainerId;
use barque_types::spec::IdMapping;
use barque_types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `config.json`: everything about a container that does not change when it starts and stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub id: ContainerId,
    pub name: String,
    pub created: Timestamp,
    /// What was asked.
    pub request: CreateContainer,
    /// The image, unless made from a directory.
    pub image: Option<ImageUsed>,
    /// What the request and the image together say.
    pub process: ResolvedProcess,
    /// User and group maps of its user namespace, when it has one.
    pub ids: Option<IdMaps>,
}

/// User and group maps of a user namespace.
pub(crate) type IdMaps = (Vec<IdMapping>, Vec<IdMapping>);

/// The image that a container was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageUsed {
    /// Config digest.
    pub id: Digest,
    /// As the user named it.
    pub name: String,
}

/// The request laid over the image's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolvedProcess {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub hostname: String,
    pub exposed_ports: Vec<String>,
    /// Paths that the image wants a volume at; shown, not served, until volumes exist.
    pub volumes: Vec<String>,
}

impl ResolvedProcess {
    /// Entrypoint and command together.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint
            .iter()
            .flatten()
            .chain(&self.cmd)
            .cloned()
            .collect()
    }
}

/// `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunState {
    pub status: Status,
    /// PID 1 of the container as the host sees it, while it lives.
    pub init: Option<ProcessId>,
    /// Its supervisor.
    pub monitor: Option<ProcessId>,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why it could not be started.
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub restart_count: u32,
    /// The user stopped it: `unless-stopped` leaves it alone.
    pub stopped_by_user: bool,
    /// The group's path in each hierarchy it was made in, while it runs.
    pub cgroup: Option<String>,
}

impl Record for Config {
    const WHAT: &'static str = "container";
    const VERSION: u32 = 1;
}

impl Record for RunState {
    const WHAT: &'static str = "container state";
    const VERSION: u32 = 1;
}

/// A container as loaded from disk.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub config: Config,
    pub state: RunState,
    /// `containers/<id>`.
    pub dir: PathBuf,
}

impl Container {
    pub fn id(&self) -> &str {
        self.config.id.as_str()
    }

    /// `<parent>/<id>` below each hierarchy's root. It follows from what never changes, so that no crash
    /// can lose it, and it is nobody else's: a group that is there while nothing runs is garbage.
    pub fn cgroup_path(&self) -> String {
        let parent = self.config.request.cgroup_parent.as_deref();
        let parent = parent.unwrap_or("/barque").trim_matches('/');
        format!("/{parent}/{}", self.id())
    }

    /// Name for messages: what `ps` shows.
    pub fn name(&self) -> &str {
        &self.config.name
    }
}
