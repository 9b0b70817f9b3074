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

mod attributes;
mod file;
mod place;
mod special;

pub(crate) use attributes::{is_whiteout, opaque_name, prepare_root, privileged, wanted};

use crate::archive::{Entry, Fault, Kind, TarReader};
use crate::dirs::OpenDirs;
use crate::path::{clean, show, split};
use crate::share::Share;
use crate::tape::{Keep, Taped};
use attributes::{times, tolerate_xattr, umask};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;

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
    beside: Beside,
    limits: Limits,
) -> Result<Unpacked, Failure> {
    let mut unpacker = Unpacker::new(root, beside, limits)?;
    while let Some(entry) = tar.next_entry()? {
        unpacker.entry(entry, &mut tar)?;
    }
    tar.drain()?;
    let mut done = unpacker.finish()?;
    done.tar = tar.into_inner().finish().map_err(Failure::Tape)?;
    Ok(done)
}

/// What goes into the layer's directory beside its files.
pub(crate) struct Beside {
    /// That directory.
    pub dir: OwnedFd,
    /// What the archive itself replaces.
    pub keep: Keep,
    /// What other layers have, and may have of this one.
    pub share: Share,
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
    beside: Beside,
    buffer: Vec<u8>,
    /// Files whose content is on the tape by their path.
    recorded: u64,
    done: Unpacked,
}

impl Unpacker {
    fn new(root: OwnedFd, beside: Beside, limits: Limits) -> Result<Self, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        Ok(Self {
            open: OpenDirs::new(root),
            dirs: BTreeMap::new(),
            limits,
            umask: umask(),
            uid,
            gid: rustix::process::getegid().as_raw(),
            opaque: opaque_name(privileged()),
            beside,
            buffer: Vec::new(),
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
    fn directory_over(&mut self, parent: &Arc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
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
        let Beside { dir, keep, share } = self.beside;
        keep.finish().map_err(Failure::Tape)?;
        share.finish(&dir).map_err(Failure::Tape)?;
        Ok(self.done)
    }
}

fn about(path: &[u8], why: &str) -> Failure {
    Failure::Archive(format!("entry {} {why}", show(path)))
}
