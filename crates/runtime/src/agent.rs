//! The agent that answers for some system calls of a container (`SCMP_ACT_NOTIFY`, seccomp_unotify(2)): how it
//! gets the descriptor on which it is asked.
//!
//! The filter is loaded by the process that becomes the program, in its very last steps, and from that moment on
//! the filter holds for it: whatever it did to hand its listener over might be denied, or wait for an answer
//! of the agent, who has not got the listener yet. (runc forbids to have `write` answered for this reason, and
//! needs a profile to allow more.) So it does nothing at all. The parent stops it by ptrace(2) the moment
//! that seccomp(2) returns, takes the listener with pidfd_getfd(2), sends it, and lets the process go on: to
//! execve(2), which the agent may have to answer already.

use crate::channel::{FromParent, Socket};
use crate::error::{Context, Error, Result};
use crate::exec::ended;
use barque_sys::ptrace::{Stop, Tracee};
use barque_types::oci_state::State;
use barque_types::spec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_send_signal};
use serde::Serialize;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Who is to be told, and of what.
#[derive(Debug, Clone)]
pub struct Agent {
    path: PathBuf,
    metadata: String,
    state: State,
}

/// What comes with the descriptor (config-linux.md, "The Container Process State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    /// What the descriptors are, in their order.
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a State,
}

impl Agent {
    /// The one that a configuration names, for a container in this state.
    pub fn of(seccomp: Option<&spec::Seccomp>, state: State) -> Option<Self> {
        let seccomp = seccomp?;
        Some(Self {
            path: seccomp.listener_path.clone()?,
            metadata: seccomp.listener_metadata.clone().unwrap_or_default(),
            state,
        })
    }

    /// Lets a process of ours, which waits for that, load its filter, and hands the listener over. On failure the
    /// process is killed: it would wait for answers for ever.
    pub(crate) fn serve(&self, socket: &Socket, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let served = self.hand_over(socket, pid, pidfd);
        if served.is_err() {
            // Already dead is as good.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        served
    }

    fn hand_over(&self, socket: &Socket, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let tracee = Tracee::seize(pid).map_err(untraceable)?;
        // A pid that was read from a file is the process that was meant only if that is alive now.
        if ended(pidfd) {
            return Err(Error::Gone { pid });
        }
        let step = || "watching the system call filter being loaded";
        tracee.interrupt().step(step)?;
        let signal = match tracee.wait().step(step)? {
            // Its last words, if there are any, are in the socket.
            Stop::Ended => return Ok(()),
            Stop::Signal(signal) => signal,
            _ => 0,
        };
        socket.send(&FromParent::GoOn, None).step(step)?;
        match filter_loaded(&tracee, signal).step(step)? {
            Some(number) => {
                let flags = PidfdGetfdFlags::empty();
                let listener = pidfd_getfd(pidfd, number, flags)
                    .step(|| "taking the listener of the system call filter")?;
                self.send(&listener, pid)?;
            }
            // It says itself why it could not.
            None if ended(pidfd) => return Ok(()),
            None => {}
        }
        tracee.detach().step(step)
    }

    /// One message with one descriptor on a connection of its own.
    fn send(&self, listener: &OwnedFd, pid: i32) -> Result<()> {
        let step = || {
            format!(
                "sending the listener of the system call filter to the agent at {}",
                self.path.display()
            )
        };
        let failed = |e: Errno| {
            let error = Error::step(step(), e);
            match e {
                Errno::NOENT | Errno::CONNREFUSED => {
                    error.with_hint("linux.seccomp.listenerPath: no agent listens there")
                }
                _ => error,
            }
        };
        let state = ContainerProcessState {
            oci_version: spec::SPEC_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state: &self.state,
        };
        let text = serde_json::to_vec(&state)
            .map_err(|e| Error::invalid("container process state", e.to_string()))?;
        let family = AddressFamily::UNIX;
        let socket =
            socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        let address = SocketAddrUnix::new(&self.path).map_err(failed)?;
        connect(&socket, &address).map_err(failed)?;
        let fds = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let part = [IoSlice::new(&text)];
        let mut rest =
            &text[sendmsg(&socket, &part, &mut control, SendFlags::NOSIGNAL).map_err(failed)?..];
        while !rest.is_empty() {
            let sent = rustix::net::send(&socket, rest, SendFlags::NOSIGNAL).map_err(failed)?;
            rest = &rest[sent..];
        }
        Ok(())
    }
}

/// Waits for the return of the call that loads the filter; the listener's number in the process, or nothing when it
/// failed or the process has ended.
fn filter_loaded(tracee: &Tracee, mut signal: i32) -> rustix::io::Result<Option<i32>> {
    let mut loading = false;
    loop {
        match tracee.resume(signal) {
            // It was killed, and stands still no more.
            Err(Errno::SRCH) => return Ok(None),
            other => other?,
        }
        signal = 0;
        match tracee.wait()? {
            Stop::Entry { number, arguments } => {
                loading = barque_sys::seccomp::makes_listener(number, &arguments);
            }
            Stop::Exit { value } if loading => {
                return Ok(i32::try_from(value).ok().filter(|n| *n >= 0));
            }
            Stop::Signal(number) => signal = number,
            Stop::Ended => return Ok(None),
            Stop::Exit { .. } | Stop::Event => {}
        }
    }
}

fn untraceable(errno: Errno) -> Error {
    let error = Error::step(
        "attaching to the process that loads its system call filter",
        errno,
    );
    match errno {
        Errno::PERM => error.with_hint(
            "to hand a listener over takes CAP_SYS_PTRACE, a kernel.yama.ptrace_scope below 3, and that \
             nobody else traces the process",
        ),
        _ => error,
    }
}
