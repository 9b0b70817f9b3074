//! Containers: one file per verb.

mod api;

pub use api::*;

use crate::{Engine, Result};
use barque_types::container::{CreateContainer, ExecRequest};
use barque_types::docker::{Change, ContainerInspect, ContainerSummary};
use std::os::fd::BorrowedFd;

/// The container operations of an engine. Names are what the user typed: a name, an id or a unique id prefix.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'e> {
    pub(crate) engine: &'e Engine,
}

/// A client attached to a container's streams.
#[derive(Debug)]
pub struct Attachment {}

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

impl Attachment {
    /// Readable when `next_event` has something to say.
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
    /// The next event; blocks until there is one. `None`: the monitor hung up.
    pub fn next_event(&mut self) -> Result<Option<AttachEvent>> {
        todo!()
    }
    /// Sends bytes to the container's stdin.
    pub fn send_stdin(&mut self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }
    /// Closes the container's stdin (when it was made with `stdin_once`).
    pub fn close_stdin(&mut self) -> Result<()> {
        todo!()
    }
    /// Tells the terminal its size.
    pub fn resize(&mut self, _rows: u16, _cols: u16) -> Result<()> {
        todo!()
    }
}

impl Containers<'_> {
    /// Makes a container; `Kind::NoSuchImage` when its image is not here (the caller pulls and calls again).
    pub fn create(&self, _request: &CreateContainer) -> Result<Created> {
        todo!()
    }
    /// Starts it. Must be called while the process has a single thread (the monitor is forked).
    pub fn start(&self, _name: &str, _options: &StartOptions) -> Result<Started> {
        todo!()
    }
    /// Stops it; stopping a stopped container succeeds.
    pub fn stop(&self, _name: &str, _options: &StopOptions) -> Result<()> {
        todo!()
    }
    /// Stops and starts it.
    pub fn restart(&self, _name: &str, _options: &StopOptions) -> Result<()> {
        todo!()
    }
    /// Sends a signal to PID 1.
    pub fn kill(&self, _name: &str, _signal: &str) -> Result<()> {
        todo!()
    }
    /// Freezes all of its processes.
    pub fn pause(&self, _name: &str) -> Result<()> {
        todo!()
    }
    /// Thaws them.
    pub fn unpause(&self, _name: &str) -> Result<()> {
        todo!()
    }
    /// Waits; the exit code.
    pub fn wait(&self, _name: &str, _condition: WaitCondition) -> Result<i32> {
        todo!()
    }
    /// Attaches to a running container.
    pub fn attach(&self, _name: &str, _options: &AttachOptions) -> Result<Attachment> {
        todo!()
    }
    /// Removes it.
    pub fn remove(&self, _name: &str, _options: RemoveOptions) -> Result<()> {
        todo!()
    }
    /// Lists, newest first.
    pub fn list(&self, _options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        todo!()
    }
    /// Reads its log; calls `each` for every line, and stops when `each` returns false.
    pub fn logs(&self, _name: &str, _options: &LogOptions, _each: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        todo!()
    }
    /// Runs one more process in it. Must be called while the process has a single thread.
    pub fn exec(&self, _name: &str, _request: &ExecRequest) -> Result<ExecSession> {
        todo!()
    }
    /// All about it.
    pub fn inspect(&self, _name: &str, _size: bool) -> Result<ContainerInspect> {
        todo!()
    }
    /// What its writable layer changed, sorted by path.
    pub fn diff(&self, _name: &str) -> Result<Vec<Change>> {
        todo!()
    }
}

impl ExecSession {
    /// Waits for the process; its exit code (128 + n for signal n).
    pub fn wait(&mut self) -> Result<i32> {
        todo!()
    }
    /// Tells its terminal the size.
    pub fn resize(&self, _rows: u16, _cols: u16) -> Result<()> {
        todo!()
    }
}
