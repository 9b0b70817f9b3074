//! In the foreground: signals go to the process, its end comes back.

use crate::failure::{Failure, While};
use barque_sys::process::reap;
use barque_sys::signal::{SignalFd, pidfd_send};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// SIGKILL and SIGSTOP cannot be had; these are for us.
const OURS: [i32; 3] = [17, 23, 13]; // SIGCHLD, SIGURG (Go's preemption), SIGPIPE
/// The size of our terminal has changed.
const WINCH: i32 = 28;

/// All signals that are passed on.
pub(crate) struct Signals(SignalFd);

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signals {
    /// From now on they wait for [`Signals::forward`]. To be called before there is somebody who might answer to us:
    /// a signal that comes in between would end us, and leave the container behind.
    pub fn block() -> Result<Self, Failure> {
        let numbers = (1..=64).filter(|n| !OURS.contains(n));
        SignalFd::new(numbers)
            .map(Self)
            .while_(|| "preparing to forward signals".to_owned())
    }

    /// Passes on what has come.
    pub fn forward(&self, pidfd: BorrowedFd<'_>, resized: impl Fn()) -> Result<(), Failure> {
        while let Some(number) = self.0.next().while_(|| "receiving a signal".to_owned())? {
            if number == WINCH {
                resized();
                continue;
            }
            match pidfd_send(pidfd, number) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e).while_(|| format!("forwarding signal {number}")),
            }
        }
        Ok(())
    }
}

/// Waits for the end of our child, passing signals on; returns its exit code.
pub(crate) fn wait(pidfd: &OwnedFd, signals: &Signals) -> Result<u8, Failure> {
    loop {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(pidfd, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut fds, None)).while_(|| "waiting for the container".to_owned())?;
        let ready = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if ready[0] {
            signals.forward(pidfd.as_fd(), || {})?;
        }
        if ready[1] {
            return exit_code(pidfd);
        }
    }
}

/// Reaps our child; the code as shells have it.
pub(crate) fn exit_code(pidfd: &OwnedFd) -> Result<u8, Failure> {
    let code = reap(pidfd.as_fd()).while_(|| "waiting for the container".to_owned())?;
    Ok(match code {
        code @ 0.. => code as u8,
        signal => 128u8.wrapping_add(signal.unsigned_abs() as u8),
    })
}
