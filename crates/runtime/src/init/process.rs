//! From a finished world to a process that only has to execute its program: streams, session,
//! limits, credentials, working directory, the program itself.

use super::{attributes, credentials, guard, program};
use crate::error::{Context, Error, Result};
use crate::labels::Labels;
use crate::options::{Stdio, UserSpec};
use crate::path::{self, Make};
use crate::plan::{ProcessPlan, RlimitPlan};
use crate::user;
use barque_types::spec;
use rustix::fs::{FileType, Mode, Uid};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Rlimit, getrlimit, setrlimit, umask};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Who it runs as, and the home directory when the environment has none.
pub(super) struct Who {
    pub ids: spec::User,
    pub home: Option<String>,
}

/// What `settle` works on.
pub(super) struct Settle<'a> {
    pub id: &'a str,
    pub plan: &'a ProcessPlan,
    pub who: Who,
    pub stdio: Stdio<'a>,
    pub terminal: Option<OwnedFd>,
    pub tied_to_caller: bool,
    pub preserve: &'a [BorrowedFd<'a>],
    pub new_keyring: bool,
    pub labels: Option<&'a Labels>,
}

/// Resolves names in the container's own files.
pub(super) fn look_up(plan: &ProcessPlan, root: &OwnedFd) -> Result<Who> {
    let needs_home = plan.variable("HOME").is_none_or(<[u8]>::is_empty);
    match &plan.user {
        UserSpec::Ids => {
            let home = needs_home
                .then(|| user::home_of(root, plan.ids.uid))
                .transpose()?;
            Ok(Who {
                ids: plan.ids.clone(),
                home,
            })
        }
        UserSpec::Named { user, groups } => {
            let (mut ids, home) = user::resolve(root, user, groups)?;
            for gid in &plan.ids.additional_gids {
                if !ids.additional_gids.contains(gid) {
                    ids.additional_gids.push(*gid);
                }
            }
            ids.umask = plan.ids.umask;
            Ok(Who {
                ids,
                home: needs_home.then_some(home),
            })
        }
    }
}

/// Makes a missing working directory, as Docker does for `WORKDIR` and `-w`.
pub(super) fn make_cwd(plan: &ProcessPlan, root: &OwnedFd) -> Result<()> {
    match path::make_in(root.as_fd(), Path::new(&plan.cwd), Make::Directory) {
        // Whether it can be entered is for `chdir` to say, as the right user.
        Err(e) if matches!(e.errno(), Some(Errno::ACCESS | Errno::ROFS | Errno::NOTDIR)) => Ok(()),
        other => other.map(drop),
    }
}

/// Everything up to the execution. The order matters throughout.
pub(super) fn settle(s: Settle<'_>, warnings: &mut Vec<String>) -> Result<program::Ready> {
    let plan = s.plan;
    // A session of its own, without which there is no controlling terminal and a ^C of the caller's
    // terminal would reach the container.
    rustix::process::setsid().step(|| "starting a session")?;
    streams(&s)?;
    // Before the keyring, which gets one too, and after the hooks that run as the host's.
    s.labels.map_or(Ok(()), Labels::write)?;
    if s.new_keyring {
        keyring(s.id);
    }
    attributes::take_on(&plan.attributes)?;
    // Limits while the privilege to raise them is there, and late, because a small limit on files
    // or memory would starve the steps before.
    limits(&plan.rlimits, warnings)?;
    // As root with all capabilities first: a directory may be closed to the user, or (NFS, FUSE) to
    // root.
    let entered = rustix::process::chdir(plan.cwd.as_str());
    let caps = credentials::assume(plan, &s.who.ids, warnings)?;
    // The change of credentials has disarmed it.
    guard::arm(s.tied_to_caller)?;
    if entered.is_err() {
        rustix::process::chdir(plan.cwd.as_str())
            .step(|| format!("entering the working directory {:?}", plan.cwd))?;
    }
    check_cwd(&plan.cwd)?;
    umask(Mode::from_raw_mode(s.who.ids.umask.unwrap_or(0o022)));
    let mut env = plan.env.clone();
    if let Some(home) = &s.who.home {
        env.retain(|e| !e.as_bytes().starts_with(b"HOME="));
        env.extend(CString::new(format!("HOME={home}")));
    }
    // As the user, whose permissions decide; before the filter, which may deny the looking.
    let program = program::find(plan)?;
    // Ignored and blocked signals are inherited by the program; our parent ignores SIGPIPE.
    barque_sys::process::reset_signals();
    // A descriptor that slipped through would be an open door (CVE-2024-21626).
    barque_sys::process::close_on_exec_from_3().step(|| "closing descriptors")?;
    for fd in s.preserve {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).step(|| "keeping a descriptor open")?;
    }
    Ok(program::Ready::new(plan, program, env, caps))
}

