//! The program: finding it as the container would, and executing it.

use crate::channel::{FromChild, FromParent, Socket};
use crate::error::{Context, Error, Result, errno_text};
use crate::plan::ProcessPlan;
use crate::seccomp::Program;
use barque_sys::process::{StringVector, execve};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySets, set_capabilities};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::IntoRawFd;

/// Where to look when the environment has no `PATH` (Docker's default).
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the last steps need, allocated before them.
pub(super) struct Ready {
    program: CString,
    argv: StringVector,
    env: StringVector,
    caps: Option<CapabilitySets>,
}

impl Ready {
    pub(super) fn new(
        plan: &ProcessPlan,
        program: CString,
        env: Vec<CString>,
        caps: Option<CapabilitySets>,
    ) -> Self {
        Self {
            program,
            argv: StringVector::new(plan.args.clone()),
            env: StringVector::new(env),
            caps,
        }
    }
}

fn name_of(plan: &ProcessPlan) -> String {
    plan.args
        .first()
        .map(|a| a.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Finds the program as execvp(3) would, in the container's root and with its `PATH`, as its user.
pub(super) fn find(plan: &ProcessPlan) -> Result<CString> {
    let Some(name) = plan.args.first() else {
        // A container without a process, which nobody starts.
        return Ok(CString::default());
    };
    if name.as_bytes().contains(&b'/') {
        return match executable(name) {
            Ok(()) => Ok(name.clone()),
            Err(errno) => Err(refused(plan, errno)),
        };
    }
    let path = plan.variable("PATH").unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(|b| *b == b':') {
        // An empty entry is the working directory.
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let Ok(candidate) = CString::new([dir, b"/", name.as_bytes()].concat()) else {
            continue;
        };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = Some(Errno::ACCESS),
            // Go on looking, as execvp(3).
            Err(_) => {}
        }
    }
    match denied {
        Some(errno) => Err(refused(plan, errno)),
        None => Err(Error::NotFound {
            program: name_of(plan),
            reason: "executable file not found in $PATH".to_owned(),
        }),
    }
}

/// Whether it is a file that may be executed.
fn executable(path: &CStr) -> rustix::io::Result<()> {
    let stat = stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        // By the effective ids and capabilities, which are those that execve looks at.
        FileType::RegularFile => accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS),
        _ => Err(Errno::ACCESS),
    }
}

/// The two failures that a user can tell apart by the exit code.
fn refused(plan: &ProcessPlan, errno: Errno) -> Error {
    let program = name_of(plan);
    let text = errno_text(errno.raw_os_error());
    match errno {
        Errno::NOENT => Error::NotFound {
            program,
            reason: text,
        },
        _ => Error::NotExecutable {
            program,
            reason: text,
        },
    }
}

/// The end: the filter, the last capability, the program.
pub(super) fn execute(plan: &ProcessPlan, ready: Ready, parent: &Socket) -> Result<Infallible> {
    if plan.seccomp.as_ref().is_some_and(Program::notifies) {
        await_watcher(parent)?;
    }
    // As late as possible: every system call after this one has to be allowed by the filter, and
    // what is left is capset (if at all), execve, and the report of its failure.
    if let Some(filter) = &plan.seccomp {
        let listener = filter.install().step(|| "loading the system call filter")?;
        // The parent has its own by now. Execve closes ours; doing it here would be one more call under
        // the filter.
        let _ = listener.map(IntoRawFd::into_raw_fd);
    }
    if let Some(caps) = ready.caps {
        set_capabilities(None, caps).step(|| "setting the last capabilities")?;
    }
    let errno = execve(&ready.program, &ready.argv, &ready.env);
    Err(match errno {
        // `find` saw the file: it is the interpreter that is missing.
        Errno::NOENT => Error::NotFound {
            program: name_of(plan),
            reason:
                "no such file or directory: its interpreter (of the first line, or the dynamic \
                     loader) is not in the container"
                    .to_owned(),
        },
        Errno::NOEXEC => Error::NotExecutable {
            program: name_of(plan),
            reason: "exec format error: it is for another architecture, or a script without `#!`"
                .to_owned(),
        },
        other => refused(plan, other),
    })
}

/// Until the parent watches, so that it can take the filter's listener ([`crate::agent`]).
fn await_watcher(parent: &Socket) -> Result<()> {
    parent
        .send(&FromChild::Listener, None)
        .step(|| "asking the parent to watch the system call filter being loaded")?;
    match parent.receive::<FromParent>()? {
        Some((FromParent::GoOn, _)) => Ok(()),
        _ => Err(super::orphaned()),
    }
}
