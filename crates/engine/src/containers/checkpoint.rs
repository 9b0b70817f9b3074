//! `checkpoint create | ls | rm`: a container's processes on disk, to be started again where they were.
//!
//! A checkpoint is a directory of CRIU's images, in `checkpoints/` of the container's own directory or where the user
//! wants it. It does not hold the container's files: those are in its writable layer, as it was left. One that was not
//! completed has no `barque.json`, or none of CRIU's `inventory.img`, and is not listed.

use super::record::Container;
use super::supervise::{joined_kinds, runtime_error};
use super::{CheckpointOptions, Containers, StartCheckpoint};
use crate::error::{Context, Error, Kind, Result};
use barque_monitor::Client;
use barque_runtime::criu::{self, CriuOptions};
use barque_types::restart::RestartPolicy;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Of CRIU's files the one that every complete image has.
const INVENTORY: &str = "inventory.img";

impl Containers<'_> {
    /// Writes a checkpoint of a running container. Unless it is left running it has ended afterwards, as if stopped by
    /// the user. Must be called while the process has a single thread.
    ///
    /// # Errors
    /// The container does not run, the name is taken, CRIU is missing or fails: then it goes on.
    pub fn checkpoint(
        &self,
        name: &str,
        checkpoint: &str,
        options: &CheckpointOptions,
    ) -> Result<()> {
        check_name(checkpoint)?;
        let (container, lock) = self.find_locked(name)?;
        container.require_running()?;
        if container.config.request.auto_remove && !options.leave_running && options.dir.is_none() {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "container {name} was made with --rm: it would be removed, and its checkpoint with it; use --leave-running or --checkpoint-dir"
                ),
            ));
        }
        let dir = directory(&container, options.dir.as_deref());
        let path = dir.join(checkpoint);
        claim(&path, checkpoint, &container)?;
        let ending = match options.leave_running {
            true => None,
            false => Some(Ending::begin(self, &container)?),
        };
        let dumped = self.dump(&container, &path, options);
        if let Err(e) = dumped {
            if let Some(ending) = ending {
                ending.cancel(&container);
            }
            return Err(e);
        }
        // The monitor takes the lock to record the end.
        drop(lock);
        match ending {
            Some(ending) => self.await_end(ending, &container),
            None => Ok(()),
        }
    }

    fn dump(&self, container: &Container, path: &Path, options: &CheckpointOptions) -> Result<()> {
        let refused = |e: barque_runtime::Error| {
            Error::caused_by(
                Kind::System,
                format!("cannot checkpoint container {}", container.name()),
                runtime_error(e),
            )
        };
        let gone = || {
            Error::new(
                Kind::NotRunning,
                format!("Container {} is not running", container.id()),
            )
        };
        let init = container.state.init.as_ref().ok_or_else(gone)?;
        let pidfd = init.open()?.ok_or_else(gone)?;
        let facts = self.facts(container)?;
        let spec = super::lower::spec(&container.config, &facts)?;
        let group = self.cgroup_of(container)?;
        let mut paths = group.paths();
        let work = work(container);
        let dumped = criu::checkpoint(criu::CheckpointOptions {
            criu: CriuOptions {
                work_path: Some(&work),
                joined: joined_kinds(&container.config),
                ..CriuOptions::new(&options.criu, path)
            },
            pid: init.pid,
            pidfd: pidfd.as_fd(),
            spec: &spec,
            freezer: paths.remove("freezer").or_else(|| paths.remove("")),
            leave_running: options.leave_running,
            pre_dump: false,
            parent_path: None,
            tcp_skip_in_flight: false,
            link_remap: false,
            page_server: None,
            status_fd: None,
        });
        if let Err(e) = dumped {
            // Nothing that could be taken for a checkpoint; the log is elsewhere.
            let _ = crate::cleanup::remove_tree(path);
            return Err(refused(e));
        }
        if !options.leave_running {
            // What CRIU has killed while it stood still dies only when it goes on (v1).
            let _ = group.thaw();
        }
        Ok(())
    }

    /// Waits until the monitor has recorded the end, and has it be the user's wish.
    fn await_end(&self, mut ending: Ending, container: &Container) -> Result<()> {
        match ending
            .client
            .wait(barque_monitor::WaitCondition::NotRunning)
        {
            // Gone already: it has recorded it before.
            Ok(_) | Err(barque_monitor::Error::NotRunning { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let (mut now, _lock) = match self.find_locked(container.id()) {
            Err(e) if e.kind() == Kind::NoSuchContainer => return Ok(()),
            found => found?,
        };
        if now.state.status.is_live() {
            // Somebody has started it again meanwhile.
            return Ok(());
        }
        now.state.stopped_by_user = true;
        now.store_state()
    }

    /// The names of a container's checkpoints, sorted.
    ///
    /// # Errors
    /// The container does not exist, or the directory cannot be read.
    pub fn checkpoints(&self, name: &str, dir: Option<&Path>) -> Result<Vec<String>> {
        let container = self.find(name)?;
        let dir = directory(&container, dir);
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.while_("list", &dir)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.while_("list", &dir)?;
            let complete = entry.path().join(INVENTORY).exists();
            names.extend(entry.file_name().into_string().ok().filter(|_| complete));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// Neither the container nor the checkpoint may be missing.
    pub fn remove_checkpoint(
        &self,
        name: &str,
        checkpoint: &str,
        dir: Option<&Path>,
    ) -> Result<()> {
        check_name(checkpoint)?;
        let (container, _lock) = self.find_locked(name)?;
        let path = existing(&container, checkpoint, dir)?;
        if !is_ours(&path) {
            // With --checkpoint-dir / and the name etc, for example.
            return Err(Error::new(
                Kind::Invalid,
                format!("{} holds something else than a checkpoint", path.display()),
            ));
        }
        crate::cleanup::remove_tree(&path)
    }

    /// The directory of a checkpoint that a container is to be started from.
    pub(super) fn checkpoint_to_start(
        &self,
        container: &Container,
        from: &StartCheckpoint,
    ) -> Result<PathBuf> {
        check_name(&from.name)?;
        existing(container, &from.name, from.dir.as_deref())
    }
}

/// What makes the end of a container its last, for now: no restart policy is to bring it back.
struct Ending {
    client: Client,
}

impl Ending {
    fn begin(containers: &Containers<'_>, container: &Container) -> Result<Self> {
        let mut client = Client::connect(&containers.engine.run_dir(container.id()))?;
        client.set_restart_policy(RestartPolicy::default())?;
        Ok(Self { client })
    }

    /// It goes on.
    fn cancel(mut self, container: &Container) {
        // A monitor that cannot be told has ended, and its container with it.
        let _ = self
            .client
            .set_restart_policy(container.config.request.restart);
    }
}

/// Where CRIU's logs are, those of the last dump and the last restore.
pub(super) fn work(container: &Container) -> PathBuf {
    container.dir.join("criu")
}

fn directory(container: &Container, given: Option<&Path>) -> PathBuf {
    match given {
        Some(dir) => dir.to_owned(),
        None => container.dir.join("checkpoints"),
    }
}

/// Docker's rule for names.
fn check_name(name: &str) -> Result<()> {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    match first && name.len() > 1 && name.bytes().all(rest) {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Invalid,
            format!("Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        )),
    }
}

/// Makes the directory of a new checkpoint.
fn claim(path: &Path, name: &str, container: &Container) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    if let Some(parent) = path.parent() {
        builder
            .recursive(true)
            .create(parent)
            .while_("make", parent)?;
    }
    match builder.recursive(false).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::new(
            Kind::Conflict,
            match path.is_dir() {
                // What a killed command left is nobody's checkpoint.
                true if !path.join(INVENTORY).exists() && is_ours(path) => return Ok(()),
                true => format!(
                    "checkpoint with name {name} already exists for container {}",
                    container.name()
                ),
                false => format!("{} exists and is not a directory", path.display()),
            },
        )),
        made => made.while_("make", path),
    }
}

/// Whether nothing is in a directory but what a checkpoint consists of.
fn is_ours(path: &Path) -> bool {
    let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.all(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == "barque.json" || name == "dump.log" || name.ends_with(".img")
    })
}

fn existing(container: &Container, name: &str, dir: Option<&Path>) -> Result<PathBuf> {
    let path = directory(container, dir).join(name);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(Error::new(
            Kind::Invalid,
            format!("{} exists and is not a directory", path.display()),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            Kind::Invalid,
            format!(
                "checkpoint {name} does not exist for container {}",
                container.name()
            ),
        )),
        Err(e) => Err(e).while_("look at", &path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["c1", "a.b", "X-_"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "..", ".x", "a/b", "a b", "-x"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
