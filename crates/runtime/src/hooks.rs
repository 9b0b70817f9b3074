//! Hooks: programs that are told of a container's life (runtime-spec, config.md "POSIX-platform Hooks").
//!
//! | kind | when | whose namespaces, whose programs | its failure |
//! | --- | --- | --- | --- |
//! | prestart, createRuntime | the mounts are made, the root is not entered | the runtime's | undoes the container |
//! | createContainer | right after | the container's, the host's programs | undoes the container |
//! | startContainer | before the program is executed | the container's | ends the container |
//! | poststart | after that | the runtime's | a warning |
//! | poststop | after the removal | the runtime's | a warning |
//!
//! Each gets the container's state on its standard input, exactly the environment that is configured, and dies
//! with whoever runs it. What it says is part of the error when it fails.

use crate::error::{Context, Error, Result, errno_text};
use crate::seccomp::Program;
use barque_sys::process::{
    CloneArgs, Cloned, StringVector, clone_process, execve, reap, reset_signals,
};
pub use barque_types::oci_state::{State, Status};
use barque_types::spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use rustix::process::{Signal, fchdir, pidfd_send_signal, set_parent_process_death_signal};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of a failed hook's words the error repeats, bytes.
const MAX_WORDS: u64 = 2048;

/// The hooks of a container's making, checked.
#[derive(Debug)]
pub(crate) struct HookPlan {
    pub prestart: Vec<spec::Hook>,
    pub create_runtime: Vec<spec::Hook>,
    pub create_container: Vec<spec::Hook>,
    pub start_container: Vec<spec::Hook>,
    state: State,
}

impl HookPlan {
    /// Checks all six kinds, so that none turns out to be nonsense when the container runs already.
    pub fn new(id: &str, bundle: Option<&Path>, spec: &spec::Spec) -> Result<Self> {
        let hooks = spec.hooks.clone().unwrap_or_default();
        for (kind, hooks) in [
            ("prestart", &hooks.prestart),
            ("createRuntime", &hooks.create_runtime),
            ("createContainer", &hooks.create_container),
            ("startContainer", &hooks.start_container),
            ("poststart", &hooks.poststart),
            ("poststop", &hooks.poststop),
        ] {
            for (number, hook) in hooks.iter().enumerate() {
                Prepared::new(hook)
                    .map_err(|why| Error::invalid(format!("hooks.{kind}[{number}]"), why))?;
            }
        }
        Ok(Self {
            prestart: hooks.prestart,
            create_runtime: hooks.create_runtime,
            create_container: hooks.create_container,
            start_container: hooks.start_container,
            state: State {
                oci_version: spec.oci_version.clone(),
                id: id.to_owned(),
                status: Status::Creating,
                pid: 0,
                bundle: bundle.unwrap_or(Path::new("/")).to_owned(),
                annotations: spec.annotations.clone(),
            },
        })
    }

    /// The container's state with this status and pid.
    pub fn state(&self, status: Status, pid: i32) -> State {
        State {
            status,
            pid,
            ..self.state.clone()
        }
    }

    /// Whether the parent has something to run while the container is being made.
    pub fn of_the_runtime(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty())
    }

    /// Whether anything runs between the mounts and the root.
    pub fn before_the_root(&self) -> bool {
        self.of_the_runtime() || !self.create_container.is_empty()
    }
}

/// What differs between the places where hooks run.
#[derive(Debug, Clone, Copy, Default)]
struct Place<'a> {
    /// Working directory; the caller's when absent.
    dir: Option<BorrowedFd<'a>>,
    /// The program's system call filter: a hook inside of the container is no way around it.
    filter: Option<&'a Program>,
}

/// Runs hooks one after the other, in the caller's namespaces. The first failure ends it.
///
/// # Errors
/// A hook that cannot be executed, that ends with another exit code than 0, or that does not end in time.
pub fn run(kind: &str, hooks: &[spec::Hook], state: &State) -> Result<()> {
    run_at(kind, hooks, state, Place::default())
}

/// The same with `dir` as the working directory.
pub(crate) fn run_in(dir: &OwnedFd, kind: &str, hooks: &[spec::Hook], state: &State) -> Result<()> {
    let dir = Some(dir.as_fd());
    run_at(kind, hooks, state, Place { dir, filter: None })
}

/// The startContainer hooks: with all that the container's program may do, and not more.
pub(crate) fn run_as_program(
    hooks: &[spec::Hook],
    state: &State,
    filter: Option<&Program>,
) -> Result<()> {
    run_at("startContainer", hooks, state, Place { dir: None, filter })
}

fn run_at(kind: &str, hooks: &[spec::Hook], state: &State, place: Place<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).map_err(|e| Error::invalid("state", e.to_string()))?;
    for (number, hook) in hooks.iter().enumerate() {
        let failed = |why: String| Error::Hook {
            hook: format!("{kind} hook #{number} {:?}", hook.path),
            why,
        };
        let prepared = Prepared::new(hook).map_err(failed)?;
        let words = Words::new(&text)?;
        let child = prepared.spawn(&words, place)?;
        let outcome = await_end(&child, hook.timeout)?;
        if let Some(why) = outcome {
            return Err(failed(words.append_to(why)));
        }
    }
    Ok(())
}

