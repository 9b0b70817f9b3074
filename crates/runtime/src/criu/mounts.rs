//! Which of a container's mounts come from outside, and where a restore finds them.
//!
//! CRIU makes file systems again (proc, tmpfs with its contents, devpts, …) and copies of mounts of the
//! container itself (read-only paths). What was bind-mounted from the host it must be told: at a dump the
//! mount point with a cookie, at a restore the cookie with a path of the host.
//!
//! Which mounts these are is read from the kernel: a destination of the specification is resolved in the
//! container, as it was when the mount was made, and the id of the mount found there is looked up in
//! mountinfo.

use super::mountinfo::Entry;
use crate::error::{Context, Error, Result};
use crate::path;
use crate::plan::{MountPlan, What};
use barque_types::spec;
use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags, makedev, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct External {
    /// Its name between a dump and a restore.
    pub cookie: String,
    /// Where it is in the container.
    pub mount_point: PathBuf,
    /// Where it is from.
    pub from: From,
}

/// Where a mount is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum From {
    /// The source of the bind mount of the specification with this destination, and what path below it.
    Bind {
        destination: PathBuf,
        below: PathBuf,
    },
    /// The container's own part of the hierarchy with these controllers.
    Cgroup { controllers: String },
    /// The host's device of this path (over a masked file: its null device).
    Device { path: PathBuf },
}

/// What the specification says about a mount.
enum Meant {
    /// It is from outside.
    Outside(From),
    /// It is the container's own.
    Own,
}

/// Finds them. `root` is the container's root as a descriptor, `entries` its mounts.
pub(super) fn find(spec: &spec::Spec, root: &OwnedFd, entries: &[Entry]) -> Result<Vec<External>> {
    let meant = meant(spec, root)?;
    let mut found = Vec::new();
    for entry in entries {
        let from = match meant.get(&entry.id) {
            Some(Meant::Own) => continue,
            Some(Meant::Outside(from)) => from.clone(),
            None => match origin(entry, entries, &meant) {
                Some(from) => from,
                None => continue,
            },
        };
        found.push(External {
            cookie: format!("barque-{}", found.len()),
            mount_point: entry.mount_point.clone(),
            from,
        });
    }
    Ok(found)
}

/// What the specification makes of the mounts at its destinations, by the ids of the mounts.
fn meant(spec: &spec::Spec, root: &OwnedFd) -> Result<BTreeMap<u64, Meant>> {
    let mut meant = BTreeMap::new();
    let own_root = mount_id(root).step(|| "looking at the container's root")?;
    meant.insert(own_root, Meant::Own);
    for mount in &spec.mounts {
        // Whatever a relative source is relative to: it is not looked at.
        let plan = MountPlan::parse(mount, None, Some(Path::new("/")))?;
        let Some(fd) = look(root, &plan.destination)? else {
            continue;
        };
        let id = mount_id(&fd).step(|| plan.describe())?;
        let what = match plan.what {
            What::Bind { .. } => Meant::Outside(From::Bind {
                destination: plan.destination,
                below: PathBuf::new(),
            }),
            What::Cgroup { .. } | What::Filesystem(_) => Meant::Own,
            // It has made nothing.
            What::Remount(_) => continue,
        };
        // A destination that another mount has covered since is found in that one, which counts.
        meant.entry(id).or_insert(what);
    }
    let linux = spec.linux.as_ref();
    let masked = linux.into_iter().flat_map(|l| &l.masked_paths);
    for name in masked {
        if let Some(fd) = look(root, Path::new(name))?
            && is_null(&fd)
        {
            let id = mount_id(&fd).step(|| format!("looking at {name:?}"))?;
            let path = PathBuf::from("/dev/null");
            meant
                .entry(id)
                .or_insert(Meant::Outside(From::Device { path }));
        }
    }
    Ok(meant)
}

/// Where a mount is from that no destination of the specification names.
fn origin(entry: &Entry, entries: &[Entry], meant: &BTreeMap<u64, Meant>) -> Option<From> {
    if let Some(controllers) = &entry.controllers {
        let controllers = controllers.clone();
        return Some(From::Cgroup { controllers });
    }
    // Below a bind mount with all that is mounted below it.
    let mut above = entry;
    while let Some(parent) = entries.iter().find(|e| e.id == above.parent) {
        match meant.get(&parent.id) {
            Some(Meant::Outside(From::Bind { destination, below })) => {
                let rest = entry.mount_point.strip_prefix(&parent.mount_point).ok()?;
                return Some(From::Bind {
                    destination: destination.clone(),
                    below: below.join(rest),
                });
            }
            Some(Meant::Outside(_)) => return None,
            // A device of a container that can make none is the host's, on a mount of its own. The
            // console is one too, but of the container's own devpts.
            Some(Meant::Own) => {
                let device = matches!(entry.kind.as_str(), "devtmpfs" | "tmpfs")
                    && entry.root != Path::new("/")
                    && entry.mount_point.starts_with("/dev");
                return device.then(|| From::Device {
                    path: entry.mount_point.clone(),
                });
            }
            None => above = parent,
        }
    }
    None
}

/// Opens what a path of the specification means in the container; `None` when there is nothing.
fn look(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>> {
    match path::open_in(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::step(
            format!("looking at {path:?} in the container"),
            e,
        )),
    }
}

fn is_null(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    })
}

/// The id of the mount that a file was opened on (statx(2), 5.8).
pub(super) fn mount_id(fd: impl AsFd) -> rustix::io::Result<u64> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    match StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID) {
        true => Ok(stat.stx_mnt_id),
        false => Err(Errno::NOSYS),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::parse;
    use super::*;

    #[test]
    fn mounts_that_no_destination_names() {
        let entries = parse(
            "1 0 0:70 / / rw - overlay overlay rw\n\
             2 1 254:0 /srv /data rw - ext4 /dev/vda rw\n\
             3 2 0:80 / /data/deep rw - tmpfs tmpfs rw\n\
             4 3 0:81 / /data/deep/er rw - tmpfs tmpfs rw\n\
             5 1 0:82 / /dev rw - tmpfs tmpfs rw\n\
             6 5 0:6 /zero /dev/zero rw - devtmpfs devtmpfs rw\n\
             7 5 0:83 /0 /dev/console rw - devpts devpts rw\n\
             8 1 0:90 /sys /proc/sys ro - proc proc rw\n\
             9 1 0:29 /x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
        );
        let bind = From::Bind {
            destination: "/data".into(),
            below: PathBuf::new(),
        };
        let meant = BTreeMap::from([(1, Meant::Own), (2, Meant::Outside(bind)), (5, Meant::Own)]);
        let of = |id: u64| {
            let entry = entries.iter().find(|e| e.id == id).expect("an entry");
            origin(entry, &entries, &meant)
        };
        let below = |below: &str| {
            Some(From::Bind {
                destination: "/data".into(),
                below: below.into(),
            })
        };
        assert_eq!(of(3), below("deep"));
        assert_eq!(of(4), below("deep/er"));
        let path = "/dev/zero".into();
        assert_eq!(of(6), Some(From::Device { path }));
        assert_eq!((of(7), of(8)), (None, None));
        let controllers = "cpu".into();
        assert_eq!(of(9), Some(From::Cgroup { controllers }));
    }
}
