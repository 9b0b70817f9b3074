//! Finding containers on disk, and telling the truth about those whose supervisor died.

use super::Containers;
use super::record::{Config, Container, RunState};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::Journal;
use crate::{Engine, cleanup};
use barque_state::lock::FileLock;
use barque_state::{Durability, record};
use barque_types::docker::Status;
use barque_types::id::ContainerId;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The lock of one container: held while its records, or the container itself, are changed.
#[derive(Debug)]
pub(crate) struct ContainerLock(FileLock);

impl ContainerLock {
    /// One more holder, for the monitor that is forked under it.
    pub fn share(&self) -> Result<Self> {
        Ok(Self(self.0.share()?))
    }
}

impl AsFd for ContainerLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Engine {
    /// Loads a container by its full id; `None` when there is none. One that lost its monitor is buried first.
    pub(crate) fn load(&self, id: &str) -> Result<Option<Container>> {
        match self.load_unhealed(id)? {
            Some(container) if self.is_lost(&container)? => match self.lock(&container) {
                Ok(_lock) => self.load_locked(id),
                // Removed by somebody else meanwhile.
                Err(e) if e.kind() == Kind::NoSuchContainer => Ok(None),
                Err(e) => Err(e),
            },
            loaded => Ok(loaded),
        }
    }

    /// The same for whoever holds the container's lock.
    pub(crate) fn load_locked(&self, id: &str) -> Result<Option<Container>> {
        match self.load_unhealed(id)? {
            Some(container) if self.is_lost(&container)? => cleanup::bury(self, container),
            loaded => Ok(loaded),
        }
    }

    fn is_lost(&self, container: &Container) -> Result<bool> {
        Ok(container.state.status.is_live() && !cleanup::is_supervised(container)?)
    }

    fn load_unhealed(&self, id: &str) -> Result<Option<Container>> {
        let dir = self.data.container(id);
        let path = dir.join("config.json");
        let config = match record::load::<Config>(&path) {
            Ok(Some(config)) => config,
            Ok(None) => return Ok(None),
            Err(_) if was_never_on_disk(&path) => {
                // Held: somebody removes it already.
                if let Some(journal) = Journal::try_begin(&self.data, id)? {
                    self.purge(id)?;
                    journal.done();
                }
                return Ok(None);
            }
            Err(e) => return Err(unreadable(id, e)),
        };
        let state = load_state(&dir).map_err(|e| unreadable(id, e))?;
        Ok(Some(Container { config, state, dir }))
    }

    /// Takes a container's lock. Fails with `NoSuchContainer` when it was removed meanwhile.
    pub(crate) fn lock(&self, container: &Container) -> Result<ContainerLock> {
        lock_dir(&container.dir, container.name())
    }

    /// Ids of all containers, in no order.
    pub(crate) fn container_ids(&self) -> Result<Vec<String>> {
        let dir = self.data.containers();
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&dir).while_("list", &dir)? {
            let name = entry.while_("list", &dir)?.file_name();
            if let Some(id) = name.to_str().filter(|id| id.parse::<ContainerId>().is_ok()) {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }

    /// All containers that can be read, and the errors of those that cannot.
    pub(crate) fn load_all(&self) -> Result<(Vec<Container>, Vec<Error>)> {
        let (mut containers, mut errors) = (Vec::new(), Vec::new());
        for id in self.container_ids()? {
            match self.load(&id) {
                Ok(Some(container)) => containers.push(container),
                Ok(None) => {}
                Err(e) => errors.push(e),
            }
        }
        Ok((containers, errors))
    }

    /// The id that a user's word means: a full id, a name, or the unique beginning of an id (Docker's order).
    pub(crate) fn resolve_id(&self, word: &str) -> Result<String> {
        if word.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "a container name or id must not be empty",
            ));
        }
        if word.parse::<ContainerId>().is_ok()
            && self.data.container(word).join("config.json").exists()
        {
            return Ok(word.to_owned());
        }
        let name = word.strip_prefix('/').unwrap_or(word);
        if let Some(id) = self.names.resolve(name)? {
            return Ok(id);
        }
        let hex = word
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        let mut matching = match hex {
            true => self.container_ids()?,
            false => Vec::new(),
        };
        matching.retain(|id| id.starts_with(word));
        match matching.as_slice() {
            [] => Err(Error::no_such_container(word)),
            [id] => Ok(id.clone()),
            many => Err(Error::new(
                Kind::Invalid,
                format!(
                    "{word} is the beginning of {} container ids: type more of it",
                    many.len()
                ),
            )),
        }
    }
}