/// A hook in the form that execve(2) takes.
struct Prepared {
    path: CString,
    argv: StringVector,
    env: StringVector,
}

impl Prepared {
    fn new(hook: &spec::Hook) -> std::result::Result<Self, String> {
        if !hook.path.is_absolute() {
            return Err(format!("its path {:?} is not absolute", hook.path));
        }
        if hook.timeout == Some(0) {
            return Err("its timeout must be greater than zero".to_owned());
        }
        let path = c_string(&hook.path.to_string_lossy())?;
        let argv = if hook.args.is_empty() {
            vec![path.clone()]
        } else {
            hook.args
                .iter()
                .map(|a| c_string(a))
                .collect::<std::result::Result<_, _>>()?
        };
        let env = hook
            .env
            .iter()
            .map(|e| c_string(e))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            path,
            argv: StringVector::new(argv),
            env: StringVector::new(env),
        })
    }

    fn spawn(&self, words: &Words, place: Place<'_>) -> Result<Cloned> {
        let mut keep = vec![words.input.as_fd(), words.output.as_fd()];
        keep.extend(place.dir);
        clone_process(CloneArgs::default(), &keep, || {
            let errno = self.become_it(words, place).unwrap_or_else(|errno| errno);
            // Into the hook's own words, which the error repeats.
            let text = format!("cannot be executed: {}\n", errno_text(errno.raw_os_error()));
            let _ = rustix::io::write(&words.output, text.as_bytes());
            127
        })
        .step(|| "making a process for a hook")
    }

    /// In the child; returns only to say why not.
    fn become_it(&self, words: &Words, place: Place<'_>) -> rustix::io::Result<Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some(dir) = place.dir {
            fchdir(dir)?;
        }
        rustix::stdio::dup2_stdin(&words.input)?;
        rustix::stdio::dup2_stdout(&words.output)?;
        rustix::stdio::dup2_stderr(&words.output)?;
        reset_signals();
        if let Some(filter) = place.filter {
            filter.install()?;
        }
        Ok(execve(&self.path, &self.argv, &self.env))
    }
}

fn c_string(text: &str) -> std::result::Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} contains a NUL byte"))
}

/// What is said to a hook, and what it says: files in memory, so that neither side can block the other.
struct Words {
    input: OwnedFd,
    output: OwnedFd,
}

impl Words {
    fn new(state: &[u8]) -> Result<Self> {
        let file = |name: &str| {
            memfd_create(name, MemfdFlags::CLOEXEC).step(|| "making a file for a hook")
        };
        let (input, output) = (file("state")?, file("output")?);
        let mut rest = state;
        while !rest.is_empty() {
            let n = rustix::io::write(&input, rest).step(|| "writing the state for a hook")?;
            rest = &rest[n..];
        }
        seek(&input, SeekFrom::Start(0)).step(|| "writing the state for a hook")?;
        Ok(Self { input, output })
    }

    fn append_to(self, why: String) -> String {
        let mut said = Vec::new();
        let _ = seek(&self.output, SeekFrom::Start(0));
        let _ = File::from(self.output)
            .take(MAX_WORDS)
            .read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        match said.trim() {
            "" => why,
            said => format!("{why}: {said}"),
        }
    }
}

/// What was wrong with its end, if anything. A hook that is late is killed.
fn await_end(child: &Cloned, timeout: Option<u32>) -> Result<Option<String>> {
    let late = timeout.map(|s| Instant::now() + Duration::from_secs(s.into()));
    let mut killed = false;
    while let Some(deadline) = late.filter(|_| !killed) {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::time::Timespec::try_from(left).unwrap_or(rustix::time::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(1..) => break,
            Ok(0) if Instant::now() >= deadline => {
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
                killed = true;
            }
            Ok(0) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::step("waiting for a hook", e)),
        }
    }
    let code = reap(child.pidfd.as_fd()).step(|| "waiting for a hook")?;
    Ok(match (killed, code) {
        (true, _) => Some(format!(
            "did not end within {} s and was killed",
            timeout.unwrap_or(0)
        )),
        (_, 0) => None,
        (_, 1..) => Some(format!("exit code {code}")),
        (_, signal) => Some(format!("killed by signal {}", -signal)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_its_place() {
        let with = |hook: spec::Hook| {
            let hooks = spec::Hooks {
                poststop: vec![hook],
                ..spec::Hooks::default()
            };
            let spec = spec::Spec {
                hooks: Some(hooks),
                ..spec::Spec::default()
            };
            HookPlan::new("x", None, &spec)
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let hook = |path: &str, timeout| spec::Hook {
            path: path.into(),
            timeout,
            ..spec::Hook::default()
        };
        assert_eq!(with(hook("/bin/true", Some(1))), Ok(()));
        for (bad, word) in [
            (hook("true", None), "absolute"),
            (hook("/bin/true", Some(0)), "timeout"),
            (hook("/a\0b", None), "NUL"),
        ] {
            let text = with(bad).expect_err("refused");
            assert!(
                text.starts_with("hooks.poststop[0]: ") && text.contains(word),
                "{text}"
            );
        }
    }
}
