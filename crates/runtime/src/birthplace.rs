//! The namespaces that a container shares: somebody enters them and gives birth there.
//!
//! Not the child, for two reasons. A pid or time namespace is only ever entered by being born in it
//! (setns(2)). And a child that is born with a new user namespace has lost the right to enter anything
//! that belongs to the host's. So it is the parent, who returns afterwards ([`Birthplace`]); or, where
//! there is no return, a midwife: one more child, which makes the container's process as its own
//! sibling and ends ([`by_midwife`]).

use crate::channel::{self, FromChild};
use crate::create::Child;
use crate::error::{Context, Error, Result};
use crate::exec::open_namespace;
use crate::namespaces::{Joined, file_of};
use crate::plan::{Plan, kind_bits};
use barque_sys::process::{CloneArgs, Cloned, Namespaces, clone_process, reap, setns, unshare};
use barque_types::spec::NamespaceKind;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// While it lives, the caller's children are born in the shared namespaces.
#[derive(Debug, Default)]
pub(crate) struct Birthplace {
    /// What the caller was in before, in the order of leaving it.
    before: Vec<(String, Namespaces, OwnedFd)>,
}

impl Birthplace {
    /// Enters the namespaces to be joined, and makes a new time namespace if the plan has one: its
    /// clocks have to be set before anybody is in it (time_namespaces(7)).
    pub fn enter(plan: &Plan, joined: &Joined) -> Result<Self> {
        let mut place = Self::default();
        for (kind, fd) in &joined.list {
            place.remember(*kind)?;
            join(*kind, fd.as_fd())?;
        }
        if plan.new.contains(Namespaces::TIME) {
            place.remember(NamespaceKind::Time)?;
            make_time(plan)?;
        }
        Ok(place)
    }

    fn remember(&mut self, kind: NamespaceKind) -> Result<()> {
        // What the caller's children are born in, which may differ from what it is in.
        let file = match kind {
            NamespaceKind::Pid | NamespaceKind::Time => format!("{}_for_children", file_of(kind)),
            _ => file_of(kind).to_owned(),
        };
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
    in_network(open_namespace(pid, NamespaceKind::Network)?.as_fd(), action)
}

/// Does something in a network namespace, and returns.
pub(crate) fn in_network<T>(
    theirs: BorrowedFd<'_>,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let kind = NamespaceKind::Network;
    let mut place = Birthplace::default();
    place.remember(kind)?;
    join(kind, theirs)?;
    let outcome = action();
    place.leave().and(outcome)
}

fn join(kind: NamespaceKind, fd: BorrowedFd<'_>) -> Result<()> {
    setns(fd, kind_bits(kind)).map_err(|e| {
        let error = Error::step(format!("joining the {} namespace", file_of(kind)), e);
        match (e, kind) {
            (Errno::INVAL, NamespaceKind::Pid) => error.with_hint("it is not below our own"),
            (Errno::PERM, _) => {
                error.with_hint("it belongs to a user namespace in which we have no privilege")
            }
            _ => error,
        }
    })
}

fn make_time(plan: &Plan) -> Result<()> {
    unshare(Namespaces::TIME).map_err(|e| {
        let error = Error::step("making the time namespace", e);
        match e {
            Errno::INVAL => error.with_hint("this kernel has none (CONFIG_TIME_NS)"),
            Errno::PERM => error.with_hint("it needs CAP_SYS_ADMIN, even beside a user namespace"),
            _ => error,
        }
    })?;
    for (clock, offset) in &plan.time_offsets {
        let line = format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(CWD, "/proc/self/timens_offsets", flags, Mode::empty())
            .and_then(|fd| rustix::io::write(fd, line.as_bytes()))
            .map_err(|e| {
                let error = Error::step(format!("setting linux.timeOffsets of {clock}"), e);
                match e {
                    Errno::INVAL => error.with_hint("the clocks are monotonic and boottime"),
                    Errno::RANGE => error.with_hint("the clock would be negative or overflow"),
                    _ => error,
                }
            })?;
    }
    Ok(())
}

/// Lets a midwife enter the namespaces for good, and make the caller's child there. `keep` is what the
/// child keeps of the caller's descriptors.
pub(crate) fn by_midwife(
    plan: &Plan,
    joined: &Joined,
    args: CloneArgs<'_>,
    keep: &[BorrowedFd<'_>],
    child: impl FnOnce() -> u8,
) -> Result<Child> {
    let (ours, hers) = channel::pair()?;
    let mut all = keep.to_vec();
    all.push(hers.as_fd());
    all.extend(joined.list.iter().map(|(_, fd)| fd.as_fd()));
    let own = CloneArgs {
        // The child inherits it; in the user namespace there may be no right to place it.
        into_cgroup: args.into_cgroup,
        ..CloneArgs::default()
    };
    let midwife = clone_process(own, &all, || {
        let args = CloneArgs {
            into_cgroup: None,
            sibling: true,
            ..args
        };
        let born = settle_down(plan, joined)
            .and_then(|()| clone_process(args, keep, child).map_err(crate::create::clone_failed));
        let (message, fd) = match &born {
            Ok(cloned) => (
                FromChild::Sibling { pid: cloned.pid },
                Some(cloned.pidfd.as_fd()),
            ),
            Err(error) => (FromChild::Failed(error.clone()), None),
        };
        u8::from(hers.send(&message, fd).is_err())
    })
    .map_err(crate::create::clone_failed)?;
    drop(hers);
    let told = ours.receive();
    // She ends by herself in every case.
    let _ = reap(midwife.pidfd.as_fd());
    hand_over(told?)
}

fn hand_over(told: Option<(FromChild, Option<OwnedFd>)>) -> Result<Child> {
    match told {
        Some((FromChild::Sibling { pid }, Some(pidfd))) => Ok(Cloned { pid, pidfd }.into()),
        Some((FromChild::Failed(error), _)) => Err(error),
        _ => Err(Error::Died {
            doing: "joining namespaces".to_owned(),
            how: "without a word".to_owned(),
        }),
    }
}

/// The midwife's way in. What cannot be joined with the privilege of the caller is tried once more
/// with that of the joined user namespace: a pod's other namespaces belong to it.
fn settle_down(plan: &Plan, joined: &Joined) -> Result<()> {
    // Through the host's /proc, so before the mount namespace.
    if plan.new.contains(Namespaces::TIME) {
        make_time(plan)?;
    }
    let has_user = joined.has(NamespaceKind::User);
    let mut again = Vec::new();
    for (kind, fd) in &joined.list {
        match join(*kind, fd.as_fd()) {
            Err(e) if has_user && e.errno() == Some(Errno::PERM) => again.push((*kind, fd)),
            other => other?,
        }
    }
    for (kind, fd) in again {
        join(kind, fd.as_fd())?;
    }
    Ok(())
}
