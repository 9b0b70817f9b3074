//! `stop`, `restart`, `kill` and `wait`: asked of the container's monitor.
//!
//! No lock is held while the monitor works: it takes the container's lock to record the end.

use super::record::Container;
use super::start::stop_signal;
use super::{Containers, StartOptions, StopOptions, WaitCondition};
use crate::error::{Context, Error, Kind, Result};
use barque_monitor::Client;
use barque_state::lock::FileLock;
use barque_types::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::time::Duration;

/// Docker's default.
const STOP_TIMEOUT_SECS: i64 = 10;

/// How often whoever waits for a container's end looks whether it was paused.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// A file in the directory of a container that is being restarted, locked by the command that does it: the
/// monitor does not remove such a container, unless that command was killed.
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
        let stopped = self.client(&container).and_then(|mut client| {
            client.begin_stop(number, timeout)?;
            self.await_stop(&mut client, container.id())
        });
        match stopped {
            Err(e) if e.kind() == Kind::NotRunning => self.must_have_ended(&container),
            done => done,
        }
    }

    /// Waits for the monitor's answer; whoever has paused the container, or does so meanwhile, is overruled.
    fn await_stop(&self, client: &mut Client, id: &str) -> Result<()> {
        loop {
            self.thaw_for_the_end(id)?;
            let mut answer = [PollFd::new(client, PollFlags::IN)];
            match poll(&mut answer, Some(&GLANCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                _ => return Ok(client.finish_stop()?),
            }
        }
    }

    /// Its monitor hung up, or is not there: then it ended by itself, between our look and our word.
    fn must_have_ended(&self, container: &Container) -> Result<()> {
        match self.engine.load(container.id())? {
            Some(now)
                if now.state.status.is_live()
                    && now.state.started_at == container.state.started_at =>
            {
                Err(Error::new(
                    Kind::System,
                    format!(
                        "the monitor of container {} does not answer in {}: was the container started with another --run-root?",
                        container.id(),
                        self.engine.run_dir(container.id()).display()
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Stops and starts it. A container made with `--rm` is kept, for it is not over.
    pub fn restart(&self, name: &str, options: &StopOptions) -> Result<()> {
        let container = self.find(name)?;
        let keep = container.dir.join(KEEP);
        let lock = FileLock::exclusive(&keep)?;
        let restarted = self
            .stop(container.id(), options)
            .and_then(|()| self.start(container.id(), &StartOptions::default()));
        let removed = std::fs::remove_file(&keep);
        drop(lock);
        match removed {
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
        let killed = self.client(&container).and_then(|mut client| {
            client.kill(number)?;
            match number {
                KILL => self.thaw_for_the_end(container.id()),
                _ => Ok(()),
            }
        });
        match killed {
            Err(e) if e.kind() == Kind::NotRunning => Err(Error::new(
                Kind::NotRunning,
                format!(
                    "cannot kill container: {name}: container {} is not running",
                    container.id()
                ),
            )),
            done => done,
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
            // It may have ended again before we look.
            let before = container.state.started_at;
            container = self.wait_until(&container, |c| {
                c.is_some_and(|c| c.state.started_at != before)
            })?;
            live = container.state.status.is_live();
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
            Err(e) if e.kind() == Kind::NotRunning => {
                self.must_have_ended(container)?;
                let now = self.engine.load(container.id())?;
                Ok(now.map_or(container.state.exit_code, |c| c.state.exit_code))
            }
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

    fn client(&self, container: &Container) -> Result<Client> {
        Ok(Client::connect(&self.engine.run_dir(container.id()))?)
    }
}

/// SIGKILL.
const KILL: i32 = 9;

fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::new(Kind::Invalid, format!("invalid signal: {text}")))
}
