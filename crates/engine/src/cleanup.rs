//! Burying what died without its supervisor, and removing what a crashed command left.
//!
//! A container's processes do not outlive its monitor (the kernel kills them with it, unless they asked it
//! not to), and its root file system was never mounted on the host. So what is left to do is small: a
//! cgroup, a socket's directory, a record that still says "running".

use crate::containers::record::{Container, RunState};
use crate::containers::{store, userns};
use crate::error::{Context, Kind, Result};
use crate::journal::Journal;
use crate::{Engine, journal};
use barque_cgroup::Cgroup;
use barque_state::lock::FileLock;
use barque_state::process::ProcessId;
use barque_types::docker::Status;
use barque_types::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use std::path::Path;
use std::time::Duration;

/// How long the processes of a group may take to die of SIGKILL.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Exit code of a container whose machine went down under it, as Docker has it.
const EXIT_LOST: i32 = 255;
/// Exit code of a container whose monitor was killed: SIGKILL, by the kernel.
const EXIT_KILLED: i32 = 137;

/// Whether the container's monitor lives.
pub(crate) fn is_supervised(container: &Container) -> Result<bool> {
    match &container.state.monitor {
        Some(monitor) => Ok(monitor.is_alive()?),
        None => Ok(false),
    }
}

/// Records the end of a container whose monitor died, and cleans up after it. `None`: it was made with
/// `--rm`, and is gone now. The caller holds the container's lock.
pub(crate) fn bury(engine: &Engine, mut container: Container) -> Result<Option<Container>> {
    // First the group, which thaws whom it kills: a frozen process does not die on cgroup v1.
    after_run(engine, &container)?;
    if let Some(init) = &container.state.init {
        kill_and_wait(init)?;
    }
    if container.config.request.auto_remove {
        engine.remove_container(&container)?;
        return Ok(None);
    }
    let state = &mut container.state;
    let this_boot = match &state.monitor {
        Some(monitor) => monitor.boot_id == barque_state::process::boot_id()?,
        None => true,
    };
    let (code, error) = match this_boot {
        true => (
            EXIT_KILLED,
            "the container's monitor was killed, and the container with it",
        ),
        false => (EXIT_LOST, "the machine went down while the container ran"),
    };
    // Between two runs there is nobody who dies: the last exit stands.
    if state.init.is_some() {
        state.exit_code = code;
        state.finished_at = Timestamp::now();
    }
    state.error = error.to_owned();
    state.status = Status::Exited;
    (state.init, state.monitor, state.cgroup) = (None, None, None);
    if let Err(e) = container.store_state() {
        // A full disk: what is told is the truth all the same, and it must be possible to remove it.
        tracing::warn!(container = container.id(), error = %e, "its end could not be recorded");
    }
    Ok(Some(container))
}

/// Removes what a run of a container leaves outside the data root: its cgroup, with whoever is left in it,
/// and then its run directory, by which the sweep knows of the cgroup. The caller holds the container's lock.
pub(crate) fn after_run(engine: &Engine, container: &Container) -> Result<()> {
    remove_cgroup(engine, &container.cgroup_path())?;
    remove_run_dir(engine, container.id())
}

/// SIGKILLs exactly this process, and waits until it has gone (bounded: a process in an uninterruptible
/// sleep must not hang every command).
fn kill_and_wait(process: &ProcessId) -> Result<()> {
    let Some(pidfd) = process.open()? else {
        return Ok(());
    };
    // ESRCH: it ended by itself.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let limit = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
    Ok(())
}

/// Kills what is left in a container's cgroup and removes it; a group that is gone is fine.
pub(crate) fn remove_cgroup(engine: &Engine, path: &str) -> Result<()> {
    let Some(group) = open_cgroup(engine, path)? else {
        return Ok(());
    };
    group.kill_all(KILL_PATIENCE)?;
    group.remove()?;
    Ok(())
}

/// The group, if it still exists.
fn open_cgroup(engine: &Engine, path: &str) -> Result<Option<Cgroup>> {
    match Cgroup::open(engine.cgroups()?, path) {
        Ok(group) => Ok(Some(group)),
        // A path that no group can have is that of no group.
        Err(barque_cgroup::Error::NotFound { .. } | barque_cgroup::Error::BadPath { .. }) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

pub(crate) fn remove_run_dir(engine: &Engine, id: &str) -> Result<()> {
    remove_tree(&engine.run_dir(id))
}

/// Removes a directory and all in it; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).while_("remove", path),
        _ => Ok(()),
    }
}

impl Engine {
    /// Removes what crashed commands left. Costs three directory listings when there is nothing. What cannot
    /// be removed is no reason not to do what the user asked for.
    pub(crate) fn sweep(&self) {
        let swept = [
            self.sweep_journals(),
            self.store.sweep().map_err(Into::into),
            self.sweep_dead_monitors(),
        ];
        for e in swept.into_iter().filter_map(Result::err) {
            tracing::warn!(error = %e.chain(), "what a crashed command left cannot be removed");
        }
    }

