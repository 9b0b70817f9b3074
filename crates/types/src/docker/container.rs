//! Containers as the API shows them.

use crate::container::{DeviceRequest, Ulimit};
use crate::oci::Empty;
use crate::restart::RestartPolicy;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `State.Status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // Docker's words
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether the container has a process.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of `ps` (`GET /containers/json`), with what its filters and columns need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// With Docker's leading slash.
    pub names: Vec<String>,
    /// As the user named it (the id when the name has moved on).
    pub image: String,
    /// `sha256:…`
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Entrypoint and arguments, joined by blanks.
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    /// Published ports; always empty until networks exist.
    pub ports: Vec<Empty>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, …
    pub state: Status,
    /// `Up 2 minutes`, `Exited (0) 5 seconds ago`, …
    pub status: String,
    /// Network mode.
    pub host_config: SummaryHostConfig,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Exit code of the last run (for `--filter exited=`).
    #[serde(skip)]
    pub exit_code: i32,
    /// Size of the writable layer in bytes, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Size of all layers together, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
}

/// The part of `HostConfig` that the list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// `none`, `host`, `container:<id>`.
    pub network_mode: String,
}

/// `inspect` of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// 64 hex digits.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State of the process.
    pub state: State,
    /// Image id.
    pub image: String,
    /// Files given to the container.
    pub resolv_conf_path: String,
    /// See `resolv_conf_path`.
    pub hostname_path: String,
    /// See `resolv_conf_path`.
    pub hosts_path: String,
    /// The current log file.
    pub log_path: String,
    /// With Docker's leading slash.
    pub name: String,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// Always `overlay2`.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux label.
    pub mount_label: String,
    /// SELinux label.
    pub process_label: String,
    /// Profile name.
    pub app_armor_profile: String,
    /// Ids of running `exec`s: not recorded, always null.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What the host was asked for.
    pub host_config: HostConfig,
    /// Where the file system lies.
    pub graph_driver: GraphDriver,
    /// Size of the writable layer, with `--size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Size of all layers together, with `--size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// What runs inside.
    pub config: Config,
    /// Networks.
    pub network_settings: NetworkSettings,
}

/// `State`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's words
pub struct State {
    pub status: Status,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// Where a container's or an image's file system lies on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// `LowerDir` (colon-separated, top first), `MergedDir`, `UpperDir`, `WorkDir`.
    pub data: BTreeMap<String, String>,
    /// Always `overlay2`.
    pub name: String,
}

/// One mount as `inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct MountPoint {
    #[serde(rename = "Type")]
    pub kind: String,
    pub source: String,
    pub destination: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

/// `HostConfig`: what was asked of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's words; see its API description
pub struct HostConfig {
    pub binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    pub log_config: LogConfigView,
    pub network_mode: String,
    pub port_bindings: BTreeMap<String, Vec<Empty>>,
    pub restart_policy: RestartPolicy,
    pub auto_remove: bool,
    pub volume_driver: String,
    pub volumes_from: Option<Vec<String>>,
    pub console_size: [u16; 2],
    pub cap_add: Option<Vec<String>>,
    pub cap_drop: Option<Vec<String>>,
    pub cgroupns_mode: String,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub extra_hosts: Option<Vec<String>>,
    pub group_add: Option<Vec<String>>,
    pub ipc_mode: String,
    pub cgroup: String,
    pub links: Option<Vec<String>>,
    pub oom_score_adj: i32,
    pub pid_mode: String,
    pub privileged: bool,
    pub publish_all_ports: bool,
    pub readonly_rootfs: bool,
    pub security_opt: Option<Vec<String>>,
    pub tmpfs: Option<BTreeMap<String, String>>,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    pub userns_mode: String,
    pub shm_size: u64,
    pub sysctls: Option<BTreeMap<String, String>>,
    pub runtime: String,
    pub isolation: String,
    pub cpu_shares: u64,
    pub memory: i64,
    pub nano_cpus: i64,
    pub cgroup_parent: String,
    pub blkio_weight: u16,
    pub blkio_weight_device: Vec<Empty>,
    pub blkio_device_read_bps: Vec<ThrottleView>,
    pub blkio_device_write_bps: Vec<ThrottleView>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleView>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleView>,
    pub cpu_period: u64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: u64,
    pub cpu_realtime_runtime: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub devices: Vec<DeviceRequest>,
    pub device_cgroup_rules: Option<Vec<String>>,
    pub device_requests: Option<Vec<Empty>>,
    pub memory_reservation: i64,
    pub memory_swap: i64,
    pub memory_swappiness: Option<u64>,
    pub oom_kill_disable: bool,
    pub pids_limit: Option<i64>,
    pub ulimits: Vec<Ulimit>,
    pub cpu_count: u64,
    pub cpu_percent: u64,
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
}

/// A rate limit of one device, by the path the user named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThrottleView {
    /// Device node.
    pub path: String,
    /// Per second.
    pub rate: u64,
}

/// `LogConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfigView {
    /// `json-file` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Options.
    pub config: BTreeMap<String, String>,
}

/// `Config`: what runs inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's words
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    pub entrypoint: Option<Vec<String>>,
    pub on_build: Option<Vec<String>>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// `NetworkSettings`: the sandbox, and no address until networks exist. The members are there all the
/// same: `{{.NetworkSettings.IPAddress}}` stands in many scripts, which take an empty answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Published ports.
    pub ports: BTreeMap<String, Option<Vec<Empty>>>,
    /// Path of the network namespace while the container runs.
    pub sandbox_key: String,
    /// Networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// What Docker repeats of the default bridge's endpoint.
    #[serde(flatten)]
    pub default_bridge: Address,
}

/// A container's end of a network (`EndpointSettings` of the Engine API).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// Names by which others on the network find it.
    pub aliases: Option<Vec<String>>,
    /// Id of the network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Where it is reached.
    #[serde(flatten)]
    pub address: Address,
}

/// Addresses of an endpoint: empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Address {
    /// Id of the endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits of the IPv4 prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits of the IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Hardware address.
    pub mac_address: String,
}

/// One line of `diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// Absolute path in the container.
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}
