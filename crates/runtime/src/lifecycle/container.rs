//! A container that exists: what it is, starting it, signals, freezing.

use super::create::{KILL_PATIENCE, knock};
use super::record::Record;
use super::{bundle, groups};
use crate::agent::Agent;
use crate::create::start_at;
use crate::error::{Context, Error, Result};
use crate::hooks::{self, State, Status};
use barque_cgroup::{Cgroup, OomWatch, Stats};
use barque_state::lock::FileLock;
use barque_state::record;
use barque_types::spec::{Resources, Spec};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long processes may take to stand still.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);
/// SIGKILL, by number as the callers have it.
const KILL: i32 = 9;

/// A container.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    id: String,
    /// Absent when the runtime that made the directory was killed before it could write more.
    record: Option<Record>,
}

/// What `state` and `list` show, in runc's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    /// Version of the specification.
    pub oci_version: String,
    /// Id.
    pub id: String,
    /// First process, 0 when there is none.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Those of its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who created it.
    pub owner: String,
}

impl Container {
    pub(super) fn known(dir: PathBuf, id: &str, record: Record) -> Self {
        Self {
            dir,
            id: id.to_owned(),
            record: Some(record),
        }
    }

    pub(super) fn open(dir: &Path, id: &str) -> Result<Self> {
        let record = record::load::<Record>(&dir.join("state.json"))?;
        if record.is_none() && !dir.is_dir() {
            return Err(Error::Unknown { id: id.to_owned() });
        }
        Ok(Self {
            dir: dir.to_owned(),
            id: id.to_owned(),
            record,
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// What is recorded, for what cannot be done without.
    pub(super) fn recorded(&self) -> Result<&Record> {
        self.record.as_ref().ok_or_else(|| {
            self.conflict(
                Status::Creating,
                "nothing is known of it; if its creation was killed, delete it with --force",
            )
        })
    }

    /// An error of the status.
    pub(super) fn conflict(&self, status: Status, why: impl Into<String>) -> Error {
        Error::Status {
            id: self.id.clone(),
            status,
            why: why.into(),
        }
    }

    /// Its configuration.
    ///
    /// # Errors
    /// The stored copy cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.dir.join("config.json");
        let text = std::fs::read(&path).step(|| format!("reading {path:?}"))?;
        bundle::parse(&text).map_err(|why| Error::invalid(path.display().to_string(), why))
    }

    /// Its cgroups; `None` when it has none (any more).
    ///
    /// # Errors
    /// Those of looking for them.
    pub fn group(&self) -> Result<Option<Cgroup>> {
        self.record
            .as_ref()
            .map_or(Ok(None), |record| groups::open(&record.group))
    }

    /// The cgroups, where it cannot be done without.
    pub(super) fn existing_group(&self) -> Result<Cgroup> {
        let status = self.status()?;
        self.group()?
            .ok_or_else(|| self.conflict(status, "its cgroups are gone"))
    }

    /// Where it is in its life.
    ///
    /// # Errors
    /// Those of looking at its processes and files.
    pub fn status(&self) -> Result<Status> {
        let Some(init) = self.record.as_ref().and_then(|r| r.init.as_ref()) else {
            // Whoever makes it holds the lock.
            let path = self.dir.join("lock");
            return Ok(
                match path.exists() && FileLock::try_shared(&path)?.is_none() {
                    true => Status::Creating,
                    false => Status::Stopped,
                },
            );
        };
        if !init.is_alive()? {
            return Ok(Status::Stopped);
        }
        if self.is_waiting()? {
            return Ok(Status::Created);
        }
        let frozen = match self.group()? {
            Some(group) => match group.is_frozen() {
                Err(barque_cgroup::Error::Unsupported { .. }) => false,
                // Somebody deletes it right now, which begins with its end.
                Err(_) if !init.is_alive()? => return Ok(Status::Stopped),
                other => other?,
            },
            None => false,
        };
        Ok(if frozen {
            Status::Paused
        } else {
            Status::Running
        })
    }

    /// Whether its program has not been executed yet. The first process holds the lock until then, and nobody else
    /// ever does exclusively.
    fn is_waiting(&self) -> Result<bool> {
        let path = self.dir.join("waiting");
        let step = || format!("looking at {path:?}");
        let file = match openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.step(step)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(e) => Err(Error::step(step(), e)),
        }
    }

    /// Its first process, 0 when it has ended.
    fn pid(&self, status: Status) -> i32 {
        let init = self.record.as_ref().and_then(|r| r.init.as_ref());
        match status {
            Status::Stopped => 0,
            _ => init.map_or(0, |init| init.pid),
        }
    }

    /// What `state` shows.
    ///
    /// # Errors
    /// Those of [`Container::status`].
    pub fn view(&self) -> Result<StateView> {
        let status = self.status()?;
        let record = self.recorded()?;
        let annotations = self.spec().map(|spec| spec.annotations).unwrap_or_default();
        Ok(StateView {
            oci_version: record.oci_version.clone(),
            id: self.id.clone(),
            pid: self.pid(status),
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations,
            owner: owner(record.owner_uid),
        })
    }

    /// The state that hooks are told.
    pub(super) fn hook_state(&self, status: Status, spec: &Spec) -> Result<State> {
        let record = self.recorded()?;
        Ok(State {
            oci_version: record.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: self.pid(status),
            bundle: record.bundle.clone(),
            annotations: spec.annotations.clone(),
        })
    }

    pub(super) fn lock(&self) -> Result<FileLock> {
        match FileLock::exclusive(&self.dir.join("lock")) {
            Err(e) if e.is_not_found() => Err(Error::Unknown {
                id: self.id.clone(),
            }),
            other => Ok(other?),
        }
    }

    /// Executes its program, and then the poststart hooks. Returns their failures, which end nothing.
    ///
    /// # Errors
    /// It is not waiting to be started, or its program cannot be executed: then it has ended.
    pub fn start(&self) -> Result<Vec<String>> {
        // Its maker holds the lock, for as long as hooks take; whoever asks is told, and does not wait.
        if self.status()? == Status::Creating {
            return Err(self.conflict(Status::Creating, "only a created container can be started"));
        }
        let _lock = self.lock()?;
        match self.status()? {
            Status::Created => {}
            status @ Status::Stopped => {
                return Err(self.conflict(
                    status,
                    "it cannot be started again; delete it and create it anew",
                ));
            }
            status => return Err(self.conflict(status, "only a created container can be started")),
        }
        let spec = self.spec()?;
        if spec.process.is_none() {
            return Err(self.conflict(
                Status::Created,
                "it cannot be started: its configuration has no process",
            ));
        }
        self.execute(&spec)?;
        tracing::debug!("step: program executed");
        let hooks = spec
            .hooks
            .as_ref()
            .map(|h| h.poststart.clone())
            .unwrap_or_default();
        let mut warnings = Vec::new();
        if !hooks.is_empty() {
            let state = self.hook_state(Status::Running, &spec)?;
            warnings.extend(
                hooks::run("poststart", &hooks, &state)
                    .err()
                    .map(|e| e.to_string()),
            );
        }
        Ok(warnings)
    }

    /// Orders its first process to execute its program, and waits until it has.
    fn execute(&self, spec: &Spec) -> Result<()> {
        let init = self.recorded()?.init.as_ref();
        let pidfd = init.map(|init| init.open()).transpose()?.flatten();
        let linux = spec.linux.as_ref();
        let seccomp = linux.and_then(|linux| linux.seccomp.as_ref());
        let agent = Agent::of(seccomp, self.hook_state(Status::Created, spec)?);
        let watch = match (&agent, init, &pidfd) {
            (Some(agent), Some(init), Some(pidfd)) => Some((agent, init.pid, pidfd.as_fd())),
            _ => None,
        };
        start_at(knock(&self.dir)?, watch)
    }

    /// Sends a signal to its first process, or with `all` to every process of its cgroups. SIGKILL reaches a frozen
    /// container too, and ends every process of one that has no pid namespace of its own.
    ///
    /// # Errors
    /// It has no process that could be signalled.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let record = self.recorded()?;
        let pidfd = record
            .init
            .as_ref()
            .map(|init| init.open())
            .transpose()?
            .flatten();
        let alive = record
            .init
            .as_ref()
            .map_or(Ok(false), |init| init.is_alive())?;
        let pidfd = pidfd.filter(|_| alive);
        if all {
            return self.kill_group(signal);
        }
        let Some(pidfd) = pidfd else {
            return Err(self.conflict(
                Status::Stopped,
                "container not running, there is no process to signal",
            ));
        };
        match barque_sys::signal::pidfd_send(pidfd.as_fd(), signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => {
                return Err(self.conflict(
                    Status::Stopped,
                    "container not running, there is no process to signal",
                ));
            }
            Err(Errno::INVAL) => {
                return Err(Error::invalid(
                    format!("signal {signal}"),
                    "is not a signal",
                ));
            }
            Err(e) => return Err(Error::step(format!("sending signal {signal}"), e)),
        }
        if signal == KILL {
            self.after_kill(record)?;
        }
        Ok(())
    }

