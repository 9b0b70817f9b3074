//! What a command announces in `tmp/` before it begins, so that the next one can put right what a killed one left.
//!
//! **`container-<id>`**, a container half made or half removed. Whoever makes or removes a container holds its journal file. When that process is killed, the lock
//! goes with it and the file stays: the next command's sweep finds an unlocked journal and removes
//! whatever there is of the container — unless its `config.json` exists: that file is written last and
//! removed first, so a container that has one is whole.
//!
//! **`run-<id>`**, a container that `run` makes in order to start it. Whoever asked for one process gets it or
//! nothing, so `run` holds this file from before the record exists until the start is done, or has failed and
//! said why. It is a file of its own because it is held across the start, which takes the container's lock:
//! whoever removes a container takes that lock first and `container-<id>` then. For the same reason the sweep only
//! tries the locks. Neither file is synced.

use crate::error::{Context, Result};
use barque_state::layout::DataRoot;
use barque_state::lock::FileLock;
use barque_state::process::boot_id;
use std::os::fd::AsFd;
use std::path::PathBuf;

const PREFIX: &str = "container-";
const RUN_PREFIX: &str = "run-";

/// One of these files, and its lock.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    lock: FileLock,
}

impl Journal {
    /// Announces the work on container `id`; waits for another process that is at it.
    pub fn begin(data: &DataRoot, id: &str) -> Result<Self> {
        let path = data.tmp().join(format!("{PREFIX}{id}"));
        let lock = FileLock::exclusive(&path)?;
        Ok(Self { path, lock })
    }

    /// The same without waiting: `None` when another is at it.
    pub fn try_begin(data: &DataRoot, id: &str) -> Result<Option<Self>> {
        let path = data.tmp().join(format!("{PREFIX}{id}"));
        let lock = FileLock::try_exclusive(&path)?;
        Ok(lock.map(|lock| Self { path, lock }))
    }

    /// Whether a `run` was announced in this boot. After a power cut the file may be of any age, and neither
    /// its end nor the container's state need have reached the disk: it does not tell that nothing was started.
    pub fn is_of_this_boot(&self) -> Result<bool> {
        let text = std::fs::read_to_string(&self.path).while_("read", &self.path)?;
        Ok(text == boot_id()?)
    }

    /// The work is complete (or completely undone).
    pub fn done(self) {
        // A file that stays is swept; the sweep finds nothing more to do than to remove it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A container that a `run` made and has not started yet. While this is held the container stays; when the
/// process is killed instead, the next command removes what was not started. Dropped once the start is done.
#[derive(Debug)]
pub struct Unstarted(Option<Journal>);

impl Unstarted {
    /// Announces that container `id` is made to be started.
    pub(crate) fn begin(data: &DataRoot, id: &str) -> Result<Self> {
        let path = data.tmp().join(format!("{RUN_PREFIX}{id}"));
        let lock = FileLock::exclusive(&path)?;
        let announced = Self(Some(Journal { path, lock }));
        if let Some(Journal { path, lock }) = &announced.0 {
            rustix::io::write(lock.as_fd(), boot_id()?.as_bytes()).while_("write", path)?;
        }
        Ok(announced)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(journal) = self.0.take() {
            journal.done();
        }
    }
}

/// What dead processes announced, with the containers' ids; each is ours from here on.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    /// Half made or half removed.
    pub containers: Vec<(String, Journal)>,
    /// Made by a `run`.
    pub runs: Vec<(String, Journal)>,
}

/// Looks for what was abandoned.
pub(crate) fn abandoned(data: &DataRoot) -> Result<Abandoned> {
    let tmp = data.tmp();
    let mut found = Abandoned::default();
    for entry in std::fs::read_dir(&tmp).while_("list", &tmp)? {
        let entry = entry.while_("list", &tmp)?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let (list, id) = match (name.strip_prefix(PREFIX), name.strip_prefix(RUN_PREFIX)) {
            (Some(id), _) => (&mut found.containers, id),
            (_, Some(id)) => (&mut found.runs, id),
            _ => continue,
        };
        let path = entry.path();
        // When its writer finishes between the listing and here, this makes a new one, which is empty: it asks
        // for nothing.
        if let Ok(Some(lock)) = FileLock::try_exclusive(&path) {
            list.push((id.to_owned(), Journal { path, lock }));
        }
    }
    Ok(found)
}
