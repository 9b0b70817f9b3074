//! The engine's error: what a front-end needs in order to choose an exit code or an HTTP status, and a text.

use thiserror::Error;

/// What kind of failure it is, as far as a caller branches on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request contradicts itself or asks for what cannot be (HTTP 400, exit 125).
    Invalid,
    /// A container that does not exist (HTTP 404, exit 1 or 125).
    NoSuchContainer,
    /// An image that does not exist here (HTTP 404): `run` pulls it.
    NoSuchImage,
    /// The name is taken, the object is in use, or in the wrong state (HTTP 409).
    Conflict,
    /// The container is not running (HTTP 409 or 304).
    NotRunning,
    /// The command was not found in the container (exit 127).
    CommandNotFound,
    /// The command cannot be executed (exit 126).
    NotExecutable,
    /// A record on disk cannot be understood (HTTP 500): the object can only be removed, by force.
    Corrupt,
    /// Anything else (HTTP 500, exit 125).
    System,
}

/// A failure: its text names the object, what was tried, why it failed and, where known, what to do.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure without an underlying one.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A failure caused by another; the front-end prints the chain.
    pub fn caused_by(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// Shorthand for a system failure: «what» failed because of `source`.
    pub fn system(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::caused_by(Kind::System, message, source)
    }

    /// Docker's words for a container that does not exist.
    pub fn no_such_container(name: &str) -> Self {
        Self::new(Kind::NoSuchContainer, format!("No such container: {name}"))
    }

    /// Docker's words for an image that does not exist.
    pub fn no_such_image(name: &str) -> Self {
        Self::new(Kind::NoSuchImage, format!("No such image: {name}"))
    }

    /// What kind of failure.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The same failure with the object it is about in front, unless it names that already.
    #[must_use]
    pub fn about(mut self, object: &str) -> Self {
        if !self.message.contains(object) {
            self.message = format!("{object}: {}", self.message);
        }
        self
    }

    /// The same failure with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// Names the object of a failed system call.
pub(crate) trait Context<T> {
    /// «cannot `op` `path`: …»
    fn while_(self, op: &str, path: impl AsRef<std::path::Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn while_(self, op: &str, path: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(|e| {
            let message = format!("cannot {op} {}", path.as_ref().display());
            Error::system(message, e.into())
        })
    }
}

/// The lower crates' errors already name object and operation: their text is the message, their
/// source stays the source, so that nothing is said twice.
fn lift(kind: Kind, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(kind, e.to_string())
}

impl From<barque_state::Error> for Error {
    fn from(e: barque_state::Error) -> Self {
        lift(Kind::System, e)
    }
}

impl From<barque_cgroup::Error> for Error {
    fn from(e: barque_cgroup::Error) -> Self {
        lift(Kind::System, e)
    }
}

impl From<barque_image::Error> for Error {
    fn from(e: barque_image::Error) -> Self {
        let kind = match &e {
            e if e.is_no_such_image() => Kind::NoSuchImage,
            e if e.is_conflict() => Kind::Conflict,
            e if e.is_invalid() => Kind::Invalid,
            _ => Kind::System,
        };
        lift(kind, e)
    }
}

impl From<barque_registry::Error> for Error {
    fn from(e: barque_registry::Error) -> Self {
        let kind = match &e {
            barque_registry::Error::ManifestNotFound { .. }
            | barque_registry::Error::Denied { .. } => Kind::NoSuchImage,
            _ => Kind::System,
        };
        lift(kind, e)
    }
}

impl Error {
    /// The message and those of its sources, as one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source = std::error::Error::source(self);
        while let Some(e) = source {
            text.push_str(": ");
            text.push_str(&e.to_string());
            source = e.source();
        }
        text
    }
}

impl From<barque_monitor::Error> for Error {
    fn from(e: barque_monitor::Error) -> Self {
        use barque_monitor::Error as M;
        let kind = match &e {
            M::NotRunning { .. } => Kind::NotRunning,
            M::AlreadyRunning { .. } => Kind::Conflict,
            M::Start(start) => match start.exit_code {
                127 => Kind::CommandNotFound,
                126 => Kind::NotExecutable,
                _ => Kind::System,
            },
            _ => Kind::System,
        };
        lift(kind, e)
    }
}
