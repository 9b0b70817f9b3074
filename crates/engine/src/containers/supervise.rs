//! The steps that a container's monitor carries out: make it run, record how it ended, clean up.
//!
//! Everything here runs in the monitor's process. The first start happens while the command that forked
//! the monitor holds the container's lock on its behalf; everything later takes the lock itself.

use super::record::Container;
use super::store::{ContainerLock, lock_dir};
use super::{Containers, lower};
use crate::cleanup::remove_tree;
use crate::error::{Context, Error, Kind, Result};
use crate::{Engine, cleanup};
use barque_cgroup::Cgroup;
use barque_monitor::{ContainerIo, Ended, Finish, StartError, StartRequest, Started, Supervised};
use barque_runtime::{CgroupJoin, CreateOptions, Rootfs, Stdio, UserSpec};
use barque_state::process::ProcessId;
use barque_types::container::{MountRequest, NamespaceMode};
use barque_types::docker::Status;
use barque_types::spec::{NamespaceKind, Spec};
use barque_types::time::Timestamp;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// A container in the hands of its monitor.
pub(super) struct Supervisor {
    engine: Engine,
    container: Container,
    /// Its cgroup while it runs.
    group: Option<Cgroup>,
    /// Its root file system. The last reference unmounts the overlay, which writes the whole upper file
    /// system back to the disk: held until everybody has heard of the end, nobody waits for that.
    root: Option<OwnedFd>,
}

impl Supervisor {
    pub fn new(engine: Engine, container: Container) -> Self {
        Self {
            engine,
            container,
            group: None,
            root: None,
        }
    }

    fn run(&mut self, request: StartRequest) -> Result<Started> {
        // A writable layer is mounted once at a time.
        self.root = None;
        let containers = self.engine.containers();
        let facts = containers.facts(&self.container)?;
        let mut spec = lower::spec(&self.container.config, &facts)?;
        if let (
            ContainerIo::Terminal {
                size: Some((height, width)),
            },
            Some(process),
        ) = (&request.io, &mut spec.process)
        {
            process.console_size = Some(barque_types::spec::ConsoleSize {
                height: *height,
                width: *width,
            });
        }
        make_bind_sources(&self.container)?;
        let join = containers.joined_namespaces(&self.container)?;
        let path = cgroup_path(&self.container);
        let resources = spec
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default();
        let (group, mut warnings) = Cgroup::create(self.engine.cgroups()?, &path, &resources)?;
        let running = match self.launch(&spec, join, &group, &request) {
            Ok(running) => running,
            Err(e) => {
                // The container's processes are dead; the first error is the one to tell.
                let _ = group.remove();
                return Err(e);
            }
        };
        self.group = Some(group);
        self.root = running.rootfs;
        warnings.extend(running.warnings);
        let state = &mut self.container.state;
        state.status = Status::Running;
        state.init = Some(ProcessId::of(running.pid)?);
        state.monitor = Some(ProcessId::current()?);
        state.cgroup = Some(path);
        state.started_at = Timestamp::now();
        state.restart_count = request.restart_count;
        (state.oom_killed, state.stopped_by_user) = (false, false);
        (state.exit_code, state.error) = (0, String::new());
        self.container.store_state()?;
        Ok(Started {
            pid: running.pid,
            pidfd: running.pidfd,
            console: running.console,
            warnings,
        })
    }

    fn launch(
        &self,
        spec: &Spec,
        join: Vec<(NamespaceKind, OwnedFd)>,
        group: &Cgroup,
        request: &StartRequest,
    ) -> Result<barque_runtime::Running> {
        let snapshot = self.engine.store.snapshot(self.container.id())?;
        let volatile = self.container.config.request.auto_remove;
        if volatile {
            // Overlay's mark of an earlier run, which would refuse the mount. Nothing was lost meanwhile:
            // it is the same boot (bury removes such a container after another).
            remove_tree(&snapshot.work.join("work/incompat"))?;
        }
        let tasks = group.join_fds()?;
        let stdio = match &request.io {
            ContainerIo::Fds {
                stdin,
                stdout,
                stderr,
            } => Stdio::Fds {
                stdin: stdin.as_fd(),
                stdout: stdout.as_fd(),
                stderr: stderr.as_fd(),
            },
            ContainerIo::Terminal { .. } => Stdio::Terminal,
        };
        let options = CreateOptions {
            id: self.container.id(),
            spec,
            rootfs: Rootfs::Overlay {
                lower: snapshot.lower,
                upper: snapshot.upper,
                work: snapshot.work,
                // What is thrown away need not reach the disk.
                volatile,
            },
            user: user(&self.container, &self.container.config.process.user),
            stdio,
            cgroup: CgroupJoin {
                v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
                v2: group.v2_fd(),
            },
            join,
        };
        let created = barque_runtime::create(options).map_err(runtime_error)?;
        created.start().map_err(runtime_error)
    }

    /// The end of one run: `restarting` when the monitor starts it again.
    fn record_end(&mut self, ended: &Ended) -> Result<()> {
        let _lock = self.lock()?;
        let state = &mut self.container.state;
        if let Some(group) = self.group.take() {
            state.oom_killed = group.oom_kills()? > 0;
            group.remove()?;
        }
        state.cgroup = None;
        state.init = None;
        state.exit_code = ended.exit.code;
        state.finished_at = ended.ended_at;
        state.stopped_by_user = ended.stop_requested;
        state.status = match ended.restart {
            Some(_) => Status::Restarting,
            None => Status::Exited,
        };
        if ended.restart.is_none() {
            state.monitor = None;
        }
        self.container.store_state()
    }

