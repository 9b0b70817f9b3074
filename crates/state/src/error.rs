//! The errors of this crate: variants where a caller branches, [`Error::Io`] for all else.

use std::io;
use std::path::{Path, PathBuf};

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the data root failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// A record cannot be understood.
    #[error(
        "the {what} record {} is corrupt ({reason}): restore the file from a backup, or move it away so that the {what} is forgotten",
        path.display()
    )]
    Corrupt {
        /// The kind of object the record describes.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser did not like.
        reason: String,
    },
    /// A file was written by a later version of Barque.
    #[error(
        "{} has format version {found}, this barque knows up to {known}: use the newer barque that wrote it",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The directory given as data root holds something else.
    #[error(
        "{} is not a barque data root and not empty (it holds {entry:?}): choose an empty or new directory",
        path.display()
    )]
    NotADataRoot {
        /// The directory.
        path: PathBuf,
        /// One thing in it that does not belong to Barque.
        entry: String,
    },
    /// The name belongs to another object.
    #[error(
        "the name {name:?} is already in use by {id}: remove or rename that one, or choose another name"
    )]
    NameTaken {
        /// The name that was wanted.
        name: String,
        /// Its present holder.
        id: String,
    },
    /// The name is not one that Docker allows.
    #[error(
        "invalid name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at least 2 and at most 200 characters"
    )]
    InvalidName {
        /// The name that was wanted.
        name: String,
    },
}

impl Error {
    /// The errno, when the kernel refused something.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the object (or the directory it should lie in) does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file system is full (ENOSPC) or the quota is used up (EDQUOT).
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Attaches the operation and the object to a system call's error.
pub(crate) trait Context<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io {
            op,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}
