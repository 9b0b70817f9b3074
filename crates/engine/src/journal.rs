//! The journal of half-made and half-removed containers: `tmp/container-<id>`, locked while somebody is at it.
//!
//! Whoever makes or removes a container holds its journal file. When that process is killed, the lock
//! goes with it and the file stays: the next command's sweep finds an unlocked journal and removes
//! whatever there is of the container — unless its `config.json` exists: that file is written last and
//! removed first, so a container that has one is whole.

use crate::error::{Context, Result};
use barque_state::layout::DataRoot;
use barque_state::lock::FileLock;
use std::path::PathBuf;

const PREFIX: &str = "container-";

/// A container that is being made or removed by this process.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    _lock: FileLock,
}

impl Journal {
    /// Announces the work on container `id`; waits for another process that is at it.
    pub fn begin(data: &DataRoot, id: &str) -> Result<Self> {
        let path = data.tmp().join(format!("{PREFIX}{id}"));
        let lock = FileLock::exclusive(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The same without waiting: `None` when another is at it.
    pub fn try_begin(data: &DataRoot, id: &str) -> Result<Option<Self>> {
        let path = data.tmp().join(format!("{PREFIX}{id}"));
        let lock = FileLock::try_exclusive(&path)?;
        Ok(lock.map(|lock| Self { path, _lock: lock }))
    }

    /// The work is complete (or completely undone).
    pub fn done(self) {
        // A file that stays is swept; the sweep finds nothing more to do than to remove it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Journals whose writer is dead, with the container's id; each is ours from here on.
pub(crate) fn abandoned(data: &DataRoot) -> Result<Vec<(String, Journal)>> {
    let tmp = data.tmp();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&tmp).while_("list", &tmp)? {
        let entry = entry.while_("list", &tmp)?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let path = entry.path();
        // NotFound: its writer finished between the listing and here.
        if let Ok(Some(lock)) = FileLock::try_exclusive(&path) {
            found.push((id.to_owned(), Journal { path, _lock: lock }));
        }
    }
    Ok(found)
}
