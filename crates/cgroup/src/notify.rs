//! News of a group: that the kernel killed for memory, that memory gets scarce, that the group is
//! gone. Each watch has one fd to be polled for reading, beside whatever else the caller waits for.
//!
//! v1 has eventfds that are registered in `cgroup.event_control`
//! (Documentation/admin-guide/cgroup-v1/cgroups.rst, "Notification API"), and signals them once more
//! when the group is removed. v2 modifies `memory.events`, which inotify(7) tells, and the removal
//! of a group is told as a deletion in its parent.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::group::{Cgroup, Group};
use crate::limits::{Place, Places};
use crate::tables::value_of;

/// What happened since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomNews {
    /// On v2, processes of the group and of those below it that were killed; on v1, how often the
    /// group (and not one below it) ran out of memory, told just before the kernel picks a victim.
    pub ooms: u64,
    /// The group was removed: there will be no more news.
    pub gone: bool,
}

/// Tells when a group runs out of memory. Poll [`AsFd`] for reading, then [`OomWatch::news`].
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// An eventfd for `memory.oom_control`.
    V1 { group: Dir },
    /// inotify on `memory.events`; `kills` is what was told already.
    V2 { group: Dir, kills: u64 },
}

/// v1's levels of `memory.pressure_level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureLevel {
    /// The kernel reclaims.
    Low,
    /// It swaps, or drops what is in use.
    Medium,
    /// It is about to run out.
    Critical,
}

/// Tells when memory gets scarce (v1). Poll [`AsFd`] for reading, then [`PressureWatch::news`].
#[derive(Debug)]
pub struct PressureWatch {
    fd: OwnedFd,
    group: Dir,
}

impl Cgroup {
    /// Watches for the memory limit being hit beyond remedy. What happened before is not told; see
    /// [`Cgroup::oom_kills`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the group is without the memory controller, and those of
    /// eventfd(2), inotify(7) and of writing `cgroup.event_control`.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        match self.place("memory") {
            Place::V1(dir) => {
                let fd = register(dir, "memory.oom_control", "")?;
                let group = again(dir)?;
                Ok(OomWatch {
                    fd,
                    source: Source::V1 { group },
                })
            }
            Place::V2(dir) => {
                let group = self.v2().expect("a place on v2 is the v2 group");
                let fd = watch_events(group)?;
                // Read after the watch began, so that nothing falls between.
                let kills = kills(dir)?.unwrap_or(0);
                let group = again(dir)?;
                Ok(OomWatch {
                    fd,
                    source: Source::V2 { group, kills },
                })
            }
            Place::Refused(why) => Err(Error::unsupported(why)),
            Place::Nowhere => Err(Error::unsupported(format!(
                "cgroup {} tells of no lack of memory: the memory controller is not mounted",
                self.path()
            ))),
        }
    }

    /// Watches v1's memory pressure, of `level` and above.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on v2, where `memory.pressure` (PSI) has taken its place: see
    /// [`crate::MemoryStats::pressure`]; otherwise as [`Cgroup::watch_oom`].
    pub fn watch_pressure(&self, level: PressureLevel) -> Result<PressureWatch> {
        let Place::V1(dir) = self.place("memory") else {
            return Err(Error::unsupported(format!(
                "cgroup {} has no memory pressure levels: they are cgroup v1's; v2 measures pressure in memory.pressure",
                self.path()
            )));
        };
        let level = match level {
            PressureLevel::Low => "low",
            PressureLevel::Medium => "medium",
            PressureLevel::Critical => "critical",
        };
        Ok(PressureWatch {
            fd: register(dir, "memory.pressure_level", level)?,
            group: again(dir)?,
        })
    }
}

impl OomWatch {
    /// What happened since the last call. Does not wait.
    ///
    /// # Errors
    /// Those of reading the group's files.
    pub fn news(&mut self) -> Result<OomNews> {
        match &mut self.source {
            Source::V1 { group } => {
                let (ooms, gone) = eventfd_news(&self.fd, group)?;
                Ok(OomNews { ooms, gone })
            }
            Source::V2 { group, kills: told } => {
                drain(&self.fd, group)?;
                let Some(now) = kills(group)? else {
                    return Ok(OomNews {
                        ooms: 0,
                        gone: true,
                    });
                };
                let ooms = now.saturating_sub(*told);
                *told = now;
                Ok(OomNews { ooms, gone: false })
            }
        }
    }
}

impl PressureWatch {
    /// How often the kernel has said so since the last call, and whether the group is gone. Does
    /// not wait.
    ///
    /// # Errors
    /// Those of reading the eventfd.
    pub fn news(&mut self) -> Result<OomNews> {
        let (ooms, gone) = eventfd_news(&self.fd, &self.group)?;
        Ok(OomNews { ooms, gone })
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for PressureWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn again(dir: &Dir) -> Result<Dir> {
    dir.again()
        .map_err(|source| Error::io("open", dir.path(), source))
}

/// Has the kernel signal a new eventfd for `file`: `<eventfd> <fd of the file> <arguments>`.
fn register(dir: &Dir, file: &str, arguments: &str) -> Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event =
        eventfd(0, flags).map_err(|source| Error::io("make an eventfd for", dir.path(), source))?;
    let watched = dir
        .reader(file)
        .map_err(|source| Error::io("open", dir.path().join(file), source))?;
    let line = format!("{} {} {arguments}", event.as_raw_fd(), watched.as_raw_fd());
    dir.set("cgroup.event_control", line.trim_end())?;
    Ok(event)
}

/// How often an eventfd was signalled; the signal of the removal does not count.
fn eventfd_news(fd: &OwnedFd, group: &Dir) -> Result<(u64, bool)> {
    let mut count = [0u8; 8];
    let signals = match rustix::io::read(fd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(source) => return Err(Error::io("read an eventfd of", group.path(), source)),
    };
    let gone = !group.has("cgroup.event_control");
    Ok((signals.saturating_sub(u64::from(gone)), gone))
}

/// An inotify fd for `memory.events` of a v2 group and for its removal.
fn watch_events(group: &Group) -> Result<OwnedFd> {
    let io = |source| Error::io("watch", group.dir.path().join("memory.events"), source);
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(io)?;
    // By the fds that are held, not by name: inotify has no call that takes them directly.
    let through = |dir: &Dir| format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let events = format!("{}/memory.events", through(&group.dir));
    inotify::add_watch(&fd, events, inotify::WatchFlags::MODIFY).map_err(io)?;
    let removed = inotify::WatchFlags::DELETE | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, through(&group.parent), removed).map_err(io)?;
    Ok(fd)
}

/// Reads away what inotify has to say; what it means, the files tell.
fn drain(fd: &OwnedFd, group: &Dir) -> Result<()> {
    let mut events = [0u8; 4096];
    loop {
        match rustix::io::read(fd, &mut events) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => return Err(Error::io("watch", group.path(), source)),
        }
    }
}

/// Kills of a v2 group; `None` when it is gone.
fn kills(dir: &Dir) -> Result<Option<u64>> {
    match dir.read("memory.events") {
        Ok(text) => Ok(Some(value_of(&text, "oom_kill").unwrap_or(0))),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(source) => Err(Error::io("read", dir.path().join("memory.events"), source)),
    }
}
