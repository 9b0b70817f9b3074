//! `rm`.

use super::record::Container;
use super::{Containers, RemoveOptions, StopOptions};
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use barque_types::docker::Status;

/// How often a container that others start again and again is killed before it is left to them.
const ATTEMPTS: usize = 10;

impl Containers<'_> {
    /// Removes it: its record, its name, its writable layer and its log.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        if !options.force {
            let (container, _lock) = self.find_locked(name)?;
            return match container.state.status.is_live() {
                true => Err(in_the_way(&container)),
                false => self.engine.remove_container(&container),
            };
        }
        // By id from here on: the name may pass to another container.
        let id = self.engine.resolve_id(name)?;
        for _ in 0..ATTEMPTS {
            match self.kill_and_remove(&id) {
                // Somebody started it between the two steps.
                Err(e) if e.kind() == Kind::Conflict => {}
                Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::NoSuchContainer) => {
                    return self.remove_unreadable(&id);
                }
                done => return done,
            }
        }
        Err(Error::new(
            Kind::Conflict,
            format!(
                "cannot remove container {id}: somebody starts it whenever it is killed; end that first"
            ),
        ))
    }

    fn kill_and_remove(&self, id: &str) -> Result<()> {
        let kill = StopOptions {
            signal: Some("KILL".to_owned()),
            timeout: Some(10),
        };
        self.stop(id, &kill)?;
        let (container, _lock) = self.find_locked(id)?;
        match container.state.status.is_live() {
            true => Err(in_the_way(&container)),
            false => self.engine.remove_container(&container),
        }
    }

    /// Removes what there is of a container whose record is damaged or missing.
    fn remove_unreadable(&self, id: &str) -> Result<()> {
        // Waits for whoever makes or removes it just now.
        let journal = Journal::begin(&self.engine.data, id)?;
        let damaged = match self.engine.load(id) {
            Ok(None) => true,
            Err(e) => e.kind() == Kind::Corrupt,
            Ok(Some(_)) => false,
        };
        if damaged {
            self.engine.purge(id)?;
        }
        journal.done();
        match damaged {
            true => Ok(()),
            false => self.kill_and_remove(id),
        }
    }
}

fn in_the_way(container: &Container) -> Error {
    let status = container.state.status;
    let advice = match status {
        Status::Paused => "Unpause and then stop the container before removal or force remove",
        _ => "stop the container before removal or force remove",
    };
    Error::new(
        Kind::Conflict,
        format!(
            "cannot remove container \"/{}\": container is {status}: {advice}",
            container.name()
        ),
    )
}
