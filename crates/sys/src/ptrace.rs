//! Looking over a process's shoulder for a moment: ptrace(2).
//!
//! Only what it takes to see one system call of another process return. The process is attached to without being
//! stopped or sent a signal (`PTRACE_SEIZE`, Linux 3.4) and is let go as it was.

use rustix::io::Errno;

/// `PTRACE_GET_SYSCALL_INFO` (Linux 5.3): the same on every architecture.
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
// `PTRACE_SYSCALL_INFO_ENTRY` and `_EXIT`.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// A process that we trace. Whoever does not [detach](Tracee::detach) has to kill it: it stands still for ever
/// otherwise, or dies with the tracer.
#[derive(Debug)]
pub struct Tracee {
    pid: libc::pid_t,
}

/// Why it stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is about to make a system call.
    Entry {
        /// Which, by the number on its architecture.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// A system call has returned.
    Exit {
        /// What: the negative errno of a failure.
        value: i64,
    },
    /// A signal is about to be delivered; it is when this is passed on to [`Tracee::resume`].
    Signal(i32),
    /// Anything else.
    Event,
    /// It does not: it has ended. It still has to be reaped by its parent.
    Ended,
}

impl Tracee {
    /// Attaches to a process, which runs on. It is killed when we end before [`Tracee::detach`].
    ///
    /// # Errors
    /// `EPERM` when it is traced already, or without CAP_SYS_PTRACE for a process that is not ours, or not
    /// dumpable; `ESRCH` when it has ended.
    pub fn seize(pid: i32) -> Result<Self, Errno> {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SEIZE, pid, options as usize)?;
        Ok(Self { pid })
    }

    /// Makes it stop soon; wait for it.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn interrupt(&self) -> Result<(), Errno> {
        request(libc::PTRACE_INTERRUPT, self.pid, 0)
    }

    /// Lets it go on to the entry into, or the exit from, its next system call; `signal` is delivered when it is
    /// not 0.
    ///
    /// # Errors
    /// `ESRCH` when it has been killed.
    pub fn resume(&self, signal: i32) -> Result<(), Errno> {
        request(libc::PTRACE_SYSCALL, self.pid, signal as usize)
    }

    /// Lets it go for good.
    ///
    /// # Errors
    /// `ESRCH` when it has been killed.
    pub fn detach(self) -> Result<(), Errno> {
        request(libc::PTRACE_DETACH, self.pid, 0)
    }

    /// Waits until it stands still.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn wait(&self) -> Result<Stop, Errno> {
        // First a look: an end is for the parent to collect.
        let info = self.waitid(libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT)?;
        if info.si_code != libc::CLD_TRAPPED && info.si_code != libc::CLD_STOPPED {
            return Ok(Stop::Ended);
        }
        let info = self.waitid(libc::WSTOPPED)?;
        // SAFETY: waitid(2) has filled in the members of SIGCHLD, of which si_status is one.
        let status = unsafe { info.si_status() };
        match (status & 0x7f, status >> 8) {
            // TRACESYSGOOD marks the stops of system calls.
            _ if status == libc::SIGTRAP | 0x80 => self.system_call(),
            (signal, 0) => Ok(Stop::Signal(signal)),
            _ => Ok(Stop::Event),
        }
    }

    fn waitid(&self, options: libc::c_int) -> Result<libc::siginfo_t, Errno> {
        loop {
            // SAFETY: an all-zero siginfo_t is a valid one.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` lives across the call, which fills it in.
            let answer = unsafe {
                libc::waitid(
                    libc::P_PID,
                    self.pid as libc::id_t,
                    &raw mut info,
                    options | libc::__WALL,
                )
            };
            match (answer, last_errno()) {
                (0, _) => return Ok(info),
                (_, Errno::INTR) => {}
                (_, errno) => return Err(errno),
            }
        }
    }

    fn system_call(&self) -> Result<Stop, Errno> {
        // struct ptrace_syscall_info: op, padding and arch, two addresses, then what belongs to op.
        let mut info = [0u64; 11];
        // SAFETY: the request writes at most as many bytes as the third argument says through the fourth, which
        // points to that many.
        let answer = unsafe {
            libc::ptrace(
                GET_SYSCALL_INFO as _,
                self.pid,
                size_of_val(&info),
                info.as_mut_ptr(),
            )
        };
        if answer < 0 {
            return Err(last_errno());
        }
        Ok(match info[0].to_ne_bytes()[0] {
            ENTRY => Stop::Entry {
                number: info[3],
                arguments: [info[4], info[5], info[6], info[7], info[8], info[9]],
            },
            EXIT => Stop::Exit {
                value: info[3] as i64,
            },
            _ => Stop::Event,
        })
    }
}

/// A request that takes a number and no address.
fn request(request: impl Into<i64>, pid: libc::pid_t, data: usize) -> Result<(), Errno> {
    // SAFETY: none of the requests of this module that come here (SEIZE, INTERRUPT, SYSCALL, DETACH) takes an
    // address; their data is a number.
    let answer = unsafe { libc::ptrace(request.into() as _, pid, 0usize, data) };
    if answer < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_system_call_is_seen_to_return() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat");
        let tracee = Tracee::seize(child.id() as i32).expect("seize");
        tracee.interrupt().expect("interrupt");
        assert!(matches!(tracee.wait(), Ok(Stop::Event | Stop::Signal(_))));
        drop(child.stdin.take());
        let mut reading = false;
        // Its read returns 0, whether it was interrupted in it or had not come to it.
        let value = loop {
            tracee.resume(0).expect("resume");
            match tracee.wait().expect("wait") {
                Stop::Entry { number, arguments } => {
                    reading = number == libc::SYS_read as u64 && arguments[0] == 0;
                }
                Stop::Exit { value: 0 } if reading => break 0,
                Stop::Ended => panic!("it ended before it read"),
                _ => {}
            }
        };
        assert_eq!(value, 0);
        tracee.detach().expect("detach");
        assert!(child.wait().expect("wait").success());
    }

    #[test]
    fn an_end_is_told_and_left_to_the_parent() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let tracee = Tracee::seize(child.id() as i32).expect("seize");
        child.kill().expect("kill");
        assert_eq!(tracee.wait(), Ok(Stop::Ended));
        assert!(!child.wait().expect("wait").success());
        assert_eq!(tracee.resume(0), Err(Errno::SRCH));
    }
}
