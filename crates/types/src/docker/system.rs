//! The engine and its host, as `info` and `version` show them.

use serde::{Deserialize, Serialize};

/// `docker info` (`GET /info`), and what Barque adds to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's words; see its API description
pub struct Info {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: u64,
    pub containers_running: u64,
    pub containers_paused: u64,
    pub containers_stopped: u64,
    pub images: u64,
    pub driver: String,
    pub driver_status: Vec<[String; 2]>,
    pub docker_root_dir: String,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    pub oom_kill_disable: bool,
    pub blkio_weight: bool,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    #[serde(rename = "NCPU")]
    pub ncpu: u64,
    pub mem_total: u64,
    pub name: String,
    pub server_version: String,
    pub default_runtime: String,
    pub security_options: Vec<String>,
    pub warnings: Vec<String>,
    /// Barque's own: one row of `/proc/cgroups` or of the v2 controllers each.
    pub cgroup_controllers: Vec<ControllerRow>,
    /// Barque's own: where run-time state lies.
    pub run_root: String,
}

/// A cgroup controller: `subsystem, hierarchy, number of cgroups, enabled` as `/proc/cgroups` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ControllerRow {
    /// `memory`, `cpu`, …
    pub subsystem: String,
    /// Hierarchy number; 0: not mounted as v1 (v2, or nowhere).
    pub hierarchy: u32,
    /// How many groups it has.
    pub num_cgroups: u64,
    /// Whether the kernel has it switched on.
    pub enabled: bool,
    /// `v1`, `v2` or `-` (mounted nowhere).
    pub version: String,
}

/// `version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Version {
    pub version: String,
    pub git_commit: String,
    pub rust_version: String,
    pub os: String,
    pub arch: String,
    pub kernel_version: String,
}
