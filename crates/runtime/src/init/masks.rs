//! What the container must not see, must not write, and the kernel parameters it may set.

use super::{cover, null_device};
use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, attach, clone_tree};
use crate::path::{self, open_in, open_resolved};
use barque_sys::mount::{Attributes, Change, set_attributes};
use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens one of the paths; what this kernel does not have needs no protection.
fn open(root: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match open_in(root, Path::new(name), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::step(format!("opening {name:?}"), e)),
    }
}

/// Covers files with the null device and directories with an empty read-only tmpfs.
pub(super) fn hide(paths: &[String], root: &OwnedFd) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = null_device()?;
    // One superblock for all directories: the first mount is copied for the others.
    let mut empty: Option<OwnedFd> = None;
    for name in paths {
        let Some(place) = open(root, name)? else {
            continue;
        };
        let step = || format!("hiding {name:?}");
        if path::file_type(&place).step(step)? != FileType::Directory {
            cover(&null, &place).step(step)?;
            continue;
        }
        match &empty {
            Some(first) => cover(first, &place).step(step)?,
            None => {
                let first = empty_directory(step())?;
                attach(&first, &place).step(step)?;
                empty = Some(first);
            }
        }
    }
    Ok(())
}

fn empty_directory(step: String) -> Result<OwnedFd> {
    let context = Context::open("tmpfs", step)?;
    context.set("source", "tmpfs")?;
    context.set("size", "4k")?;
    context.set("nr_inodes", "2")?;
    context.mount(Attributes::RDONLY | Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)
}

/// Makes paths read-only, with everything below: a bind mount of each onto itself.
pub(super) fn protect(paths: &[String], root: &OwnedFd) -> Result<()> {
    for name in paths {
        let Some(place) = open(root, name)? else {
            continue;
        };
        let step = || format!("making {name:?} read-only");
        let tree = clone_tree(&place, Path::new(""), true).step(step)?;
        let change = Change {
            set: Attributes::RDONLY,
            ..Change::default()
        };
        set_attributes(&tree, true, change).step(step)?;
        attach(&tree, &place).step(step)?;
    }
    Ok(())
}

/// Sets kernel parameters, through a `/proc` of our own that nothing is mounted over: what lies at
/// the container's `/proc/sys` is its image's and its mounts' choice (CVE-2025-52881).
pub(super) fn sysctl(parameters: &[(String, String)]) -> Result<()> {
    if parameters.is_empty() {
        return Ok(());
    }
    let proc = Context::open("proc", "opening a /proc to set kernel parameters")?;
    let proc = proc.mount(Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for (name, value) in parameters {
        // The file is the host's root's, also in a user namespace (`proc_do_uts_string`); the system call
        // asks for CAP_SYS_ADMIN over the UTS namespace.
        if name == "kernel/domainname" {
            rustix::system::setdomainname(value.trim_end().as_bytes())
                .step(|| format!("setting the kernel parameter {name} to {value:?}"))?;
            continue;
        }
        let path = Path::new("sys").join(name);
        open_resolved(&proc, &path, OFlags::WRONLY, beneath)
            .and_then(|fd| rustix::io::write(fd, value.as_bytes()))
            .step(|| format!("setting the kernel parameter {name} to {value:?}"))?;
    }
    Ok(())
}
