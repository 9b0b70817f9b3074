//! What is neither file nor directory: links, devices, fifos, and the marks that hide what lies beneath.

use super::attributes::{privileged, times, tolerate_xattr, wanted};
use super::{Failure, OPAQUE, RESERVED, Unpacker, WHITEOUT, about};
use crate::archive::{Entry, Kind};
use crate::path::{clean, join, show, split};
use crate::tree;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Arc;

impl Unpacker {
    pub(super) fn hardlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        let target = clean(&entry.link).map_err(|_| {
            about(
                &entry.path,
                &format!("is a hard link to {} outside the layer", show(&entry.link)),
            )
        })?;
        if target == path {
            return Ok(());
        }
        let (target_dir, target_name) = split(&target);
        let missing = || {
            about(
                &entry.path,
                &format!(
                    "is a hard link to {}, which the layer does not have",
                    show(&target)
                ),
            )
        };
        let from = match self.open.resolve(target_dir) {
            Ok((fd, _)) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(errno) => {
                return Err(Failure::System {
                    op: "open",
                    path: target_dir.to_vec(),
                    errno,
                });
            }
        };
        if let Ok(stat) = rustix::fs::statat(&*from, target_name, AtFlags::SYMLINK_NOFOLLOW)
            && let Ok(place) = self.open.real_path(&from, &target)
        {
            self.beside.share.withdraw(&place, &stat);
        }
        let (dir, name) = split(path);
        let parent = self.parent(dir)?;
        let linked = self.make(&parent, path, "link", |_| {
            rustix::fs::linkat(&*from, target_name, &*parent, name, AtFlags::empty())
        });
        match linked {
            Err(Failure::System {
                errno: Errno::NOENT | Errno::PERM,
                ..
            }) => Err(missing()),
            other => other,
        }
    }

    /// A symbolic link, device or fifo.
    pub(super) fn special(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        let (dir, name) = split(path);
        let parent = self.parent(dir)?;
        let mode = Mode::from_raw_mode(entry.mode);
        let made = self.make(&parent, path, "create", |_| match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(entry.link.as_slice(), &*parent, name),
            Kind::Fifo => rustix::fs::mknodat(&*parent, name, FileType::Fifo, mode, 0),
            Kind::Char { major, minor } => rustix::fs::mknodat(
                &*parent,
                name,
                FileType::CharacterDevice,
                mode,
                rustix::fs::makedev(major, minor),
            ),
            Kind::Block { major, minor } => rustix::fs::mknodat(
                &*parent,
                name,
                FileType::BlockDevice,
                mode,
                rustix::fs::makedev(major, minor),
            ),
            Kind::File | Kind::Dir | Kind::Hardlink => Err(Errno::INVAL),
        });
        let is_device = matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. });
        match made {
            // No device can be made in a user namespace; runtimes supply /dev, so the image still works, as under Docker.
            Err(Failure::System {
                errno: Errno::PERM, ..
            }) if is_device && !privileged() => {
                tracing::warn!(path = %show(path), "device left out: making it needs privilege");
                return Ok(());
            }
            other => other?,
        }
        let failed = |op| {
            move |errno| Failure::System {
                op,
                path: path.to_vec(),
                errno,
            }
        };
        if entry.uid != self.uid || entry.gid != self.gid {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(
                &*parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed("set the owner of"))?;
        }
        if entry.kind != Kind::Symlink && entry.mode != entry.mode & 0o777 & !self.umask {
            // It is no symbolic link, so there is nothing to follow.
            rustix::fs::chmodat(&*parent, name, mode, AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        for (key, value) in wanted(&entry.xattrs) {
            // There is no *at form before Linux 6.13; the parent's fd in /proc is as good.
            let mut by_fd = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            by_fd.extend_from_slice(name);
            let set = rustix::fs::lsetxattr(by_fd, key, value, XattrFlags::empty());
            tolerate_xattr(set, key).map_err(failed("set an extended attribute of"))?;
        }
        rustix::fs::utimensat(
            &*parent,
            name,
            &times(entry.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set the time of"))
    }

    pub(super) fn whiteout(
        &mut self,
        dir: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Failure> {
        if name == OPAQUE {
            if dir.is_empty() {
                self.done.opaque_root = true;
                return Ok(());
            }
            self.parent(dir)?;
            let (above, _) = split(dir);
            let parent = self.parent(above)?;
            return self.set_opaque(&parent, dir);
        }
        if name.starts_with(RESERVED) {
            return Ok(()); // aufs' own bookkeeping (.wh..wh.plnk, .wh..wh.aufs)
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(about(&entry.path, "is a whiteout that names no file"));
        }
        let parent = self.parent(dir)?;
        match rustix::fs::mknodat(
            &*parent,
            hidden,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.whiteout_over(&parent, &join(dir, hidden)),
            Err(errno) => Err(Failure::System {
                op: "make the whiteout",
                path: join(dir, hidden),
                errno,
            }),
        }
    }

    /// The archive brings what it also whites out: it replaces what lies beneath, which for a directory is "opaque".
    pub(super) fn whiteout_over(
        &mut self,
        parent: &Arc<OwnedFd>,
        path: &[u8],
    ) -> Result<(), Failure> {
        let there = rustix::fs::statat(&**parent, split(path).1, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Failure::System {
                op: "look at",
                path: path.to_vec(),
                errno,
            })?;
        match FileType::from_raw_mode(there.st_mode) {
            FileType::Directory => self.set_opaque(parent, path),
            _ => Ok(()),
        }
    }

    pub(super) fn set_opaque(&mut self, parent: &Arc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
        let failed = |errno| Failure::System {
            op: "mark as opaque",
            path: path.to_vec(),
            errno,
        };
        let name = CString::new(split(path).1).map_err(|_| failed(Errno::INVAL))?;
        match tree::open_dir(&**parent, &name) {
            Ok(fd) => {
                rustix::fs::fsetxattr(&fd, self.opaque, b"y", XattrFlags::empty()).map_err(failed)
            }
            // Through a symbolic link: mark where it leads.
            Err(Errno::LOOP) => {
                let fd = self.open.resolve_in_root(path).map_err(failed)?;
                let fd =
                    rustix::fs::openat(&*fd, c".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(failed)?;
                rustix::fs::fsetxattr(&fd, self.opaque, b"y", XattrFlags::empty()).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }
}
