//! The namespaces that a container shares: the parent enters them, gives birth there, and returns.
//!
//! The parent and not the child, for two reasons. A pid or time namespace is only ever entered by
//! being born in it (setns(2)). And a child that is born with a new user namespace has lost the
//! right to enter anything that belongs to the host's.

use crate::error::{Context, Error, Result};
use crate::exec::open_namespace;
use crate::plan::{Plan, kind_bits};
use barque_sys::process::{Namespaces, setns, unshare};
use barque_types::spec::NamespaceKind;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// While it lives, the caller's children are born in the shared namespaces.
#[derive(Debug, Default)]
pub(crate) struct Birthplace {
    /// What the caller was in before, in the order of leaving it.
    before: Vec<(&'static str, Namespaces, OwnedFd)>,
}

/// The file of a kind in `/proc/PID/ns`, as it is for the caller's children.
fn file_of(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid_for_children",
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time_for_children",
    }
}

impl Birthplace {
    /// Enters the namespaces of `by_fd` and of the plan, and makes a new time namespace if the
    /// plan has one: its clocks have to be set before anybody is in it (time_namespaces(7)).
    pub fn enter(plan: &Plan, by_fd: &[(NamespaceKind, OwnedFd)]) -> Result<Self> {
        let mut place = Self::default();
        for (kind, fd) in by_fd {
            place.join(*kind, fd.as_fd(), || {
                format!("joining the {kind:?} namespace")
            })?;
        }
        for (kind, path) in &plan.join_paths {
            let step = || format!("joining the {kind:?} namespace {path:?}");
            let fd =
                openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(step)?;
            place.join(*kind, fd.as_fd(), step)?;
        }
        if plan.new.contains(Namespaces::TIME) {
            place.remember(NamespaceKind::Time)?;
            unshare(Namespaces::TIME).step(|| "making the time namespace")?;
            set_clocks(plan)?;
        }
        Ok(place)
    }

    fn join(
        &mut self,
        kind: NamespaceKind,
        fd: BorrowedFd<'_>,
        step: impl Fn() -> String,
    ) -> Result<()> {
        if matches!(kind, NamespaceKind::Mount | NamespaceKind::User) {
            return Err(Error::invalid(step(), "is not supported"));
        }
        self.remember(kind)?;
        setns(fd, kind_bits(kind)).map_err(|e| {
            let error = Error::step(step(), e);
            match e {
                Errno::INVAL => error.with_hint("it is not a namespace of that kind below ours"),
                _ => error,
            }
        })
    }

    fn remember(&mut self, kind: NamespaceKind) -> Result<()> {
        let file = file_of(kind);
        let own = openat(
            CWD,
            format!("/proc/self/ns/{file}"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .step(|| format!("opening our own namespace {file}"))?;
        self.before.push((file, kind_bits(kind), own));
        Ok(())
    }

    /// Goes back. Everything is tried; the first failure is returned, and the caller must then not
    /// go on as if it were at home.
    pub fn leave(mut self) -> Result<()> {
        self.go_back()
    }

    fn go_back(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some((file, kind, own)) = self.before.pop() {
            let back =
                setns(own.as_fd(), kind).step(|| format!("returning to our own namespace {file}"));
            outcome = outcome.and(back);
        }
        outcome
    }
}

impl Drop for Birthplace {
    fn drop(&mut self) {
        // On the way out of an error, which is the one to report.
        let _ = self.go_back();
    }
}

/// Does something in the network namespace of a process, and returns.
pub(crate) fn in_network_of<T>(pid: i32, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let kind = NamespaceKind::Network;
    let mut place = Birthplace::default();
    place.join(kind, open_namespace(pid, kind)?.as_fd(), || {
        format!("entering the network namespace of process {pid}")
    })?;
    let outcome = action();
    place.leave().and(outcome)
}

fn set_clocks(plan: &Plan) -> Result<()> {
    for (clock, offset) in &plan.time_offsets {
        let line = format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
        openat(
            CWD,
            "/proc/self/timens_offsets",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .and_then(|fd| rustix::io::write(fd, line.as_bytes()))
        .step(|| format!("setting the clock {clock} of the time namespace"))?;
    }
    Ok(())
}
