//! Carrying out the plan: each limit into its file, in whatever order the kernel takes them.

use std::os::fd::AsFd;
use std::path::PathBuf;

use barque_sys::bpf as door;
use barque_types::spec::{DeviceRule, Resources};
use rustix::io::Errno;

use super::{Missing, Place, Places, Write, bpf, devices, warning, whitelist};
use crate::dir::{Dir, put};
use crate::error::{Error, Result};
use crate::layout::read_proc;

pub(super) struct Run<'a> {
    places: &'a dyn Places,
    /// What had to be left out, each once.
    pub(super) warnings: Vec<String>,
}

/// How one write went.
enum Outcome {
    Done,
    /// No candidate file exists.
    Missing,
    /// Refused in a way that may depend on another limit of the same step.
    Later(Error),
}

impl<'a> Run<'a> {
    pub(super) fn new(places: &'a dyn Places) -> Self {
        Self {
            places,
            warnings: Vec::new(),
        }
    }

    fn warn(&mut self, text: &str) {
        if !self.warnings.iter().any(|known| known == text) {
            self.warnings.push(text.to_owned());
        }
    }

    /// Performs the writes of one controller. Limits that constrain each other (memory and memory
    /// plus swap, quota and period) are accepted in one order when raised and in the other when
    /// lowered; instead of reading what is in force, a refused write is tried again after the
    /// others, as long as each round gets further.
    pub(super) fn step(&mut self, controller: &str, writes: Vec<Write>) -> Result<()> {
        let place = self.places.place(controller);
        let mut pending = writes;
        while !pending.is_empty() {
            let before = pending.len();
            let mut later = Vec::new();
            let mut first_error = None;
            for write in pending {
                match perform(place.dir(), &write)? {
                    Outcome::Done => {}
                    Outcome::Missing => self.missing(&place, controller, &write.missing)?,
                    Outcome::Later(error) => {
                        first_error.get_or_insert(error);
                        later.push(write);
                    }
                }
            }
            match first_error {
                Some(error) if later.len() == before => return Err(error),
                _ => pending = later,
            }
        }
        Ok(())
    }

