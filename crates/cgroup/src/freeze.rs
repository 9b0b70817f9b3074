//! Freezing, thawing and killing everything in a group.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::dir::{Dir, slurp};
use crate::error::{Error, Result, pid_list};
use crate::group::{Cgroup, Group};
use crate::tables::value_of;

/// How long a v1 group may be `FREEZING` before it is thawed and frozen again.
const REFREEZE: Duration = Duration::from_millis(100);
/// How much of the time for killing may go into holding a v1 group still.
const HOLD_STILL: Duration = Duration::from_millis(250);

/// Which freezer a group has.
enum Freezer<'a> {
    V1(&'a Dir),
    V2(&'a Dir),
}

impl Cgroup {
    /// The v1 freezer where it is mounted, because that is where tools of such a machine look; else
    /// v2's own (Linux 5.2). A v2 group that is gone has no files at all, which says nothing of the kernel.
    fn freezer(&self) -> Result<Freezer<'_>> {
        if let Some(group) = self.v1_of("freezer") {
            return Ok(Freezer::V1(&group.dir));
        }
        match self.v2() {
            Some(group) if group.dir.has("cgroup.freeze") || !group.dir.has("cgroup.procs") => {
                Ok(Freezer::V2(&group.dir))
            }
            _ => Err(Error::unsupported(format!(
                "cgroup {} cannot be frozen: the freezer controller is not mounted, and v2's cgroup.freeze needs Linux 5.2",
                self.path()
            ))),
        }
    }

    /// Stops every process of the group and of those below it, and waits until all stand still.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `patience` (a process in an uninterruptible wait does not stop); the
    /// group is thawed again then. [`Error::Unsupported`] without a freezer.
    pub fn freeze(&self, patience: Duration) -> Result<()> {
        let (dir, result) = match self.freezer()? {
            Freezer::V1(dir) => (dir, freeze_v1(dir, patience)),
            Freezer::V2(dir) => {
                dir.set("cgroup.freeze", "1")?;
                (dir, wait_for_event(dir, "frozen", 1, patience))
            }
        };
        if result? {
            return Ok(());
        }
        self.thaw()?;
        Err(Error::Timeout {
            op: "freezing",
            path: dir.path().to_owned(),
            limit: patience,
            detail: "; a process in an uninterruptible wait (state D) cannot be frozen".to_owned(),
        })
    }

    /// Lets the processes run again. A group that is not frozen is no error, nor is one that is gone:
    /// who ran a container removes its group as soon as it has been killed.
    ///
    /// # Errors
    /// Those of writing the freezer's file.
    pub fn thaw(&self) -> Result<()> {
        let (dir, file, value) = match self.freezer()? {
            Freezer::V1(dir) => (dir, "freezer.state", "THAWED"),
            Freezer::V2(dir) => (dir, "cgroup.freeze", "0"),
        };
        match dir.set(file, value) {
            Err(Error::Rejected {
                source: Errno::NOENT | Errno::NODEV,
                ..
            }) => Ok(()),
            result => result,
        }
    }

    /// Whether every process of the group stands still.
    ///
    /// # Errors
    /// Those of reading the freezer's file.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.freezer()? {
            Freezer::V1(dir) => Ok(dir.text("freezer.state")?.trim() == "FROZEN"),
            Freezer::V2(dir) => Ok(value_of(&dir.text("cgroup.events")?, "frozen") == Some(1)),
        }
    }

    /// Whether a process is in the group or below it. Zombies do not count.
    ///
    /// # Errors
    /// Those of reading the hierarchies.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.pids()?.is_empty())
    }

    /// Kills every process of the group and of those below it with SIGKILL, frozen or not, and
    /// waits until none is left. A fork cannot escape it.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the processes that are left after `patience`.
    pub fn kill_all(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        if let Some(group) = self.v2() {
            self.kill_v2(group, deadline)?;
        }
        let mut pause = Duration::from_micros(200);
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let detail = format!("; {} left", pid_list(&pids));
                let path = self.v2().or(self.v1_of("freezer"));
                return Err(Error::Timeout {
                    op: "killing the processes of",
                    path: path
                        .map_or_else(|| self.path().into(), |group| group.dir.path().to_owned()),
                    limit: patience,
                    detail,
                });
            }
            self.kill_each()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// `cgroup.kill` (Linux 5.14): the whole tree in one step, forks in flight included. On a hybrid
    /// machine too, where the v2 tree need not have any controller for it.
    fn kill_v2(&self, group: &Group, deadline: Instant) -> Result<()> {
        match group.dir.write("cgroup.kill", "1") {
            Ok(()) => {}
            // An older kernel, or the group is gone.
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(source) => {
                return Err(Error::io(
                    "write",
                    group.dir.path().join("cgroup.kill"),
                    source,
                ));
            }
        }
        // v2's freezer lets the killed out by itself, v1's holds them until it is thawed.
        if let Some(group) = self.v1_of("freezer") {
            group.dir.write("freezer.state", "THAWED").or_else(gone)?;
        }
        // A moment, so that the ordinary case does not go through the slow way below; whoever is
        // not in the v2 group is killed there.
        let moment =
            Duration::from_millis(200).min(deadline.saturating_duration_since(Instant::now()));
        wait_for_event(&group.dir, "populated", 0, moment).map(drop)
    }

    /// Without `cgroup.kill`: hold the group still, so that nobody forks while the list is read,
    /// signal everybody on it, let go. Called again until the group is empty.
    fn kill_each(&self) -> Result<()> {
        // Somebody who cannot be frozen must not save the others.
        let _ = self.freeze(HOLD_STILL);
        let listed = self.pids()?;
        let opened: Vec<(i32, OwnedFd)> = listed
            .into_iter()
            .filter_map(|pid| {
                let raw = Pid::from_raw(pid)?;
                // Gone already: nothing to kill.
                pidfd_open(raw, PidfdFlags::empty())
                    .ok()
                    .map(|fd| (pid, fd))
            })
            .collect();
        // A number may have passed to a stranger between the list and the open. Whoever is still
        // listed now and is alive when signalled is the process that the fd was opened for.
        let still = self.pids()?;
        for (pid, fd) in &opened {
            if still.binary_search(pid).is_ok() {
                match pidfd_send_signal(fd, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(source) => {
                        let _ = self.thaw();
                        return Err(Error::io("kill", format!("process {pid}"), source));
                    }
                }
            }
        }
        match self.thaw() {
            Err(Error::Unsupported { .. }) => Ok(()),
            result => result,
        }
    }
}

