//! `rm`.

use super::{Containers, RemoveOptions, StopOptions};
use crate::error::{Error, Kind, Result};
use barque_types::docker::Status;

impl Containers<'_> {
    /// Removes it: its record, its name, its writable layer and its log.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let container = self.find(name)?;
        if container.state.status.is_live() {
            let what = container.state.status;
            if !options.force {
                let advice = match what {
                    Status::Paused => {
                        "Unpause and then stop the container before removal or force remove"
                    }
                    _ => "stop the container before removal or force remove",
                };
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "cannot remove container \"/{}\": container is {what}: {advice}",
                        container.name()
                    ),
                ));
            }
            let kill = StopOptions {
                signal: Some("KILL".to_owned()),
                timeout: Some(10),
            };
            match self.stop(container.id(), &kill) {
                // It ended, or was removed (`--rm`), by itself.
                Ok(()) => {}
                Err(e) if e.kind() == Kind::NoSuchContainer => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        let (container, _lock) = match self.find_locked(container.id()) {
            Err(e) if e.kind() == Kind::NoSuchContainer && options.force => return Ok(()),
            found => found?,
        };
        if container.state.status.is_live() {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "cannot remove container \"/{}\": somebody started it again",
                    container.name()
                ),
            ));
        }
        self.engine.remove_container(&container)
    }
}
