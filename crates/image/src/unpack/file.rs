//! Regular files: written, or linked to another layer's.

use super::attributes::{times, tolerate_xattr, wanted};
use super::{Failure, Unpacker};
use crate::archive::{Entry, Fault, TarReader};
use crate::path::split;
use crate::share::Twin;
use crate::tape::Taped;
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::io::BufRead;
use std::sync::Arc;

impl Unpacker {
    pub(super) fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        tar: &mut TarReader<Taped<R>>,
    ) -> Result<(), Failure> {
        let (dir, name) = split(path);
        let parent = self.parent(dir)?;
        let failed = |op| {
            move |errno| Failure::System {
                op,
                path: path.to_vec(),
                errno,
            }
        };
        let segments = entry.sparse.as_deref();
        let mut same = None;
        if entry.size > 0 {
            let place = self.open.real_path(&parent, path);
            let place = place.map_err(failed("find the way to"))?;
            tar.inner_mut().file_begins(&place, entry.size, segments);
            if segments.is_none()
                && let Some(twin) = self.beside.share.twin(&place, entry)
            {
                let length = self.compare(tar, &twin, entry.size)?;
                if length == entry.size && self.link_twin(&parent, path, &twin)? {
                    tar.inner_mut().file_ends();
                    self.recorded += 1;
                    self.done.size = self.done.size.saturating_add(entry.size);
                    return Ok(());
                }
                same = Some((twin, length));
            }
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let fd = self.make(&parent, path, "create", |_| {
            rustix::fs::openat(&*parent, name, flags, mode)
        })?;
        // Not before: what was in the way was replaced by this one.
        self.recorded += u64::from(entry.size > 0);
        let mut at = 0;
        if let Some((twin, length)) = same {
            copy_beginning(&twin, &fd, length).map_err(failed("write"))?;
            at = length;
        }
        match segments {
            None => copy(tar, &fd, entry.size - at).map_err(|e| e.at(path))?,
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

    /// Takes the entry's data as long as another layer's file has the same; how many bytes that were.
    fn compare<R: BufRead>(
        &mut self,
        tar: &mut TarReader<Taped<R>>,
        twin: &Twin,
        size: u64,
    ) -> Result<u64, Failure> {
        let mut at = 0;
        while at < size {
            let chunk = tar.chunk()?;
            if !twin.has(at, chunk, &mut self.buffer) {
                break;
            }
            let n = chunk.len();
            tar.consume(n);
            at += n as u64;
        }
        Ok(at)
    }

    /// Makes the file a link to another layer's; says whether it could.
    fn link_twin(
        &mut self,
        parent: &Arc<OwnedFd>,
        path: &[u8],
        twin: &Twin,
    ) -> Result<bool, Failure> {
        let name = split(path).1;
        match self.make(parent, path, "link", |_| twin.link(&**parent, name)) {
            Ok(()) => Ok(true),
            // Too many links, not ours (fs.protected_hardlinks), removed meanwhile: then it is written.
            Err(Failure::System {
                errno: Errno::MLINK | Errno::PERM | Errno::NOENT | Errno::XDEV,
                ..
            }) => Ok(false),
            Err(failure) => Err(failure),
        }
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

/// Copies what a file has in common with another layer's.
fn copy_beginning(twin: &Twin, to: &OwnedFd, len: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < len {
        let want = usize::try_from(len - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(to, &twin.file, Some(&mut at), want) {
            Ok(0) => return Err(Errno::IO),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
