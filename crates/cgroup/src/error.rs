//! What can go wrong, with the file, the value and the next step in the text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a cgroup operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The group to be created is there already.
    #[error("cgroup {} exists already: another container has this name, or one was not cleaned up", path.display())]
    Exists {
        /// The directory that exists.
        path: PathBuf,
    },
    /// The group that was to be taken over is somebody's.
    #[error("cgroup {} cannot be used for a new container: {why}; another container has it, or one was not cleaned up", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The processes in it, or that it is frozen.
        why: String,
    },
    /// The group to be opened exists in no hierarchy.
    #[error("cgroup {path} does not exist")]
    NotFound {
        /// The path within the hierarchies.
        path: String,
    },
    /// The path of a group cannot be used.
    #[error("cgroup path {path:?} is not usable: {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel refused a value.
    #[error("the kernel refused {value:?} for {}: {source}{hint}", file.display())]
    Rejected {
        /// The file written.
        file: PathBuf,
        /// The value refused.
        value: String,
        /// `; …` with the likely reason, or empty.
        hint: String,
        /// What write(2) answered.
        source: Errno,
    },
    /// What was asked for makes no sense, or cannot be had on this kernel or in this layout.
    #[error("{what}")]
    Unsupported {
        /// The limit, why it cannot be had, and what to do instead.
        what: String,
    },
    /// systemd did not do what it was asked for, or could not be asked.
    #[error("systemd, {op} {unit}: {why}")]
    Systemd {
        /// `starting`, `connecting to`, …
        op: &'static str,
        /// The unit, or the address.
        unit: String,
        /// What systemd or the connection said.
        why: String,
    },
    /// Something was not over in time.
    #[error("{op} cgroup {} was not done within {} ms{detail}", path.display(), limit.as_millis())]
    Timeout {
        /// `freezing`, `killing`, …
        op: &'static str,
        /// The group's directory.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
        /// `: …` with what is left, or empty.
        detail: String,
    },
    /// Groups that could not be removed; everything else was.
    #[error("cgroup not removed: {}", .left.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Left {
        /// What is left.
        left: Vec<Leftover>,
    },
    /// Any other failure.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// `open`, `read`, `create cgroup`, …
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel answered.
        source: Errno,
    },
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: Errno) -> Self {
        Self::Io {
            op,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }
}

/// A group that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its directory.
    pub path: PathBuf,
    /// What rmdir(2) answered last.
    pub errno: Errno,
    /// The processes still in it.
    pub pids: Vec<i32>,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.errno)?;
        if !self.pids.is_empty() {
            write!(f, " (still holds {})", pid_list(&self.pids))?;
        }
        Ok(())
    }
}

/// `process 7`, `processes 7, 8, 9`, `processes 1, 2, 3, 4, 5 and 17 more`.
pub(crate) fn pid_list(pids: &[i32]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = pids.iter().take(SHOWN).map(i32::to_string).collect();
    let noun = if pids.len() == 1 {
        "process"
    } else {
        "processes"
    };
    match pids.len().checked_sub(SHOWN) {
        None | Some(0) => format!("{noun} {}", shown.join(", ")),
        Some(more) => format!("{noun} {} and {more} more", shown.join(", ")),
    }
}
