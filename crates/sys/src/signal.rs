//! Signals: sending any number through a pidfd, and dispositions of the calling process.
//!
//! `rustix` sends only the signals that libc gives names to; containers are stopped with real-time ones
//! too (systemd as PID 1 wants SIGRTMIN+3).

use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
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

/// Signals received through an fd instead of interrupting: signalfd(2). Dropping it gives the thread its
/// former mask back.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl SignalFd {
    /// Blocks the signals in the calling thread (the only one, else they reach another) and opens an fd, close on
    /// exec and non-blocking, that is readable while one of them is pending.
    pub fn new(numbers: impl IntoIterator<Item = i32>) -> Result<Self, Errno> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises `set` before anything reads it; sigaddset refuses numbers that are no
        // signals; pthread_sigmask writes the whole of `before` when it succeeds, which is checked before it is
        // assumed to be initialised; both sets live through the calls.
        let (fd, before) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            let refused = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            if refused != 0 {
                return Err(Errno::from_raw_os_error(refused));
            }
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            (
                libc::signalfd(-1, set.as_ptr(), flags),
                before.assume_init(),
            )
        };
        if fd < 0 {
            let errno = last_errno();
            restore_mask(&before);
            return Err(errno);
        }
        // SAFETY: signalfd just returned this fd; nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, before })
    }

    /// The next pending signal's number, if there is one.
    pub fn next(&self) -> Result<Option<i32>, Errno> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut info)) {
            // `ssi_signo` is the structure's first member (signalfd(2)).
            Ok(length) if length >= 4 => {
                let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                Ok(i32::try_from(number).ok())
            }
            Ok(_) | Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        restore_mask(&self.before);
    }
}

fn restore_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` is an initialised set that lives through the call, which only changes this thread's mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// The real-time signals that programs may use; glibc keeps the first two of the kernel's for itself.
pub fn real_time() -> std::ops::RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

/// Ends the process by the signal, with its default disposition, so that the parent sees what happened; for one that
/// does not end a process this returns.
pub fn die_of(number: i32) {
    reset_all(&[]);
    // SAFETY: raise(3) only sends a signal to this thread.
    unsafe { libc::raise(number) };
}

fn last_errno() -> Errno {
    let number = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
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

    #[test]
    fn signals_by_fd() {
        // A thread of its own: the mask is per thread, and a signal sent to the thread stays pending there.
        let seen = std::thread::spawn(|| {
            let fd = SignalFd::new([libc::SIGUSR2]).unwrap();
            assert_eq!(fd.next(), Ok(None));
            // SAFETY: raise(3) sends the signal to this thread, where it is blocked.
            unsafe { libc::raise(libc::SIGUSR2) };
            (fd.next(), fd.next())
        });
        assert_eq!(seen.join().unwrap(), (Ok(Some(libc::SIGUSR2)), Ok(None)));
    }
}
