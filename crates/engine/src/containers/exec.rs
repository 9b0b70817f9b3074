//! `exec`: one more process in a running container, child of the caller. No monitor is involved: the
//! process's streams are the caller's to pump.

use super::record::Container;
use super::supervise::{runtime_error, user};
use super::{Containers, ExecSession, lower};
use crate::error::{Context, Error, Kind, Result};
use barque_runtime::{Agent, CgroupJoin, ExecOptions, Stdio, defaults};
use barque_types::container::ExecRequest;
use barque_types::docker::Status;
use barque_types::oci_state::{self, State};
use barque_types::spec::{ConsoleSize, Process, Spec};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// The process's ends of its streams, and ours.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    ours: (Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>),
}

impl Containers<'_> {
    /// Runs one more process in it. Must be called while the process has a single thread.
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<ExecSession> {
        if request.command.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "no command given: name one after the container",
            ));
        }
        let container = self.find(name)?;
        if container.state.status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("container {name} is paused, unpause the container before exec"),
            ));
        }
        container.require_running()?;
        let not_running = || {
            Error::new(
                Kind::NotRunning,
                format!("container {} is not running", container.id()),
            )
        };
        let init = container.state.init.as_ref().ok_or_else(not_running)?;
        let pidfd = init.open()?.ok_or_else(not_running)?;
        let spec = lower::spec(&container.config, &self.facts(&container)?)?;
        let process = process(request, &spec)?;
        let group = self.cgroup_of(&container)?;
        let tasks = group.join_fds()?;
        let v2 = group.v2_fd_beside(init.pid)?;
        let streams = if request.tty {
            None
        } else {
            Some(streams(request)?)
        };
        let running = barque_runtime::exec(ExecOptions {
            id: container.id(),
            pid: init.pid,
            // As Docker: a process outlives the client that asked for it.
            tied_to_caller: false,
            preserve: Vec::new(),
            pidfd: pidfd.as_fd(),
            process: &process,
            user: user(
                &container,
                request
                    .user
                    .as_deref()
                    .unwrap_or(&container.config.process.user),
            ),
            seccomp: match request.privileged {
                true => None,
                false => spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()),
            },
            agent: match request.privileged {
                true => None,
                false => agent(&container, &spec, init.pid),
            },
            personality: spec.linux.as_ref().and_then(|l| l.personality.as_ref()),
            memory_policy: spec.linux.as_ref().and_then(|l| l.memory_policy.as_ref()),
            cgroup: CgroupJoin {
                v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
                v2: v2.as_ref().map(AsFd::as_fd),
            },
            stdio: match &streams {
                None => Stdio::Terminal,
                Some(s) => Stdio::Fds {
                    stdin: s.stdin.as_fd(),
                    stdout: s.stdout.as_fd(),
                    stderr: s.stderr.as_fd(),
                },
            },
        })
        .map_err(runtime_error)?;
        let (stdin, stdout, stderr) = streams.map(|s| s.ours).unwrap_or_default();
        Ok(ExecSession {
            stdin,
            stdout,
            stderr,
            console: running.console,
            pidfd: running.pidfd,
            warnings: running.warnings,
        })
    }
}

/// Who answers for the system calls of which a profile of the user's says so.
fn agent(container: &Container, spec: &Spec, pid: i32) -> Option<Agent> {
    let linux = spec.linux.as_ref();
    let state = State {
        oci_version: spec.oci_version.clone(),
        id: container.id().to_owned(),
        status: oci_state::Status::Running,
        pid,
        // As its hooks are told: the engine's containers have no bundle.
        bundle: "/".into(),
        annotations: spec.annotations.clone(),
    };
    Agent::of(linux.and_then(|linux| linux.seccomp.as_ref()), state)
}

/// The container's own process with what the request changes.
fn process(request: &ExecRequest, spec: &Spec) -> Result<Process> {
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&request.command);
    process.terminal = request.tty;
    process.console_size = request
        .console_size
        .map(|(height, width)| ConsoleSize { height, width });
    process.env = super::resolve::environment(&process.env, &request.env);
    if request.tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
        process.env.push("TERM=xterm".to_owned());
    }
    if let Some(dir) = &request.workdir {
        if !dir.starts_with('/') {
            return Err(Error::new(
                Kind::Invalid,
                format!("Cwd must be an absolute path: {dir}"),
            ));
        }
        process.cwd.clone_from(dir);
    }
    if request.privileged {
        process.capabilities = Some(defaults::capability_sets(&defaults::all_capabilities()));
    }
    Ok(process)
}

/// Pipes, never the caller's own files: a process in the container could open those again for writing
/// through `/proc/self/fd`, and push keys into the caller's terminal.
fn streams(request: &ExecRequest) -> Result<Streams> {
    let null = || -> Result<OwnedFd> {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .while_("open", "/dev/null")?;
        Ok(file.into())
    };
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::system("cannot make a pipe", e))
    };
    let (stdin, our_stdin) = match request.interactive && !request.detach {
        true => pipe().map(|(read, write)| (read, Some(write)))?,
        false => (null()?, None),
    };
    if request.detach {
        return Ok(Streams {
            stdin,
            stdout: null()?,
            stderr: null()?,
            ours: (None, None, None),
        });
    }
    let (our_stdout, stdout) = pipe()?;
    let (our_stderr, stderr) = pipe()?;
    Ok(Streams {
        stdin,
        stdout,
        stderr,
        ours: (our_stdin, Some(our_stdout), Some(our_stderr)),
    })
}

impl ExecSession {
    /// Waits for the process; its exit code (128 + n for signal n).
    pub fn wait(&mut self) -> Result<i32> {
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        })
        .map_err(|e| Error::system("cannot wait for the process", e))?;
        Ok(status.as_ref().map_or(0, exit_code))
    }

    /// Tells its terminal the size.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        let Some(console) = &self.console else {
            return Ok(());
        };
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(console, size)
            .map_err(|e| Error::system("cannot set the terminal's size", e))
    }
}

fn exit_code(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 0,
    }
}
