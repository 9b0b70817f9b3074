//! Security labels: what AppArmor and SELinux are to make of the program.
//!
//! The caller looks, on the host, whether there is such a module; the process that becomes the program
//! writes its own labels, through the host's `/proc` and never through the container's: there, a mount
//! might lead the write elsewhere (CVE-2025-52881), and the process would go on unconfined.

use crate::error::{Context, Error, Result};
use crate::plan::Attributes;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Labels that are to be written.
#[derive(Debug)]
pub(crate) struct Labels {
    proc: OwnedFd,
    selinux: Option<CString>,
    apparmor: Option<CString>,
}

impl Labels {
    /// What the plan asks for, if it asks for any. On the host, before anything is made.
    ///
    /// A label for a module that is not there is an error: the process would run with less confinement
    /// than it was promised.
    pub fn prepare(plan: &Attributes) -> Result<Option<Self>> {
        if plan.selinux.is_some() && !selinux_enabled() {
            return Err(Error::invalid(
                "process.selinuxLabel",
                "SELinux is not enabled on this host",
            ));
        }
        let mut apparmor = plan.apparmor.clone();
        if apparmor.is_some() && !apparmor_enabled() {
            // Where nothing confines, everything is unconfined already.
            apparmor = apparmor.filter(|profile| profile.to_bytes() != b"unconfined");
            if apparmor.is_some() {
                return Err(Error::invalid(
                    "process.apparmorProfile",
                    "AppArmor is not enabled on this host",
                ));
            }
        }
        if plan.selinux.is_none() && apparmor.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            proc: host_proc()?,
            selinux: plan.selinux.clone(),
            apparmor,
        }))
    }

    /// Sets those of the next `execve`, and of keys that are made from here on. They take effect with
    /// the execution and survive the changes of credentials before it.
    pub fn write(&self) -> Result<()> {
        if let Some(label) = &self.selinux {
            write_own(&self.proc, "attr/keycreate", label.to_bytes())
                .and_then(|()| write_own(&self.proc, "attr/exec", label.to_bytes()))
                .map_err(|e| {
                    let hint = "the policy has no such label";
                    refused("process.selinuxLabel", label, e, hint)
                })?;
        }
        self.apparmor
            .as_deref()
            .map_or(Ok(()), |profile| apparmor(profile, &self.proc))
    }
}

impl AsFd for Labels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }
}

/// The host's `/proc`, verified.
fn host_proc() -> Result<OwnedFd> {
    let step = || "opening the host's /proc";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc", flags, Mode::empty()).step(step)?;
    if rustix::fs::fstatfs(&fd).step(step)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        Ok(fd)
    } else {
        Err(Error::invalid(
            "/proc",
            "the host's is not a proc file system",
        ))
    }
}

fn apparmor(profile: &CStr, proc: &OwnedFd) -> Result<()> {
    let command = [b"exec ", profile.to_bytes()].concat();
    let written = match write_own(proc, "attr/apparmor/exec", &command) {
        // Before 5.8, when AppArmor got a directory of its own.
        Err(Errno::NOENT) if open_own(proc, "attr/apparmor", OFlags::PATH).is_err() => {
            write_own(proc, "attr/exec", &command)
        }
        other => other,
    };
    written.map_err(|e| {
        let hint = "the profile is not loaded: see apparmor_parser(8)";
        refused("process.apparmorProfile", profile, e, hint)
    })
}

fn refused(what: &str, label: &CStr, errno: Errno, hint: &str) -> Error {
    let label = label.to_string_lossy();
    let error = Error::step(format!("setting {what} {label:?}"), errno);
    match errno {
        Errno::NOENT | Errno::INVAL => error.with_hint(hint),
        _ => error,
    }
}

/// Opens a file of our own directory in that `/proc`, on that very mount. `self` is our pid in the pid
/// namespace of the mount, wherever we were born.
fn open_own(proc: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat2(
        proc,
        Path::new("self").join(name),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
    )
}

fn write_own(proc: &OwnedFd, name: &str, text: &[u8]) -> rustix::io::Result<()> {
    let fd = open_own(proc, name, OFlags::WRONLY)?;
    rustix::io::write(fd, text).map(drop)
}

/// Whether AppArmor is on: the parameter of its module says `Y`.
pub(crate) fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"))
}

/// As is_selinux_enabled(3): its file system (`SELINUX_MAGIC`) is at its place.
pub(crate) fn selinux_enabled() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|s| s.f_type == 0xf97c_ff8c)
}
