//! What `barque info` tells about cgroups: the controllers, and which limits this machine can hold.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use barque_types::spec::Resources;
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::group::Cgroup;
use crate::layout::{Layout, Mode, read_proc};
use crate::limits::{Place, Places};
use crate::tables::{self, value_of};

/// A controller of the running kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// v1 name where there is one (`blkio`), as in `/proc/cgroups`.
    pub name: String,
    /// The hierarchy's number; 0 is v2, or none.
    pub hierarchy: u32,
    /// Groups in that hierarchy.
    pub num_cgroups: u64,
    /// Not switched off at boot.
    pub enabled: bool,
    /// 1 or 2, by where it is mounted; `None` when it is not.
    pub version: Option<u8>,
    /// Where; `None` when it is not.
    pub mount_point: Option<PathBuf>,
}

/// The controllers of the kernel, in the order of `/proc/cgroups`, then those that only v2 knows.
///
/// # Errors
/// Those of reading `/proc/cgroups` and `cgroup.stat`.
pub fn controllers(layout: &Layout) -> Result<Vec<Controller>> {
    let text = match read_proc("/proc/cgroups") {
        // A kernel without v1 (CONFIG_CGROUP_V1 parts are optional since 6.x) may lack the file.
        Err(Error::Io { source, .. }) if source == Errno::NOENT => String::new(),
        result => result?,
    };
    let mut found: Vec<Controller> = tables::subsystems(&text)
        .into_iter()
        .map(|subsystem| {
            let hierarchy = layout.controller(&subsystem.name);
            Controller {
                version: hierarchy.map(|h| if h.is_v2() { 2 } else { 1 }),
                mount_point: hierarchy.map(|h| h.mounted().mount_point.clone()),
                name: subsystem.name,
                hierarchy: subsystem.hierarchy,
                num_cgroups: subsystem.num_cgroups,
                enabled: subsystem.enabled,
            }
        })
        .collect();
    if let Some(v2) = layout.v2() {
        let stat = v2.root().read("cgroup.stat").unwrap_or_default();
        let num_cgroups = value_of(&stat, "nr_descendants").map_or(1, |below| below + 1);
        for name in v2.controllers() {
            let v1_name = if name == "io" { "blkio" } else { name };
            if found.iter().all(|known| known.name != v1_name) {
                found.push(Controller {
                    name: name.clone(),
                    hierarchy: 0,
                    num_cgroups,
                    enabled: true,
                    version: Some(2),
                    mount_point: Some(v2.mounted().mount_point.clone()),
                });
            }
        }
    }
    Ok(found)
}

/// Which limits this machine can hold; the names are those of Docker's `/info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `--memory`
    pub memory_limit: bool,
    /// `--memory-swap`
    pub swap_limit: bool,
    /// `--memory-reservation`
    pub memory_reservation: bool,
    /// `--memory-swappiness`
    pub memory_swappiness: bool,
    /// `--oom-kill-disable`
    pub oom_kill_disable: bool,
    /// `KernelMemoryTCP` of the API
    pub kernel_memory_tcp: bool,
    /// `--cpu-shares`
    pub cpu_shares: bool,
    /// `--cpu-period`
    pub cpu_cfs_period: bool,
    /// `--cpu-quota`, `--cpus`
    pub cpu_cfs_quota: bool,
    /// `--cpu-rt-runtime`
    pub cpu_realtime: bool,
    /// `--cpuset-cpus`, `--cpuset-mems`
    pub cpuset: bool,
    /// `--pids-limit`
    pub pids_limit: bool,
    /// `--blkio-weight`
    pub blkio_weight: bool,
    /// `--blkio-weight-device`
    pub blkio_weight_device: bool,
    /// `--device-read-bps`
    pub blkio_read_bps: bool,
    /// `--device-write-bps`
    pub blkio_write_bps: bool,
    /// `--device-read-iops`
    pub blkio_read_iops: bool,
    /// `--device-write-iops`
    pub blkio_write_iops: bool,
    /// `pause`
    pub freezer: bool,
    /// Device rules (v1 controller or BPF)
    pub devices: bool,
    /// `cpu.burst` of runtime-spec (Linux 5.14)
    pub cpu_burst: bool,
    /// `cpu.idle` of runtime-spec (Linux 5.15)
    pub cpu_idle: bool,
    /// `hugepageLimits`
    pub hugetlb: bool,
    /// `rdma`
    pub rdma: bool,
    /// `network.classID`
    pub net_cls: bool,
    /// `network.priorities`
    pub net_prio: bool,
    /// `unified`: there is a v2 tree
    pub unified: bool,
    /// `cgroup.kill` (Linux 5.14)
    pub kill: bool,
    /// Pressure stall information of groups
    pub pressure: bool,
}

