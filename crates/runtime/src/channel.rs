//! What the parent and the container's first process say to each other, over one pair of sockets.
//!
//! ```text
//! child                                 parent
//!   enters its cgroups                    writes the id maps, mounts the root file system
//!   waits                        <──      Supplies (with the detached mount of the root)
//!   makes its file systems
//!   Furnished                    ──>      runs hooks, if there are any
//!   waits                        <──      GoOn
//!   builds the rest of its world
//!   Console (with the pty's master) ──>
//!   Ready (warnings)             ──>      create() returns
//!   waits                        <──      Start, or LetGo: then Start comes from whoever
//!                                         connects to the container's door, who is the parent here
//!   Listener                     ──>      only with a filter whose calls an agent answers
//!   waits                        <──      GoOn, and from here on it is watched (see `agent`)
//!   execve                                end of file: start() returns
//!   Failed (error)               ──>      at any time instead
//! ```
//!
//! The sockets are close-on-exec: a successful `execve` is what closes the child's end. They are
//! `SOCK_SEQPACKET`: a message is whole or absent, and the death of either side is an end of file.

use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A message larger than this is cut by whoever makes it (see [`Socket::send`]).
const MAX_MESSAGE: usize = 64 * 1024;

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// The master of its pseudo-terminal is attached.
    Console,
    /// The file systems are made, the root is not entered: time for the hooks of the runtime.
    Furnished,
    /// Everything is done but for the execution of the program.
    Ready {
        /// One sentence each.
        warnings: Vec<String>,
    },
    /// A filter is to be loaded whose listener is for an agent: watch it being loaded.
    Listener,
    /// `exec` only: the intermediate process has made the real one, whose pidfd is attached.
    Sibling {
        /// Its pid in the pid namespace of the caller.
        pid: i32,
    },
    /// Only from the helper of `rootfs`: the detached mount is attached.
    Mounted,
    /// Only from what becomes CRIU: a socket to it is attached.
    Service {
        /// The numbers of descriptors of directories that it has opened.
        directories: Vec<i32>,
    },
    /// It is over.
    Failed(Error),
}

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromParent {
    /// Ids are mapped; the detached mount of the root file system is attached.
    Supplies {
        /// The receiver's pid, as the sender sees it.
        pid: i32,
    },
    /// The hooks of the runtime have run; or, the loading of the filter is watched.
    GoOn,
    /// The sender leaves; the order to start comes through the door.
    LetGo,
    /// Execute the program.
    Start,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// The child's end of a connection to its door, when somebody has connected.
pub(crate) fn accept(door: BorrowedFd<'_>) -> Result<Socket> {
    loop {
        match rustix::net::accept_with(door, SocketFlags::CLOEXEC) {
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            other => return other.map(Socket).step(|| "waiting to be started"),
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Both ends.
pub(crate) fn pair() -> Result<(Socket, Socket)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .step(|| "making a socket pair")?;
    Ok((Socket(a), Socket(b)))
}

impl Socket {
    /// Sends a message, with at most one descriptor. `EPIPE` when the other side is gone.
    pub fn send(
        &self,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> std::result::Result<(), Errno> {
        let mut bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
        if bytes.len() > MAX_MESSAGE {
            bytes = serde_json::to_vec(&FromChild::Failed(Error::invalid(
                "message",
                "too large for the control socket",
            )))
            .map_err(|_| Errno::INVAL)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match sendmsg(
                &self.0,
                &[IoSlice::new(&bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Waits for a message; `None` when the other side is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>> {
        let mut bytes = vec![0u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // The other side died with something of ours unread. The kernel says so once, and before it hands
                // out what the other side had said (`__skb_try_recv_datagram` looks at `sk_err` first): after
                // this come its last words, or the end of file.
                Err(Errno::CONNRESET) => {}
                other => break other.step(|| "receiving from the control socket")?.bytes,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let fd = control.drain().find_map(|m| match m {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message = serde_json::from_slice(&bytes[..received])
            .map_err(|e| Error::invalid("control socket", e.to_string()))?;
        Ok(Some((message, fd)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_though_ours_were_not_read() {
        let (child, parent) = pair().expect("socketpair");
        let error = Error::step("entering a cgroup", Errno::NOSPC);
        child
            .send(&FromChild::Failed(error.clone()), None)
            .expect("send");
        parent.send(&FromParent::Start, None).expect("send");
        drop(child);
        let (message, _) = parent
            .receive::<FromChild>()
            .expect("receive")
            .expect("message");
        assert!(matches!(message, FromChild::Failed(e) if e == error));
        assert!(parent.receive::<FromChild>().expect("receive").is_none());
    }

    #[test]
    fn messages_carry_errors_and_descriptors_and_end_with_the_sender() {
        let (a, b) = pair().expect("socketpair");
        let error = Error::step("mounting", Errno::PERM).with_hint("why");
        a.send(&FromChild::Failed(error.clone()), Some(a.as_fd()))
            .expect("send");
        drop(a);
        let (message, fd) = b.receive::<FromChild>().expect("receive").expect("message");
        assert!(matches!(message, FromChild::Failed(e) if e == error));
        assert!(fd.is_some());
        drop(fd);
        assert!(b.receive::<FromChild>().expect("receive").is_none());
        assert_eq!(b.send(&FromParent::Start, None), Err(Errno::PIPE));
    }
}
