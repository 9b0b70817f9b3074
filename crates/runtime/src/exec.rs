//! One more process in a running container.
//!
//! A pid namespace is only entered by being born in it, so the work is split over two children:
//! the first enters the container's namespaces and makes the second, as its own sibling
//! (`CLONE_PARENT`), so that the caller is the parent and can wait for it. The first is never
//! visible inside the container; the second is born there and never saw the host's file system.

use crate::agent::Agent;
use crate::channel::{self, FromChild, Socket};
use crate::create::{Child, Running};
use crate::error::{Context, Error, Result};
use crate::init::{self, Session, affinity_failed};
use crate::labels::Labels;
use crate::namespaces::file_of;
use crate::options::{ExecOptions, Stdio};
use crate::plan::{ProcessPlan, kind_bits};
use barque_sys::process::{CloneArgs, Namespaces, clone_process, reap, setns};
use barque_sys::scheduling::{affinity, set_affinity};
use barque_types::spec::NamespaceKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Runs a process in the namespaces of a running container; returns when its program is executed.
///
/// The caller must be single-threaded; the process is its child. The container's mounts and
/// devices are as they are; user, capabilities, limits and filter are those of the request.
pub fn exec(options: ExecOptions<'_>) -> Result<Running> {
    let terminal = matches!(options.stdio, Stdio::Terminal);
    let mut plan = ProcessPlan::new(options.process, &options.user, options.seccomp, terminal)?;
    plan.attributes
        .of_container(options.personality, options.memory_policy)?;
    let labels = Labels::prepare(&plan.attributes)?;
    let target = Target::of(&options)?;
    let (ours, theirs) = channel::pair()?;
    let mut keep: Vec<BorrowedFd<'_>> = vec![theirs.as_fd(), options.pidfd];
    keep.extend(&options.cgroup.v1_tasks);
    keep.extend(&options.preserve);
    keep.extend(labels.as_ref().map(AsFd::as_fd));
    if let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = options.stdio
    {
        keep.extend([stdin, stdout, stderr]);
    }
    let args = CloneArgs {
        into_cgroup: options.cgroup.v2,
        ..CloneArgs::default()
    };
    let bound = Bound::to(plan.attributes.affinity.initial.as_deref())?;
    let guide = clone_process(args, &keep, || {
        let session = Session {
            id: options.id,
            plan: &plan,
            socket: &theirs,
            stdio: options.stdio,
            new_user_namespace: target.namespaces.contains(Namespaces::USER),
            tied_to_caller: options.tied_to_caller,
            preserve: &options.preserve,
            labels: labels.as_ref(),
        };
        init::guide(&session, options.pidfd, target.namespaces, &options.cgroup)
    })
    .step(|| "making the process that enters the container");
    drop(bound);
    let guide = guide?;
    drop(theirs);
    let outcome = await_execution(&ours, options.agent.as_ref());
    // It ends by itself in every case; only an unreaped zombie would stay.
    let _ = reap(guide.pidfd.as_fd());
    outcome
}

/// While it lives, the caller runs on the CPUs of `execCPUAffinity.initial`: its child inherits them,
/// and enters the container's cgroups (a v2 one by its very birth) from there.
struct Bound {
    before: Option<Vec<u64>>,
}

impl Bound {
    fn to(mask: Option<&[u64]>) -> Result<Self> {
        let Some(mask) = mask else {
            return Ok(Self { before: None });
        };
        let before = affinity(0).step(|| "asking for our own CPUs")?;
        set_affinity(0, mask).map_err(|e| affinity_failed("initial", e))?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // They were ours a moment ago; CPUs that were unplugged since are left out.
            let _ = set_affinity(0, before);
        }
    }
}

/// What is to be entered.
struct Target {
    namespaces: Namespaces,
}

impl Target {
    fn of(options: &ExecOptions<'_>) -> Result<Self> {
        // Only those that differ from ours: one's own user namespace cannot be entered again (setns(2)),
        // kernels without time namespaces refuse their flag, and an unprivileged caller has no right to
        // enter what the container shares with the host.
        let mut namespaces = Namespaces::NONE;
        for kind in [
            NamespaceKind::Mount,
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Cgroup,
            NamespaceKind::User,
            NamespaceKind::Time,
        ] {
            if differs(options.pid, file_of(kind))? {
                namespaces |= kind_bits(kind);
            }
        }
        // What was read above belongs to the target only if it is still alive now.
        if ended(options.pidfd) {
            return Err(Error::Gone { pid: options.pid });
        }
        Ok(Self { namespaces })
    }
}

