//! User namespaces from outside: writing the maps of one, and making one only for its map.

use crate::channel::{self, FromChild};
use crate::error::{Context, Error, Result};
use crate::plan::IdMaps;
use barque_sys::process::{CloneArgs, Cloned, Namespaces, clone_process, reap, setns};
use barque_types::spec::IdMapping;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Writes the maps of the user namespace in which the (not yet reaped) child `pid` was born.
///
/// One `write` a file: the kernel takes a map once and whole (user_namespaces(7)).
pub(crate) fn write_maps(pid: i32, maps: &IdMaps) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        // Without CAP_SETGID, a group map is only accepted after giving up setgroups (3.19).
        write(pid, "setgroups", "deny")?;
    }
    write(pid, "gid_map", &text(&maps.gid))?;
    write(pid, "uid_map", &text(&maps.uid))
}

fn write(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let failed = |e: Errno| {
        let error = Error::step(format!("writing {:?} to {path}", text.trim_end()), e);
        match e {
            Errno::PERM if rustix::process::geteuid().is_root() => {
                error.with_hint("the ids outside have to be ours to give")
            }
            Errno::PERM => error.with_hint(
                "a user other than root can map only itself, with a size of 1; ranges of /etc/subuid \
                 are given by newuidmap(1) and newgidmap(1), which Barque does not run",
            ),
            Errno::INVAL => error.with_hint("the ranges must not overlap and may be at most 340"),
            _ => error,
        }
    };
    let fd = openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    rustix::io::write(fd, text.as_bytes()).map_err(failed)?;
    Ok(())
}

fn text(map: &[IdMapping]) -> String {
    map.iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

/// The user namespace of a process.
pub(crate) fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("opening {path}"))
}

/// A user namespace that nobody is in, for the map of an idmapped mount.
pub(crate) fn for_maps(maps: &IdMaps) -> Result<OwnedFd> {
    let args = CloneArgs {
        namespaces: Namespaces::USER,
        ..CloneArgs::default()
    };
    let child = clone_process(args, &[], || {
        // Until the parent has taken the namespace, and not longer than the parent lives.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        loop {
            let forever = rustix::time::Timespec {
                tv_sec: 3600,
                tv_nsec: 0,
            };
            let _ = rustix::thread::nanosleep(&forever);
        }
    })
    .step(|| "making a user namespace")?;
    let result = write_maps(child.pid, maps).and_then(|()| of_process(child.pid));
    end(&child);
    result
}

/// The maps of a user namespace, as they are seen from ours: read from a process that enters it.
pub(crate) fn maps_of(user_namespace: BorrowedFd<'_>) -> Result<IdMaps> {
    let step = || "reading the id maps of the user namespace to be joined";
    let (ours, theirs) = channel::pair()?;
    let keep = [user_namespace, theirs.as_fd()];
    let child = clone_process(CloneArgs::default(), &keep, || {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let entered = setns(user_namespace, Namespaces::USER)
            .step(|| "joining the user namespace")
            .map_or_else(FromChild::Failed, |()| FromChild::Furnished);
        let _ = theirs.send(&entered, None);
        // Until the parent has read what it wants, or is dead.
        let _ = theirs.receive::<FromChild>();
        0
    })
    .step(step)?;
    drop(theirs);
    let maps = match ours.receive()? {
        Some((FromChild::Failed(error), _)) => Err(error),
        _ => ["uid_map", "gid_map"]
            .map(|file| std::fs::read_to_string(format!("/proc/{}/{file}", child.pid)))
            .into_iter()
            .collect::<std::io::Result<Vec<_>>>()
            .step(step),
    };
    end(&child);
    let maps = maps?;
    Ok(IdMaps {
        uid: parse(&maps[0]),
        gid: parse(&maps[1]),
    })
}

/// The lines of a map (user_namespaces(7)); what has no id in our own namespace is left out.
fn parse(map: &str) -> Vec<IdMapping> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            let mut next = || fields.next()?.ok();
            Some(IdMapping {
                container_id: next()?,
                host_id: next()?,
                size: next()?,
            })
        })
        .filter(|m| m.host_id != u32::MAX)
        .collect()
}

fn end(child: &Cloned) {
    // It has no other way to end, and it is ours until it is reaped.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = reap(child.pidfd.as_fd());
}