impl Capabilities {
    /// Asks the kernel: makes a group for a moment and looks which files it has. Some exist on no
    /// root group, and some only while a module is loaded, so that nothing else is certain.
    ///
    /// Where no group may be made, what the mounted controllers usually offer is assumed.
    #[must_use]
    pub fn probe(layout: &Layout) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/barque-probe-{}-{count}", std::process::id());
        match Cgroup::create(layout, &path, &Resources::default()) {
            Ok((cgroup, _)) => {
                let found = Self::of(&cgroup);
                // A group without processes; if it stays for some odd reason, it costs nothing.
                let _ = cgroup.remove();
                found
            }
            Err(_) => Self::assumed(layout),
        }
    }

    fn of(places: &Cgroup) -> Self {
        let has = |controller: &str, v1: &[&str], v2: &[&str]| {
            let any = |dir: &Dir, files: &[&str]| files.iter().any(|file| dir.has(file));
            match places.place(controller) {
                Place::V1(dir) => any(dir, v1),
                Place::V2(dir) => any(dir, v2),
                Place::Refused(_) | Place::Nowhere => false,
            }
        };
        let throttle = |v1: &str| has("blkio", &[v1], &["io.max"]);
        Self {
            memory_limit: has("memory", &["memory.limit_in_bytes"], &["memory.max"]),
            swap_limit: has(
                "memory",
                &["memory.memsw.limit_in_bytes"],
                &["memory.swap.max"],
            ),
            memory_reservation: has("memory", &["memory.soft_limit_in_bytes"], &["memory.low"]),
            memory_swappiness: has("memory", &["memory.swappiness"], &[]),
            oom_kill_disable: has("memory", &["memory.oom_control"], &[]),
            kernel_memory_tcp: has("memory", &["memory.kmem.tcp.limit_in_bytes"], &[]),
            cpu_shares: has("cpu", &["cpu.shares"], &["cpu.weight"]),
            cpu_cfs_period: has("cpu", &["cpu.cfs_period_us"], &["cpu.max"]),
            cpu_cfs_quota: has("cpu", &["cpu.cfs_quota_us"], &["cpu.max"]),
            cpu_realtime: has("cpu", &["cpu.rt_runtime_us"], &[]),
            cpuset: has("cpuset", &["cpuset.cpus"], &["cpuset.cpus"]),
            pids_limit: has("pids", &["pids.max"], &["pids.max"]),
            blkio_weight: has(
                "blkio",
                &["blkio.weight", "blkio.bfq.weight"],
                &["io.weight", "io.bfq.weight"],
            ),
            blkio_weight_device: has(
                "blkio",
                &["blkio.weight_device", "blkio.bfq.weight_device"],
                &["io.weight", "io.bfq.weight"],
            ),
            blkio_read_bps: throttle("blkio.throttle.read_bps_device"),
            blkio_write_bps: throttle("blkio.throttle.write_bps_device"),
            blkio_read_iops: throttle("blkio.throttle.read_iops_device"),
            blkio_write_iops: throttle("blkio.throttle.write_iops_device"),
            freezer: places.v1_of("freezer").is_some()
                || places
                    .v2()
                    .is_some_and(|group| group.dir.has("cgroup.freeze")),
            devices: matches!(places.place("devices"), Place::V1(_) | Place::V2(_)),
            cpu_burst: has("cpu", &["cpu.cfs_burst_us"], &["cpu.max.burst"]),
            cpu_idle: has("cpu", &["cpu.idle"], &["cpu.idle"]),
            hugetlb: places.place("hugetlb").dir().is_some(),
            rdma: has("rdma", &["rdma.max"], &["rdma.max"]),
            net_cls: has("net_cls", &["net_cls.classid"], &[]),
            net_prio: has("net_prio", &["net_prio.ifpriomap"], &[]),
            unified: places.v2().is_some(),
            kill: places
                .v2()
                .is_some_and(|group| group.dir.has("cgroup.kill")),
            // There, but not to be read, on a kernel with psi=0.
            pressure: places
                .v2()
                .is_some_and(|group| group.dir.read("cpu.pressure").is_ok()),
        }
    }

    fn assumed(layout: &Layout) -> Self {
        let v1 = |name: &str| layout.controller(name).is_some_and(|h| !h.is_v2());
        let any = |name: &str| layout.controller(name).is_some();
        let blkio = any("blkio");
        Self {
            memory_limit: any("memory"),
            swap_limit: any("memory"),
            memory_reservation: any("memory"),
            memory_swappiness: v1("memory"),
            oom_kill_disable: v1("memory"),
            kernel_memory_tcp: v1("memory"),
            cpu_shares: any("cpu"),
            cpu_cfs_period: any("cpu"),
            cpu_cfs_quota: any("cpu"),
            cpu_realtime: false,
            cpuset: any("cpuset"),
            pids_limit: any("pids"),
            blkio_weight: false,
            blkio_weight_device: false,
            blkio_read_bps: blkio,
            blkio_write_bps: blkio,
            blkio_read_iops: blkio,
            blkio_write_iops: blkio,
            freezer: any("freezer") || layout.v2().is_some(),
            devices: any("devices") || layout.v2().is_some(),
            cpu_burst: false,
            cpu_idle: false,
            hugetlb: any("hugetlb"),
            rdma: any("rdma"),
            net_cls: v1("net_cls"),
            net_prio: v1("net_prio"),
            unified: layout.v2().is_some(),
            kill: false,
            pressure: false,
        }
    }

    /// The lines that `docker info` ends with on a machine that lacks something.
    #[must_use]
    pub fn warnings(&self, mode: Mode) -> Vec<&'static str> {
        let v1 = matches!(mode, Mode::V1 | Mode::Hybrid);
        [
            (self.memory_limit, "WARNING: No memory limit support"),
            (self.swap_limit, "WARNING: No swap limit support"),
            (
                self.oom_kill_disable || !v1,
                "WARNING: No oom kill disable support",
            ),
            (self.cpu_cfs_quota, "WARNING: No cpu cfs quota support"),
            (self.cpu_cfs_period, "WARNING: No cpu cfs period support"),
            (self.cpu_shares, "WARNING: No cpu shares support"),
            (self.cpuset, "WARNING: No cpuset support"),
            (self.pids_limit, "WARNING: No pids limit support"),
            (self.blkio_weight || !v1, "WARNING: No blkio weight support"),
            (self.blkio_weight || v1, "WARNING: No io.weight support"),
            (
                self.blkio_read_bps || !v1,
                "WARNING: No blkio throttle support",
            ),
            (self.blkio_read_bps || v1, "WARNING: No io.max support"),
        ]
        .into_iter()
        .filter_map(|(there, line)| (!there).then_some(line))
        .collect()
    }
}
