//! The seam between the monitor and the engine: what the engine hands in, and what it is told.
//!
//! Everything on [`Supervised`] runs inside the monitor process, one call at a time, in this order:
//!
//! ```text
//! start ─→ (PID 1 runs) ─→ init_ended ─→ (pipes drained) ─→ ended ─┬─ restart: wait ─→ start …
//!    └─ error: the monitor leaves, nothing more is called          └─ else: finished ─→ the monitor leaves
//! ```
//! While a call runs the monitor pumps nothing and answers nobody; calls should take milliseconds. None
//! may take a lock that a client holds while it waits for the monitor's answer.

use barque_types::restart::RestartPolicy;
use barque_types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::ExitStatus;

/// What the monitor needs to know. Plain data, so that a multi-threaded caller can one day pass it to
/// an exec'd monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The container's id; `ps` shows its first twelve characters.
    pub id: String,
    /// The container's directory in the run root; exists, absolute. The socket and the lock lie in it.
    pub run_dir: PathBuf,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Whether its stdin is open (`-i`); else it reads /dev/null.
    pub open_stdin: bool,
    /// Whether stdin is closed when the first attached client ends its own (Docker's `StdinOnce`).
    pub stdin_once: bool,
    /// First size of the terminal, rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// What happens when PID 1 ends by itself.
    pub restart: RestartPolicy,
    /// How often the container was restarted before (Docker starts at 0 on each manual start).
    pub restart_count: u32,
    /// The stop signal; a `kill` with it counts as a manual stop, as SIGKILL does.
    pub stop_signal: i32,
    /// Where output is logged; `None` for Docker's driver `none`.
    pub log: Option<LogConfig>,
}

/// Where and how much to log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The newest file; older ones get the suffixes `.1`, `.2`, …. Made with the first output.
    pub path: PathBuf,
    /// Bytes per file; `None` never rotates.
    pub max_size: Option<u64>,
    /// Files kept in all, at least 1. `max_size * max_files` is never exceeded on disk.
    pub max_files: u32,
}

/// The container's ends of its stdio.
#[derive(Debug)]
pub enum ContainerIo {
    /// Three fds for 0, 1 and 2 (stdin is /dev/null when it is not open).
    Fds {
        /// For fd 0.
        stdin: OwnedFd,
        /// For fd 1.
        stdout: OwnedFd,
        /// For fd 2.
        stderr: OwnedFd,
    },
    /// A terminal, which [`Supervised::start`] makes and whose master it returns.
    Terminal {
        /// Its first size, rows and columns.
        size: Option<(u16, u16)>,
    },
}

/// One request to start the container.
#[derive(Debug)]
pub struct StartRequest {
    /// Its stdio.
    pub io: ContainerIo,
    /// 0 at first; how often it has been restarted by policy since (on top of [`Config::restart_count`]).
    pub restart_count: u32,
}

/// A started container.
#[derive(Debug)]
pub struct Started {
    /// PID 1, a child of the monitor, as the monitor's pid namespace sees it.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The terminal's master side, with [`ContainerIo::Terminal`].
    pub console: Option<OwnedFd>,
    /// What the user should know, each one line; handed to the spawning caller.
    pub warnings: Vec<String>,
}

/// Why a container did not start: what the front-end prints and exits with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartError {
    /// One line for the user.
    pub message: String,
    /// Docker's exit code: 125, 126 (not executable), 127 (not found).
    pub exit_code: i32,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One run of the container is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How PID 1 ended.
    pub exit: ExitStatus,
    /// When it was started.
    pub started_at: Timestamp,
    /// When its end was seen.
    pub ended_at: Timestamp,
    /// Whether somebody asked for it (`stop`, or `kill` with SIGKILL or the stop signal).
    pub stop_requested: bool,
    /// What comes next: `None` is [`Supervised::finished`].
    pub restart: Option<Restart>,
}

/// The restart policy starts the container again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// After this pause.
    pub after: Duration,
    /// The value of `RestartCount` from then on.
    pub count: u32,
}

/// Why the monitor leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// PID 1 ended and is not restarted; `ended` has been called for it.
    Ended,
    /// The container was stopped during the pause before a restart.
    RestartCancelled,
    /// The restart failed.
    RestartFailed(StartError),
}

/// What the engine hands in. The value is moved into the monitor by fork: the caller's process drops its
/// copy, so dropping it must do nothing but close fds.
pub trait Supervised {
    /// The fds that this value uses in the monitor; all others are closed after the fork.
    fn keep_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Makes and starts the container. On failure it must have undone everything: when the first start
    /// fails nothing more is called.
    fn start(&mut self, request: StartRequest) -> Result<Started, StartError>;

    /// PID 1 has ended and was reaped. Kill what else is left of the container: with a shared pid
    /// namespace (`--pid host`) its descendants live on and hold the output pipes open. (The monitor is
    /// no subreaper: such orphans go to the host's init, as they do under Docker.)
    fn init_ended(&mut self) {}

    /// A run is over and its output is in the log. Record the exit; clients are told after this returns.
    fn ended(&mut self, ended: &Ended);

    /// The container will not be started again by this monitor: last cleaning up, removal with `--rm`.
    /// The socket is closed after this and before clients hear of the end.
    fn finished(&mut self, finish: &Finish);
}
