//! What goes into and comes out of the container operations, beside the shapes in `barque_types`.

use crate::journal::Unstarted;
use barque_types::docker::ContainerSummary;
use barque_types::id::ContainerId;
use barque_types::time::Timestamp;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What a container is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be there (`create`): it stays whatever becomes of its maker.
    Keep,
    /// To be started at once by the same process (`run`): killed before that, it leaves nothing.
    Run,
}

/// A container that `create` made.
#[derive(Debug)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// What the user should know (a limit this kernel lacks, …), each one line.
    pub warnings: Vec<String>,
    /// With [`Purpose::Run`]: hold it until the start is done.
    pub unstarted: Option<Unstarted>,
}

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Attach before the first byte of output can appear.
    pub attach: Option<AttachOptions>,
    /// Size of the terminal, rows and columns, for a container with one.
    pub console_size: Option<(u16, u16)>,
    /// Go on where a checkpoint was taken, instead of beginning anew.
    pub checkpoint: Option<StartCheckpoint>,
}

/// A checkpoint to start from.
#[derive(Debug, Clone)]
pub struct StartCheckpoint {
    /// Its name.
    pub name: String,
    /// The directory that it is in; the container's own when absent.
    pub dir: Option<PathBuf>,
    /// The CRIU program; a name without a slash is looked for where systems keep such programs.
    pub criu: PathBuf,
}

/// How to checkpoint.
#[derive(Debug, Clone)]
pub struct CheckpointOptions {
    /// The directory that the checkpoint is made in; the container's own when absent.
    pub dir: Option<PathBuf>,
    /// Let the container go on.
    pub leave_running: bool,
    /// As [`StartCheckpoint::criu`].
    pub criu: PathBuf,
}

/// What to attach to.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttachOptions {
    /// Send stdin.
    pub stdin: bool,
    /// Receive stdout.
    pub stdout: bool,
    /// Receive stderr.
    pub stderr: bool,
}

/// What `start` returns.
#[derive(Debug)]
pub struct Started {
    /// Present when asked for.
    pub attachment: Option<super::Attachment>,
    /// What the user should know, each one line.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Signal by name or number; the container's own when absent.
    pub signal: Option<String>,
    /// Seconds until SIGKILL, -1 never; the container's own (else 10) when absent.
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// That it is not running (at once when it is not).
    #[default]
    NotRunning,
    /// That it ends the next time.
    NextExit,
    /// That it is removed.
    Removed,
}

/// Which containers `list` returns.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run, too.
    pub all: bool,
    /// At most this many, the newest first; implies `all` (`-n`, `-l`).
    pub limit: Option<usize>,
    /// Measure the layers.
    pub size: bool,
    /// `key=value` filters as Docker's `--filter`: id, name, label, status, exited, ancestor, before, since, network, health.
    pub filters: Vec<(String, String)>,
}

/// What `list` returns.
#[derive(Debug)]
pub struct Listed {
    /// Those that pass the filters.
    pub containers: Vec<ContainerSummary>,
    /// Why others could not be read, each naming its container.
    pub unreadable: Vec<crate::Error>,
}

/// Which log lines.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the container stops.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// Which of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the container.
    pub time: Timestamp,
    /// From which stream.
    pub stream: Stream,
    /// The bytes, with their newline if they had one.
    pub bytes: Vec<u8>,
}

/// A process started by `exec`. Its streams are ours to pump; dropping them closes them.
#[derive(Debug)]
pub struct ExecSession {
    /// Write end of its stdin, when interactive and without a terminal.
    pub stdin: Option<OwnedFd>,
    /// Read end of its stdout, when it has no terminal.
    pub stdout: Option<OwnedFd>,
    /// Read end of its stderr, when it has no terminal.
    pub stderr: Option<OwnedFd>,
    /// Master side of its terminal.
    pub console: Option<OwnedFd>,
    /// The process: readable when it has ended.
    pub pidfd: OwnedFd,
    /// What the user should know, each one line.
    pub warnings: Vec<String>,
}
