//! Seccomp: which system calls a container's processes may make.
//!
//! Three steps, each a pure function that tests can look at:
//!
//! 1. a profile becomes a `spec::Seccomp`: [`default_profile`] (Docker's) or [`load_profile`] (a file in
//!    Docker's format), chosen by the container's capabilities, the architecture and the kernel;
//! 2. [`compile`] turns that into one classic BPF [`Program`] for all architectures named in it;
//! 3. [`Program::install`] loads it, in the container's first process, as the last step before exec.
//!
//! The compiler is our own: libseccomp is C, and no crate can express Docker's profile. It reads the
//! specification as runc with libseccomp does, because that is what profiles in the field were
//! written against; where it differs, it is stricter, and the place says why (`rules.rs`).
//!
//! The program first looks at the architecture, then finds the call's number in a binary tree of number
//! *ranges*: neighbours with one outcome are one range, so a call costs some six comparisons. What
//! is allowed whatever its arguments depends on nothing but architecture and number, which lets
//! Linux 5.11 and later remember the answer and skip the program altogether.

mod arch;
mod assemble;
mod compile;
mod docker;
mod kernel;
pub(crate) mod known;
mod names;
mod profile;
mod rules;
#[cfg(test)]
mod simulate;
mod table;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use barque_sys::seccomp::{self as sys, SockFilter};

pub use compile::compile;
pub use docker::load_profile;
pub use kernel::KernelVersion;
pub use profile::default_profile;

/// A compiled filter, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<SockFilter>,
    flags: u32,
    notifies: bool,
}

impl Program {
    /// The BPF instructions, at most 4096.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.instructions
    }

    /// The `SECCOMP_FILTER_FLAG_*` to load it with (without `NEW_LISTENER`).
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether some call is answered by `SCMP_ACT_NOTIFY`, so that [`Program::install`] returns the fd to
    /// send to the profile's `listenerPath`.
    pub fn notifies(&self) -> bool {
        self.notifies
    }

    /// Puts the calling thread and its descendants under the filter for good; returns the listener
    /// when the program [`notifies`](Self::notifies).
    ///
    /// Async-signal-safe: one system call, no allocation.
    ///
    /// # Errors
    /// Those of seccomp(2): `EACCES` without `no_new_privs` and without `CAP_SYS_ADMIN`, so a caller that
    /// sets neither must load before it drops capabilities; `EINVAL` when the kernel does not know a flag.
    pub fn install(&self) -> Result<Option<OwnedFd>, rustix::io::Errno> {
        if self.notifies {
            sys::install_with_listener(&self.instructions, self.flags).map(Some)
        } else {
            sys::install(&self.instructions, self.flags).map(|()| None)
        }
    }
}

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a profile at all.
    #[error("cannot read seccomp profile: {reason}")]
    Syntax {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A value that means nothing, or nothing in its place.
    #[error("invalid seccomp profile: {place}: {problem}")]
    Invalid {
        /// Where: `defaultAction`, `rule for "open"`, …
        place: String,
        /// What, and what would be right.
        problem: String,
    },
    /// More than the kernel takes.
    #[error(
        "seccomp profile is too large: it needs {instructions} BPF instructions, the kernel takes {}; \
         name fewer argument conditions or architectures",
        sys::MAX_INSTRUCTIONS
    )]
    TooLarge {
        /// How many it would take.
        instructions: usize,
    },
}

impl Error {
    fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            place: place.into(),
            problem: problem.into(),
        }
    }
}
