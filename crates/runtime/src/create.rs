//! The parent's side of making a container.

use crate::{CreateOptions, Result};
use std::os::fd::OwnedFd;

/// A container that is complete but for the execution of its program.
///
/// Dropping it kills the container.
#[derive(Debug)]
pub struct Created {
    /// The first process, as a pid of the caller's pid namespace.
    pub pid: i32,
    /// The same process, as a descriptor: readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master of its pseudo-terminal, with [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
}

/// A running process, child of the caller, who has to reap it.
#[derive(Debug)]
pub struct Running {
    /// As a pid of the caller's pid namespace.
    pub pid: i32,
    /// Readable when it has ended; `waitid(P_PIDFD)` reaps it.
    pub pidfd: OwnedFd,
    /// The master of its pseudo-terminal, with [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
}

/// Makes a container, up to the moment before its program is executed.
///
/// The caller must be single-threaded and becomes the parent; when it dies, the kernel kills the
/// container (`PR_SET_PDEATHSIG`).
pub fn create(options: CreateOptions<'_>) -> Result<Created> {
    Err(crate::Error::invalid(options.id, "not built yet"))
}

impl Created {
    /// Lets the container execute its program; returns when it has.
    pub fn start(self) -> Result<Running> {
        Err(crate::Error::invalid("start", "not built yet"))
    }
}
