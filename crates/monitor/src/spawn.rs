//! Making a monitor: lock, socket, fork, and the answer of the start.

use crate::client::{Attachment, Connector};
use crate::error::{Context, Error, Result};
use crate::protocol::{Answer, AttachOptions};
use crate::server::{Connection, ControlSocket, Monitor};
use crate::supervised::{Config, StartError, Supervised};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A container that was started.
#[derive(Debug)]
pub struct Spawned {
    /// PID 1.
    pub pid: i32,
    /// The monitor, a child of this process.
    pub monitor_pid: i32,
    /// What the user should know, each one line.
    pub warnings: Vec<String>,
    /// The attachment asked for: it exists since before the container's first byte of output.
    pub attachment: Option<Attachment>,
}

/// What moves into the monitor.
struct Package<S> {
    config: Config,
    supervised: S,
    socket: ControlSocket,
    connection: OwnedFd,
    attach: Option<AttachOptions>,
}

impl<S: Supervised> Package<S> {
    fn keep_fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = self.supervised.keep_fds();
        fds.extend(self.socket.fds());
        fds.push(self.connection.as_fd());
        fds
    }

    fn run(self, left: Result<(), Errno>) -> i32 {
        let mut connection = Connection::spawner(self.connection, self.attach);
        if let Err(errno) = left {
            drop(self.socket);
            connection.fail_start(StartError {
                message: format!(
                    "cannot detach the monitor of container {}: {errno}",
                    self.config.id
                ),
                exit_code: 125,
            });
            return 1;
        }
        // "barque-monitor" in `ps -o comm` and in the kernel's messages.
        let _ = rustix::thread::set_name(c"barque-monitor");
        Monitor::run(self.config, self.supervised, self.socket, connection);
        0
    }
}

/// Forks a monitor, which starts the container; returns when PID 1 runs, or with the reason why not
/// ([`Error::Start`]). With `attach` the caller gets all output from the first byte.
///
/// Must be called while the process has a single thread. (An API server with threads will re-execute
/// itself with the serialised [`Config`] and call this there.)
pub fn spawn<S: Supervised>(
    config: Config,
    supervised: S,
    attach: Option<AttachOptions>,
) -> Result<Spawned> {
    let run_dir = config.run_dir.clone();
    let id = config.id.clone();
    let socket = ControlSocket::open(&run_dir)?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("make a socket pair")?;
    let package = Package {
        config,
        supervised,
        socket,
        connection: theirs,
        attach,
    };
    let (monitor, package) = barque_sys::daemon::spawn(package, Package::keep_fds, Package::run)
        .context(format!("fork the monitor of container {id}"))?;
    package.socket.hand_over();
    drop((package.connection, package.supervised));

    let mut connector = Connector::inherited(ours, &run_dir);
    match connector.read_answer()? {
        Some(Answer::Started { pid, warnings }) => Ok(Spawned {
            pid,
            monitor_pid: monitor.as_raw_pid(),
            warnings,
            attachment: attach.map(|_| connector.into_attachment()),
        }),
        Some(Answer::StartFailed(error)) => {
            reap(monitor);
            Err(Error::Start(error))
        }
        Some(other) => Err(Error::Protocol {
            peer: "the monitor",
            reason: format!("unexpected first answer {other:?}"),
        }),
        None => {
            reap(monitor);
            Err(Error::MonitorDied { id })
        }
    }
}

/// The monitor ends by itself; it must not stay a zombie of a caller that goes on.
fn reap(monitor: Pid) {
    while let Err(Errno::INTR) = waitpid(Some(monitor), WaitOptions::empty()) {}
}
