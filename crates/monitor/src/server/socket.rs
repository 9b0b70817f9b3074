//! The control socket in the container's run directory, and the lock that makes its monitor the only one.
//!
//! A socket's path may have 107 bytes (sockaddr_un); a run root may be longer. The directory is opened
//! and the socket bound and reached as `/proc/self/fd/N/monitor.sock`, which is always short.

use crate::error::{Context, Error, Result};
use barque_state::lock::FileLock;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
    sockopt,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

const NAME: &str = "monitor.sock";
const LOCK: &str = "monitor.lock";

/// Whether a monitor serves the container of this run directory. The caller keeps others from starting
/// it meanwhile: a start that met this look would think that the container runs.
///
/// # Errors
/// Those of the lock file; not found when there is no such directory.
pub fn is_served(run_dir: &Path) -> Result<bool> {
    Ok(FileLock::try_exclusive(&run_dir.join(LOCK))?.is_none())
}

/// The listening socket; dropping it removes it and then gives the lock up.
pub(crate) struct ControlSocket {
    dir: OwnedFd,
    listener: OwnedFd,
    lock: FileLock,
    /// Whether this process removes the socket.
    owned: bool,
}

impl ControlSocket {
    /// Takes the lock, removes a dead monitor's socket and listens.
    pub(crate) fn open(run_dir: &Path) -> Result<Self> {
        let lock =
            FileLock::try_exclusive(&run_dir.join(LOCK))?.ok_or_else(|| Error::AlreadyRunning {
                path: run_dir.to_owned(),
            })?;
        let dir = open_dir(run_dir).context(format!("open {}", run_dir.display()))?;
        match rustix::fs::unlinkat(&dir, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => {
                return Err(e).context(format!("remove the stale socket in {}", run_dir.display()));
            }
        }
        let listener =
            make_listener(&dir).context(format!("listen on {}", run_dir.join(NAME).display()))?;
        Ok(Self {
            dir,
            listener,
            lock,
            owned: true,
        })
    }

    /// The fds that the monitor needs after the fork.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.dir.as_fd(), self.listener.as_fd(), self.lock.as_fd()]
    }

    /// The monitor has it now: this process closes its fds and removes nothing. (The lock is of the
    /// open file description, which the monitor shares.)
    pub(crate) fn hand_over(mut self) {
        self.owned = false;
    }

    /// The next client of our own user or root. EPERM: another user's, who is sent away.
    pub(super) fn accept(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = accept_with(&self.listener, flags)?;
        let peer = sockopt::socket_peercred(&fd)?;
        if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
            Ok(fd)
        } else {
            Err(Errno::PERM)
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.owned {
            // It is gone already if the engine removed the run directory.
            let _ = rustix::fs::unlinkat(&self.dir, NAME, AtFlags::empty());
        }
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn address(dir: &OwnedFd) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()))
}

fn make_listener(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&listener, &address(dir)?)?;
    listen(&listener, 64)?;
    Ok(listener)
}

/// Connects to the monitor of the container whose run directory this is.
pub(crate) fn connect(run_dir: &Path) -> Result<OwnedFd> {
    let attempt = || -> Result<OwnedFd, Errno> {
        let dir = open_dir(run_dir)?;
        let fd = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&fd, &address(&dir)?)?;
        Ok(fd)
    };
    match attempt() {
        Ok(fd) => Ok(fd),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Err(Error::NotRunning {
            path: run_dir.to_owned(),
        }),
        Err(e) => Err(e).context(format!("connect to {}", run_dir.join(NAME).display())),
    }
}
