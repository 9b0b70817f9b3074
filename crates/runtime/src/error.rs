//! What can go wrong between a specification and a running process.
//!
//! The container's first process reports what failed as data — which step, on which object, with
//! which errno — over its control socket, so that the user reads
//! `mounting "proc" at "/proc": operation not permitted` and never "child failed".

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The result of every function here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container or an exec session could not be made.
///
/// It is plain data (no borrowed or boxed source), because most of them are born in the
/// container's first process and travel to its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// The program does not exist in the container: exit code 127.
    #[error("exec: {program:?}: {reason}")]
    NotFound {
        /// `argv[0]` as it was given.
        program: String,
        /// What was looked at, and the errno's text.
        reason: String,
    },
    /// The program exists and cannot be executed: exit code 126.
    #[error("exec: {program:?}: {reason}")]
    NotExecutable {
        /// `argv[0]` as it was given.
        program: String,
        /// The errno's text, with advice where there is some.
        reason: String,
    },
    /// The request contradicts itself or asks for what Barque does not do.
    #[error("{what}: {why}")]
    Invalid {
        /// The member of the specification or the option.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A user or group name that the container's `/etc/passwd` or `/etc/group` does not have.
    #[error("{0}")]
    UnknownUser(String),
    /// The container is not (or no longer) there.
    #[error("process {pid}: no such container process")]
    Gone {
        /// The process that was looked for.
        pid: i32,
    },
    /// A container of that id is there already.
    #[error("container {id:?} exists already: choose another id, or delete it first")]
    Exists {
        /// Its id.
        id: String,
    },
    /// No container has that id.
    #[error("container {id:?} does not exist")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The container's status does not allow it.
    #[error("container {id:?} is {status}: {why}")]
    Status {
        /// Its id.
        id: String,
        /// Its status.
        status: crate::hooks::Status,
        /// What cannot be done, and what to do instead.
        why: String,
    },
    /// Something of a lower layer failed, which has named its object itself.
    #[error("{0}")]
    Below(String),
    /// A hook failed: the container is undone, or (poststart, poststop) the caller warns.
    #[error("{hook}: {why}")]
    Hook {
        /// Which: its kind, its number, its path.
        hook: String,
        /// How it ended, and what it said.
        why: String,
    },
    /// A step failed.
    #[error("{step}: {}{}", errno_text(*errno), hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Step {
        /// The operation and its object: `mounting "proc" at "/proc"`.
        step: String,
        /// The errno (`errno(3)`), as a number.
        errno: i32,
        /// What the kernel said beyond the errno, or what to do next.
        hint: Option<String>,
    },
    /// CRIU is missing, too old, or failed; why, and where its log is.
    #[error("{0}")]
    Criu(String),
    /// The container's first process ended before it could say why.
    #[error("the container's first process ended while {doing}: {how}")]
    Died {
        /// What the parent was waiting for.
        doing: String,
        /// Its exit code or signal.
        how: String,
    },
}

impl Error {
    /// A failed step, without advice.
    pub(crate) fn step(step: impl Into<String>, errno: Errno) -> Self {
        Self::Step {
            step: step.into(),
            errno: errno.raw_os_error(),
            hint: None,
        }
    }

    /// A contradiction in the request.
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            why: why.into(),
        }
    }

    /// The exit code that Docker gives to a `run` that failed like this: 127 for a program that
    /// is not there, 126 for one that cannot be executed, 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// The errno of a failed step.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Step { errno, .. } => Some(Errno::from_raw_os_error(*errno)),
            _ => None,
        }
    }

    /// Adds advice to a failed step that has none; other errors stay as they are.
    pub(crate) fn with_hint(mut self, advice: impl Into<String>) -> Self {
        if let Self::Step {
            hint: hint @ None, ..
        } = &mut self
        {
            *hint = Some(advice.into());
        }
        self
    }
}

impl From<barque_state::Error> for Error {
    fn from(error: barque_state::Error) -> Self {
        Self::Below(chain(&error))
    }
}

impl From<barque_cgroup::Error> for Error {
    fn from(error: barque_cgroup::Error) -> Self {
        Self::Below(chain(&error))
    }
}

/// The error and its sources, where they say more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Names the step of a failed system call.
pub(crate) trait Context<T> {
    /// `f` is called for a failure only.
    fn step<S: Into<String>>(self, f: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn step<S: Into<String>>(self, f: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::step(f(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn step<S: Into<String>>(self, f: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| {
            let errno = e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
            Error::step(f(), errno)
        })
    }
}

/// The text of an errno as it stands in a sentence: `operation not permitted`.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        // "I/O error" and "RPC …" keep their capitals.
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_one_lower_case_sentence() {
        let e = Error::step("mounting \"proc\" at \"/proc\"", Errno::PERM);
        assert_eq!(
            e.to_string(),
            "mounting \"proc\" at \"/proc\": operation not permitted"
        );
        assert_eq!(
            e.with_hint("try this").to_string(),
            "mounting \"proc\" at \"/proc\": operation not permitted (try this)"
        );
    }

    #[test]
    fn exit_codes_are_dockers() {
        let reason = String::new();
        let program = String::from("x");
        assert_eq!(
            Error::NotFound {
                program: program.clone(),
                reason: reason.clone()
            }
            .exit_code(),
            127
        );
        assert_eq!(Error::NotExecutable { program, reason }.exit_code(), 126);
        assert_eq!(Error::step("x", Errno::PERM).exit_code(), 125);
    }
}