    fn missing(&mut self, place: &Place<'_>, controller: &str, missing: &Missing) -> Result<()> {
        match (place, missing) {
            (_, Missing::Ignore) => {}
            // Not the kernel lacks it: this parent does, and that can be put right.
            (Place::Refused(why), _) => return Err(Error::unsupported(why.clone())),
            (_, Missing::Warn(text)) => self.warn(text),
            (Place::Nowhere, Missing::Fail(limit)) => {
                return Err(Error::unsupported(format!(
                    "{limit}: the cgroup controller {controller} is not mounted or not in this kernel"
                )));
            }
            (_, Missing::Fail(limit)) => {
                return Err(Error::unsupported(format!(
                    "{limit}: not supported by this kernel's cgroup controller {controller}"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn devices(&mut self, rules: &[DeviceRule], fresh: bool) -> Result<()> {
        let rules = devices::normalise(rules)?;
        match self.places.place("devices") {
            Place::V1(dir) => {
                let current = if fresh {
                    None
                } else {
                    Some(dir.text("devices.list")?)
                };
                self.step("devices", whitelist::v1_writes(&rules, current.as_deref())?)
            }
            Place::V2(dir) => {
                if !attach(dir, &rules)? {
                    self.warn(warning::DEVICES_ROOTLESS);
                }
                Ok(())
            }
            Place::Refused(why) => Err(Error::unsupported(why)),
            Place::Nowhere => {
                self.warn(warning::DEVICES);
                Ok(())
            }
        }
    }

    /// `resources.unified`: files of v2, written as they are given.
    pub(super) fn unified(&self, resources: &Resources) -> Result<()> {
        for (file, value) in &resources.unified {
            let Some(dir) = self.places.unified() else {
                return Err(Error::unsupported(format!(
                    "unified limit {file}: this machine has no cgroup v2 hierarchy"
                )));
            };
            let known_form = file.contains('.') && !file.contains('/') && !file.starts_with('.');
            // `cgroup.procs` and its like are not limits; they are ours to write.
            if !known_form || file.starts_with("cgroup.") && !file.starts_with("cgroup.max.") {
                return Err(Error::unsupported(format!(
                    "unified limit {file:?} is not the name of a limit of cgroup v2"
                )));
            }
            for line in value.lines().filter(|line| !line.trim().is_empty()) {
                match dir.write(file, line) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => return Err(self.no_unified_file(dir, file)),
                    Err(errno) => return Err(rejected(dir.path().join(file), line, errno)),
                }
            }
        }
        Ok(())
    }

    fn no_unified_file(&self, dir: &Dir, file: &str) -> Error {
        let controller = file.split('.').next().unwrap_or(file);
        let why = match self.places.place(controller) {
            Place::Refused(why) => why,
            _ => format!(
                "{} has no such file: the controller {controller} is not on v2 here, or this kernel lacks the limit",
                dir.path().display()
            ),
        };
        Error::unsupported(format!("unified limit {file}: {why}"))
    }
}

/// Compiles the rules and makes the program the group's only one; false when a user may not.
///
/// Without root on the host there is no device to be had that the user has not already: mknod(2) is
/// not allowed, and what is bound in from the host keeps its permissions. So, as with runc and crun,
/// the rules that every configuration has do not fail a user's container.
fn attach(dir: &Dir, rules: &[devices::Rule]) -> Result<bool> {
    let program = bpf::compile(rules);
    let fd = match door::load_cgroup_device(&program, "barque_devices") {
        Ok(fd) => fd,
        Err(error) if error.errno == Errno::PERM && !is_host_root() => return Ok(false),
        Err(error) => {
            return Err(Error::unsupported(format!(
                "device rules of {}: the kernel did not load the BPF program: {error}",
                dir.path().display()
            )));
        }
    };
    door::set_cgroup_device(dir.as_fd(), fd.as_fd())
        .map_err(|source| Error::io("attach the device program to", dir.path(), source))?;
    Ok(true)
}

/// Root, and not of a user namespace: the first one maps all 2^32-1 ids to themselves.
fn is_host_root() -> bool {
    let map = read_proc("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    rustix::process::geteuid().is_root() && words == ["0", "0", "4294967295"]
}

fn perform(dir: Option<&Dir>, write: &Write) -> Result<Outcome> {
    let Some(dir) = dir else {
        return Ok(Outcome::Missing);
    };
    for (file, lines) in &write.candidates {
        let fd = match dir.writer(file) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(source) => return Err(Error::io("open", dir.path().join(file), source)),
        };
        for line in lines {
            match put(fd.as_fd(), line) {
                Ok(()) => {}
                Err(errno) if not_supported(errno) => return Ok(Outcome::Missing),
                Err(errno @ (Errno::INVAL | Errno::BUSY | Errno::NOSPC)) => {
                    return Ok(Outcome::Later(rejected(dir.path().join(file), line, errno)));
                }
                Err(errno) => return Err(rejected(dir.path().join(file), line, errno)),
            }
        }
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Missing)
}

/// EOPNOTSUPP, or the kernel's internal ENOTSUPP (524) that some cgroup files let out.
fn not_supported(errno: Errno) -> bool {
    errno == Errno::OPNOTSUPP || errno.raw_os_error() == 524
}

fn rejected(file: PathBuf, value: &str, source: Errno) -> Error {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let hint = match (name, source) {
        ("memory.limit_in_bytes", Errno::BUSY) => {
            "; the group uses more than that and it cannot be reclaimed"
        }
        ("memory.limit_in_bytes", Errno::INVAL) => {
            "; the memory limit cannot be above memory plus swap: raise that too"
        }
        ("memory.memsw.limit_in_bytes", Errno::INVAL) => {
            "; memory plus swap cannot be below the memory limit"
        }
        ("cpu.rt_runtime_us", Errno::INVAL) => {
            "; the parent group must have real-time runtime to give (its cpu.rt_runtime_us)"
        }
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max", Errno::INVAL) => {
            "; the period is 1000 to 1000000 us, the quota at least 1000 us and, on v1, not above the parent's"
        }
        ("cpu.cfs_burst_us" | "cpu.max.burst", Errno::INVAL) => {
            "; the burst cannot be above the quota"
        }
        ("cpu.shares" | "cpu.weight", Errno::INVAL) => "; an idle group has no weight",
        ("cpuset.cpus" | "cpuset.mems", _) => {
            "; only processors and memory nodes that exist and that the parent group has can be given"
        }
        ("devices.allow", Errno::PERM) => {
            "; the parent group does not have this access, so it cannot be given"
        }
        ("io.max", Errno::NODEV) => {
            "; there is no such block device (a partition cannot be limited, its disk can)"
        }
        (name, Errno::NODEV) if name.starts_with("blkio.") => {
            "; there is no such block device (a partition cannot be limited, its disk can)"
        }
        ("net_prio.ifpriomap", Errno::NODEV) => "; there is no such interface",
        _ => "",
    };
    Error::Rejected {
        file,
        value: value.to_owned(),
        hint: hint.to_owned(),
        source,
    }
}
