//! Unpacking a layer's tar into a directory that overlayfs can stack: the core, and the part that meets hostile input.
//!
//! Three rules keep every write inside the layer, whatever the archive says:
//! - names are taken apart here (`.`, empty parts and a leading `/` vanish, `..` may not lead above the top);
//! - parents are opened with openat2(2) and RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS. Only when a parent *is* a symbolic link
//!   is it resolved with RESOLVE_IN_ROOT, as a chroot would: `bin -> usr/bin` followed by `bin/ls` lands in `usr/bin`,
//!   `evil -> /etc` followed by `evil/passwd` in the layer's own `etc`, as under Docker;
//! - the last part is only ever created (O_EXCL), replaced or removed by name in that parent, never followed.
//!
//! Speed comes from few system calls: the open parents of the present entry are kept, so a file costs openat, write,
//! utimensat and close; chown and chmod are left out when creation already gave the right answer. Directories get their
//! owner, mode and times at the end, because creating files in them changes their times and, with set-gid, new files' groups.
//!
//! Whiteouts (OCI image-spec layer.md) become overlayfs's: `.wh.NAME` a character device 0:0 called NAME, `.wh..wh..opq` the
//! xattr `overlay.opaque` on its directory. They hide what lies in layers beneath, never what the same archive brings.

use crate::archive::{Entry, Fault, Kind, TarReader};
use crate::dirs::{DIRECTORY, OpenDirs};
use crate::path::{clean, join, show, split, within};
use crate::tape::{Keep, Taped};
use crate::tree;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::rc::Rc;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

/// What an archive may demand.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the uncompressed tar; stops decompression bombs.
    pub bytes: u64,
    /// Entries (files, directories, …); bounds inodes and memory.
    pub entries: u64,
}

impl Default for Limits {
    /// 512 GiB and 20 million entries: above any image in use, below what exhausts this process.
    fn default() -> Self {
        Self {
            bytes: 512 << 30,
            entries: 20_000_000,
        }
    }
}

/// What went wrong, before the layer's name is put to it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The archive is to blame.
    Archive(String),
    /// The file system is; the path is relative to the layer.
    System {
        op: &'static str,
        path: Vec<u8>,
        errno: Errno,
    },
    /// The source stopped; the reading side knows why.
    Source(std::io::Error),
    /// The tape could not be written.
    Tape(std::io::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(e) => Self::Source(e),
            Fault::Bad(reason) => Self::Archive(reason),
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of all files.
    pub size: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Whether the layer hides everything beneath it (`.wh..wh..opq` at its top). Overlayfs does not know such a mark on
    /// the root, so the layers beneath are simply not mounted.
    pub opaque_root: bool,
    /// Bytes of the archive.
    pub tar: u64,
}

/// Unpacks the whole archive into the directory `root`, which must be empty. The tape lies beside it.
pub(crate) fn unpack<R: BufRead>(
    mut tar: TarReader<Taped<R>>,
    root: OwnedFd,
    keep: Keep,
    limits: Limits,
) -> Result<Unpacked, Failure> {
    let mut unpacker = Unpacker::new(root, keep, limits)?;
    while let Some(entry) = tar.next_entry()? {
        unpacker.entry(entry, &mut tar)?;
    }
    tar.drain()?;
    let mut done = unpacker.finish()?;
    done.tar = tar.into_inner().finish().map_err(Failure::Tape)?;
    Ok(done)
}

/// What a directory gets at the end.
struct DirMeta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Unpacker {
    open: OpenDirs,
    dirs: BTreeMap<Vec<u8>, DirMeta>,
    limits: Limits,
    umask: u32,
    uid: u32,
    gid: u32,
    /// `trusted.overlay.opaque`, or `user.` in a user namespace.
    opaque: &'static str,
    keep: Keep,
    /// Files whose content is on the tape by their path.
    recorded: u64,
    done: Unpacked,
}

