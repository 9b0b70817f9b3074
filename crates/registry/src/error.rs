//! What can go wrong between an engine and a registry.

use std::path::PathBuf;

/// A failed request. Texts that Docker's users and scripts know keep Docker's wording.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The registry has no such tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestNotFound {
        /// What was asked for, in familiar form.
        reference: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry does not let this user in. Registries say the same of what does not exist.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {detail}"
    )]
    Denied {
        /// The repository, in familiar form.
        repository: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry's limit was reached, and waiting as long as is allowed did not help.
    #[error("registry {registry} limits requests: toomanyrequests: {detail}; log in or try later")]
    TooManyRequests {
        /// The registry's host.
        registry: String,
        /// Its words.
        detail: String,
    },
    /// No answer: name not found, connection refused, TLS not trusted, time ran out.
    #[error("cannot reach registry {registry}: {detail}")]
    Unreachable {
        /// The registry's host.
        registry: String,
        /// Why, and what to do.
        detail: String,
    },
    /// An answer that the specification does not allow.
    #[error("registry {registry} gave a bad answer for {repository}: {detail}")]
    BadAnswer {
        /// The registry's host.
        registry: String,
        /// The repository, in familiar form.
        repository: String,
        /// What is wrong with it, and what to do.
        detail: String,
    },
    /// An error status without a better meaning.
    #[error("registry {registry} answered {status} for {repository}: {detail}")]
    Status {
        /// The registry's host.
        registry: String,
        /// The repository, in familiar form.
        repository: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        detail: String,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "digest mismatch for {what} from {registry}: expected {want}, got {got}; the registry or a proxy altered it, try again"
    )]
    DigestMismatch {
        /// The registry's host.
        registry: String,
        /// Which object.
        what: String,
        /// The digest asked for.
        want: String,
        /// The digest of what came.
        got: String,
    },
    /// The caller's configuration is unusable.
    #[error("{path}: {detail}", path = path.display())]
    Config {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// [`crate::Client::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Gets the error back out of the [`std::io::Error`] that a [`crate::BlobReader`] returned.
    pub fn from_io(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
