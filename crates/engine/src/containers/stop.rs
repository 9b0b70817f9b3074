//! `stop`, `restart`, `kill` and `wait`: asked of the container's monitor.
//!
//! No lock is held while the monitor works: it takes the container's lock to record the end.

use super::record::Container;
use super::start::stop_signal;
use super::{Containers, StartOptions, StopOptions, WaitCondition};
use crate::error::{Context, Error, Kind, Result};
use barque_monitor::Client;
use barque_types::docker::Status;
use barque_types::signal;
use rustix::fs::inotify;
use std::time::Duration;

/// Docker's default.
const STOP_TIMEOUT_SECS: i64 = 10;

/// A file in the directory of a container that is being restarted: its monitor does not remove it.
pub(super) const KEEP: &str = "keep";

impl Containers<'_> {
    /// Stops it; stopping a stopped container succeeds. A process that cannot hear the stop signal
    /// (PID 1 without a handler) is killed at once instead of after the timeout.
    pub fn stop(&self, name: &str, options: &StopOptions) -> Result<()> {
        let container = self.find(name)?;
        if !container.state.status.is_live() {
            return Ok(());
        }
        let number = match &options.signal {
            Some(text) => parse_signal(text)?,
            None => stop_signal(&container),
        };
        let seconds = options
            .timeout
            .or(container.config.request.stop_timeout)
            .unwrap_or(STOP_TIMEOUT_SECS);
        let timeout = u64::try_from(seconds).ok().map(Duration::from_secs);
        self.thaw_for_the_end(&container)?;
        match self
            .client(&container)
            .and_then(|mut client| Ok(client.stop(number, timeout)?))
        {
            // It ended by itself, between our look and our word.
            Err(e) if e.kind() == Kind::NotRunning => Ok(()),
            done => done.map(drop),
        }
    }

    /// Stops and starts it. A container made with `--rm` is kept, for it is not over.
    pub fn restart(&self, name: &str, options: &StopOptions) -> Result<()> {
        let container = self.find(name)?;
        let keep = container.dir.join(KEEP);
        std::fs::write(&keep, "").while_("mark for restart", &keep)?;
        let restarted = self
            .stop(container.id(), options)
            .and_then(|()| self.start(container.id(), &StartOptions::default()));
        match std::fs::remove_file(&keep) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).while_("remove", &keep),
            _ => restarted.map(drop),
        }
    }

    /// Sends a signal to PID 1.
    pub fn kill(&self, name: &str, text: &str) -> Result<()> {
        let number = parse_signal(text)?;
        let container = self.find(name)?;
        if !container.state.status.is_live() {
            return Err(Error::new(
                Kind::NotRunning,
                format!(
                    "cannot kill container: {name}: container {} is not running",
                    container.id()
                ),
            ));
        }
        if number == KILL {
            self.thaw_for_the_end(&container)?;
        }
        match self
            .client(&container)
            .and_then(|mut client| Ok(client.kill(number)?))
        {
            Err(e) if e.kind() == Kind::NotRunning => Err(Error::new(
                Kind::NotRunning,
                format!(
                    "cannot kill container: {name}: container {} is not running",
                    container.id()
                ),
            )),
            done => done.map(drop),
        }
    }

    /// Waits; the exit code.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<i32> {
        let mut container = self.find(name)?;
        let mut live = container.state.status.is_live();
        if !live && condition == WaitCondition::NotRunning {
            return Ok(container.state.exit_code);
        }
        if !live && condition == WaitCondition::NextExit {
            container =
                self.wait_until(&container, |c| c.is_some_and(|c| c.state.status.is_live()))?;
            live = true;
        }
        let mut code = container.state.exit_code;
        if live {
            code = self.wait_for_exit(&container, condition)?;
        }
        if condition == WaitCondition::Removed {
            self.wait_until(&container, |c| c.is_none())?;
        }
        Ok(code)
    }

    fn wait_for_exit(&self, container: &Container, condition: WaitCondition) -> Result<i32> {
        let condition = match condition {
            WaitCondition::NextExit => barque_monitor::WaitCondition::NextExit,
            _ => barque_monitor::WaitCondition::NotRunning,
        };
        match self
            .client(container)
            .and_then(|mut client| Ok(client.wait(condition)?))
        {
            Ok(exit) => Ok(exit.code),
            // Over already: what the record says now.
            Err(e) if e.kind() == Kind::NotRunning => Ok(self
                .engine
                .load(container.id())?
                .map_or(container.state.exit_code, |c| c.state.exit_code)),
            Err(e) => Err(e),
        }
    }

    /// Watches the container's directory until `holds`; what it was then (the last that was seen, when it is gone).
    fn wait_until(
        &self,
        container: &Container,
        holds: impl Fn(Option<&Container>) -> bool,
    ) -> Result<Container> {
        let dir = &container.dir;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).while_("watch", dir)?;
        let events = inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::DELETE_SELF;
        let watched = inotify::add_watch(&watch, dir, events);
        let mut last = container.clone();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        loop {
            let now = self.engine.load(container.id())?;
            if holds(now.as_ref()) {
                return Ok(now.unwrap_or(last));
            }
            match now {
                Some(now) => last = now,
                None => return Err(Error::no_such_container(container.id())),
            }
            // Only now: an error means that the directory is gone, and the load above says so first.
            watched.as_ref().map_err(|e| *e).while_("watch", dir)?;
            inotify::Reader::new(&watch, &mut buffer)
                .next()
                .while_("watch", dir)?;
        }
    }

    /// A frozen process hears nothing, not even SIGKILL on cgroup v1, so whoever ends it thaws it.
    fn thaw_for_the_end(&self, container: &Container) -> Result<()> {
        if container.state.status != Status::Paused {
            return Ok(());
        }
        match self.unpause(container.id()) {
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

    fn client(&self, container: &Container) -> Result<Client> {
        Ok(Client::connect(&self.engine.run_dir(container.id()))?)
    }
}

/// SIGKILL.
const KILL: i32 = 9;

fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::new(Kind::Invalid, format!("invalid signal: {text}")))
}