fn differs(pid: i32, file: &str) -> Result<bool> {
    let theirs = format!("/proc/{pid}/ns/{file}");
    let ours = format!("/proc/self/ns/{file}");
    let (theirs, ours) = match (
        statat(CWD, &theirs, AtFlags::empty()),
        statat(CWD, &ours, AtFlags::empty()),
    ) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        // This kernel has no such namespaces.
        (_, Err(Errno::NOENT)) => return Ok(false),
        (Err(Errno::NOENT | Errno::SRCH), _) => return Err(Error::Gone { pid }),
        (Err(e), _) | (_, Err(e)) => {
            return Err(Error::step(
                format!("looking at the {file} namespace of process {pid}"),
                e,
            ));
        }
    };
    Ok((theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino))
}

/// Whether the process of a pidfd has ended (it may still be a zombie).
pub(crate) fn ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

/// Collects what the two children say until the program is executed or something has failed.
fn await_execution(socket: &Socket, agent: Option<&Agent>) -> Result<Running> {
    let mut child: Option<Child> = None;
    // The two children speak independently: one may ask before the other has said who it is.
    let mut asks = false;
    let mut console = None;
    let mut ready = None;
    let mut failed = None;
    loop {
        match socket.receive::<FromChild>()? {
            Some((FromChild::Sibling { pid }, Some(pidfd))) => {
                child = Some(barque_sys::process::Cloned { pid, pidfd }.into());
            }
            Some((FromChild::Listener, _)) => asks = true,
            Some((FromChild::Console, master)) => console = master,
            Some((FromChild::Ready { warnings }, _)) => ready = Some(warnings),
            // Not the last word: the process may have failed before its guide could introduce it, and it is ours to
            // reap. Unreaped, it would keep the container's pid namespace alive for as long as we live.
            Some((FromChild::Failed(error), _)) => failed = Some(error),
            Some((
                FromChild::Sibling { .. }
                | FromChild::Mounted
                | FromChild::Service { .. }
                | FromChild::Furnished,
                _,
            )) => {
                return Err(Error::invalid(
                    "control socket",
                    "a process without its pidfd",
                ));
            }
            None => break,
        }
        if let (true, Some(child)) = (asks, &child) {
            asks = false;
            let pidfd = child.duplicate()?;
            // Without an agent it is given up: what it waits for will not come.
            let agent = agent.ok_or(Error::Gone { pid: child.pid })?;
            agent.serve(socket, child.pid, pidfd.as_fd())?;
        }
    }
    if let Some(error) = failed {
        if let Some(mut child) = child {
            child.end();
        }
        return Err(error);
    }
    match (child, ready) {
        (Some(child), Some(warnings)) => Ok(Running {
            pid: child.pid,
            pidfd: child.release()?,
            console,
            warnings,
            rootfs: None,
        }),
        (child, _) => Err(Error::Died {
            doing: "entering the container".to_owned(),
            how: child.map_or_else(|| "without a word".to_owned(), |mut c| c.end()),
        }),
    }
}

/// A pidfd for a pid, for callers that only have the number and know by its start time that it
/// still is the right process.
pub fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    let gone = Error::Gone { pid };
    let Some(raw) = rustix::process::Pid::from_raw(pid) else {
        return Err(gone);
    };
    match rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) {
        Err(Errno::SRCH) => Err(gone),
        other => other.step(|| format!("opening process {pid}")),
    }
}

/// Enters the namespaces of the process that a pidfd refers to (5.8).
pub(crate) fn enter(pidfd: BorrowedFd<'_>, namespaces: Namespaces) -> Result<()> {
    setns(pidfd, namespaces).map_err(|e| {
        let error = Error::step("entering the container's namespaces", e);
        match e {
            Errno::SRCH => error.with_hint("the container has just ended"),
            _ => error,
        }
    })
}

/// Opens a namespace file of a process, for [`CreateOptions::join`](crate::CreateOptions::join).
pub fn open_namespace(pid: i32, kind: NamespaceKind) -> Result<OwnedFd> {
    let file = file_of(kind);
    let path = format!("/proc/{pid}/ns/{file}");
    match openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::SRCH) => Err(Error::Gone { pid }),
        other => other.step(|| format!("opening {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::zombie_processes)] // that it is waited for is what is tested
    fn a_process_that_fails_before_it_is_introduced_is_reaped() {
        let child = std::process::Command::new("/bin/false")
            .spawn()
            .expect("spawn");
        let pid = child.id() as i32;
        let pidfd = open_pidfd(pid).expect("a pidfd");
        let (theirs, ours) = channel::pair().expect("socketpair");
        let error = Error::invalid("process.args", "no command is given");
        theirs
            .send(&FromChild::Failed(error.clone()), None)
            .expect("send");
        let sibling = FromChild::Sibling { pid };
        theirs.send(&sibling, Some(pidfd.as_fd())).expect("send");
        drop(theirs);
        assert_eq!(await_execution(&ours, None).expect_err("failed"), error);
        assert_eq!(reap(pidfd.as_fd()), Err(Errno::CHILD), "it was reaped");
    }
}
