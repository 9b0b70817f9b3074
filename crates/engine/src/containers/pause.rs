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
        // Recorded first: a container that is frozen and does not say so could be neither thawed nor ended.
        container.state.status = Status::Paused;
        container.store_state()?;
        if let Err(e) = self.cgroup_of(&container)?.freeze(FREEZE_PATIENCE) {
            container.state.status = Status::Running;
            container.store_state()?;
            return Err(e.into());
        }
        Ok(())
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

    /// Lets the dying run: a frozen process hears nothing, not even SIGKILL on cgroup v1.
    pub(super) fn thaw_for_the_end(&self, id: &str) -> Result<()> {
        match self.engine.load(id)? {
            Some(container) if container.state.status == Status::Paused => {}
            _ => return Ok(()),
        }
        match self.unpause(id) {
            // Somebody else thawed it, or it is gone.
            Err(e)
                if matches!(
                    e.kind(),
                    Kind::Conflict | Kind::NotRunning | Kind::NoSuchContainer
                ) =>
            {
                Ok(())
            }
            done => done,
        }
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