impl Containers<'_> {
    /// The container that a user's word means.
    pub(crate) fn find(&self, word: &str) -> Result<Container> {
        let id = self.engine.resolve_id(word)?;
        self.engine
            .load(&id)?
            .ok_or_else(|| Error::no_such_container(word))
    }

    /// The same, locked, with the state as it is under the lock.
    pub(crate) fn find_locked(&self, word: &str) -> Result<(Container, ContainerLock)> {
        let container = self.find(word)?;
        let lock = self.engine.lock(&container)?;
        // It may have changed, or gone, while we waited.
        let container = self
            .engine
            .load_locked(container.id())?
            .ok_or_else(|| Error::no_such_container(word))?;
        Ok((container, lock))
    }
}

pub(crate) fn lock_dir(dir: &Path, name: &str) -> Result<ContainerLock> {
    match FileLock::exclusive(&dir.join("lock")) {
        Ok(lock) => Ok(ContainerLock(lock)),
        Err(e) if e.is_not_found() => Err(Error::no_such_container(name)),
        Err(e) => Err(e.into()),
    }
}

/// An empty state is one whose content a power cut took (states are not synced): all that it said of is over.
pub(crate) fn load_state(dir: &Path) -> barque_state::Result<RunState> {
    let path = dir.join("state.json");
    match record::load(&path) {
        Err(barque_state::Error::Corrupt { .. }) if is_empty(&path) => Ok(RunState::default()),
        loaded => Ok(loaded?.unwrap_or_default()),
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0)
}

/// Whether a configuration is empty since before this boot: a power cut came before its content was on the
/// disk. Then `create` had not returned, for it syncs it, or it was a `--rm` container's, of which nothing
/// should be left after a boot.
fn was_never_on_disk(path: &Path) -> bool {
    let uptime = u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0);
    let changed = std::fs::metadata(path).and_then(|meta| meta.modified());
    is_empty(path)
        && changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > uptime + 1))
}

fn unreadable(id: &str, e: barque_state::Error) -> Error {
    match e {
        barque_state::Error::Corrupt { path, reason, .. } => Error::new(
            Kind::Corrupt,
            format!(
                "the record {} of container {id} is corrupt ({reason}): restore it from a backup, or remove the container with rm -f",
                path.display()
            ),
        ),
        other => other.into(),
    }
}

impl Container {
    /// Replaces the state on disk. The caller holds the lock (or is the supervisor in whose name it is held).
    pub(crate) fn store_state(&self) -> Result<()> {
        let path = self.dir.join("state.json");
        match record::store(&path, &self.state, Durability::None) {
            // A container's end must be known, also when its own output filled the disk.
            Err(e) if e.is_disk_full() => Ok(record::overwrite(&path, &self.state)?),
            stored => Ok(stored?),
        }
    }

    /// `Kind::NotRunning` unless it has a process.
    pub(crate) fn require_running(&self) -> Result<()> {
        match self.state.status {
            Status::Running | Status::Paused => Ok(()),
            Status::Restarting => Err(Error::new(
                Kind::Conflict,
                format!(
                    "Container {} is restarting, wait until the container is running",
                    self.id()
                ),
            )),
            _ => Err(Error::new(
                Kind::NotRunning,
                format!("Container {} is not running", self.id()),
            )),
        }
    }
}
