//! The steps that a container's monitor carries out: make it run, record how it ended, clean up.
//!
//! Everything here runs in the monitor's process. The first start happens under the lock of the command
//! that forked the monitor: both hold it, for that command may be killed meanwhile. Everything later takes
//! the lock itself.
//!
//! What a run leaves outside the data root appears and vanishes in one order, so that the directory tells
//! the sweep of the rest: run directory, cgroup, processes — processes, record, cgroup, run directory.

use super::record::{Container, RunState};
use super::stop::KEEP;
use super::store::{ContainerLock, lock_dir};
use super::{Containers, files, lower};
use crate::cleanup::remove_tree;
use crate::error::{Context, Error, Kind, Result};
use crate::{Engine, cleanup};
use barque_cgroup::Cgroup;
use barque_monitor::{ContainerIo, Ended, Finish, StartError, StartRequest, Started, Supervised};
use barque_runtime::criu::{self, CriuOptions, RestoreOptions};
use barque_runtime::{CgroupJoin, CreateOptions, Rootfs, Stdio, UserSpec};
use barque_state::lock::FileLock;
use barque_state::process::ProcessId;
use barque_types::container::{MountRequest, NamespaceMode};
use barque_types::docker::Status;
use barque_types::spec::{NamespaceKind, Spec};
use barque_types::time::Timestamp;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A container in the hands of its monitor.
pub(super) struct Supervisor {
    engine: Engine,
    container: Container,
    /// The lock for the first start.
    starting: Option<ContainerLock>,
    /// Its cgroup while it runs.
    group: Option<Cgroup>,
    /// Its root file system. The last reference unmounts the overlay, which writes the whole upper file
    /// system back to the disk: held until everybody has heard of the end, nobody waits for that.
    root: Option<OwnedFd>,
    /// The first start goes on where a checkpoint was taken.
    restore: Option<Restore>,
}

/// A checkpoint to start from.
pub(super) struct Restore {
    /// Its directory.
    pub image: PathBuf,
    /// The CRIU program.
    pub criu: PathBuf,
}

impl Supervisor {
    pub fn new(
        engine: Engine,
        container: Container,
        starting: ContainerLock,
        restore: Option<Restore>,
    ) -> Self {
        Self {
            engine,
            container,
            starting: Some(starting),
            group: None,
            root: None,
            restore,
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
        files::write(&self.container)?;
        let join = containers.joined_namespaces(&self.container)?;
        let (group, mut warnings) = self.make_group(&spec)?;
        let restore = self.restore.take();
        let running = self
            .launch(&spec, join, &group, &request, restore)
            .and_then(|running| {
                self.record_start(&running, request.restart_count)?;
                Ok(running)
            });
        let running = match running {
            Ok(running) => running,
            Err(e) => {
                // It may run already (a full disk refused the record). The first error is the one to tell.
                let _ = remove_group(&group);
                return Err(e);
            }
        };
        self.group = Some(group);
        self.root = running.rootfs;
        warnings.extend(running.warnings);
        Ok(Started {
            pid: running.pid,
            pidfd: running.pidfd,
            console: running.console,
            warnings,
        })
    }

    fn make_group(&self, spec: &Spec) -> Result<(Cgroup, Vec<String>)> {
        let path = self.container.cgroup_path();
        let resources = spec
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default();
        let layout = self.engine.cgroups()?;
        match Cgroup::create(layout, &path, &resources) {
            // What a killed monitor left: we hold the container's lock, and nobody else has its id.
            Err(barque_cgroup::Error::Exists { .. }) => {
                cleanup::remove_cgroup(&self.engine, &path)?;
                Ok(Cgroup::create(layout, &path, &resources)?)
            }
            made => Ok(made?),
        }
    }

    fn record_start(&mut self, running: &barque_runtime::Running, restarts: u32) -> Result<()> {
        let state = RunState {
            status: Status::Running,
            init: Some(ProcessId::of(running.pid)?),
            monitor: Some(ProcessId::current()?),
            cgroup: Some(self.container.cgroup_path()),
            started_at: Timestamp::now(),
            finished_at: self.container.state.finished_at,
            restart_count: restarts,
            ..RunState::default()
        };
        let before = std::mem::replace(&mut self.container.state, state);
        self.container
            .store_state()
            .inspect_err(|_| self.container.state = before)
    }

    fn launch(
        &self,
        spec: &Spec,
        join: Vec<(NamespaceKind, OwnedFd)>,
        group: &Cgroup,
        request: &StartRequest,
        restore: Option<Restore>,
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
        let merged = snapshot.upper.with_file_name("merged");
        let rootfs = Rootfs::Overlay {
            lower: snapshot.lower,
            upper: snapshot.upper,
            work: snapshot.work,
            // What is thrown away need not reach the disk.
            volatile,
        };
        let cgroup = CgroupJoin {
            v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
            v2: group.v2_fd(),
        };
        let trees = self.engine.containers().joined_shm(&self.container)?;
        if let Some(Restore { image, criu }) = restore {
            let work = super::checkpoint::work(&self.container);
            let restored = criu::restore(RestoreOptions {
                criu: CriuOptions {
                    work_path: Some(&work),
                    ..CriuOptions::new(&criu, &image)
                },
                spec,
                rootfs,
                place: &merged,
                stdio,
                cgroup,
                join,
                trees,
                on_namespaces: None,
                lsm_profile: None,
                lsm_mount_context: None,
            });
            return restored.map_err(runtime_error);
        }
        let options = CreateOptions {
            user: user(&self.container, &self.container.config.process.user),
            cgroup,
            join,
            trees,
            ..CreateOptions::new(self.container.id(), spec, rootfs, stdio)
        };
        let created = barque_runtime::create(options).map_err(runtime_error)?;
        created.start().map_err(runtime_error)
    }

    /// The end of one run. When it was the last, everything is done under one lock: whoever finds the
    /// container ended may start it at once.
    fn record_end(&mut self, ended: &Ended) -> Result<()> {
        let _lock = self.lock()?;
        let group = self.group.take();
        // Removed even if nothing can be written; but after the record, which knows the exit code.
        let recorded = self.record_exit(ended, group.as_ref());
        group.as_ref().map_or(Ok(()), remove_group)?;
        if ended.restart.is_none() {
            cleanup::remove_run_dir(&self.engine, self.container.id())?;
            if self.goes_with_its_end() {
                return self.engine.remove_container(&self.container);
            }
        }
        recorded
    }

    fn record_exit(&mut self, ended: &Ended, group: Option<&Cgroup>) -> Result<()> {
        let state = &mut self.container.state;
        // Any process of it: Docker's flag does not say that it was PID 1.
        state.oom_killed = group.is_some_and(|group| group.oom_kills().is_ok_and(|n| n > 0));
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
            if self.goes_with_its_end() {
                // Until it is gone it has lost its monitor; to say more would make it stay after a crash.
                return Ok(());
            }
        }
        self.container.store_state()
    }

