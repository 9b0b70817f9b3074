//! `/dev`: the nodes, and the links that programs expect.

use super::{cover, open_host};
use crate::error::{Context, Error, Result};
use crate::path::{self, bytes};
use crate::plan::{Plan, What};
use barque_types::spec::Device;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat, statat,
    symlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The links of the specification's "Default Devices" section, and runc's `/dev/core`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Makes them, unless `/dev` is a bind mount: then it is the host's and complete.
pub(super) fn all(plan: &Plan, root: &OwnedFd) -> Result<()> {
    let bound = plan
        .mounts
        .iter()
        .any(|m| m.destination == Path::new("/dev") && matches!(m.what, What::Bind { .. }));
    if bound {
        return Ok(());
    }
    for device in &plan.devices {
        node(device, root.as_fd())?;
    }
    links(root.as_fd())
}

fn node(device: &Device, root: BorrowedFd<'_>) -> Result<()> {
    let step = || format!("making the device {:?}", device.path);
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Error::invalid(
                step(),
                format!("{other:?} is not a type of device"),
            ));
        }
    };
    // A FIFO has no numbers; configurations that give it some are tolerated.
    let numbers = match kind {
        FileType::Fifo => 0,
        _ => makedev(device.major as u32, device.minor as u32),
    };
    let (dir, name) = path::make_parent_in(root, &device.path)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&dir, name, kind, mode, numbers) {
        Ok(()) => {}
        // A user namespace can make no devices (mknod(2)).
        Err(Errno::PERM) => return bind_node(device, (kind, numbers), &dir, name),
        Err(Errno::EXIST) => return same_node((kind, numbers), &dir, name).step(step),
        Err(e) => return Err(Error::step(step(), e)),
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).step(step)?;
        // chown takes set-id bits away.
        chmodat(&dir, name, mode, AtFlags::empty()).step(step)?;
    }
    Ok(())
}

/// What is there already must be the very device.
fn same_node(
    (kind, numbers): (FileType, u64),
    dir: &OwnedFd,
    name: &OsStr,
) -> rustix::io::Result<()> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let same = FileType::from_raw_mode(stat.st_mode) == kind
        && (kind == FileType::Fifo || stat.st_rdev == numbers);
    if same { Ok(()) } else { Err(Errno::EXIST) }
}

/// The host's node of the same path, when it is the same device.
fn bind_node(device: &Device, what: (FileType, u64), dir: &OwnedFd, name: &OsStr) -> Result<()> {
    let step = || format!("binding the host's device {:?}", device.path);
    let path =
        std::str::from_utf8(bytes(&device.path)).map_err(|_| Error::step(step(), Errno::ILSEQ))?;
    let source = open_host(path).step(step)?;
    let stat = rustix::fs::fstat(&source).step(step)?;
    if (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) != what {
        return Err(Error::invalid(step(), "it has other numbers on the host"));
    }
    let place = new_file(dir, name).step(step)?;
    cover(&source, place).step(step)
}

/// An empty file to mount on; it must not be there, or be a regular file.
pub(super) fn new_file(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(
        dir,
        name,
        OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
}

fn links(root: BorrowedFd<'_>) -> Result<()> {
    let dev = path::make_in(root, Path::new("/dev"), path::Make::Directory)?;
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            // An image that brings its own /dev/stdout keeps it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::step(format!("making the link /dev/{name}"), e)),
        }
    }
    Ok(())
}
