//! Answering for another process's system calls: seccomp_unotify(2), Linux 5.0.
//!
//! The listener is the descriptor that [`install_with_listener`](crate::seccomp::install_with_listener) returns in
//! the process whose calls are asked about.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, opcode};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const RECV: Opcode = opcode::read_write::<libc::seccomp_notif>(b'!', 0);
const SEND: Opcode = opcode::read_write::<libc::seccomp_notif_resp>(b'!', 1);

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Names it in the answer.
    pub id: u64,
    /// The thread that makes it, in the receiver's pid namespace; 0 when it is not visible there.
    pub pid: u32,
    /// Its number on the architecture of the thread.
    pub number: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Waits for a call; `None` when no process is left under the filter.
///
/// # Errors
/// Those of poll(2) and of the ioctl.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Asked>, Errno> {
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None))?;
        // The ioctl itself would wait for ever when the last process has gone.
        if !fds[0].revents().contains(PollFlags::IN) {
            return Ok(None);
        }
        // SAFETY: all zeroes is a valid seccomp_notif, and the kernel demands it.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: RECV writes one seccomp_notif, which `asked` is and outlives the call.
        match unsafe { ioctl(listener, RECV, (&raw mut asked).cast()) } {
            Ok(()) => {
                return Ok(Some(Asked {
                    id: asked.id,
                    pid: asked.pid,
                    number: asked.data.nr,
                    arguments: asked.data.args,
                }));
            }
            // A signal has ended the call, or its caller, after poll(2) had seen it.
            Err(Errno::NOENT | Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Lets the call fail.
///
/// # Errors
/// `ENOENT` when it waits no more.
pub fn deny(listener: BorrowedFd<'_>, id: u64, errno: Errno) -> Result<(), Errno> {
    answer(listener, id, -errno.raw_os_error(), 0)
}

/// Has the call made (Linux 5.5). What its pointers point to may change after it was looked at: this is no way to
/// confine anybody.
///
/// # Errors
/// `ENOENT` when it waits no more.
pub fn let_through(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    answer(
        listener,
        id,
        0,
        libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    )
}

fn answer(listener: BorrowedFd<'_>, id: u64, error: i32, flags: u32) -> Result<(), Errno> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error,
        flags,
    };
    // SAFETY: SEND reads one seccomp_notif_resp, which `response` is and outlives the call.
    unsafe { ioctl(listener, SEND, (&raw mut response).cast()) }
}

/// # Safety
/// `argument` must be what `request` reads and writes through it.
unsafe fn ioctl(
    listener: BorrowedFd<'_>,
    request: Opcode,
    argument: *mut libc::c_void,
) -> Result<(), Errno> {
    // SAFETY: the caller answers for `argument`; the descriptor is borrowed, so it is open.
    let answer = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request as _, argument) };
    if answer < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}
