//! `diff`: what the writable layer changed.

use super::Containers;
use crate::error::Result;
use barque_image::ChangeKind;
use barque_types::docker::Change;

impl Containers<'_> {
    /// What its writable layer changed, sorted by path.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.find(name)?;
        let changes = self.engine.store.diff(container.id())?;
        Ok(changes
            .into_iter()
            .map(|change| Change {
                path: change.path.to_string_lossy().into_owned(),
                kind: match change.kind {
                    ChangeKind::Modified => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                },
            })
            .collect())
    }
}
