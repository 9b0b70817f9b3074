//! `exec`: one more process in a container.

use super::Container;
use crate::agent::Agent;
use crate::error::{Error, Result};
use crate::exec::exec;
use crate::hooks::Status;
use crate::options::{CgroupJoin, ExecOptions, Stdio, UserSpec};
use barque_cgroup::{Cgroup, Layout};
use barque_types::spec::Process;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is to be run.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The process, whole.
    pub process: &'a Process,
    /// Standard streams; ignored for a process that wants a terminal.
    pub stdio: Stdio<'a>,
    /// Descriptors that the program gets under the numbers that they have.
    pub preserve: Vec<BorrowedFd<'a>>,
    /// A cgroup below the container's, as a path relative to it.
    pub cgroup: Option<&'a str>,
    /// Whether a paused container is entered, too; the process is frozen with it then.
    pub ignore_paused: bool,
}

/// A process in a container: a child of ours, who has to reap it.
#[derive(Debug)]
pub struct Session {
    /// Its pid.
    pub pid: i32,
    /// The same, readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
}

impl Container {
    /// Runs a process in it; returns when its program is executed. The process outlives the caller.
    ///
    /// # Errors
    /// It is stopped or paused, or the program cannot be executed.
    pub fn exec(&self, request: ExecRequest<'_>) -> Result<Session> {
        let record = self.recorded()?;
        match self.status()? {
            Status::Running | Status::Created => {}
            Status::Paused if request.ignore_paused => {}
            status @ Status::Paused => {
                return Err(self.conflict(
                    status,
                    "no process can be run in it; resume it first, or use --ignore-paused",
                ));
            }
            status => {
                return Err(
                    self.conflict(status, "container not running, no process can be run in it")
                );
            }
        }
        let init = record.init.as_ref().ok_or_else(|| Error::Unknown {
            id: self.id().to_owned(),
        })?;
        let Some(pidfd) = init.open()? else {
            return Err(self.conflict(
                Status::Stopped,
                "container not running, no process can be run in it",
            ));
        };
        let spec = self.spec()?;
        let group = self.group_for(&record.group.path, request.cgroup)?;
        let tasks = group.join_fds()?;
        let v2 = match request.cgroup {
            // What was asked for, and not where the first process has moved to.
            Some(_) => None,
            None => group.v2_fd_beside(init.pid)?,
        };
        let running = exec(ExecOptions {
            id: self.id(),
            pid: init.pid,
            pidfd: pidfd.as_fd(),
            process: request.process,
            user: UserSpec::Ids,
            seccomp: spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()),
            agent: Agent::of(
                spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()),
                self.hook_state(Status::Running, &spec)?,
            ),
            cgroup: CgroupJoin {
                v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
                v2: v2.as_ref().map(AsFd::as_fd).or_else(|| group.v2_fd()),
            },
            stdio: if request.process.terminal {
                Stdio::Terminal
            } else {
                request.stdio
            },
            tied_to_caller: false,
            personality: spec
                .linux
                .as_ref()
                .and_then(|linux| linux.personality.as_ref()),
            memory_policy: spec
                .linux
                .as_ref()
                .and_then(|linux| linux.memory_policy.as_ref()),
            preserve: request.preserve,
        })?;
        Ok(Session {
            pid: running.pid,
            pidfd: running.pidfd,
            console: running.console,
            warnings: running.warnings,
        })
    }

    fn group_for(&self, path: &str, below: Option<&str>) -> Result<Cgroup> {
        match below.map(|b| b.trim_matches('/')).filter(|b| !b.is_empty()) {
            Some(below) => Ok(Cgroup::open(
                &Layout::detect()?,
                &format!("{path}/{below}"),
            )?),
            None => self.existing_group(),
        }
    }
}