fn gone(errno: Errno) -> Result<()> {
    match errno {
        Errno::NOENT | Errno::NODEV => Ok(()),
        source => Err(Error::io("write", "freezer.state", source)),
    }
}

/// True when `FROZEN` within `patience`.
///
/// A task that is forking while the kernel marks the others can keep the group `FREEZING` for ever:
/// the state is written again at each look, and from time to time the group is thawed first.
fn freeze_v1(dir: &Dir, patience: Duration) -> Result<bool> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    let mut thawed = start;
    loop {
        dir.set("freezer.state", "FROZEN")?;
        if dir.text("freezer.state")?.trim() == "FROZEN" {
            return Ok(true);
        }
        if start.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
        if thawed.elapsed() > REFREEZE {
            dir.set("freezer.state", "THAWED")?;
            thawed = Instant::now();
            // Whoever was caught half-way gets to run on.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until `key` of `cgroup.events` has the value; false after `patience`. The kernel wakes
/// whoever polls that file when it changes. A group that is gone is empty and no longer frozen.
fn wait_for_event(dir: &Dir, key: &str, value: u64, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let io = |source| Error::io("read", dir.path().join("cgroup.events"), source);
    let events = match dir.reader("cgroup.events") {
        Ok(events) => events,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(value == 0),
        Err(source) => return Err(io(source)),
    };
    loop {
        rustix::fs::seek(&events, rustix::fs::SeekFrom::Start(0)).map_err(io)?;
        match slurp(events.as_fd()) {
            Ok(text) if value_of(&text, key) == Some(value) => return Ok(true),
            Ok(_) => {}
            Err(Errno::NODEV) => return Ok(value == 0),
            Err(source) => return Err(io(source)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        let timeout = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => return Err(io(source)),
        }
    }
}
