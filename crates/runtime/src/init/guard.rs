//! Before anything else: the child must neither outlive its parent nor be of use to an attacker.

use crate::error::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};

/// Arms the two guards; again after every change of credentials, which disarms the first
/// (prctl(2), `PR_SET_PDEATHSIG`).
///
/// A parent that died before is not noticed here (`getppid` is 0 in a new pid namespace, dead or
/// alive): the next `receive` on the control socket, whose other end died with it, notices.
///
/// Not dumpable means that `/proc/PID/{exe,fd,root,mem}` of this process, which still runs the
/// host's binary and holds the host's descriptors, is closed to whoever shares its pid namespace
/// without `CAP_SYS_PTRACE` (CVE-2016-9962). A program that makes us execute our own binary, so that
/// it becomes dumpable again, is what [`shield`](crate::shield) is for.
pub(super) fn arm(tied_to_caller: bool) -> Result<()> {
    if tied_to_caller {
        tie()?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "closing itself to tracers")
}

/// The first of the two alone.
pub(super) fn tie() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "asking to die with the parent")
}

/// Takes back that it dies with its parent, for a container that outlives the one who makes it.
pub(super) fn disarm() -> Result<()> {
    set_parent_process_death_signal(None).step(|| "no longer dying with the parent")
}

/// Sets how readily the kernel kills the container for memory (`proc_pid_oom_score_adj(5)`).
///
/// Before `arm`: the files of a process that is not dumpable belong to the host's root, who we may
/// no longer be then. Through the host's `/proc`, which is still the one in sight.
pub(super) fn oom_score(score: Option<i32>, warnings: &mut Vec<String>) {
    let Some(score) = score else { return };
    let written = openat(
        CWD,
        "/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(|fd| rustix::io::write(fd, score.to_string().as_bytes()));
    if let Err(errno) = written {
        // Lowering needs CAP_SYS_RESOURCE, which engines inside of sandboxes do not have.
        warnings.push(format!(
            "oom score adjustment {score} was not set: {}",
            crate::error::errno_text(errno.raw_os_error())
        ));
    }
}
