//! Unique names: one symbolic link per name, whose target is the id of the object that holds it.
//!
//! ```text
//! names/web   -> 3f1c…   symlink(2) is atomic, exclusive (EEXIST) and carries its content
//! names/.lock            serialises those who take names away
//! ```
//! Of two processes that want one name, symlink(2) serves exactly one. A link is never followed; it is
//! read with readlink(2), needs no data block, and there is no moment in which a name exists without
//! its id. A crash between reserving a name and writing the object's record leaves a name that points
//! at nothing: the owner of the objects sweeps it ([`Names::list`], [`Names::release`]).

use crate::error::{Context, Error, Result};
use crate::lock::FileLock;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Docker allows any length; a file name has at most 255 bytes, and other files derive from it.
const MAX_LEN: usize = 200;

/// The names of one kind of object.
#[derive(Debug, Clone)]
pub struct Names {
    dir: PathBuf,
}

/// Whether Docker allows the name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    (2..=MAX_LEN).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

impl Names {
    /// The names kept in the existing directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Takes `name` for the object `id`. Taking a name that `id` holds already succeeds.
    ///
    /// [`Error::NameTaken`] says who has it, [`Error::InvalidName`] that nobody may.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let path = self.path(name)?;
        loop {
            match rustix::fs::symlinkat(id, CWD, &path) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e).context("reserve the name", &path),
            }
            match self.resolve(name)? {
                Some(holder) if holder == id => return Ok(()),
                Some(holder) => {
                    return Err(Error::NameTaken {
                        name: name.to_owned(),
                        id: holder,
                    });
                }
                None => {} // released between the two calls: it is free now
            }
        }
    }

    /// The id of the object that holds `name`, if any. A name that nobody could hold resolves to `None`.
    pub fn resolve(&self, name: &str) -> Result<Option<String>> {
        if !is_valid(name) {
            return Ok(None);
        }
        let path = self.dir.join(name);
        match rustix::fs::readlink(&path, Vec::new()) {
            Ok(id) => Ok(id.into_string().ok()),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e).context("read the name", &path),
        }
    }

    /// Gives `name` up, if `id` still holds it; returns whether it did.
    pub fn release(&self, name: &str, id: &str) -> Result<bool> {
        let path = self.path(name)?;
        // Names are taken without this lock but only ever taken away under it, so the name cannot
        // change hands between the look and the unlink.
        let _lock = FileLock::exclusive(&self.dir.join(".lock"))?;
        if self.resolve(name)?.as_deref() != Some(id) {
            return Ok(false);
        }
        rustix::fs::unlink(&path).context("release the name", &path)?;
        Ok(true)
    }

    /// Moves `id` from the name `old` to `new`. A crash in between leaves both names with `id`, never none;
    /// the object's record says which one is meant.
    pub fn rename(&self, old: &str, new: &str, id: &str) -> Result<()> {
        if old == new {
            return Ok(());
        }
        self.reserve(new, id)?;
        self.release(old, id)?;
        Ok(())
    }

    /// All names with their ids, in no order.
    pub fn list(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir).context("list", &self.dir)? {
            let entry = entry.context("list", &self.dir)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if let Some(id) = self.resolve(&name)? {
                all.push((name, id));
            }
        }
        Ok(all)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        if is_valid(name) {
            Ok(self.dir.join(name))
        } else {
            Err(Error::InvalidName {
                name: name.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_dockers() {
        for good in ["ab", "a.b", "A_-.", "0a", &"x".repeat(MAX_LEN)] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "a",
            ".a",
            "-a",
            "_a",
            "a/b",
            "a b",
            "ä1",
            "a\0",
            &"x".repeat(MAX_LEN + 1),
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn life_of_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::new(dir.path());
        assert_eq!(names.resolve("web").unwrap(), None);
        assert_eq!(names.resolve("../etc").unwrap(), None);
        names.reserve("web", "one").unwrap();
        names.reserve("web", "one").unwrap();
        let taken = names.reserve("web", "two").unwrap_err();
        assert!(
            matches!(&taken, Error::NameTaken { id, .. } if id == "one"),
            "{taken}"
        );
        assert!(!names.release("web", "two").unwrap());
        names.rename("web", "db", "one").unwrap();
        assert_eq!(names.resolve("web").unwrap(), None);
        assert_eq!(names.resolve("db").unwrap().as_deref(), Some("one"));
        assert_eq!(names.list().unwrap(), [("db".to_owned(), "one".to_owned())]);
        assert!(names.release("db", "one").unwrap());
        assert!(!names.release("db", "one").unwrap());
        assert!(names.list().unwrap().is_empty());
        assert!(matches!(
            names.reserve("a/b", "x"),
            Err(Error::InvalidName { .. })
        ));
    }

    #[test]
    fn of_many_threads_one_gets_the_name_and_nobody_loses_it_to_a_late_release() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::new(dir.path());
        let holders = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for t in 0..4 {
                let (names, holders) = (&names, &holders);
                scope.spawn(move || {
                    let id = format!("id{t}");
                    for _ in 0..500 {
                        if names.reserve("web", &id).is_err() {
                            let other = format!("id{}", (t + 1) % 4);
                            let _ = names.release("web", &format!("{other}-gone"));
                            continue;
                        }
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        assert_eq!(holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst), 1);
                        assert!(names.release("web", &id).unwrap());
                    }
                });
            }
        });
    }
}
