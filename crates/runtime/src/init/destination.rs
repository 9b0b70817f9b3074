//! Where a mount goes: a place inside the root, opened once and then only known by its descriptor.
//!
//! What the path means may change between two lookups of it, where a volume is shared with somebody who
//! exchanges its directories for links (CVE-2021-30465). Here it is looked up once, inside the root;
//! what is checked and what is mounted on is the same open file.

use crate::error::{Context, Error, Result};
use crate::path::{self, Make};
use crate::plan::{Filesystem, MountPlan, What};
use crate::sources::Source;
use rustix::fs::{AtFlags, FileType, OFlags, PROC_SUPER_MAGIC, Statx, StatxFlags, fstatfs, statx};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// What may be put over single files of `/proc`: those of lxcfs(1), as runc allows them.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The inode of the root of every procfs (include/linux/proc_fs.h, `PROC_ROOT_INO`).
const PROC_ROOT: u64 = 1;

/// Opens the place of a new mount, making it where it is missing.
pub(super) fn open(
    mount: &MountPlan,
    source: Option<&Source>,
    root: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    guard_proc(mount, source)?;
    let place = match &mount.what {
        What::Filesystem(Filesystem { kind, .. }) if matches!(kind.as_str(), "proc" | "sysfs") => {
            real_directory(mount, root)?
        }
        _ => {
            path::make_in(root, &mount.destination, kind_of_place(mount, source)).map_err(|e| {
                match e.errno() {
                Some(Errno::ROFS) => e.with_hint(
                    "the destination does not exist, and cannot be made on a read-only file system",
                ),
                _ => e,
            }
            })?
        }
    };
    let there = identity(&place).step(|| mount.describe())?;
    let root_is = identity(root).step(|| mount.describe())?;
    // A link or `..` may lead there; what lies over the root would be neither seen nor left behind.
    if (there.stx_mnt_id, there.stx_ino) == (root_is.stx_mnt_id, root_is.stx_ino) {
        return Err(Error::invalid(
            mount.describe(),
            "the destination is the root",
        ));
    }
    guard_proc_by_another_name(mount, root, &there)?;
    Ok(place)
}

fn kind_of_place(mount: &MountPlan, source: Option<&Source>) -> Make {
    match (&mount.what, source) {
        (
            _,
            Some(Source::Tree {
                directory: false, ..
            }),
        ) => Make::File,
        // With the permissions that an empty tmpfs has by default, and gets from here: see
        // `mounts::new`. Set on the directory, so that they are the same at every start.
        (What::Filesystem(Filesystem { kind, .. }), _) if kind == "tmpfs" => Make::SharedDirectory,
        _ => Make::Directory,
    }
}

/// For proc and sysfs it must be a real directory: masks, read-only paths and everything that trusts
/// `/proc` name it by this path, and a link would send the mount elsewhere (CVE-2019-19921,
/// CVE-2023-27561, CVE-2023-28642).
fn real_directory(mount: &MountPlan, root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let open = || path::open_in_without_links(root, &mount.destination, OFlags::PATH);
    let opened = match open() {
        Err(Errno::NOENT) => {
            path::make_in(root, &mount.destination, Make::Directory)?;
            // Again, because a link on the way to what was missing has been followed.
            open()
        }
        other => other,
    };
    match opened {
        Ok(place) if path::file_type(&place) == Ok(FileType::Directory) => Ok(place),
        _ => Err(Error::invalid(
            mount.describe(),
            "the root file system has a link or a file there; it must be a directory",
        )),
    }
}

fn identity(fd: impl AsFd) -> rustix::io::Result<Statx> {
    let mask = StatxFlags::INO | StatxFlags::MNT_ID;
    statx(fd, "", AtFlags::EMPTY_PATH, mask)
}

const INSIDE_PROC: &str = "it is inside /proc, which no mount may change";

/// Keeps a container's `/proc` what it says it is: over it only another procfs, and within it only
/// some files that have no power. Programs of the container, and runtimes that enter it later, read and
/// write `/proc` trusting it (CVE-2019-16884, CVE-2025-52881).
fn guard_proc(mount: &MountPlan, source: Option<&Source>) -> Result<()> {
    let path = lexical(&mount.destination);
    let why = if path == Path::new("/proc") {
        match (&mount.what, source) {
            (What::Filesystem(Filesystem { kind, .. }), _) if kind == "proc" => return Ok(()),
            (_, Some(Source::Tree { tree, .. })) if is_proc_root(tree) => return Ok(()),
            _ => "only a procfs can be mounted over /proc",
        }
    } else if !path.starts_with("/proc") || is_proc_file(&path) {
        return Ok(());
    } else {
        INSIDE_PROC
    };
    Err(Error::invalid(mount.describe(), why))
}

fn is_proc_file(path: &Path) -> bool {
    PROC_FILES.iter().any(|file| path == Path::new(file))
}

/// The same for a place in `/proc` that is reached through a link.
fn guard_proc_by_another_name(
    mount: &MountPlan,
    root: BorrowedFd<'_>,
    there: &Statx,
) -> Result<()> {
    let path = lexical(&mount.destination);
    if path == Path::new("/proc") || is_proc_file(&path) {
        return Ok(());
    }
    let within = path::open_in(root, Path::new("/proc"), OFlags::PATH).is_ok_and(|proc| {
        is_proc_root(&proc) && identity(&proc).is_ok_and(|p| p.stx_mnt_id == there.stx_mnt_id)
    });
    if within {
        return Err(Error::invalid(mount.describe(), INSIDE_PROC));
    }
    Ok(())
}

fn is_proc_root(fd: &OwnedFd) -> bool {
    fstatfs(fd).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
        && identity(fd).is_ok_and(|i| i.stx_ino == PROC_ROOT)
}

/// The path with its `..` taken away as if no component was a link.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_taken_from_names() {
        assert_eq!(lexical(Path::new("/a/../proc/./x")), Path::new("/proc/x"));
        assert_eq!(lexical(Path::new("/../../proc")), Path::new("/proc"));
    }
}
