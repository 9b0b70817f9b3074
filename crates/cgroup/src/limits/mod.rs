//! From one typed [`Resources`] to file writes: first a plan, which is data and pure, then its
//! execution.
//!
//! [`v1`] and [`v2`] say what is written for one controller; which of the two speaks is decided
//! per controller, because on a hybrid machine memory may be on v1 and huge pages on v2.

mod bpf;
mod devices;
mod run;
mod v1;
mod v2;
pub(crate) mod warning;
mod whitelist;

pub(crate) use v2::{io_weight_of, swap_max, weight_of};
pub(crate) use whitelist::whitelist;

use barque_types::spec::{CpuLimits, MemoryLimits, Resources};

use crate::dir::Dir;
use crate::error::{Error, Result};

use run::Run;

/// What to do when the kernel does not have the file (or the controller is not mounted).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Missing {
    /// Go on without this limit and say so, in Docker's words.
    Warn(&'static str),
    /// Nobody needs to know: the kernel is as if it had been written.
    Ignore,
    /// Fail: what was asked for must not be dropped silently. The text names the limit.
    Fail(String),
}

/// One limit: the first of the candidate files that exists gets each of its lines by one write(2).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    candidates: Vec<(String, Vec<String>)>,
    missing: Missing,
}

impl Write {
    fn one(file: &str, value: impl ToString, missing: Missing) -> Self {
        Self::lines(file, vec![value.to_string()], missing)
    }

    fn lines(file: &str, lines: Vec<String>, missing: Missing) -> Self {
        Self {
            candidates: vec![(file.to_owned(), lines)],
            missing,
        }
    }

    /// A limit that no kernel of this cgroup version has.
    fn nowhere(missing: Missing) -> Self {
        Self {
            candidates: Vec::new(),
            missing,
        }
    }

    fn or(mut self, file: &str, value: impl ToString) -> Self {
        self.candidates
            .push((file.to_owned(), vec![value.to_string()]));
        self
    }
}

/// Where one controller's limits are written.
pub(crate) enum Place<'a> {
    /// A group of a v1 hierarchy.
    V1(&'a Dir),
    /// A group of the v2 hierarchy that has the controller.
    V2(&'a Dir),
    /// The controller exists on v2, but could not be enabled for this group: why.
    Refused(String),
    /// The controller is nowhere on this machine.
    Nowhere,
}

impl<'a> Place<'a> {
    pub(crate) fn dir(&self) -> Option<&'a Dir> {
        match self {
            Self::V1(dir) | Self::V2(dir) => Some(dir),
            Self::Refused(_) | Self::Nowhere => None,
        }
    }

    fn is_v2(&self) -> bool {
        matches!(self, Self::V2(_) | Self::Refused(_))
    }
}

/// What [`apply`] needs to know of a group: where each controller's files are.
pub(crate) trait Places {
    /// Where `controller` (v1 name; `devices` included) is to be had.
    fn place(&self, controller: &str) -> Place<'_>;
    /// The group in the v2 hierarchy.
    fn unified(&self) -> Option<&Dir>;
}

/// Applies every limit that is set in `resources`; `fresh` says that the group was just made and
/// has the kernel's defaults. Returns what had to be left out, in Docker's words.
pub(crate) fn apply(
    places: &dyn Places,
    resources: &Resources,
    fresh: bool,
) -> Result<Vec<String>> {
    let mut run = Run::new(places);
    if let Some(memory) = &resources.memory {
        let place = places.place("memory");
        check_usage(&place, memory)?;
        run.step("memory", memory_writes(&place, memory, fresh)?)?;
    }
    if let Some(cpu) = &resources.cpu {
        run.step("cpu", cpu_writes(&places.place("cpu"), cpu, fresh)?)?;
        // The same two files, with the same meaning, in both versions.
        run.step("cpuset", cpuset(cpu.cpus.as_deref(), cpu.mems.as_deref()))?;
    }
    if let Some(pids) = &resources.pids {
        run.step("pids", pids_max(pids.limit))?;
    }
    if let Some(io) = &resources.block_io {
        let v2 = places.place("blkio").is_v2();
        run.step("blkio", if v2 { v2::io(io) } else { v1::blkio(io) })?;
    }
    if !resources.hugepage_limits.is_empty() {
        let v2 = places.place("hugetlb").is_v2();
        let writes = if v2 { v2::hugetlb } else { v1::hugetlb };
        run.step("hugetlb", writes(&resources.hugepage_limits)?)?;
    }
    if let Some(network) = &resources.network {
        // v2 has no such controllers: there a BPF program or the packet filter marks traffic.
        run.step("net_cls", v1::net_cls(network))?;
        run.step("net_prio", v1::net_prio(network))?;
    }
    if !resources.rdma.is_empty() {
        run.step("rdma", rdma(resources))?;
    }
    if !resources.devices.is_empty() {
        run.devices(&resources.devices, fresh)?;
    }
    run.unified(resources)?;
    Ok(run.warnings)
}

