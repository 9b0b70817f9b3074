//! `attach`: a client on a container's streams.

use super::{AttachOptions, Containers};
use crate::error::{Error, Kind, Result};
use barque_monitor::{Client, Event, SlowClient};
use barque_types::docker::Status;
use std::os::fd::{AsFd, BorrowedFd};

/// A client attached to a container's streams.
#[derive(Debug)]
pub struct Attachment {
    inner: barque_monitor::Attachment,
}

/// What an attachment delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEvent {
    /// Bytes of stdout (of the terminal, when there is one).
    Stdout(Vec<u8>),
    /// Bytes of stderr.
    Stderr(Vec<u8>),
    /// The container ended with this code (128 + n for signal n) and, with `--rm`, is gone.
    Exited(i32),
}

/// The monitor's form of our options. Docker's semantic: a slow client slows the container, nothing is lost.
pub(super) fn options(options: &AttachOptions) -> barque_monitor::AttachOptions {
    barque_monitor::AttachOptions {
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        slow: SlowClient::Wait,
    }
}

impl Containers<'_> {
    /// Attaches to a running container.
    pub fn attach(&self, name: &str, attach: &AttachOptions) -> Result<Attachment> {
        let container = self.find(name)?;
        match container.state.status {
            Status::Running | Status::Restarting => {}
            Status::Paused => {
                return Err(Error::new(
                    Kind::Conflict,
                    "You cannot attach to a paused container, unpause it first",
                ));
            }
            _ => {
                return Err(Error::new(
                    Kind::NotRunning,
                    "You cannot attach to a stopped container, start it first",
                ));
            }
        }
        let client = Client::connect(&self.engine.run_dir(container.id()))?;
        Ok(Attachment::new(client.attach(options(attach))?))
    }
}

impl Attachment {
    pub(super) fn new(inner: barque_monitor::Attachment) -> Self {
        Self { inner }
    }

    /// Readable when `next_event` has something to say.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }

    /// The next event; blocks until there is one. `None`: the monitor hung up.
    pub fn next_event(&mut self) -> Result<Option<AttachEvent>> {
        Ok(self.inner.next_event()?.map(|event| match event {
            Event::Stdout(bytes) => AttachEvent::Stdout(bytes),
            Event::Stderr(bytes) => AttachEvent::Stderr(bytes),
            Event::Exit(exit) => AttachEvent::Exited(exit.code),
        }))
    }

    /// Whether stdin bytes wait to be sent: poll for writing, too, and [`Attachment::flush`] then; send no
    /// more meanwhile.
    pub fn has_unsent(&self) -> bool {
        self.inner.has_unsent()
    }

    /// Sends what waits, as far as the connection takes it.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.inner.flush()?)
    }

    /// Sends bytes to the container's stdin; never blocks (see [`Attachment::has_unsent`]).
    pub fn send_stdin(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.inner.send_stdin(bytes)?)
    }

    /// Closes the container's stdin (when it was made with `stdin_once`).
    pub fn close_stdin(&mut self) -> Result<()> {
        Ok(self.inner.close_stdin()?)
    }

    /// Tells the terminal its size.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        Ok(self.inner.resize(rows, cols)?)
    }
}
