//! The errors of this crate: variants where a caller branches, [`Error::Io`] for all else.

use crate::supervised::StartError;
use std::io;
use std::path::PathBuf;

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the monitor or its client failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No monitor serves the container: it ended, was killed, or never was. The engine looks at its record.
    #[error("no monitor serves {}: the container is not running", path.display())]
    NotRunning {
        /// The container's run directory.
        path: PathBuf,
    },
    /// The container has a monitor already.
    #[error("{} has a running monitor: the container is already started", path.display())]
    AlreadyRunning {
        /// The container's run directory.
        path: PathBuf,
    },
    /// The container did not start.
    #[error("{0}")]
    Start(StartError),
    /// The monitor ended while it started the container, without a word.
    #[error("the monitor of container {id} was killed while it started the container: try again")]
    MonitorDied {
        /// The container.
        id: String,
    },
    /// The monitor refused a request.
    #[error("{message}")]
    Refused {
        /// Why, in the monitor's words.
        message: String,
    },
    /// The other side does not speak the protocol.
    #[error("{peer} broke the protocol: {reason}")]
    Protocol {
        /// Who: "the monitor", "the client".
        peer: &'static str,
        /// How.
        reason: String,
    },
    /// The state of the container on disk could not be used.
    #[error(transparent)]
    State(#[from] barque_state::Error),
    /// A system call failed.
    #[error("cannot {op}: {source}")]
    Io {
        /// What was tried, with its object.
        op: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Attaches the operation and its object to a system call's error.
pub(crate) trait Context<T> {
    fn context(self, op: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, op: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::Io {
            op: op.into(),
            source: e.into(),
        })
    }
}
