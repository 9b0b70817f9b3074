//! How the kernel is to treat the process: scheduling, CPUs, I/O and memory policy, execution
//! domain, security labels; names and lists of the specification turned into the kernel's numbers.

use crate::error::{Error, Result};
use barque_sys::scheduling::SchedAttr;
use barque_types::spec;
use std::ffi::CString;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// `process.scheduler`.
    pub scheduler: Option<SchedAttr>,
    /// `process.ioPriority`: class and level.
    pub io_priority: Option<(u8, u8)>,
    /// `process.execCPUAffinity`, for an exec session only.
    pub affinity: Affinity,
    /// `linux.memoryPolicy`: mode with flags, nodes.
    pub memory_policy: Option<(u32, Vec<u64>)>,
    /// `linux.personality`.
    pub personality: Option<u32>,
    /// `process.apparmorProfile`, absent when empty.
    pub apparmor: Option<CString>,
    /// `process.selinuxLabel`, absent when empty.
    pub selinux: Option<CString>,
}

/// CPUs of an exec session, before and after it enters the container's cgroups.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub initial: Option<Vec<u64>>,
    pub final_: Option<Vec<u64>>,
}

impl Attributes {
    /// Parses the members of `process`.
    pub fn new(process: &spec::Process) -> Result<Self> {
        let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
        Ok(Self {
            scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            affinity: Affinity {
                initial: cpus("process.execCPUAffinity.initial", affinity.initial)?,
                final_: cpus("process.execCPUAffinity.final", affinity.final_)?,
            },
            memory_policy: None,
            personality: None,
            apparmor: label("process.apparmorProfile", process.apparmor_profile.as_ref())?,
            selinux: label("process.selinuxLabel", process.selinux_label.as_ref())?,
        })
    }

    /// Adds what the whole container has in common.
    pub fn of_container(
        &mut self,
        personality: Option<&spec::Personality>,
        memory_policy: Option<&spec::MemoryPolicy>,
    ) -> Result<()> {
        self.personality = personality.map(domain).transpose()?;
        self.memory_policy = memory_policy.map(policy).transpose()?;
        Ok(())
    }
}

fn label(what: &str, value: Option<&String>) -> Result<Option<CString>> {
    let value = value.filter(|v| !v.is_empty()).map(String::as_str);
    value
        .map(|v| CString::new(v).map_err(|_| Error::invalid(what, "contains a NUL byte")))
        .transpose()
}

/// The value of a name in a table.
fn named<T: Copy>(what: &str, name: &str, table: &[(&str, T)]) -> Result<T> {
    table
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, v)| *v)
        .ok_or_else(|| {
            let known: Vec<&str> = table.iter().map(|(n, _)| *n).collect();
            let known = known.join(", ");
            Error::invalid(what, format!("{name:?} is not one of {known}"))
        })
}

