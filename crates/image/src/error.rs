//! The errors of this crate: variants where a caller branches, [`Error::Io`] for all else.

use barque_types::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something with images or layers failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image has this name, id or digest. The text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// More than one image id begins like this.
    #[error("image id prefix {prefix:?} is ambiguous, it fits {}: give more digits", join(.candidates))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The ids that begin so.
        candidates: Vec<Digest>,
    },
    /// What was typed can name no image.
    #[error("{text:?}: {source}")]
    InvalidName {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        source: barque_types::reference::InvalidReference,
    },
    /// The image is in use, or has other names, and force was not given or does not help. The texts are Docker's.
    #[error("conflict: unable to {action} {subject} ({}) - {reason}", if *.can_force { "must be forced" } else { "cannot be forced" })]
    Conflict {
        /// `delete` or `remove repository reference`.
        action: &'static str,
        /// The id or reference as it was named.
        subject: String,
        /// Whether force would do it.
        can_force: bool,
        /// Who stands in the way.
        reason: String,
    },
    /// Bytes do not have the digest that was promised.
    #[error(
        "{what}: digest mismatch: expected {expected}, got {actual}; the source sent wrong or damaged data"
    )]
    DigestMismatch {
        /// `diff id of layer sha256:…`, `config`, ….
        what: String,
        /// What the manifest or configuration says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A layer cannot be unpacked: truncated, damaged, hostile, or too large.
    #[error("layer {layer}: {reason}")]
    BadLayer {
        /// The compressed or uncompressed digest that it was announced with; `(new)` before it is known.
        layer: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// An image archive, manifest or configuration is not what it should be.
    #[error("{what}: {reason}")]
    BadImage {
        /// The archive or document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer of an image that is here is missing on disk.
    #[error("layer {layer} is missing or damaged ({}): remove the image and pull it again", path.display())]
    MissingLayer {
        /// Its diff id.
        layer: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// A layer that an earlier version unpacked, which did not record what its tar was made of.
    #[error(
        "layer {layer} was unpacked by an earlier version, which kept no record of its archive: remove the image and pull it again"
    )]
    NoTape {
        /// Its diff id.
        layer: Digest,
    },
    /// A snapshot of this id does not exist.
    #[error("no snapshot of container {id} ({})", path.display())]
    NoSuchSnapshot {
        /// The container.
        id: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// The disk or the quota is full.
    #[error("no space left on the disk while trying to {op} {}: free some space (or choose another --data-root) and try again", path.display())]
    DiskFull {
        /// What was tried.
        op: &'static str,
        /// The object.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb phrase that the path completes.
        op: &'static str,
        /// The object.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record or lock in the data root failed.
    #[error(transparent)]
    State(barque_state::Error),
}

impl Error {
    /// Whether no image has the name: `run` then pulls it.
    pub fn is_no_such_image(&self) -> bool {
        matches!(self, Self::NoSuchImage(_))
    }

    /// Whether the image is in use (HTTP 409).
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the request itself was wrong (HTTP 400).
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::InvalidName { .. } | Self::Ambiguous { .. } | Self::BadImage { .. }
        )
    }

    /// Whether a full disk or quota is the cause.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

impl From<barque_state::Error> for Error {
    fn from(e: barque_state::Error) -> Self {
        match e {
            barque_state::Error::Io { op, path, source } => io_error(op, &path, source),
            other => Self::State(other),
        }
    }
}

fn join(ids: &[Digest]) -> String {
    ids.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

/// The error of a system call, with a full disk told apart from all else.
pub(crate) fn io_error(op: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { op, path },
        _ => Error::Io { op, path, source },
    }
}

/// Attaches the operation and the object to a system call's error.
pub(crate) trait Context<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| io_error(op, path, e.into()))
    }
}
