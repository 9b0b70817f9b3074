//! The flags that `run` and `create` share, as typed: no policy here, see [`super::resolve()`].

use clap::Args;

/// As typed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ContainerFlags {
    // ---- the container ----
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Set platform if the image has several (os[/arch[/variant]])
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pub pull: Option<String>,
    /// Suppress the pull output
    #[arg(short, long)]
    pub quiet: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Restart policy to apply when a container exits ("no", "always", "unless-stopped", "on-failure[:max-retries]") (default "no")
    #[arg(long, value_name = "string")]
    pub restart: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "file")]
    pub cidfile: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    pub label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    pub label_file: Vec<String>,
    /// Use a directory of the host, under a copy-on-write layer, as the root file system; the first argument is then the command ("/" is a good choice)
    #[arg(long, value_name = "dir")]
    pub rootfs: Option<String>,

    // ---- the process ----
    /// Keep STDIN open even if not attached
    #[arg(short, long, help_heading = "Process")]
    pub interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long, help_heading = "Process")]
    pub tty: bool,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", help_heading = "Process")]
    pub attach: Vec<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", help_heading = "Process")]
    pub env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list", help_heading = "Process")]
    pub env_file: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", help_heading = "Process")]
    pub workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string", help_heading = "Process")]
    pub user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list", help_heading = "Process")]
    pub group_add: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string", help_heading = "Process")]
    pub entrypoint: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes (not in this version)
    #[arg(long, help_heading = "Process", hide = true)]
    pub init: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string", help_heading = "Process")]
    pub stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", help_heading = "Process")]
    pub stop_timeout: Option<String>,

    // ---- the file system ----
    /// Bind mount a directory or file of the host (HOST:CONTAINER[:ro,rslave,...])
    #[arg(short, long, value_name = "list", help_heading = "File system")]
    pub volume: Vec<String>,
    /// Attach a filesystem mount to the container (type=bind,source=...,target=... or type=tmpfs,target=...)
    #[arg(long, value_name = "mount", help_heading = "File system")]
    pub mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list", help_heading = "File system")]
    pub tmpfs: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long, help_heading = "File system")]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", help_heading = "File system")]
    pub shm_size: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "list", help_heading = "File system")]
    pub device: Vec<String>,

    // ---- isolation ----
    /// Container host name
    #[arg(short = 'h', long, value_name = "string", help_heading = "Isolation")]
    pub hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub domainname: Option<String>,
    /// Network to use (default "none", only a loopback interface): "none", "host" or "container:ID"; networks between containers come with a later version
    #[arg(
        long,
        visible_alias = "net",
        value_name = "network",
        help_heading = "Isolation"
    )]
    pub network: Option<String>,
    /// PID namespace to use ("private", "host", "container:ID")
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub pid: Option<String>,
    /// IPC mode to use ("private", "shareable", "none", "host", "container:ID")
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub ipc: Option<String>,
    /// UTS namespace to use ("private", "host", "container:ID")
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub uts: Option<String>,
    /// Cgroup namespace to use ("private", "host")
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub cgroupns: Option<String>,
    /// User namespace to use: "host", or "auto" for one in which root is an ordinary user of the host
    #[arg(long, value_name = "string", help_heading = "Isolation")]
    pub userns: Option<String>,
    /// Map user ids into a user namespace (CONTAINER_ID:HOST_ID:SIZE)
    #[arg(long, value_name = "list", help_heading = "Isolation")]
    pub uidmap: Vec<String>,
    /// Map group ids into a user namespace (CONTAINER_ID:HOST_ID:SIZE)
    #[arg(long, value_name = "list", help_heading = "Isolation")]
    pub gidmap: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "map", help_heading = "Isolation")]
    pub sysctl: Vec<String>,

    // ---- privileges ----
    /// Give extended privileges to this container
    #[arg(long, help_heading = "Privileges")]
    pub privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "list", help_heading = "Privileges")]
    pub cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list", help_heading = "Privileges")]
    pub cap_drop: Vec<String>,
    /// Security options ("no-new-privileges", "seccomp=unconfined|builtin|FILE", "systempaths=unconfined")
    #[arg(long, value_name = "list", help_heading = "Privileges")]
    pub security_opt: Vec<String>,

    // ---- limits ----
    /// Memory limit
    #[arg(short, long, value_name = "bytes", help_heading = "Limits")]
    pub memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", help_heading = "Limits")]
    pub memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", help_heading = "Limits")]
    pub memory_swap: Option<String>,
    /// Tune container memory swappiness (0 to 100) (default -1)
    #[arg(long, value_name = "int", help_heading = "Limits")]
    pub memory_swappiness: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", help_heading = "Limits")]
    pub cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", help_heading = "Limits")]
    pub cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", help_heading = "Limits")]
    pub cpuset_mems: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", help_heading = "Limits")]
    pub cpu_shares: Option<String>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", help_heading = "Limits")]
    pub cpu_quota: Option<String>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", help_heading = "Limits")]
    pub cpu_period: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", help_heading = "Limits")]
    pub pids_limit: Option<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", help_heading = "Limits")]
    pub blkio_weight: Option<String>,
    /// Limit read rate (bytes per second) from a device (PATH:RATE)
    #[arg(long, value_name = "list", help_heading = "Limits")]
    pub device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device (PATH:RATE)
    #[arg(long, value_name = "list", help_heading = "Limits")]
    pub device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device (PATH:RATE)
    #[arg(long, value_name = "list", help_heading = "Limits")]
    pub device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device (PATH:RATE)
    #[arg(long, value_name = "list", help_heading = "Limits")]
    pub device_write_iops: Vec<String>,
    /// Disable OOM Killer
    #[arg(long, help_heading = "Limits")]
    pub oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", help_heading = "Limits")]
    pub oom_score_adj: Option<String>,
    /// Ulimit options (NAME=SOFT[:HARD])
    #[arg(long, value_name = "ulimit", help_heading = "Limits")]
    pub ulimit: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string", help_heading = "Limits")]
    pub cgroup_parent: Option<String>,

    // ---- logging ----
    /// Logging driver for the container ("json-file", "none")
    #[arg(long, value_name = "string", help_heading = "Logging")]
    pub log_driver: Option<String>,
    /// Log driver options (max-size=10m, max-file=3)
    #[arg(long, value_name = "list", help_heading = "Logging")]
    pub log_opt: Vec<String>,

    // ---- Docker's, which ask for what is the case anyway ----
    /// Disable any container-specified HEALTHCHECK: none is run
    #[arg(long, hide = true)]
    pub no_healthcheck: bool,
    /// Skip image verification by Notary: there is none
    #[arg(long, hide = true)]
    pub disable_content_trust: bool,

    // ---- Docker's, for which this version has nothing yet: refused with a reason, see resolve ----
    #[arg(short, long, hide = true)]
    #[allow(missing_docs)]
    pub publish: Vec<String>,
    #[arg(short = 'P', long, hide = true)]
    #[allow(missing_docs)]
    pub publish_all: bool,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub volumes_from: Vec<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub link: Vec<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub dns: Vec<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub add_host: Vec<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub gpus: Option<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub health_cmd: Option<String>,
    #[arg(long, hide = true)]
    #[allow(missing_docs)]
    pub runtime: Option<String>,
}
