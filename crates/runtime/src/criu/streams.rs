//! Standard input, output and error of a container: files from outside, given anew at a restore.
//!
//! A pipe is known to CRIU by its number; one end of it outside is no hindrance to a dump. A file that is
//! on none of the container's mounts (the host's `/dev/null`, a log, a terminal of the host) must be
//! declared to be from outside.

use super::mountinfo::Entry;
use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, FileType, stat};
use rustix::io::Errno;

/// What a stream is to CRIU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    /// Its name at the restore.
    pub key: String,
    /// Whether the dump must be told that it is from outside.
    pub declare: bool,
}

/// Those of a process, in the order of 0, 1 and 2; `None` for what is the container's own.
pub(super) fn of(pid: i32, mounts: &[Entry]) -> Result<[Option<Stream>; 3]> {
    Ok([
        stream(pid, 0, mounts)?,
        stream(pid, 1, mounts)?,
        stream(pid, 2, mounts)?,
    ])
}

fn stream(pid: i32, number: i32, mounts: &[Entry]) -> Result<Option<Stream>> {
    let path = format!("/proc/{pid}/fd/{number}");
    let step = || format!("looking at {path}");
    let link = match rustix::fs::readlinkat(CWD, path.as_str(), Vec::new()) {
        // The program has closed it.
        Err(Errno::NOENT) => return Ok(None),
        other => other.step(step)?.to_string_lossy().into_owned(),
    };
    let file = stat(path.as_str()).step(step)?;
    let info = format!("/proc/{pid}/fdinfo/{number}");
    let info = std::fs::read_to_string(&info).step(|| format!("reading {info}"))?;
    let mount =
        mount_of(&info).ok_or_else(|| Error::invalid(path.clone(), "its mount is not known"))?;
    let inside = mounts.iter().any(|entry| entry.id == mount);
    let kind = FileType::from_raw_mode(file.st_mode);
    Ok(name(
        &link,
        kind,
        inside,
        (mount, file.st_ino, file.st_rdev, file.st_dev),
    ))
}

/// `mnt_id` of a `/proc/PID/fdinfo/N`.
fn mount_of(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|l| l.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// The names by which CRIU knows files (criu/pipes.c, sk-unix.c, files-reg.c, tty.c).
fn name(
    link: &str,
    kind: FileType,
    inside: bool,
    (mount, inode, device_number, device): (u64, u64, u64, u64),
) -> Option<Stream> {
    let named = |key: String, declare| Some(Stream { key, declare });
    match kind {
        FileType::Fifo if link.starts_with("pipe:") => named(link.to_owned(), false),
        FileType::Socket => named(link.to_owned(), false),
        _ if inside => None,
        FileType::CharacterDevice if is_terminal(device_number) => {
            named(format!("tty[{device_number:x}:{device:x}]"), true)
        }
        _ => named(format!("file[{mount:x}:{inode:x}]"), true),
    }
}

/// Terminals, pseudo-terminals, consoles (major numbers 4, 5 and 136 to 143).
fn is_terminal(device_number: u64) -> bool {
    matches!(rustix::fs::major(device_number), 4 | 5 | 136..=143)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_criu() {
        let of = |link, kind, inside, rdev| {
            name(link, kind, inside, (0x2c, 0x1f, rdev, 0x18)).map(|s| (s.key, s.declare))
        };
        let pipe = of("pipe:[77]", FileType::Fifo, false, 0);
        assert_eq!(pipe, Some(("pipe:[77]".to_owned(), false)));
        let null = rustix::fs::makedev(1, 3);
        let outside = of("/dev/null", FileType::CharacterDevice, false, null);
        assert_eq!(outside, Some(("file[2c:1f]".to_owned(), true)));
        let own = of("/dev/null", FileType::CharacterDevice, true, null);
        assert_eq!(own, None);
        let pty = rustix::fs::makedev(136, 1);
        let terminal = of("/dev/pts/1", FileType::CharacterDevice, false, pty);
        assert_eq!(terminal, Some((format!("tty[{pty:x}:18]"), true)));
        assert_eq!(of("/run/fifo", FileType::Fifo, true, 0), None);
    }

    #[test]
    fn the_mount_of_a_descriptor() {
        assert_eq!(
            mount_of("pos:\t0\nflags:\t02\nmnt_id:\t26\nino:\t5\n"),
            Some(26)
        );
        assert_eq!(mount_of("pos:\t0\n"), None);
    }
}