    fn leave(&mut self, finish: &Finish) -> Result<()> {
        let _lock = self.lock()?;
        let state = &mut self.container.state;
        if let Finish::RestartFailed(e) = finish {
            (state.error, state.exit_code) = (e.message.clone(), e.exit_code);
        }
        let keep = self.container.dir.join(super::stop::KEEP).exists();
        if self.container.config.request.auto_remove && !keep {
            return self.engine.remove_container(&self.container);
        }
        if state.status.is_live() {
            state.status = Status::Exited;
            state.monitor = None;
            state.stopped_by_user |= *finish == Finish::RestartCancelled;
            self.container.store_state()?;
        }
        cleanup::remove_run_dir(&self.engine, self.container.id())
    }

    fn lock(&self) -> Result<ContainerLock> {
        lock_dir(&self.container.dir, self.container.name())
    }
}

impl Supervised for Supervisor {
    fn start(&mut self, request: StartRequest) -> Result<Started, StartError> {
        // The first start is done under the lock of the command that waits for it.
        let _lock = match request.restart_count > self.container.state.restart_count {
            true => Some(self.lock().map_err(|e| start_error(&e))?),
            false => None,
        };
        self.run(request).map_err(|e| start_error(&e))
    }

    fn init_ended(&mut self) {
        // With a pid namespace of its own the kernel has killed the rest already.
        if self.container.config.request.pid == NamespaceMode::Private {
            return;
        }
        if let Some(group) = &self.group
            && let Err(e) = group.kill_all(cleanup::KILL_PATIENCE)
        {
            tracing::warn!(container = self.container.id(), error = %e, "processes left in the cgroup");
        }
    }

    fn ended(&mut self, ended: &Ended) {
        if let Err(e) = self.record_end(ended) {
            // The next command finds a dead monitor's record and buries it: nothing is lost but the code.
            tracing::error!(container = self.container.id(), error = %e, "the exit could not be recorded");
        }
    }

    fn finished(&mut self, finish: &Finish) {
        if let Err(e) = self.leave(finish) {
            tracing::error!(container = self.container.id(), error = %e, "left for the next command's sweep");
        }
    }
}

fn start_error(e: &Error) -> StartError {
    let exit_code = match e.kind() {
        Kind::CommandNotFound => 127,
        Kind::NotExecutable => 126,
        _ => 125,
    };
    StartError {
        message: e.chain(),
        exit_code,
    }
}

/// The runtime's error with the kind that decides the exit code.
pub(super) fn runtime_error(e: barque_runtime::Error) -> Error {
    let kind = match e.exit_code() {
        127 => Kind::CommandNotFound,
        126 => Kind::NotExecutable,
        _ => Kind::System,
    };
    Error::new(kind, e.to_string())
}

/// Who runs a process in the container. Root too is looked up: an image may list it in groups.
pub(super) fn user(container: &Container, user: &str) -> UserSpec {
    UserSpec::Named {
        user: user.to_owned(),
        groups: container.config.request.group_add.clone(),
    }
}

/// `<parent>/<id>` below each hierarchy's root.
fn cgroup_path(container: &Container) -> String {
    let parent = container
        .config
        .request
        .cgroup_parent
        .as_deref()
        .unwrap_or("/barque");
    format!("/{}/{}", parent.trim_matches('/'), container.id())
}

/// `-v /new/dir:/data` makes the directory on the host, as Docker does.
fn make_bind_sources(container: &Container) -> Result<()> {
    for mount in &container.config.request.mounts {
        let MountRequest::Bind(bind) = mount else {
            continue;
        };
        match std::fs::metadata(&bind.source) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && bind.create_source => {
                std::fs::create_dir_all(&bind.source)
                    .while_("create the bind source", &bind.source)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        bind.source.display()
                    ),
                ));
            }
            Err(e) => return Err(e).while_("look at the bind source", &bind.source),
        }
    }
    Ok(())
}

impl Containers<'_> {
    /// Opens the namespaces of other containers that this one shares.
    fn joined_namespaces(&self, container: &Container) -> Result<Vec<(NamespaceKind, OwnedFd)>> {
        lower::joined(&container.config)
            .into_iter()
            .map(|(kind, other)| Ok((kind, self.namespace_of(other, kind)?)))
            .collect()
    }

    fn namespace_of(&self, name: &str, kind: NamespaceKind) -> Result<OwnedFd> {
        let other = self.find(name)?;
        let not_running = || {
            Error::new(
                Kind::Conflict,
                format!(
                    "cannot join the {} namespace of a non running container: {}",
                    word(kind),
                    other.id()
                ),
            )
        };
        let init = other.state.init.as_ref().ok_or_else(not_running)?;
        let path = format!("/proc/{}/ns/{}", init.pid, word(kind));
        let file = File::open(&path).while_("open the namespace", &path)?;
        // Still the same process: then the pid was its own when the file was opened, too.
        match init.is_alive()? {
            true => Ok(file.into()),
            false => Err(not_running()),
        }
    }
}

/// The file's name in `/proc/PID/ns`.
fn word(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}