fn memory_writes(place: &Place<'_>, memory: &MemoryLimits, fresh: bool) -> Result<Vec<Write>> {
    if place.is_v2() {
        v2::memory(memory, current_memory_limit(place, memory, fresh)?)
    } else {
        v1::memory(memory, fresh)
    }
}

fn cpu_writes(place: &Place<'_>, cpu: &CpuLimits, fresh: bool) -> Result<Vec<Write>> {
    let mut cpu = cpu.clone();
    // The kernel takes no weight for a group that is idle (sched_group_set_shares). One that stays
    // idle has no use for it; one that ends to be idle gets it in the second round.
    if cpu.idle == Some(1) && !fresh && is_idle(place) {
        cpu.shares = None;
    }
    let cpu = &cpu;
    if !place.is_v2() {
        return Ok(v1::cpu(cpu));
    }
    let quota_stays = cpu.quota.unwrap_or(0) == 0 && cpu.period.unwrap_or(0) != 0 && !fresh;
    let current = if quota_stays {
        current_quota(place)?
    } else {
        None
    };
    Ok(v2::cpu(cpu, current.as_deref()))
}

/// `pids.max` is the same in both versions. 0 is "no limit", as Docker's `--pids-limit 0` says; a
/// group that may hold no process at all could never be started.
fn pids_max(limit: i64) -> Vec<Write> {
    let value = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    vec![Write::one("pids.max", value, Missing::Warn(warning::PIDS))]
}

fn cpuset(cpus: Option<&str>, mems: Option<&str>) -> Vec<Write> {
    [("cpuset.cpus", cpus), ("cpuset.mems", mems)]
        .into_iter()
        .filter_map(|(file, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(Write::one(file, value, Missing::Warn(warning::CPUSET)))
        })
        .collect()
}

/// `rdma.max` is the same in both versions.
fn rdma(resources: &Resources) -> Vec<Write> {
    let lines = resources
        .rdma
        .iter()
        .map(|(device, limit)| {
            let mut line = device.clone();
            for (key, value) in [
                ("hca_handle", limit.hca_handles),
                ("hca_object", limit.hca_objects),
            ] {
                if let Some(value) = value {
                    line.push_str(&format!(" {key}={value}"));
                }
            }
            line
        })
        .collect();
    vec![Write::lines(
        "rdma.max",
        lines,
        Missing::Fail("the rdma limits".to_owned()),
    )]
}

/// `memory.checkBeforeUpdate`: on v2 a limit below the use would kill at once.
fn check_usage(place: &Place<'_>, memory: &MemoryLimits) -> Result<()> {
    let (Some(true), Some(limit), Some(dir)) =
        (memory.check_before_update, memory.limit, place.dir())
    else {
        return Ok(());
    };
    let file = if place.is_v2() {
        "memory.current"
    } else {
        "memory.usage_in_bytes"
    };
    let usage = dir.number(file).unwrap_or_default().unwrap_or(0);
    if limit > 0 && usage > limit.unsigned_abs() {
        return Err(Error::unsupported(format!(
            "memory limit {limit} is below the {usage} bytes that {} uses now",
            dir.path().display()
        )));
    }
    Ok(())
}