    fn sweep_journals(&self) -> Result<()> {
        let abandoned = journal::abandoned(&self.data)?;
        for (id, journal) in abandoned.containers {
            if !self.data.container(&id).join("config.json").exists() {
                self.purge(&id)?;
            }
            journal.done();
        }
        for (id, run) in abandoned.runs {
            if self.sweep_run(&id, &run)? {
                run.done();
            }
        }
        Ok(())
    }

    /// Removes a container whose `run` was killed before it started it, and leaves every other alone. Whether
    /// that is decided.
    fn sweep_run(&self, id: &str, run: &Journal) -> Result<bool> {
        let _lock = match FileLock::try_exclusive(&self.data.container_lock(id)) {
            Ok(Some(lock)) => lock,
            // Somebody starts it right now, perhaps the monitor that the killed `run` had forked.
            Ok(None) => return Ok(false),
            // It was removed, or never made.
            Err(e) if e.is_not_found() => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        let container = match self.load_locked(id) {
            Ok(Some(container)) => container,
            Ok(None) => return Ok(true),
            // Reported by the command that needs it, not by every command.
            Err(e) if e.kind() == Kind::Corrupt => return Ok(true),
            Err(e) => return Err(e),
        };
        // As it was made: whoever started it, or tried to, has left a time or an error.
        let untouched = container.state == RunState::default();
        // One of `--rm` would not have outlived a boot anyway.
        if untouched && (container.config.request.auto_remove || run.is_of_this_boot()?) {
            self.remove_container(&container)?;
        }
        Ok(true)
    }

    /// Run directories whose monitor is dead.
    fn sweep_dead_monitors(&self) -> Result<()> {
        let dir = self.run.containers();
        for entry in std::fs::read_dir(&dir).while_("list", &dir)? {
            let name = entry.while_("list", &dir)?.file_name();
            if let Some(id) = name.to_str() {
                self.sweep_run_dir(id)?;
            }
        }
        Ok(())
    }

    fn sweep_run_dir(&self, id: &str) -> Result<()> {
        // Under the container's lock: nobody starts it while we look.
        let _lock = match FileLock::try_exclusive(&self.data.container_lock(id)) {
            Ok(Some(lock)) => lock,
            // Somebody starts, ends or removes it right now.
            Ok(None) => return Ok(()),
            Err(e) if e.is_not_found() => return remove_run_dir(self, id),
            Err(e) => return Err(e.into()),
        };
        match barque_monitor::is_served(&self.run_dir(id)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // It ended, properly, between the listing and here.
            Err(_) => return Ok(()),
        }
        match self.load_locked(id) {
            Ok(Some(container)) => after_run(self, &container),
            Ok(None) => remove_run_dir(self, id),
            // A corrupt record is reported by the command that needs it, not by every command.
            Err(e) => {
                tracing::warn!(container = id, error = %e, "left alone by the sweep");
                Ok(())
            }
        }
    }

    /// `<run root>/containers/<id>`: its monitor's socket and lock.
    pub(crate) fn run_dir(&self, id: &str) -> std::path::PathBuf {
        self.run.containers().join(id)
    }

    /// Removes a container that does not run, record first. The caller holds its lock.
    pub(crate) fn remove_container(&self, container: &Container) -> Result<()> {
        let journal = Journal::begin(&self.data, container.id())?;
        if self.run_dir(container.id()).exists() {
            after_run(self, container)?;
        }
        let config = container.dir.join("config.json");
        std::fs::remove_file(&config).while_("remove", &config)?;
        self.names.release(container.name(), container.id())?;
        userns::release(&self.data, container.id(), container.config.ids.as_ref())?;
        self.remove_remains(container.id())?;
        journal.done();
        Ok(())
    }

    /// Removes whatever there is of a container without a record: nothing of it is known but its id. The
    /// caller holds its journal.
    pub(crate) fn purge(&self, id: &str) -> Result<()> {
        let state = store::load_state(&self.data.container(id)).unwrap_or_default();
        for process in [&state.monitor, &state.init].into_iter().flatten() {
            kill_and_wait(process)?;
        }
        if let Some(path) = &state.cgroup {
            remove_cgroup(self, path)?;
        }
        for (name, holder) in self.names.list()? {
            if holder == id {
                self.names.release(&name, id)?;
            }
        }
        userns::release_any(&self.data, id)?;
        let config = self.data.container(id).join("config.json");
        match std::fs::remove_file(&config) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).while_("remove", &config);
            }
            _ => {}
        }
        self.remove_remains(id)
    }

    fn remove_remains(&self, id: &str) -> Result<()> {
        self.store.remove_container(id)?;
        remove_run_dir(self, id)?;
        // Away first, because its lock lies in it: whoever waits for that must find nothing at its path.
        let (dir, removed) = (
            self.data.container(id),
            self.data.tmp().join(format!("removed-{id}")),
        );
        match std::fs::rename(&dir, &removed) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).while_("remove", &dir);
            }
            _ => {}
        }
        remove_tree(&removed)
    }
}
