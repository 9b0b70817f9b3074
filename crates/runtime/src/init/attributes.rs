//! Scheduling, I/O and memory policy and execution domain of the program.

use crate::error::{Context, Error, Result};
use crate::plan::Attributes;
use barque_sys::scheduling;
use rustix::io::Errno;

/// Undoes what a cgroup leaves behind: up to 6.1 entering a cpuset overwrote the affinity, and a
/// caller that is bound to some CPUs would bind its containers for ever. All CPUs are asked for, and
/// the kernel gives those of the cpuset.
///
/// Best effort: a sandbox may deny the call, and then the affinity is what the kernel made it.
pub(super) fn reset_affinity() {
    let _ = scheduling::set_affinity(0, &[u64::MAX; 8192 / 64]);
}

/// The CPUs of an exec session, once it is in the container's cgroups.
pub(super) fn final_affinity(plan: &Attributes) -> Result<()> {
    let Some(mask) = &plan.affinity.final_ else {
        // "If omitted, the container's default affinity is used" (config.md, execCPUAffinity).
        reset_affinity();
        return Ok(());
    };
    scheduling::set_affinity(0, mask).map_err(|e| affinity_failed("final", e))
}

/// What `process.execCPUAffinity` asks for and cannot be had.
pub(crate) fn affinity_failed(member: &str, errno: Errno) -> Error {
    let error = Error::step(format!("setting process.execCPUAffinity.{member}"), errno);
    match errno {
        Errno::INVAL => error.with_hint("none of these CPUs exists or may be used"),
        _ => error,
    }
}

/// Takes them on, while the privilege to is there.
pub(super) fn take_on(plan: &Attributes) -> Result<()> {
    if let Some(scheduler) = plan.scheduler {
        scheduling::set_scheduler(0, scheduler).map_err(scheduler_failed)?;
    }
    if let Some((class, level)) = plan.io_priority {
        scheduling::set_io_priority(class, level).map_err(|e| {
            let error = Error::step("setting process.ioPriority", e);
            match e {
                Errno::PERM => {
                    error.with_hint("the real-time class needs CAP_SYS_NICE on the host")
                }
                _ => error,
            }
        })?;
    }
    if let Some((mode, nodes)) = &plan.memory_policy {
        scheduling::set_memory_policy(*mode, nodes).map_err(memory_policy_failed)?;
    }
    if let Some(domain) = plan.personality {
        scheduling::set_personality(domain).step(|| "setting linux.personality")?;
    }
    Ok(())
}

fn scheduler_failed(errno: Errno) -> Error {
    let error = Error::step("setting process.scheduler", errno);
    match errno {
        Errno::PERM => error.with_hint(
            "it needs CAP_SYS_NICE on the host, which a container with a user namespace has not; \
             a real-time policy needs run time in a v1 cpu cgroup too; SCHED_DEADLINE needs all \
             CPUs of its root domain",
        ),
        Errno::INVAL => error.with_hint("the kernel refuses this policy with these parameters"),
        Errno::BUSY => error.with_hint("the bandwidth for SCHED_DEADLINE is used up"),
        _ => error,
    }
}

fn memory_policy_failed(errno: Errno) -> Error {
    let error = Error::step("setting linux.memoryPolicy", errno);
    match errno {
        Errno::NOSYS => error.with_hint("this kernel has no NUMA support"),
        Errno::INVAL => error.with_hint(
            "the mode needs nodes, or takes none, or none of them is online and in cpuset.mems; \
             or this kernel does not know the mode",
        ),
        _ => error,
    }
}
