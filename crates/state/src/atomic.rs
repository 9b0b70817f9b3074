//! Replacing a file so that a reader, a crash and a power cut see the old content or the new one.
//!
//! ```text
//! dir/.NAME.PID-N.tmp   created O_EXCL, written, [fsync]
//!      └─ rename ─→ dir/NAME, [fsync dir]
//! ```
//! The temporary lies in the same directory, because rename(2) is atomic only within one file system.
//! What a killed writer leaves is a dot file that [`sweep`] removes.

use crate::error::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How much must have reached the disk when a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Atomic towards other processes and a killed writer; the page cache may lose it in a power cut.
    None,
    /// The content and its directory entry are on stable storage (two fsyncs, about 0.5 ms on a fast disk).
    Synced,
}

/// A temporary older than this belongs to no living writer: a write takes milliseconds.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Replaces (or creates) `path` with `bytes`, mode 0600.
pub fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    write_with_mode(path, bytes, durability, 0o600)
}

/// Like [`write`], with the permission bits `mode` (the umask is applied).
pub fn write_with_mode(path: &Path, bytes: &[u8], durability: Durability, mode: u32) -> Result<()> {
    let temporary = temporary_beside(path);
    let done = write_temporary(&temporary, bytes, durability, mode).and_then(|()| {
        rustix::fs::rename(&temporary, path).context("replace", path)?;
        match durability {
            Durability::None => Ok(()),
            Durability::Synced => sync_dir(parent(path)),
        }
    });
    if done.is_err() {
        // After a successful rename this finds nothing; on any earlier failure it is our own garbage.
        let _ = rustix::fs::unlinkat(CWD, &temporary, AtFlags::empty());
    }
    done
}

fn write_temporary(path: &Path, bytes: &[u8], durability: Durability, mode: u32) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(mode)).context("create", path)?;
    let mut file = File::from(fd);
    file.write_all(bytes).context("write", path)?;
    if durability == Durability::Synced {
        file.sync_all().context("sync", path)?;
    }
    Ok(())
}

/// Makes the entries of a directory durable (fsync on the directory).
pub fn sync_dir(dir: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).context("open", dir)?;
    rustix::fs::fsync(fd).context("sync", dir)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// A name in the directory of `path` that no other writer uses: the pid tells processes apart, the
/// counter the writes of one. Across pid namespaces O_EXCL turns the rare clash into an error.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy())
        .unwrap_or_default();
    parent(path).join(format!(".{name}.{}-{n}.tmp", std::process::id()))
}

/// Whether a file name is one that [`write`] uses on its way.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Removes the temporaries in `dir` that killed writers left behind (older than ten minutes).
/// Returns how many there were; what cannot be removed stays for the next sweep.
pub fn sweep(dir: &Path) -> Result<usize> {
    sweep_older(dir, STALE_AFTER)
}

/// As [`sweep`], of any age: for who holds the lock without which nobody writes there.
pub fn sweep_all(dir: &Path) -> Result<usize> {
    sweep_older(dir, Duration::ZERO)
}

fn sweep_older(dir: &Path, age: Duration) -> Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).context("list", dir)? {
        let entry = entry.context("list", dir)?;
        if !entry.file_name().to_str().is_some_and(is_temporary) {
            continue;
        }
        let modified = entry.metadata().and_then(|m| m.modified());
        let old = modified
            .ok()
            .and_then(|m| SystemTime::now().duration_since(m).ok())
            .is_some_and(|d| d >= age);
        if old && std::fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for durability in [Durability::None, Durability::Synced] {
            write(&path, b"one", durability).unwrap();
            write(&path, b"two", durability).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"two");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["record"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content_and_no_garbage() {
        let dir = tempfile::tempdir().unwrap();
        // The target is a directory that is not empty: rename fails after the temporary was written.
        let path = dir.path().join("record");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("child"), b"").unwrap();
        let error = write(&path, b"x", Durability::None).unwrap_err();
        assert!(error.to_string().contains("record"), "{error}");
        assert_eq!(names(dir.path()), ["record"]);
        let missing = dir.path().join("nowhere/record");
        assert!(
            write(&missing, b"x", Durability::None)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn sweeps_only_old_temporaries() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".record.1-0.tmp"), b"half").unwrap();
        std::fs::write(dir.path().join("record"), b"whole").unwrap();
        assert_eq!(
            sweep(dir.path()).unwrap(),
            0,
            "a young one may have a living writer"
        );
        assert_eq!(sweep_older(dir.path(), Duration::ZERO).unwrap(), 1);
        assert_eq!(names(dir.path()), ["record"]);
    }

    #[test]
    fn readers_never_see_a_torn_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write(&path, &[b'a'; 8192], Durability::None).unwrap();
        std::thread::scope(|scope| {
            for byte in [b'a', b'b', b'c'] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..200 {
                        write(path, &[byte; 8192], Durability::None).unwrap();
                    }
                });
            }
            for _ in 0..400 {
                let seen = std::fs::read(&path).unwrap();
                assert_eq!(seen.len(), 8192);
                assert!(seen.iter().all(|b| *b == seen[0]), "torn");
            }
        });
        assert_eq!(names(dir.path()), ["record"]);
    }
}
