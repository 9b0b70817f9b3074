//! Making a process that outlives its maker: fork without exec, then leave the session, the terminal,
//! the directory and the file descriptors behind.
//!
//! Without exec, because the child goes on with what its parent has prepared in memory, and because a
//! fork costs 0.2 ms where starting a program costs three times that. It is sound only in a process with
//! a single thread: another thread's locks (malloc's too) would stay locked in the child for ever.

use crate::signal;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a daemon must survive: a terminal that closes, a pipe without reader, and the SIGTERM that a
/// shutting down system sends to all (the supervised process gets its own; its end is still recorded).
const UNHEARD: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// The exit status of a daemon whose body panicked (EX_SOFTWARE of sysexits.h).
const PANICKED: i32 = 70;

/// Whether the calling process has exactly one thread, so that it may fork and go on.
///
/// One system call: /proc/self/task has a subdirectory per thread, and a directory's link count is two
/// more than the number of its subdirectories.
pub fn is_single_threaded() -> Result<bool, Errno> {
    let stat = rustix::fs::statat(CWD, "/proc/self/task", rustix::fs::AtFlags::empty())?;
    Ok(stat.st_nlink == 3)
}

/// Forks a daemon that runs `body` on `value` and ends with the status it returns. Returns the daemon's
/// pid and the caller's own copy of `value`.
///
/// In the daemon, before `body`: a new session (no controlling terminal, out of the foreground process
/// group, so Ctrl-C does not reach it), working directory `/`, umask 022, default signal dispositions
/// (but deaf to SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM), /dev/null as
/// stdin, stdout and stderr, and every other fd closed except those that `keep` finds in `value`. `body` gets the first error of
/// these steps.
///
/// `body` may use no fd that `keep` did not name; no value of the caller is ever dropped in the daemon, for
/// it leaves with _exit(2). The oom score, the cgroup and the namespaces stay the caller's.
///
/// EBUSY: the calling process has more than one thread. EINVAL: `keep` names a standard fd.
pub fn spawn<T>(
    value: T,
    keep: impl FnOnce(&T) -> Vec<BorrowedFd<'_>>,
    body: impl FnOnce(T, Result<(), Errno>) -> i32,
) -> Result<(Pid, T), Errno> {
    let mut kept: Vec<RawFd> = keep(&value).iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    kept.dedup();
    if kept.first().is_some_and(|fd| *fd <= 2) {
        return Err(Errno::INVAL);
    }
    if !is_single_threaded()? {
        return Err(Errno::BUSY);
    }
    // SAFETY: the process has one thread (checked above; nobody else could start one meanwhile), so the
    // child's copy of memory is consistent and no lock is held by a thread that does not exist there.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::from_raw_os_error(
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EAGAIN),
        )),
        0 => {
            let status =
                catch_unwind(AssertUnwindSafe(|| body(value, leave(&kept)))).unwrap_or(PANICKED);
            // SAFETY: _exit does not return and runs no destructors or exit handlers: what the caller's
            // frames own is the caller's.
            unsafe { libc::_exit(status) }
        }
        pid => {
            let pid = Pid::from_raw(pid).expect("fork returns a positive pid to the parent");
            Ok((pid, value))
        }
    }
}

/// The steps between fork and body; `kept` is sorted.
fn leave(kept: &[RawFd]) -> Result<(), Errno> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    signal::reset_all(&UNHEARD);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let mut from = 3;
    for fd in kept {
        close_range(from, *fd as u32)?;
        from = *fd as u32 + 1;
    }
    close_range(from, u32::MAX)
}

/// Closes the fds from `first` up to but not including `end`: close_range(2), Linux 5.9.
fn close_range(first: u32, end: u32) -> Result<(), Errno> {
    if first >= end {
        return Ok(());
    }
    // SAFETY: only fds are closed, no memory is touched. They belong to values in the frames of the
    // forked caller, which this process never touches again (see `spawn`, which leaves with _exit), and
    // the fds that the body uses are excluded by the caller's contract.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0u32) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_raw_os_error(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    ))
}

/// Makes `ps` show `title` instead of the command line of the program: the memory of the arguments is
/// overwritten (proc_pid_cmdline(5)), so a longer title is cut.
///
/// Refused with EBUSY in a process with several threads, which might be reading their arguments.
/// `std::env::args` gives the pieces of the title afterwards.
pub fn set_title(title: &str) -> Result<(), Errno> {
    if !is_single_threaded()? {
        return Err(Errno::BUSY);
    }
    let stat = std::fs::read("/proc/self/stat").map_err(|_| Errno::IO)?;
    let (start, end) = argument_area(&stat).ok_or(Errno::IO)?;
    let len = title.len().min(end - start - 1);
    let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: [start, end) is where the kernel put this process's own argument strings, on the writable
    // main stack above every frame; `len < end - start`. No Rust reference to it exists: std keeps raw
    // pointers and copies on each use, and there is no other thread to use them now. The zeros up to
    // `end` keep every argument pointer at a terminated string.
    unsafe {
        std::ptr::copy_nonoverlapping(title.as_ptr(), area, len);
        std::ptr::write_bytes(area.add(len), 0, end - start - len);
    }
    Ok(())
}

/// `arg_start` and `arg_end`, fields 48 and 49 of proc_pid_stat(5).
fn argument_area(stat: &[u8]) -> Option<(usize, usize)> {
    let after_name = stat.iter().rposition(|b| *b == b')')? + 2;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(48 - 3);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    (start != 0 && end > start).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn refuses_a_process_with_threads_and_standard_fds() {
        let threads = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    (
                        is_single_threaded(),
                        spawn((), |()| Vec::new(), |(), _| 0).map(|_| ()),
                        set_title("x"),
                    )
                })
                .join()
                .unwrap()
        });
        assert_eq!(threads, (Ok(false), Err(Errno::BUSY), Err(Errno::BUSY)));
        let stdin = std::io::stdin();
        assert!(matches!(
            spawn(stdin, |s| vec![s.as_fd()], |_, _| 0),
            Err(Errno::INVAL)
        ));
    }

    #[test]
    fn argument_areas() {
        let mut line = b"7 (a ) b) R".to_vec();
        for field in 4..=52 {
            line.extend_from_slice(format!(" {}", field * 100).as_bytes());
        }
        assert_eq!(argument_area(&line), Some((4800, 4900)));
        assert_eq!(argument_area(b"7 (x) R 1 2 3"), None);
    }
}