fn streams(s: &Settle<'_>) -> Result<()> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
    let step = || "setting up the standard streams";
    let owner = Uid::from_raw(s.who.ids.uid);
    match (&s.terminal, s.stdio) {
        (Some(slave), _) => {
            // The user must be able to open its own terminal again (`/dev/tty`, `/dev/stdout`).
            give(slave.as_fd(), owner);
            rustix::process::ioctl_tiocsctty(slave).step(|| "taking the controlling terminal")?;
            dup2_stdin(slave).step(step)?;
            dup2_stdout(slave).step(step)?;
            dup2_stderr(slave).step(step)
        }
        (
            None,
            Stdio::Fds {
                stdin,
                stdout,
                stderr,
            },
        ) => {
            // Out of the way of 0 to 2 first: they may be these numbers in another order.
            let high = |fd: BorrowedFd<'_>| {
                let low = fd.as_raw_fd() < 3;
                low.then(|| rustix::io::fcntl_dupfd_cloexec(fd, 3))
                    .transpose()
                    .step(step)
            };
            let (i, o, e) = (high(stdin)?, high(stdout)?, high(stderr)?);
            for fd in [stdin, stdout, stderr] {
                if path::file_type(fd) == Ok(FileType::Fifo) {
                    give(fd, owner);
                }
            }
            dup2_stdin(i.as_ref().map_or(stdin, AsFd::as_fd)).step(step)?;
            dup2_stdout(o.as_ref().map_or(stdout, AsFd::as_fd)).step(step)?;
            dup2_stderr(e.as_ref().map_or(stderr, AsFd::as_fd)).step(step)
        }
        (None, Stdio::Terminal) => Err(Error::invalid("terminal", "it was not opened")),
    }
}

/// Gives a pipe or terminal to the user, so that `/dev/stdout` can be opened by it. Best effort:
/// an id that is not mapped, or a stream on a read-only file system, still works as a descriptor.
fn give(fd: BorrowedFd<'_>, owner: Uid) {
    if rustix::fs::fstat(fd).is_ok_and(|s| s.st_uid != owner.as_raw()) {
        let _ = rustix::fs::fchown(fd, Some(owner), None);
    }
}

/// A session keyring of the container's own: the host's keys are not to be searched from inside.
/// Kernels and sandboxes without keyrings have nothing to protect.
fn keyring(id: &str) {
    if let Ok(name) = CString::new(format!("_ses.{id}")) {
        let _ = barque_sys::process::join_session_keyring(&name);
    }
}

fn limits(limits: &[RlimitPlan], warnings: &mut Vec<String>) -> Result<()> {
    for limit in limits {
        let wanted = Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        match setrlimit(limit.resource, wanted) {
            Ok(()) => continue,
            Err(Errno::PERM) => {}
            Err(e) => return Err(Error::step(format!("setting {}", limit.name), e)),
        }
        // Without CAP_SYS_RESOURCE the hard limit cannot be raised (nor RLIMIT_NOFILE above
        // fs.nr_open with it): as far as it goes, then.
        let ceiling = getrlimit(limit.resource).maximum;
        let clamped = Rlimit {
            current: lower(limit.soft, ceiling),
            maximum: lower(limit.hard, ceiling),
        };
        setrlimit(limit.resource, clamped).step(|| format!("setting {}", limit.name))?;
        warnings.push(format!(
            "{} is limited to {}: raising the hard limit is not permitted",
            limit.name,
            ceiling.map_or_else(|| "unlimited".to_owned(), |n| n.to_string()),
        ));
    }
    Ok(())
}

/// The lower of two limits, where `None` is unlimited.
fn lower(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A working directory outside the root (a leaked descriptor behind `/proc/self/fd/N`,
/// CVE-2024-21626) has no path: the kernel says so with `(unreachable)` or ENOENT.
fn check_cwd(cwd: &str) -> Result<()> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(Error::invalid(
            format!("process.cwd {cwd:?}"),
            "is outside of the container's root: possibly an attempt to break out",
        )),
        Err(e) => Err(Error::step("asking for the working directory", e)),
    }
}
