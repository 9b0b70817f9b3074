//! `info` and `version`: facts about the engine and its host.

use crate::Engine;
use crate::error::Result;
use barque_cgroup::Capabilities;
use barque_types::docker::{ControllerRow, Info, Status, Version};

impl Engine {
    /// Facts about the engine and its host.
    pub fn info(&self) -> Result<Info> {
        let layout = self.cgroups()?;
        let can = Capabilities::probe(layout);
        // A record that cannot be read still is a container; which one, `ps` says.
        let (containers, unreadable) = self.load_all()?;
        let images = self.store.images()?;
        let count = |wanted: &[Status]| {
            containers
                .iter()
                .filter(|c| wanted.contains(&c.state.status))
                .count() as u64
        };
        let uname = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        Ok(Info {
            id: self.data.path().display().to_string(),
            containers: (containers.len() + unreadable.len()) as u64,
            containers_running: count(&[Status::Running, Status::Restarting]),
            containers_paused: count(&[Status::Paused]),
            containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead]),
            images: (images.images.len() + images.unreadable.len()) as u64,
            driver: "overlay2".to_owned(),
            driver_status: vec![
                ["Backing Filesystem".to_owned(), self.backing_filesystem()],
                [
                    "Layers".to_owned(),
                    "keyed by diff id, mounted with lowerdir+".to_owned(),
                ],
            ],
            docker_root_dir: self.data.path().display().to_string(),
            memory_limit: can.memory_limit,
            swap_limit: can.swap_limit,
            cpu_cfs_period: can.cpu_cfs_period,
            cpu_cfs_quota: can.cpu_cfs_quota,
            cpu_shares: can.cpu_shares,
            cpu_set: can.cpuset,
            pids_limit: can.pids_limit,
            oom_kill_disable: can.oom_kill_disable,
            blkio_weight: can.blkio_weight,
            logging_driver: "json-file".to_owned(),
            cgroup_driver: layout.driver().to_owned(),
            cgroup_version: layout.version().to_string(),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: os_release("VERSION_ID").unwrap_or_default(),
            os_type: "linux".to_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            ncpu: cpus(),
            mem_total: memory.totalram as u64 * u64::from(memory.mem_unit),
            name: uname.nodename().to_string_lossy().into_owned(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            default_runtime: "barque".to_owned(),
            security_options: vec![
                "name=seccomp,profile=builtin".to_owned(),
                "name=cgroupns".to_owned(),
            ],
            warnings: can
                .warnings(layout.mode())
                .into_iter()
                .map(str::to_owned)
                .collect(),
            cgroup_controllers: controllers(layout)?,
            run_root: self.run.path().display().to_string(),
        })
    }

    /// Versions.
    pub fn version(&self) -> Version {
        version()
    }

    fn backing_filesystem(&self) -> String {
        let magic = rustix::fs::statfs(self.data.path()).map_or(0, |s| s.f_type as u64);
        // linux/magic.h; only those that people keep containers on.
        match magic {
            0xEF53 => "extfs",
            0x5846_5342 => "xfs",
            0x9123_683E => "btrfs",
            0x0102_1994 => "tmpfs",
            0x2FC1_2FC1 => "zfs",
            0xF2F5_2010 => "f2fs",
            0x794C_7630 => "overlayfs",
            _ => return format!("{magic:#x}"),
        }
        .to_owned()
    }
}

/// Versions, without an engine.
pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("BARQUE_GIT_COMMIT")
            .unwrap_or("unknown")
            .to_owned(),
        rust_version: env!("CARGO_PKG_RUST_VERSION").to_owned(),
        os: "linux".to_owned(),
        arch: barque_types::platform::Platform::host().architecture,
        kernel_version: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    }
}

/// The CPUs that processes here may run on. Not `available_parallelism`, which divides by the quota of the
/// caller's own cgroup: containers get groups of their own.
pub(crate) fn cpus() -> u64 {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => u64::from(set.count().max(1)),
        // More than a `cpu_set_t` holds (EINVAL).
        Err(_) => std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
    }
}

fn controllers(layout: &barque_cgroup::Layout) -> Result<Vec<ControllerRow>> {
    let rows = barque_cgroup::controllers(layout)?;
    Ok(rows
        .into_iter()
        .map(|row| ControllerRow {
            subsystem: row.name,
            hierarchy: row.hierarchy,
            num_cgroups: row.num_cgroups,
            enabled: row.enabled,
            version: match row.version {
                Some(1) => "v1",
                Some(_) => "v2",
                None => "-",
            }
            .to_owned(),
        })
        .collect())
}

/// One value of os-release(5).
fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches(['"', '\'']).to_owned())
}
