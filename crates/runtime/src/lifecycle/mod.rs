//! Containers by id: what the OCI runtime's commands (runtime-spec, runtime.md "Operations") do, each callable from
//! another process than the one before it.
//!
//! Truth is in a directory per container below a root that no other runtime uses:
//!
//! ```text
//! ROOT/                 0700
//!   ID/                 0700
//!     lock              held by whoever changes the container
//!     state.json        `Record`: what is known beside the configuration, replaced as a whole
//!     config.json       the configuration, byte for byte as it was in the bundle
//!     door              a listening socket of the first process, until its program is executed
//!     waiting           locked by the first process, until its program is executed
//!   ID~/                what is being deleted
//! ```
//!
//! The order of appearance is: directory, lock, record (with the cgroup's path), cgroup, process, record (with the
//! process). Whatever a killed runtime leaves can therefore be found from the directory, and `delete --force` removes
//! it. The first process dies with its maker until it is recorded and [let go](crate::Created::let_go).

mod bundle;
mod checkpoint;
mod container;
mod create;
mod delete;
mod exec;
mod groups;
mod record;

pub use barque_cgroup::{
    BlockEntry, CpusetStats, MemoryUse, OomNews, OomWatch, Pressure, Stall, Stats,
};
pub use bundle::load as load_bundle;
pub use checkpoint::{CheckpointRequest, RestoreRequest, Restored};
pub use container::{Container, StateView};
pub use create::{CreateRequest, Made};
pub use exec::{ExecRequest, Session};

/// Whether `--systemd-cgroup` can be had.
pub(crate) const SYSTEMD: bool = true;
/// Annotations of a configuration that change what is done here.
pub(crate) const UNSAFE_ANNOTATIONS: [&str; 1] = [groups::PROPERTY];

use crate::error::{Context, Error, Result};
use std::path::{Path, PathBuf};

/// Where the containers of one runtime are.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The containers below `root`, which is made when the first of them is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An existing container, of which as little may be there as a killed runtime leaves.
    ///
    /// # Errors
    /// [`Error::Unknown`], and [`Error::Below`] for a record that cannot be read.
    pub fn open(&self, id: &str) -> Result<Container> {
        Container::open(&self.dir(id)?, id)
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// Those of reading the directory; an absent one has no containers.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).step(|| format!("listing {:?}", self.root)),
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let is_dir = entry.file_type().ok()?.is_dir();
                let name = entry.file_name().into_string().ok()?;
                (is_dir && check_id(&name).is_ok()).then_some(name)
            })
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn dir(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        Ok(self.root.join(id))
    }
}

/// An id is a file name and part of a cgroup's path: runc's rule.
fn check_id(id: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    let why = match id {
        "" => "it is empty",
        "." | ".." => "it is a directory's own name",
        _ if id.len() > 1024 => "it is longer than 1024 bytes",
        _ if !id.bytes().all(good) => "only letters, digits and _ + - . may be in it",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("container id {id:?}"), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["a", "A-1_b+c.d", "...", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(1025),
        ] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_known_in_an_empty_home() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::new(dir.path().join("absent"));
        assert_eq!(home.ids().expect("none"), Vec::<String>::new());
        let error = home.open("x").expect_err("unknown");
        assert_eq!(error.to_string(), "container \"x\" does not exist");
        assert!(!dir.path().join("absent").exists());
    }
}
