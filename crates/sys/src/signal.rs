//! Signals: sending any number through a pidfd, and dispositions of the calling process.
//!
//! `rustix` sends only the signals that libc gives names to; containers are stopped with real-time ones
//! too (systemd as PID 1 wants SIGRTMIN+3).

use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Sends the signal `number` (0 only checks) to the process behind `pidfd`: pidfd_send_signal(2), Linux 5.1.
///
/// ESRCH: the process has been waited for. EPERM: it belongs to another user.
pub fn pidfd_send(pidfd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    // SAFETY: the fd is borrowed for the call; a null siginfo means what kill(2) would send, and the
    // kernel writes to no memory of ours.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// A handler that does nothing: the signal neither ends the process nor is it "ignored".
extern "C" fn unheard(_: libc::c_int) {}

/// Gives every signal its default disposition, except `unheard` ones, which get a handler that does
/// nothing, and unblocks them all.
///
/// Not SIG_IGN for those: execve(2) resets handlers to the default but hands "ignored" on, so a child
/// of this process would start deaf to them.
pub fn reset_all(unheard_signals: &[i32]) {
    for number in 1..=libc::SIGRTMAX() {
        let handler = if unheard_signals.contains(&number) {
            unheard as extern "C" fn(libc::c_int) as libc::sighandler_t
        } else {
            libc::SIG_DFL
        };
        // SAFETY: sigaction is plain data, for which all-zero is the value "no flags, empty mask".
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` lives through the call; its handler is SIG_DFL or a function that touches
        // nothing, hence async-signal-safe. SIGKILL, SIGSTOP and the two that glibc keeps for itself
        // (32, 33) are refused with EINVAL, which is what we want.
        unsafe { libc::sigaction(number, &action, ptr::null_mut()) };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it; both only touch the set and
    // this thread's mask.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

fn last_errno() -> Errno {
    let number = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn sends_real_time_signals_and_knows_the_dead() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let fd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(pidfd_send(fd.as_fd(), 0), Ok(()));
        assert_eq!(pidfd_send(fd.as_fd(), 999), Err(Errno::INVAL));
        assert_eq!(pidfd_send(fd.as_fd(), 37), Ok(()));
        assert_eq!(child.wait().unwrap().signal(), Some(37));
        assert_eq!(pidfd_send(fd.as_fd(), 0), Err(Errno::SRCH));
    }
}