    /// Whether it was made with `--rm`, and is not just being restarted.
    fn goes_with_its_end(&self) -> bool {
        self.container.config.request.auto_remove && !is_being_restarted(&self.container)
    }

    /// There will be no restart after all. (`--rm` excludes restart policies, so the container stays.)
    fn give_up(&mut self, finish: &Finish) -> Result<()> {
        let _lock = self.lock()?;
        let state = &mut self.container.state;
        if let Finish::RestartFailed(e) = finish {
            (state.error, state.exit_code) = (e.message.clone(), e.exit_code);
        }
        state.status = Status::Exited;
        state.monitor = None;
        state.stopped_by_user |= *finish == Finish::RestartCancelled;
        let recorded = self.container.store_state();
        cleanup::remove_run_dir(&self.engine, self.container.id())?;
        recorded
    }

    fn lock(&self) -> Result<ContainerLock> {
        lock_dir(&self.container.dir, self.container.name())
    }
}

impl Supervised for Supervisor {
    fn keep_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.starting.iter().map(AsFd::as_fd).collect()
    }

    fn start(&mut self, request: StartRequest) -> Result<Started, StartError> {
        let _lock = match self.starting.take() {
            Some(lock) => lock,
            None => self.lock().map_err(|e| start_error(&e))?,
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
        // After the last run `ended` did everything.
        if *finish != Finish::Ended
            && let Err(e) = self.give_up(finish)
        {
            tracing::error!(container = self.container.id(), error = %e, "left for the next command's sweep");
        }
    }
}

/// Removes the group of a container that has ended, and whoever is still in it: an `exec` that came while
/// it ended, or all of a start that failed.
fn remove_group(group: &Cgroup) -> Result<()> {
    group.kill_all(cleanup::KILL_PATIENCE)?;
    Ok(group.remove()?)
}

/// Whether a `restart` that lives waits for its end.
fn is_being_restarted(container: &Container) -> bool {
    let keep = container.dir.join(KEEP);
    keep.exists() && matches!(FileLock::try_exclusive(&keep), Ok(None))
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

    /// `/dev/shm` of the container whose IPC namespace this one shares: POSIX shared memory is a matter of
    /// files, which the namespace does not share by itself.
    fn joined_shm(&self, container: &Container) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let NamespaceMode::Container(other) = &container.config.request.ipc else {
            return Ok(Vec::new());
        };
        let other = self.find(other)?;
        let init = other
            .state
            .init
            .as_ref()
            .map(ProcessId::open)
            .transpose()?
            .flatten();
        let Some(init) = init else {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "cannot share the memory of container {}: it is not running, start it first",
                    other.name()
                ),
            ));
        };
        let shm = PathBuf::from("/dev/shm");
        let tree = barque_runtime::tree_of(init.as_fd(), &shm).map_err(runtime_error)?;
        Ok(vec![(shm, tree)])
    }

    fn namespace_of(&self, name: &str, kind: NamespaceKind) -> Result<OwnedFd> {
        let other = self.find(name)?;
        let not_running = || {
            Error::new(
                Kind::Conflict,
                format!(
                    "cannot join the {} namespace of container {}: it is not running, start it first",
                    word(kind),
                    other.name()
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

/// The kinds of namespaces that a container shares with others.
pub(super) fn joined_kinds(config: &super::record::Config) -> Vec<NamespaceKind> {
    let joined = lower::joined(config);
    joined.into_iter().map(|(kind, _)| kind).collect()
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
