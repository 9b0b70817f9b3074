//! Processes that cannot be mistaken for others: pid, start time and boot.
//!
//! A pid alone says nothing once its process is gone: the kernel gives it to another. The start time in
//! clock ticks since boot (field 22 of /proc/PID/stat, proc_pid_stat(5)) tells the two apart, and the
//! boot id tells two boots apart. To act on a process, open a pidfd ([`ProcessId::open`]) and use that.

use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

/// One process for all time, as seen from this pid namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in the pid namespace of the engine.
    pub pid: i32,
    /// Clock ticks (`sysconf(_SC_CLK_TCK)`) between boot and the start of the process.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time of the process.
    pub boot_id: String,
}

/// What /proc/PID/stat says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: u8,
    start_time: u64,
}

impl ProcessId {
    /// The identity of the process that has `pid` now. The caller must know that it is the one it means:
    /// its own child not yet waited for, or itself.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = read_stat(pid)?.ok_or_else(|| Error::Io {
            op: "find the process",
            path: stat_path(pid),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(Self {
            pid,
            start_time: stat.start_time,
            boot_id: boot_id()?.to_owned(),
        })
    }

    /// The identity of the calling process.
    pub fn current() -> Result<Self> {
        Self::of(rustix::process::getpid().as_raw_pid())
    }

    /// Whether the process runs (also stopped or frozen). A zombie has ended: not alive.
    pub fn is_alive(&self) -> Result<bool> {
        if self.boot_id != boot_id()? {
            return Ok(false);
        }
        Ok(read_stat(self.pid)?.is_some_and(|s| self.is(s) && !matches!(s.state, b'Z' | b'X')))
    }

    /// A pidfd of exactly this process, `None` when it is gone (a zombie not yet waited for has one).
    ///
    /// Sound without a race: the pidfd is opened first and the start time read after. If it is the
    /// recorded one, the pid belonged to this process from its start until that look, hence also when
    /// the pidfd was opened.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // EINVAL: the pid is a thread's, so the process we knew is gone.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(e) => return Err(e).context("open a pidfd for", &stat_path(self.pid)),
        };
        Ok(read_stat(self.pid)?
            .is_some_and(|s| self.is(s))
            .then_some(fd))
    }

    fn is(&self, stat: Stat) -> bool {
        stat.start_time == self.start_time
    }
}

/// The id of this boot of the machine, a UUID.
pub fn boot_id() -> Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let id = std::fs::read_to_string(&path).context("read", &path)?;
    Ok(BOOT_ID.get_or_init(|| id.trim_end().to_owned()))
}

fn stat_path(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/stat"))
}

fn read_stat(pid: i32) -> Result<Option<Stat>> {
    let path = stat_path(pid);
    match std::fs::read(&path) {
        Ok(bytes) => parse_stat(&bytes).map(Some).ok_or_else(|| Error::Io {
            op: "understand",
            path,
            source: io::ErrorKind::InvalidData.into(),
        }),
        // ENOENT: no such process. ESRCH: it ended between open and read.
        Err(e)
            if e.kind() == io::ErrorKind::NotFound
                || e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(e) => Err(e).context("read", &path),
    }
}

/// The command name (field 2) stands in parentheses and may hold anything, also `) `: the fields are
/// counted from the last `)`.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let end = bytes.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 2..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?; // field 3
    let start_time = fields.nth(18)?.parse().ok()?; // field 22
    Some(Stat { state, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn stat_lines() {
        let line = b"42 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                state: b'R',
                start_time: 777
            })
        );
        for bad in [&b""[..], b"42 (x)", b"42 (x) R 1 2", b"42 x R"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn alive_zombie_gone() {
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.is_alive().unwrap());
        let fd = id.open().unwrap().expect("a living process has a pidfd");
        child.kill().unwrap();
        let mut poll = [rustix::event::PollFd::new(
            &fd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut poll, None).unwrap();
        assert!(!id.is_alive().unwrap(), "a zombie is not alive");
        child.wait().unwrap();
        assert!(!id.is_alive().unwrap());
        assert!(id.open().unwrap().is_none());
        assert!(ProcessId::of(id.pid).is_err());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = ProcessId::current().unwrap();
        assert!(me.is_alive().unwrap());
        let earlier = ProcessId {
            start_time: me.start_time.wrapping_sub(1),
            ..me.clone()
        };
        assert!(!earlier.is_alive().unwrap());
        assert!(earlier.open().unwrap().is_none());
        let last_boot = ProcessId {
            boot_id: "another".into(),
            ..me
        };
        assert!(!last_boot.is_alive().unwrap());
        assert!(last_boot.open().unwrap().is_none());
    }
}
