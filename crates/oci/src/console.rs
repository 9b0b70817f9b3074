//! The master of a container's terminal: given away over a socket, or served here.

use crate::failure::{Failure, While};
use crate::forward;
use barque_types::spec::ConsoleSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::io::{IoSlice, stdin, stdout};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sends a descriptor to whoever listens at `path`, with `name` as the message: runc's protocol for terminals and
/// pidfds.
pub(crate) fn send(path: &str, fd: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let what = || format!("sending a descriptor to {path}");
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .while_(what)?;
    let address = SocketAddrUnix::new(path).while_(what)?;
    connect(&socket, &address).while_(what)?;
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &socket,
        &[IoSlice::new(name.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
    .while_(what)
}

/// Our terminal in raw mode, as long as this lives.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        if !isatty(stdin()) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has hung up needs no mode.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// The terminal of a container gets the size of ours, if we have one. To be called before the program can ask for it.
pub(crate) fn resize(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(stdin()) {
        // A terminal that has hung up needs no size.
        let _ = tcsetwinsize(master, size);
    }
}

/// The size of our own terminal, if we have one.
pub(crate) fn own_size() -> Option<ConsoleSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(ConsoleSize {
        height: size.ws_row,
        width: size.ws_col,
    })
}

/// Joins our standard streams and the terminal until the process has ended; returns its exit code.
pub(crate) fn serve(
    master: &OwnedFd,
    pidfd: &OwnedFd,
    signals: &forward::Signals,
) -> Result<u8, Failure> {
    let _raw = Raw::enter();
    let (mut input_open, mut output_open) = (true, true);
    loop {
        let (input, output) = (stdin(), stdout());
        let wanted = |open| {
            if open {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        // poll(2) looks at them in this order. What is typed after a change of the terminal's size finds the signal of
        // that change there, and the program sees the new size before the input.
        let mut fds = [
            PollFd::new(&input, wanted(input_open)),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(pidfd, PollFlags::IN),
            PollFd::new(master, wanted(output_open)),
        ];
        retry_on_intr(|| poll(&mut fds, None)).while_(|| "waiting for the container".to_owned())?;
        let [typed, signalled, ended, said] = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if signalled {
            signals.forward(pidfd.as_fd(), || resize(master))?;
        }
        if said && output_open {
            // EIO: the last process has closed it.
            output_open = copy(master.as_fd(), output.as_fd());
        }
        if typed && input_open {
            input_open = copy(input.as_fd(), master.as_fd());
        }
        // What it has said before its end is read first.
        if ended && (!output_open || !said) {
            return forward::exit_code(pidfd);
        }
    }
}

/// Moves what is there; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 16 * 1024];
    let length = match retry_on_intr(|| rustix::io::read(from, &mut buffer)) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match retry_on_intr(|| rustix::io::write(to, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&to, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    true
}