impl Unpacker {
    fn new(root: OwnedFd, keep: Keep, limits: Limits) -> Result<Self, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        Ok(Self {
            open: OpenDirs::new(root),
            dirs: BTreeMap::new(),
            limits,
            umask: umask(),
            uid,
            gid: rustix::process::getegid().as_raw(),
            opaque: opaque_name(privileged()),
            keep,
            recorded: 0,
            done: Unpacked::default(),
        })
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: Entry,
        tar: &mut TarReader<Taped<R>>,
    ) -> Result<(), Failure> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(Failure::Archive(format!(
                "it has more than {} entries",
                self.limits.entries
            )));
        }
        let path = clean(&entry.path).map_err(|why| about(&entry.path, why))?;
        let (dir, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            return self.whiteout(dir, name, &entry);
        }
        match entry.kind {
            Kind::Dir => self.directory(path, entry),
            _ if path.is_empty() => Err(about(
                &entry.path,
                "is not a directory but names the layer's top",
            )),
            Kind::File => self.file(&path, &entry, tar),
            Kind::Hardlink => self.hardlink(&path, &entry),
            Kind::Symlink | Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo => {
                self.special(&path, &entry)
            }
        }
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        tar: &mut TarReader<Taped<R>>,
    ) -> Result<(), Failure> {
        let (dir, name) = split(path);
        let parent = self.parent(dir)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let fd = self.make(&parent, path, "create", |_| {
            rustix::fs::openat(&*parent, name, flags, mode)
        })?;
        let failed = |op| {
            move |errno| Failure::System {
                op,
                path: path.to_vec(),
                errno,
            }
        };
        let segments = entry.sparse.as_deref();
        if entry.size > 0 {
            let place = self.open.real_path(&parent, path);
            let place = place.map_err(failed("find the way to"))?;
            tar.inner_mut().file_begins(&place, entry.size, segments);
            self.recorded += 1;
        }
        match segments {
            None => copy(tar, &fd, entry.size).map_err(|e| e.at(path))?,
            Some(segments) => {
                for segment in segments {
                    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(segment.offset))
                        .map_err(failed("seek in"))?;
                    copy(tar, &fd, segment.len).map_err(|e| e.at(path))?;
                }
                rustix::fs::ftruncate(&fd, entry.size).map_err(failed("set the length of"))?;
            }
        }
        tar.inner_mut().file_ends();
        self.done.size = self.done.size.saturating_add(entry.size);
        let chowned = entry.uid != self.uid || entry.gid != self.gid;
        if chowned {
            rustix::fs::fchown(
                &fd,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )
            .map_err(failed("set the owner of"))?;
        }
        // After chown, which takes the set-uid bits away, and before the xattrs, of which it takes the capabilities.
        if entry.mode != entry.mode & 0o777 & !self.umask {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))
                .map_err(failed("set the mode of"))?;
        }
        for (key, value) in wanted(&entry.xattrs) {
            let set = rustix::fs::fsetxattr(&fd, key, value, XattrFlags::empty());
            tolerate_xattr(set, key).map_err(failed("set an extended attribute of"))?;
        }
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(failed("set the time of"))
    }

    fn directory(&mut self, path: Vec<u8>, entry: Entry) -> Result<(), Failure> {
        if !path.is_empty() {
            let (dir, name) = split(&path);
            let parent = self.parent(dir)?;
            // Accessible to us until the end, whatever its own mode says.
            let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
            match rustix::fs::mkdirat(&*parent, name, mode) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.directory_over(&parent, &path)?,
                Err(errno) => {
                    return Err(Failure::System {
                        op: "create",
                        path,
                        errno,
                    });
                }
            }
        }
        let Entry {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            ..
        } = entry;
        self.dirs.insert(
            path,
            DirMeta {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
        );
        Ok(())
    }

    /// Puts a directory where something is: another directory stays, all else goes, a whiteout leaves its mark.
    fn directory_over(&mut self, parent: &Rc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
        let (_, name) = split(path);
        let failed = |errno| Failure::System {
            op: "create",
            path: path.to_vec(),
            errno,
        };
        let there =
            rustix::fs::statat(&**parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.remove(parent, path)?;
        rustix::fs::mkdirat(&**parent, name, Mode::RWXU | Mode::from_raw_mode(0o055))
            .map_err(failed)?;
        if is_whiteout(&there) {
            self.set_opaque(parent, path)?;
        }
        Ok(())
    }

    fn hardlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
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
    fn special(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
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

    fn whiteout(&mut self, dir: &[u8], name: &[u8], entry: &Entry) -> Result<(), Failure> {
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
    fn whiteout_over(&mut self, parent: &Rc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
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

    fn set_opaque(&mut self, parent: &Rc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
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

    /// Creates something by `how`; what is in the way is removed first, as tar does.
    fn make<T>(
        &mut self,
        parent: &Rc<OwnedFd>,
        path: &[u8],
        op: &'static str,
        how: impl Fn(()) -> Result<T, Errno>,
    ) -> Result<T, Failure> {
        match how(()) {
            Err(Errno::EXIST) => {
                self.remove(parent, path)?;
                how(())
            }
            other => other,
        }
        .map_err(|errno| Failure::System {
            op,
            path: path.to_vec(),
            errno,
        })
    }

    fn remove(&mut self, parent: &Rc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
        let failed = |errno| Failure::System {
            op: "replace",
            path: path.to_vec(),
            errno,
        };
        let name = CString::new(split(path).1).map_err(|_| failed(Errno::INVAL))?;
        let place = self.open.real_path(parent, path).map_err(failed)?;
        let kept = self.keep.take(&**parent, &name, &place, self.recorded);
        if !kept.map_err(failed)? {
            tree::remove(&**parent, &name).map_err(failed)?;
        }
        self.open.forget(path);
        let doomed: Vec<_> = self
            .dirs
            .range(path.to_vec()..)
            .take_while(|(dir, _)| dir.starts_with(path))
            .filter(|(dir, _)| within(dir, path))
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in doomed {
            self.dirs.remove(&dir);
        }
        Ok(())
    }

    /// The open directory `dir`, made if it is missing.
    fn parent(&mut self, dir: &[u8]) -> Result<Rc<OwnedFd>, Failure> {
        let failed = |errno| Failure::System {
            op: "open",
            path: dir.to_vec(),
            errno,
        };
        match self.open.resolve(dir) {
            Ok((fd, plain)) => {
                if plain {
                    self.open.remember(dir, &fd);
                }
                Ok(fd)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(dir),
            Err(Errno::LOOP) => Err(about(
                dir,
                "is a symbolic link that leads nowhere in the layer",
            )),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Makes what is missing of `dir`, 0755 and ours, part by part.
    fn make_parents(&mut self, dir: &[u8]) -> Result<Rc<OwnedFd>, Failure> {
        let mut at = self.open.root();
        let ends = dir
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at)
            .chain([dir.len()]);
        for end in ends {
            let (path, name) = (&dir[..end], split(&dir[..end]).1);
            let failed = |errno| Failure::System {
                op: "create",
                path: path.to_vec(),
                errno,
            };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let mut opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            if let Err(Errno::NOENT) = opened {
                rustix::fs::mkdirat(&*at, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            } else if let Err(Errno::NOTDIR) = opened {
                let there =
                    rustix::fs::statat(&*at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if !is_whiteout(&there) {
                    return Err(about(
                        dir,
                        &format!("needs {} to be a directory, which it is not", show(path)),
                    ));
                }
                self.directory_over(&at, path)?;
                opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            }
            at = match opened {
                Ok(fd) => Rc::new(fd),
                Err(Errno::LOOP) => match self.open.resolve_in_root(path) {
                    Ok(fd) => fd,
                    Err(_) => {
                        return Err(about(
                            dir,
                            &format!(
                                "needs {}, a symbolic link that leads nowhere in the layer",
                                show(path)
                            ),
                        ));
                    }
                },
                Err(errno) => return Err(failed(errno)),
            };
        }
        Ok(at)
    }

    /// Gives the directories their owners, modes and times, the deepest first.
    fn finish(mut self) -> Result<Unpacked, Failure> {
        let dirs = std::mem::take(&mut self.dirs);
        for (path, meta) in dirs.iter().rev() {
            let failed = |op| {
                move |errno| Failure::System {
                    op,
                    path: path.clone(),
                    errno,
                }
            };
            let (dir, name) = split(path);
            let parent = self.parent(dir)?;
            let name = if path.is_empty() { b"." } else { name };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd =
                rustix::fs::openat(&*parent, name, flags, Mode::empty()).map_err(failed("open"))?;
            let now = rustix::fs::fstat(&fd).map_err(failed("look at"))?;
            let chowned = (now.st_uid, now.st_gid) != (meta.uid, meta.gid);
            if chowned {
                rustix::fs::fchown(
                    &fd,
                    Some(Uid::from_raw(meta.uid)),
                    Some(Gid::from_raw(meta.gid)),
                )
                .map_err(failed("set the owner of"))?;
            }
            if chowned || now.st_mode & 0o7777 != meta.mode {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode))
                    .map_err(failed("set the mode of"))?;
            }
            for (key, value) in wanted(&meta.xattrs) {
                let set = rustix::fs::fsetxattr(&fd, key, value, XattrFlags::empty());
                tolerate_xattr(set, key).map_err(failed("set an extended attribute of"))?;
            }
            rustix::fs::futimens(&fd, &times(meta.mtime)).map_err(failed("set the time of"))?;
        }
        self.keep.finish().map_err(Failure::Tape)?;
        Ok(self.done)
    }
}

/// Why copying a file's data stopped.
enum CopyError {
    Read(Fault),
    Write(Errno),
}

impl CopyError {
    fn at(self, path: &[u8]) -> Failure {
        match self {
            Self::Read(fault) => fault.into(),
            Self::Write(errno) => Failure::System {
                op: "write",
                path: path.to_vec(),
                errno,
            },
        }
    }
}

/// Copies `len` bytes of the entry's data, straight from the pipeline's buffers.
fn copy<R: BufRead>(tar: &mut TarReader<R>, to: &OwnedFd, len: u64) -> Result<(), CopyError> {
    let mut left = len;
    while left > 0 {
        let chunk = tar.chunk().map_err(CopyError::Read)?;
        let want = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = rustix::io::retry_on_intr(|| rustix::io::write(to, &chunk[..want]))
            .map_err(CopyError::Write)?;
        tar.consume(n);
        left -= n as u64;
    }
    Ok(())
}

fn times((secs, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The attributes to set. An archive has no business with overlayfs's own: they would redirect lookups between layers.
pub(crate) fn wanted(xattrs: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = xattrs
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()));
    all.filter(|(key, _)| {
        !key.starts_with(b"trusted.overlay.") && !key.starts_with(b"user.overlay.")
    })
}

/// File systems differ in the attributes they know: as under Docker that is a warning, but a lost capability is an error.
fn tolerate_xattr(set: Result<(), Errno>, key: &[u8]) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) => {}
        Err(Errno::PERM) if !privileged() => {}
        other => return other,
    }
    tracing::warn!(attribute = %show(key), "extended attribute left out: the file system does not take it");
    Ok(())
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) const fn opaque_name(privileged: bool) -> &'static str {
    if privileged {
        "trusted.overlay.opaque"
    } else {
        "user.overlay.opaque"
    }
}

/// Whether this process may set `trusted.` attributes: CAP_SYS_ADMIN in the first user namespace.
pub(crate) fn privileged() -> bool {
    static PRIVILEGED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *PRIVILEGED.get_or_init(|| {
        let capable = rustix::thread::capabilities(None).is_ok_and(|sets| {
            sets.effective
                .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
        });
        // The first namespace maps all of the 32 bits onto themselves; no other map is as long.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        capable && map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// The process's umask, read without changing it: it belongs to all threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Umask:"));
    // Unknown (no /proc): as if it took all bits, so that every mode is set explicitly.
    line.and_then(|l| u32::from_str_radix(l.trim(), 8).ok())
        .unwrap_or(0o777)
}

fn about(path: &[u8], why: &str) -> Failure {
    Failure::Archive(format!("entry {} {why}", show(path)))
}

/// Opens the directory to unpack into, free of what the directory above would pass on to new files.
pub(crate) fn prepare_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let ours = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_uid, stat.st_gid) != ours {
        rustix::fs::fchown(
            &fd,
            Some(Uid::from_raw(ours.0)),
            Some(Gid::from_raw(ours.1)),
        )?;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
    // A default ACL would replace the umask in what creation gives.
    match rustix::fs::fremovexattr(fd.as_fd(), "system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(fd),
        Err(e) => Err(e),
    }
}
