//! `start`: forks the monitor, which makes the container run.

use super::record::Container;
use super::supervise::{Restore, Supervisor};
use super::{Attachment, Containers, StartOptions, Started, logging};
use crate::error::{Error, Kind, Result};
use barque_monitor::{Config, LogConfig};
use barque_types::docker::Status;
use barque_types::signal;

/// Docker's default.
const SIGTERM: i32 = 15;

impl Containers<'_> {
    /// Starts it. Must be called while the process has a single thread (the monitor is forked).
    /// Starting a running container succeeds, and attaches if asked to.
    pub fn start(&self, name: &str, options: &StartOptions) -> Result<Started> {
        let (mut container, lock) = self.find_locked(name)?;
        match container.state.status {
            Status::Running | Status::Restarting => {
                drop(lock);
                let attachment = match &options.attach {
                    Some(attach) => Some(self.attach(container.id(), attach)?),
                    None => None,
                };
                return Ok(Started {
                    attachment,
                    warnings: Vec::new(),
                });
            }
            Status::Paused => {
                return Err(Error::new(
                    Kind::Conflict,
                    "cannot start a paused container, try unpause instead",
                ));
            }
            _ => {}
        }
        let restore = match &options.checkpoint {
            Some(from) => Some(Restore {
                image: self.checkpoint_to_start(&container, from)?,
                criu: from.criu.clone(),
            }),
            None => None,
        };
        let config = self.monitor_config(&container, options)?;
        let engine = self.engine.for_forked_process();
        // A manual start begins to count again.
        container.state.restart_count = 0;
        let supervisor = Supervisor::new(engine, container.clone(), lock.share()?, restore);
        let attach = options.attach.as_ref().map(super::attach::options);
        match barque_monitor::spawn(config, supervisor, attach) {
            Ok(spawned) => Ok(Started {
                attachment: spawned.attachment.map(Attachment::new),
                warnings: spawned.warnings,
            }),
            Err(e) => Err(self.record_failure(container, e)),
        }
    }

    fn monitor_config(&self, container: &Container, options: &StartOptions) -> Result<Config> {
        let request = &container.config.request;
        Ok(Config {
            id: container.id().to_owned(),
            run_dir: self.engine.run.make_container(container.id())?,
            tty: request.tty,
            open_stdin: request.open_stdin,
            stdin_once: request.stdin_once,
            console_size: options.console_size,
            restart: request.restart,
            restart_count: 0,
            stop_signal: stop_signal(container),
            log: logging::options(&request.log)?.map(|limits| LogConfig {
                path: self.engine.data.container_log(container.id()),
                max_size: limits.max_size,
                max_files: limits.max_files,
            }),
        })
    }

    /// The container stays (unless made with `--rm`), with the reason in its state. Docker's exit codes.
    fn record_failure(&self, mut container: Container, e: barque_monitor::Error) -> Error {
        let foreign = matches!(e, barque_monitor::Error::AlreadyRunning { .. });
        let e = Error::from(e);
        if foreign {
            // Not ours to clean up after: another process's monitor holds the run directory.
            return e;
        }
        let state = &mut container.state;
        state.status = if state.started_at.is_never() {
            Status::Created
        } else {
            Status::Exited
        };
        state.error = e.to_string();
        state.exit_code = match e.kind() {
            Kind::CommandNotFound => 127,
            Kind::NotExecutable => 126,
            _ => 128,
        };
        (state.init, state.monitor, state.cgroup) = (None, None, None);
        // The monitor cleans up after a start that fails, but it may have been killed.
        let cleaned = crate::cleanup::after_run(self.engine, &container);
        let recorded = cleaned.and(match container.config.request.auto_remove {
            true => self.engine.remove_container(&container),
            false => container.store_state(),
        });
        if let Err(second) = recorded {
            tracing::warn!(container = container.id(), error = %second, "left for the next command's sweep");
        }
        e
    }
}

/// The signal that `stop` sends.
pub(super) fn stop_signal(container: &Container) -> i32 {
    container
        .config
        .process
        .stop_signal
        .as_deref()
        .and_then(signal::parse)
        .unwrap_or(SIGTERM)
}
