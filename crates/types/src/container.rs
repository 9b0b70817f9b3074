//! The typed request for a new container, which every front-end (CLI flags, API JSON, compose) lowers into.
//!
//! It is also what the container's record keeps, so that `inspect` can say what was asked.

use crate::docker::ThrottleView;
use crate::platform::Platform;
use crate::restart::RestartPolicy;
use crate::spec::{IdMapping, Resources, Seccomp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that `create` needs to know. Absent members take the image's or the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateContainer {
    /// Name; a random one is chosen when absent.
    pub name: Option<String>,
    /// What the root file system is made from.
    pub source: Source,
    /// The platform asked for, when it is not the host's.
    pub platform: Option<Platform>,
    /// When to fetch the image.
    pub pull: PullPolicy,
    /// Replaces the image's entrypoint (and drops its command); empty list: none.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// `NAME=value` added to the image's environment; a bare `NAME` removes it.
    pub env: Vec<String>,
    /// Labels added to the image's.
    pub labels: BTreeMap<String, String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Hostname; the short id when absent.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub open_stdin: bool,
    /// Close stdin when the first attached client goes (`run -i` without `-d`).
    pub stdin_once: bool,
    /// Which streams the creating client attaches to (shown by `inspect`).
    pub attach: AttachStreams,
    /// Remove the container when it has stopped.
    pub auto_remove: bool,
    /// Bind mounts and tmpfs.
    pub mounts: Vec<MountRequest>,
    /// Mount the root read-only.
    pub read_only: bool,
    /// Network namespace.
    pub network: NetworkMode,
    /// PID namespace.
    pub pid: NamespaceMode,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// UTS namespace.
    pub uts: NamespaceMode,
    /// cgroup namespace (`private` or `host`).
    pub cgroupns: NamespaceMode,
    /// User namespace.
    pub userns: UserNsMode,
    /// Everything that we may grant.
    pub privileged: bool,
    /// Capabilities to add, normalised (`CAP_…` or `ALL`).
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompMode,
    /// No masked or read-only system paths (`--security-opt systempaths=unconfined`).
    pub systempaths_unconfined: bool,
    /// Resource limits, by name without the `RLIMIT_` prefix in lower case (`nofile`).
    pub ulimits: Vec<Ulimit>,
    /// Host devices.
    pub devices: Vec<DeviceRequest>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// cgroup limits.
    pub resources: Resources,
    /// Block I/O rates by device path; the engine looks the device numbers up.
    pub throttles: Throttles,
    /// `--cpus` as typed, in billionths of a CPU (for `inspect`); already lowered into `resources`.
    pub nano_cpus: i64,
    /// cgroup under which the container's own is made.
    pub cgroup_parent: Option<String>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// What happens when the process ends by itself.
    pub restart: RestartPolicy,
    /// Signal that `stop` sends, as typed.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; -1 waits for ever.
    pub stop_timeout: Option<i64>,
    /// Log driver and options.
    pub log: LogConfig,
}

/// What the container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An image reference, id or id prefix, as typed.
    Image(String),
    /// A directory of the host, under a copy-on-write layer (`--rootfs DIR`).
    Rootfs(PathBuf),
}

impl Default for Source {
    fn default() -> Self {
        Self::Image(String::new())
    }
}

/// `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // Docker's words
pub enum PullPolicy {
    Always,
    #[default]
    Missing,
    Never,
}

/// Which streams the creating client is attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AttachStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// One mount asked for by the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountRequest {
    /// A path of the host (`-v /src:/dst:opts`, `--mount type=bind`).
    Bind(BindMount),
    /// A memory file system (`--tmpfs`, `--mount type=tmpfs`).
    Tmpfs(TmpfsMount),
}

/// A bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Read-only.
    pub read_only: bool,
    /// `rprivate` (default), `private`, `rshared`, `shared`, `rslave`, `slave`.
    pub propagation: Option<String>,
    /// Make the source directory when it is missing (`-v` does, `--mount` does not).
    pub create_source: bool,
    /// Do not bind submounts.
    pub non_recursive: bool,
    /// The mode text as typed (for `inspect`).
    pub mode: String,
}

/// A tmpfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Absolute path in the container.
    pub target: PathBuf,
    /// mount(8) options as typed, without the leading colon.
    pub options: Vec<String>,
}

/// `--network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Loopback only. The default until networks exist.
    #[default]
    None,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(String),
}

/// `--pid`, `--ipc`, `--uts`, `--cgroupns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(String),
    /// `--ipc shareable`: new, and others may join.
    Shareable,
    /// `--ipc none`: new, without /dev/shm.
    None,
}

/// `--userns`, `--uidmap`, `--gidmap`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNsMode {
    /// The caller's user namespace.
    #[default]
    Host,
    /// A new one in which ids 0…65535 are a range of the host's unprivileged ids.
    Auto,
    /// A new one with these maps.
    Mapped {
        /// User ids.
        uid: Vec<IdMapping>,
        /// Group ids.
        gid: Vec<IdMapping>,
    },
}

/// The system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompMode {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile file's content in Docker's format: resolved against the container's capabilities at start.
    Profile(String),
    /// A resolved OCI filter.
    Filter(Box<Seccomp>),
}

/// One resource limit. -1 (here `u64::MAX`) is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Hard limit.
    pub hard: u64,
    /// Soft limit.
    pub soft: u64,
}

/// A host device given to the container (`--device HOST[:CONTAINER[:rwm]]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// Path on the host.
    pub path_on_host: PathBuf,
    /// Path in the container.
    pub path_in_container: PathBuf,
    /// A combination of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// `--device-read-bps` and its three siblings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttles {
    /// Bytes per second, reading.
    pub read_bps: Vec<ThrottleView>,
    /// Bytes per second, writing.
    pub write_bps: Vec<ThrottleView>,
    /// Operations per second, reading.
    pub read_iops: Vec<ThrottleView>,
    /// Operations per second, writing.
    pub write_iops: Vec<ThrottleView>,
}

/// Log driver and options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file` (default) or `none`.
    pub driver: Option<String>,
    /// `max-size`, `max-file`.
    pub options: BTreeMap<String, String>,
}

/// A request to run one more process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    /// Argument vector.
    pub command: Vec<String>,
    /// `NAME=value`, on top of the container's.
    pub env: Vec<String>,
    /// `user[:group]`; the container's when absent.
    pub user: Option<String>,
    /// Working directory; the container's when absent.
    pub workdir: Option<String>,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Give the process the caller's stdin.
    pub interactive: bool,
    /// Do not wait.
    pub detach: bool,
    /// All capabilities that we may grant.
    pub privileged: bool,
    /// Terminal size, rows and columns.
    pub console_size: Option<(u16, u16)>,
}
