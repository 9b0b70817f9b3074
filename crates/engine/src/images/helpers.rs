//! Credential helpers: what Docker's `config.json` may name instead of holding a password.
//!
//! They are programs, and the engine starts none. Their entries are skipped, and the user hears of it once in a
//! pull, however often the registry asks who is there: for each layer, and again when a token has expired.

use barque_registry::{Credential, CredentialHelper};
use std::path::PathBuf;
use std::sync::Once;

/// Knows nobody, and says so once.
pub(super) struct NoHelpers {
    config: PathBuf,
    told: Once,
}

impl NoHelpers {
    /// `config` is the file or folder with the helpers' names, for the message.
    pub fn new(config: PathBuf) -> Self {
        Self {
            config,
            told: Once::new(),
        }
    }
}

impl CredentialHelper for NoHelpers {
    fn get(&self, name: &str, _server: &str) -> Result<Option<Credential>, String> {
        self.told.call_once(|| {
            tracing::warn!(
                "{}: credential helper {name:?} is not supported here; `docker login` without a helper writes the credentials into the file",
                self.config.display()
            );
        });
        // The file's own entries count then.
        Ok(None)
    }
}