/// [`check_usage`] for an update that changes something else first.
pub(crate) fn check_memory(places: &dyn Places, resources: &Resources) -> Result<()> {
    match &resources.memory {
        Some(memory) => check_usage(&places.place("memory"), memory),
        None => Ok(()),
    }
}

/// The memory limit of a v2 group; `None` is unlimited, or not v2.
pub(crate) fn memory_in_force(place: &Place<'_>) -> Result<Option<i64>> {
    match place {
        Place::V2(dir) => dir
            .number("memory.max")
            .map(|limit| limit.and_then(|limit| i64::try_from(limit).ok()))
            .map_err(|source| Error::io("read", dir.path().join("memory.max"), source)),
        _ => Ok(None),
    }
}

/// The CPU quota of a group, -1 for none.
pub(crate) fn quota_in_force(place: &Place<'_>) -> Result<Option<i64>> {
    let text = match place {
        Place::V1(dir) => Some(dir.text("cpu.cfs_quota_us")?),
        _ => current_quota(place)?,
    };
    Ok(text.map(|text| text.trim().parse().unwrap_or(-1)))
}

/// v2's swap limit is without memory: an update of memory-plus-swap alone needs the limit in force.
fn current_memory_limit(
    place: &Place<'_>,
    memory: &MemoryLimits,
    fresh: bool,
) -> Result<Option<i64>> {
    let wanted = memory.swap.unwrap_or(0) > 0 && memory.limit.unwrap_or(0) == 0;
    if wanted && !fresh {
        memory_in_force(place)
    } else {
        Ok(None)
    }
}

fn is_idle(place: &Place<'_>) -> bool {
    place
        .dir()
        .and_then(|dir| dir.read("cpu.idle").ok())
        .is_some_and(|text| text.trim() == "1")
}

/// The quota part of v2's `cpu.max`, which a new period must be written together with.
fn current_quota(place: &Place<'_>) -> Result<Option<String>> {
    match place {
        Place::V2(dir) => {
            let text = dir.text("cpu.max")?;
            Ok(text.split_ascii_whitespace().next().map(str::to_owned))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Empty;

    impl Places for Empty {
        fn place(&self, _: &str) -> Place<'_> {
            Place::Nowhere
        }
        fn unified(&self) -> Option<&Dir> {
            None
        }
    }

    #[test]
    fn without_controllers_soft_limits_warn_once() {
        let resources: Resources = from_json(
            r#"{"memory":{"limit":1000000,"swap":2000000},"cpu":{"quota":5,"period":6,"cpus":"0","mems":"0"},"pids":{"limit":3}}"#,
        );
        let warnings = apply(&Empty, &resources, true).unwrap();
        assert_eq!(
            warnings,
            [
                warning::MEMORY,
                warning::SWAP,
                warning::CFS,
                warning::CPUSET,
                warning::PIDS
            ]
        );
    }

    #[test]
    fn without_controllers_hard_limits_fail() {
        for json in [
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
            r#"{"cpu":{"realtimeRuntime":1}}"#,
            r#"{"unified":{"memory.max":"1"}}"#,
        ] {
            let result = apply(&Empty, &from_json(json), true);
            assert!(
                matches!(result, Err(Error::Unsupported { .. })),
                "{json}: {result:?}"
            );
        }
    }

    #[test]
    fn pids_zero_is_no_limit() {
        assert_eq!(pids_max(0)[0].candidates[0].1, ["max"]);
        assert_eq!(pids_max(-1)[0].candidates[0].1, ["max"]);
        assert_eq!(pids_max(7)[0].candidates[0].1, ["7"]);
    }

    #[test]
    fn rdma_lines() {
        let resources = from_json(
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"x":{"hcaObjects":1}}}"#,
        );
        assert_eq!(
            rdma(&resources)[0].candidates[0].1,
            ["mlx5_1 hca_handle=3 hca_object=10", "x hca_object=1"]
        );
    }

    pub(super) fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }
}