    fn after_kill(&self, record: &Record) -> Result<()> {
        let Some(group) = self.group()? else {
            return Ok(());
        };
        if record.shares_pids {
            // Nobody else ends the others (runc since 1.2 does the same).
            return Ok(group.kill_all(KILL_PATIENCE)?);
        }
        // v1's freezer holds back even the killed.
        match group.thaw() {
            Err(barque_cgroup::Error::Unsupported { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    fn kill_group(&self, signal: i32) -> Result<()> {
        let Some(group) = self.group()? else {
            return Ok(());
        };
        if signal == KILL {
            return Ok(group.kill_all(KILL_PATIENCE)?);
        }
        for pid in group.pids()? {
            let Ok(pidfd) = crate::exec::open_pidfd(pid) else {
                continue;
            };
            match barque_sys::signal::pidfd_send(pidfd.as_fd(), signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => {
                    return Err(Error::step(
                        format!("sending signal {signal} to process {pid}"),
                        e,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Stops all its processes where they are.
    ///
    /// # Errors
    /// It is not running, or cannot be frozen.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Running | Status::Created => {
                Ok(self.existing_group()?.freeze(FREEZE_PATIENCE)?)
            }
            status => Err(self.conflict(status, "only a running container can be paused")),
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Paused => Ok(self.existing_group()?.thaw()?),
            status => Err(self.conflict(status, "only a paused container can be resumed")),
        }
    }

    /// The processes in its cgroups.
    ///
    /// # Errors
    /// It has ended.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.existing_group()?.pids()?)
    }

    /// What it uses, and how much of it it may use.
    ///
    /// # Errors
    /// It has ended, or its cgroups cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.running()?;
        Ok(self.existing_group()?.stats()?)
    }

    /// Tells when it runs out of memory; `None` without a memory controller.
    ///
    /// # Errors
    /// It has ended, or its cgroups cannot be watched.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        match self.existing_group()?.watch_oom() {
            Err(barque_cgroup::Error::Unsupported { .. }) => Ok(None),
            other => Ok(other.map(Some)?),
        }
    }

    /// A descriptor of its first process, readable when that has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn running(&self) -> Result<OwnedFd> {
        let init = self.record.as_ref().and_then(|record| record.init.as_ref());
        match init.map(|init| init.open()).transpose()?.flatten() {
            Some(pidfd) if !crate::exec::ended(pidfd.as_fd()) => Ok(pidfd),
            _ => Err(self.conflict(self.status()?, "container not running")),
        }
    }

    /// Changes its limits; returns what could not be limited.
    ///
    /// # Errors
    /// It has ended, or the kernel refuses a value.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Running | Status::Created | Status::Paused => {
                let group = self.existing_group()?;
                groups::update(&self.recorded()?.group, &group, resources)
            }
            status => Err(self.conflict(
                status,
                "only a container with processes has limits to change",
            )),
        }
    }
}

/// The name of a user of the host, or the number.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_owned())
        })
        .unwrap_or(number)
}
