//! Where everything lies.
//!
//! ```text
//! data root (/var/lib/barque, 0710)            run root (/run/barque, 0700; empty after a boot)
//! ├─ version          "barque-data-root 1"     └─ containers/<id>/monitor.sock
//! ├─ overlay2/  0710  layers and snapshots
//! ├─ image/     0700  manifests, configs, tags
//! ├─ containers/0710  <id>/ one per container
//! ├─ names/     0700  container names
//! ├─ idranges/  0700  user id ranges of containers
//! ├─ locks/     0700  locks that outlive objects
//! └─ tmp/       0700  on the same file system, swept
//! ```
//! The data root is recognised by its `version` file, which is written last: a directory that holds
//! only our own subdirectories was left by a killed first command and is completed; one that holds
//! anything else is refused rather than filled. The roots of files that containers see have 0710, so
//! that nobody but root reaches another's set-uid program through them.

use crate::atomic::{self, Durability};
use crate::error::{Context, Error, Result};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The version of the layout as a whole; records have their own.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "barque-data-root";

/// Directories of the data root with their modes.
const DATA_DIRS: [(&str, u32); 7] = [
    ("overlay2", 0o710),
    ("image", 0o700),
    ("containers", 0o710),
    ("names", 0o700),
    ("idranges", 0o700),
    ("locks", 0o700),
    ("tmp", 0o700),
];

/// The persistent root of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRoot {
    root: PathBuf,
}

impl DataRoot {
    /// Opens the data root at `path`, and makes it if it does not exist or is empty.
    ///
    /// An existing root costs one read. [`Error::TooNew`] and [`Error::NotADataRoot`] refuse what this
    /// program must not touch.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let root = Self {
            root: absolute(path.into())?,
        };
        let version = root.root.join("version");
        match std::fs::read_to_string(&version) {
            Ok(text) => check_version(&version, &text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => root.create()?,
            Err(e) => return Err(e).context("read", &version),
        }
        Ok(root)
    }

    fn create(&self) -> Result<()> {
        make_dir_all(&self.root, 0o710)?;
        for entry in std::fs::read_dir(&self.root).context("list", &self.root)? {
            let name = entry.context("list", &self.root)?.file_name();
            let name = name.to_string_lossy();
            let ours = DATA_DIRS.iter().any(|(dir, _)| *dir == name)
                || atomic::is_temporary(&name)
                || name == "version" // another first command was faster
                || name == "lost+found"; // the root of a fresh ext4
            if !ours {
                return Err(Error::NotADataRoot {
                    path: self.root.clone(),
                    entry: name.into_owned(),
                });
            }
        }
        for (dir, mode) in DATA_DIRS {
            make_dir(&self.root.join(dir), mode)?;
        }
        let text = format!("{MAGIC} {FORMAT}\n");
        // Once in a data root's life, so it may be durable.
        atomic::write(
            &self.root.join("version"),
            text.as_bytes(),
            Durability::Synced,
        )
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `overlay2/`: one directory per layer and per container snapshot.
    pub fn overlay2(&self) -> PathBuf {
        self.root.join("overlay2")
    }

    /// `image/`: what the image store knows besides the layers.
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    /// `containers/`.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// `containers/<id>/`.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// `containers/<id>/lock`: serialises what is done to one container; goes with it (see [`crate::lock`]).
    pub fn container_lock(&self, id: &str) -> PathBuf {
        self.container(id).join("lock")
    }

    /// `containers/<id>/<id>-json.log`: the newest log file, where Docker has it.
    pub fn container_log(&self, id: &str) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }

    /// `names/`: for [`crate::names::Names`].
    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// `locks/<name>.lock`: locks of things that have no directory of their own.
    pub fn lock(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(format!("{name}.lock"))
    }

    /// `idranges/`: which container holds which range of user ids, for [`crate::names::Names`].
    pub fn id_ranges(&self) -> PathBuf {
        self.root.join("idranges")
    }

    /// `tmp/`: half-made things, on the same file system as what they will become.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

/// The volatile root of one engine: sockets, and nothing that a reboot may not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRoot {
    root: PathBuf,
}

impl RunRoot {
    /// Opens the run root at `path`, and makes it if needed (0700).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let root = absolute(path.into())?;
        make_dir_all(&root, 0o700)?;
        make_dir(&root.join("containers"), 0o700)?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `containers/`: a directory per running container.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// `containers/<id>/`.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Makes `containers/<id>/` (0700) and returns it.
    pub fn make_container(&self, id: &str) -> Result<PathBuf> {
        let dir = self.container(id);
        make_dir(&dir, 0o700)?;
        Ok(dir)
    }
}

/// Makes one directory with exactly `mode`, whatever the umask; an existing one keeps its own.
pub fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            rustix::fs::chmod(path, Mode::from_raw_mode(mode)).context("set the mode of", path)
        }
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(e) => Err(e).context("create the directory", path),
    }
}

/// Like [`make_dir`]; missing parents are made with 0755.
fn make_dir_all(path: &Path, mode: u32) -> Result<()> {
    match make_dir(path, mode) {
        Err(e) if e.is_not_found() => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            make_dir_all(parent, 0o755)?;
            make_dir(path, mode)
        }
        other => other,
    }
}

/// Paths go into records and to the kernel's mount API: they must not depend on the working directory.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).context("make absolute", &path)
}

fn check_version(path: &Path, text: &str) -> Result<()> {
    let found = text
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match found {
        Some(found) if (1..=FORMAT).contains(&found) => Ok(()),
        Some(found) if found > FORMAT => Err(Error::TooNew {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
        _ => Err(Error::Corrupt {
            what: "data root version",
            path: path.to_owned(),
            reason: format!("want \"{MAGIC} {FORMAT}\""),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn made_once_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/data");
        let root = DataRoot::open(&path).unwrap();
        assert_eq!(mode(&path), 0o710);
        for (name, want) in DATA_DIRS {
            assert_eq!(mode(&path.join(name)), want, "{name}");
        }
        assert_eq!(DataRoot::open(&path).unwrap(), root);
        let run = RunRoot::open(dir.path().join("run")).unwrap();
        assert_eq!(mode(run.path()), 0o700);
        assert_eq!(mode(&run.make_container("x").unwrap()), 0o700);
    }

    #[test]
    fn a_first_command_killed_half_way_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["overlay2", "tmp", "lost+found"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join(".version.9-0.tmp"), b"").unwrap();
        let root = DataRoot::open(dir.path()).unwrap();
        assert!(root.names().is_dir() && root.path().join("version").is_file());
    }

    #[test]
    fn refusals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), b"").unwrap();
        let error = DataRoot::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NotADataRoot { .. }), "{error}");
        assert!(!dir.path().join("overlay2").exists());

        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("version");
        std::fs::write(&version, "barque-data-root 2\n").unwrap();
        let error = DataRoot::open(dir.path()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooNew {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        for bad in [
            "",
            "1",
            "barque-data-root",
            "barque-data-root x",
            "barque-data-root 0",
        ] {
            std::fs::write(&version, bad).unwrap();
            let error = DataRoot::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{bad}: {error}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(DataRoot::open(&file).is_err() && RunRoot::open(&file).is_err());
    }

    #[test]
    fn many_first_commands_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| DataRoot::open(&path).unwrap());
            }
        });
    }
}
