//! `pause` and `unpause`: the freezer of the container's cgroup.

use super::Containers;
use super::record::Container;
use crate::error::{Error, Kind, Result};
use barque_cgroup::Cgroup;
use barque_types::docker::Status;
use std::time::Duration;

/// How long the tasks of a group may take to reach the freezer.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

impl Containers<'_> {
    /// Freezes all of its processes.
    pub fn pause(&self, name: &str) -> Result<()> {
        let (mut container, _lock) = self.find_locked(name)?;
        if container.state.status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("Container {name} is already paused"),
            ));
        }
        container.require_running()?;
        self.cgroup_of(&container)?.freeze(FREEZE_PATIENCE)?;
        container.state.status = Status::Paused;
        container.store_state()
    }

    /// Thaws them.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let (mut container, _lock) = self.find_locked(name)?;
        if container.state.status != Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("Container {name} is not paused"),
            ));
        }
        self.cgroup_of(&container)?.thaw()?;
        container.state.status = Status::Running;
        container.store_state()
    }

    /// The cgroup of a running container.
    pub(super) fn cgroup_of(&self, container: &Container) -> Result<Cgroup> {
        let Some(path) = container.state.cgroup.as_deref() else {
            return Err(Error::new(
                Kind::NotRunning,
                format!("Container {} is not running", container.id()),
            ));
        };
        Ok(Cgroup::open(self.engine.cgroups()?, path)?)
    }
}
