//! Finding containers on disk, and telling the truth about those whose supervisor died.

use super::Containers;
use super::record::{Config, Container, RunState};
use crate::error::{Context, Error, Kind, Result};
use crate::{Engine, cleanup};
use barque_state::lock::FileLock;
use barque_state::{Durability, record};
use barque_types::docker::Status;
use barque_types::id::ContainerId;
use std::path::Path;

/// The lock of one container: held while its records, or the container itself, are changed.
#[derive(Debug)]
pub(crate) struct ContainerLock(#[allow(dead_code, reason = "held, not used")] FileLock);

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
        let Some(config) = record::load::<Config>(&dir.join("config.json"))? else {
            return Ok(None);
        };
        let state = load_state(&dir)?;
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

/// A container without a state file was made by a crashed `create` whose record survived: it never ran.
pub(crate) fn load_state(dir: &Path) -> Result<RunState> {
    Ok(record::load(&dir.join("state.json"))?.unwrap_or_default())
}

impl Container {
    /// Replaces the state on disk. The caller holds the lock (or is the supervisor in whose name it is held).
    pub(crate) fn store_state(&self) -> Result<()> {
        record::store(&self.dir.join("state.json"), &self.state, Durability::None)?;
        Ok(())
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
