//! `/dev`: the nodes, and the links that programs expect.
//!
//! What an image, or a volume that is shared with another container, has in its `/dev` is not to be
//! trusted: nothing there is followed, opened for reading, or changed by its name.

use super::{cover, open_host};
use crate::defaults;
use crate::error::{Context, Error, Result};
use crate::path::{self, by_descriptor, bytes};
use crate::plan::{Plan, What};
use barque_types::spec::Device;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmod, chownat, fstat, makedev, mknodat,
    openat, readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The links of the specification's "Default Devices" section, and runc's `/dev/core`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
    // "The runtime MUST also supply" these (config-linux.md, "Default Devices").
    for device in defaults::devices() {
        if !plan.devices.iter().any(|d| d.path == device.path) {
            node(&device, root.as_fd())?;
        }
    }
    let dev = path::make_in(root.as_fd(), Path::new("/dev"), path::Make::Directory)?;
    links(&dev)?;
    ptmx(&dev).step(|| "making the link /dev/ptmx")
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
        Ok(()) | Err(Errno::EXIST) => {}
        // A user namespace can make no devices (mknod(2)).
        Err(Errno::PERM) => return bind_node(device, (kind, numbers), &dir, name),
        Err(e) => return Err(Error::step(step(), e)),
    }
    let there = openat(&dir, name, LOOK, Mode::empty()).step(step)?;
    let stat = fstat(&there).step(step)?;
    match FileType::from_raw_mode(stat.st_mode) {
        is if is == kind && (kind == FileType::Fifo || stat.st_rdev == numbers) => {
            permit(device, &there, &stat).step(step)
        }
        // The place of an earlier start in a user namespace; or somebody's mistake, which is covered.
        FileType::RegularFile if kind != FileType::Fifo => {
            bind_node(device, (kind, numbers), &dir, name)
        }
        _ => Err(Error::invalid(
            step(),
            "the root file system has something else there",
        )),
    }
}

/// Owner and permissions, of the node itself: by descriptor, because its name may be made to mean
/// something else by whoever shares the directory.
fn permit(device: &Device, node: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (uid, gid) != (stat.st_uid, stat.st_gid) {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(node, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    }
    match device.file_mode.map(|mode| mode & 0o7777) {
        Some(mode) if mode != stat.st_mode & 0o7777 => {
            chmod(by_descriptor(node), Mode::from_raw_mode(mode))
        }
        _ => Ok(()),
    }
}

/// The host's node of the same path, when it is the same device.
fn bind_node(device: &Device, what: (FileType, u64), dir: &OwnedFd, name: &OsStr) -> Result<()> {
    let step = || format!("binding the host's device {:?}", device.path);
    let path =
        std::str::from_utf8(bytes(&device.path)).map_err(|_| Error::step(step(), Errno::ILSEQ))?;
    let source = open_host(path).step(step)?;
    let stat = fstat(&source).step(step)?;
    if (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) != what {
        return Err(Error::invalid(step(), "it has other numbers on the host"));
    }
    let place = file_to_cover(dir, name).step(step)?;
    cover(&source, place).step(step)
}

/// A file to mount on, made where there is none. Opened as a place only: to open an unknown device, FIFO
/// or link of an image for more would already do something.
pub(super) fn file_to_cover(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(&dir, name, new, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let place = openat(&dir, name, LOOK, Mode::empty())?;
    match path::file_type(&place)? {
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Ok(place),
    }
}

fn links(dev: &OwnedFd) -> Result<()> {
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            // An image that brings its own /dev/stdout keeps it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::step(format!("making the link /dev/{name}"), e)),
        }
    }
    Ok(())
}

/// The multiplexer is that of the container's own devpts, whatever an image has in its place: a node of
/// its own would open a terminal of whichever devpts is beside it, or none.
fn ptmx(dev: &OwnedFd) -> rustix::io::Result<()> {
    const TARGET: &str = "pts/ptmx";
    if readlinkat(dev, "ptmx", Vec::new())
        .is_ok_and(|target| target.as_bytes() == TARGET.as_bytes())
    {
        return Ok(());
    }
    match unlinkat(dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    symlinkat(TARGET, dev, "ptmx")
}
