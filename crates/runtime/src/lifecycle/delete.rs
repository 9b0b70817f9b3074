//! `delete`: nothing is left of a container, however much of it there was.

use super::create::KILL_PATIENCE;
use super::{Container, Home, groups};
use crate::error::{Context, Error, Result};
use crate::hooks::{self, Status};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Where a directory goes before it is deleted. No id has a `~`, so nobody takes it for a container; whoever waits for
/// its lock finds it gone, and makes nothing in it any more.
fn outgoing(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let stem: String = name.chars().take(200).collect();
    dir.with_file_name(format!("{stem}~"))
}

/// Removes a container's directory, whose lock the caller holds.
pub(super) fn discard(dir: &Path) -> Result<()> {
    let outgoing = outgoing(dir);
    loop {
        match std::fs::rename(dir, &outgoing) {
            Ok(()) => return remove_tree(&outgoing),
            // Somebody else was faster.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            // What one who was killed right here has left.
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => remove_tree(&outgoing)?,
            Err(e) => return Err(e).step(|| format!("removing {dir:?}")),
        }
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).step(|| format!("removing {path:?}")),
        _ => Ok(()),
    }
}

impl Home {
    /// Removes what a `delete` that was killed has left of a container that does not exist any more.
    ///
    /// # Errors
    /// Those of removing it.
    pub fn sweep(&self, id: &str) -> Result<()> {
        remove_tree(&outgoing(&self.dir(id)?))
    }
}

impl Container {
    /// Removes it: its processes if `force` allows (those of a created one in any case), its cgroups, its directory;
    /// then runs the poststop hooks, whose failures are returned.
    ///
    /// # Errors
    /// It is running and `force` is not given, or something of it cannot be removed.
    pub fn delete(self, force: bool) -> Result<Vec<String>> {
        let status = self.status()?;
        match status {
            Status::Stopped => {}
            // The specification has it an error; runc and crun delete it, and engines rely on that.
            Status::Created => self.end()?,
            Status::Creating if force => self.end()?,
            Status::Running | Status::Paused if force => self.end()?,
            Status::Creating => {
                return Err(self.conflict(
                    status,
                    "another process makes it right now; --force overrules that",
                ));
            }
            Status::Running | Status::Paused => {
                return Err(self.conflict(
                    status,
                    "only a stopped container can be deleted; kill it first, or use --force",
                ));
            }
        }
        let lock = match self.lock() {
            // Somebody else was faster, or there never was more than a directory.
            Err(Error::Unknown { .. }) => None,
            other => Some(other?),
        };
        // What its maker has written since we looked.
        let this = match Self::open(self.dir(), self.id()) {
            Err(Error::Unknown { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        if this.status()? != Status::Stopped {
            this.end()?;
        }
        let spec = this.spec().ok();
        let state = spec
            .as_ref()
            .map(|spec| this.hook_state(Status::Stopped, spec))
            .transpose()
            .ok()
            .flatten();
        this.remove_group()?;
        tracing::debug!("step: cgroups removed");
        discard(this.dir())?;
        drop(lock);
        tracing::debug!("step: directory removed");
        let hooks = spec
            .and_then(|spec| spec.hooks)
            .map(|h| h.poststop)
            .unwrap_or_default();
        let failed = state.and_then(|state| hooks::run("poststop", &hooks, &state).err());
        Ok(failed.map(|e| e.to_string()).into_iter().collect())
    }

    /// Kills its first process, and waits until it has ended.
    fn end(&self) -> Result<()> {
        let Some(init) = self.record().and_then(|r| r.init.as_ref()) else {
            return Ok(());
        };
        let Some(pidfd) = init.open()? else {
            return Ok(());
        };
        match barque_sys::signal::pidfd_send(pidfd.as_fd(), 9) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(Error::step(format!("killing process {}", init.pid), e)),
        }
        if let Some(group) = self.group()? {
            // Frozen, it would not die on v1.
            let _ = group.thaw();
        }
        let patience = rustix::time::Timespec::try_from(KILL_PATIENCE).unwrap_or_default();
        let mut fds = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, Some(&patience)) {
            Ok(0) => Err(Error::Status {
                id: self.id().to_owned(),
                status: Status::Running,
                why: format!(
                    "process {} does not end; it waits in the kernel for something (state D)",
                    init.pid
                ),
            }),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(Error::step(format!("waiting for process {}", init.pid), e)),
        }
    }

    /// Ends what is left in its cgroups, and removes them.
    fn remove_group(&self) -> Result<()> {
        let Some(group) = self.group()? else {
            return Ok(());
        };
        if !group.is_empty()? {
            group.kill_all(KILL_PATIENCE)?;
        }
        match self.record() {
            Some(record) => groups::remove(&record.group, &group),
            None => Ok(group.remove()?),
        }
    }
}