/// `linux/sched.h`.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    // Reserved by the kernel, which refuses it; the specification lists it.
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const SCHED_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// With the contradictions that the kernel would ignore in silence refused, as runc does.
fn scheduler(s: &spec::Scheduler) -> Result<SchedAttr> {
    const WHAT: &str = "process.scheduler";
    let policy = named("process.scheduler.policy", &s.policy, &POLICIES)?;
    let mut flags = 0;
    for flag in &s.flags {
        flags |= named("process.scheduler.flags", flag, &SCHED_FLAGS)?;
    }
    if !(-20..=19).contains(&s.nice) {
        return Err(Error::invalid(
            "process.scheduler.nice",
            format!("{} is not between -20 and 19", s.nice),
        ));
    }
    let real_time = matches!(s.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if s.priority != 0 && !real_time {
        return Err(Error::invalid(
            "process.scheduler.priority",
            "goes only with SCHED_FIFO and SCHED_RR",
        ));
    }
    if (s.runtime, s.deadline, s.period) != (0, 0, 0) && s.policy != "SCHED_DEADLINE" {
        return Err(Error::invalid(
            WHAT,
            "runtime, deadline and period go only with SCHED_DEADLINE",
        ));
    }
    let priority = u32::try_from(s.priority).map_err(|_| {
        Error::invalid(
            "process.scheduler.priority",
            format!("{} is negative", s.priority),
        )
    })?;
    Ok(SchedAttr {
        policy,
        flags,
        nice: s.nice,
        priority,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
    })
}

/// `linux/ioprio.h`.
const IO_CLASSES: [(&str, u8); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

fn io_priority(p: &spec::IoPriority) -> Result<(u8, u8)> {
    let class = named("process.ioPriority.class", &p.class, &IO_CLASSES)?;
    match u8::try_from(p.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(Error::invalid(
            "process.ioPriority.priority",
            format!("{} is not between 0 and 7", p.priority),
        )),
    }
}

/// `linux/mempolicy.h`.
const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const MEMORY_FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

fn policy(p: &spec::MemoryPolicy) -> Result<(u32, Vec<u64>)> {
    let mut mode = named("linux.memoryPolicy.mode", &p.mode, &MEMORY_MODES)?;
    for flag in &p.flags {
        mode |= named("linux.memoryPolicy.flags", flag, &MEMORY_FLAGS)?;
    }
    let nodes = match p.nodes.trim() {
        "" => Vec::new(),
        list => bits("linux.memoryPolicy.nodes", list, MAX_NODE)?,
    };
    Ok((mode, nodes))
}

/// Flags (`ADDR_NO_RANDOMIZE` and such) are reserved by the specification, and runc refuses them.
fn domain(p: &spec::Personality) -> Result<u32> {
    if !p.flags.is_empty() {
        return Err(Error::invalid(
            "linux.personality.flags",
            "are not supported",
        ));
    }
    named(
        "linux.personality.domain",
        &p.domain,
        &[("LINUX", 0x0000), ("LINUX32", 0x0008)],
    )
}

/// The largest configuration of the kernel (`NR_CPUS` with `MAXSMP`).
const MAX_CPU: u32 = 8191;
/// `MAX_NUMNODES` with the largest `NODES_SHIFT`.
const MAX_NODE: u32 = 1023;

fn cpus(what: &str, list: Option<String>) -> Result<Option<Vec<u64>>> {
    match list.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some(list) => bits(what, list, MAX_CPU).map(Some),
    }
}

/// A list in the form of cpuset(7), `0-3,7`, as a bit mask.
fn bits(what: &str, list: &str, max: u32) -> Result<Vec<u64>> {
    let wrong = |part: &str| {
        let why = format!("{part:?} in {list:?} is not a number or a range up to {max}");
        Error::invalid(what, why)
    };
    let mut mask = Vec::new();
    for part in list.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.trim().parse::<u32>().map_err(|_| wrong(part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > max {
            return Err(wrong(part));
        }
        for bit in first..=last {
            let word = bit as usize / 64;
            if mask.len() <= word {
                mask.resize(word + 1, 0u64);
            }
            mask[word] |= 1 << (bit % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        let of = |list| bits("x", list, 1023);
        assert_eq!(of("0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(of(" 64 , 1 ").unwrap(), [2, 1]);
        for wrong in ["", "a", "3-1", "1024", "1,,2", "-1", "0-"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn contradictions_of_the_scheduler() {
        let of = |policy: &str, change: fn(&mut spec::Scheduler)| {
            let mut s = spec::Scheduler {
                policy: policy.into(),
                ..spec::Scheduler::default()
            };
            change(&mut s);
            scheduler(&s).map_err(|e| e.to_string())
        };
        assert_eq!(of("SCHED_RR", |s| s.priority = 5).unwrap().priority, 5);
        assert_eq!(of("SCHED_BATCH", |s| s.nice = -20).unwrap().nice, -20);
        let e = of("SCHED_BATCH", |s| s.priority = 5).unwrap_err();
        assert!(e.contains("SCHED_FIFO and SCHED_RR"), "{e}");
        assert!(of("SCHED_FIFO", |s| s.priority = -5).is_err());
        assert!(of("SCHED_OTHER", |s| s.period = 5).is_err());
        assert!(of("SCHED_OTHER", |s| s.nice = 20).is_err());
        let e = of("", |_| {}).unwrap_err();
        assert!(e.starts_with("process.scheduler.policy: \"\" is not one of SCHED_OTHER"));
        assert!(of("SCHED_OTHER", |s| s.flags = vec!["SCHED_FLAG_X".into()]).is_err());
    }

    #[test]
    fn memory_policies_and_domains() {
        let p = spec::MemoryPolicy {
            mode: "MPOL_INTERLEAVE".into(),
            nodes: "0,2".into(),
            flags: vec!["MPOL_F_STATIC_NODES".into()],
        };
        assert_eq!(policy(&p).unwrap(), (0x8003, vec![5]));
        let per = |domain_: &str, flags: &[&str]| {
            domain(&spec::Personality {
                domain: domain_.into(),
                flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            })
        };
        assert_eq!(per("LINUX32", &[]).unwrap(), 8);
        assert!(per("LINUX", &["ADDR_NO_RANDOMIZE"]).is_err());
        assert!(per("BSD", &[]).is_err());
    }
}
