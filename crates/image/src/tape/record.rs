//! Recording: a reader that writes down what passes through it, and the place for what the archive itself replaces.

use super::{END, FILE, INDEX, KEPT, RAW, SPARSE, TAPE, VERSION, put, put_bytes};
use crate::archive::Segment;
use crate::error::{Context, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// Headers repeat themselves so much that the fastest level is good enough.
const LEVEL: i32 = 1;
const RAW_BUFFER: usize = 64 << 10;

/// A tar stream being recorded.
pub(crate) struct Taped<R> {
    inner: R,
    tape: Tape,
    /// Whether what is consumed goes to a file, and so is on the tape already.
    in_file: bool,
}

struct Tape {
    out: zstd::stream::write::Encoder<'static, File>,
    raw: Vec<u8>,
    op: Vec<u8>,
    total: u64,
    /// A reader cannot report it; [`Taped::finish`] does.
    failed: Option<io::Error>,
}

impl<R: BufRead> Taped<R> {
    /// Records into the layer's directory `dir`.
    pub fn new(inner: R, dir: &Path) -> Result<Self> {
        let path = dir.join(TAPE);
        let file = File::create(&path).context("create", &path)?;
        let mut out = zstd::stream::write::Encoder::new(file, LEVEL).context("write", &path)?;
        out.write_all(&[VERSION]).context("write", &path)?;
        let tape = Tape {
            out,
            raw: Vec::with_capacity(RAW_BUFFER),
            op: Vec::new(),
            total: 0,
            failed: None,
        };
        Ok(Self {
            inner,
            tape,
            in_file: false,
        })
    }

    /// What is consumed until [`Taped::file_ends`] becomes the content of this file: `len` bytes, or these segments.
    pub fn file_begins(&mut self, path: &[u8], len: u64, sparse: Option<&[Segment]>) {
        self.tape.flush();
        let op = &mut self.tape.op;
        op.clear();
        op.push(if sparse.is_some() { SPARSE } else { FILE });
        put_bytes(op, path);
        match sparse {
            None => put(op, len),
            Some(segments) => {
                put(op, segments.len() as u64);
                for segment in segments {
                    put(op, segment.offset);
                    put(op, segment.len);
                }
            }
        }
        self.tape.write_op();
        self.in_file = true;
    }

    /// What follows is the archive's own again.
    pub fn file_ends(&mut self) {
        self.in_file = false;
    }

    /// Ends the tape; returns the length of the tar. The error is the first one of all writing.
    pub fn finish(mut self) -> io::Result<u64> {
        self.tape.flush();
        self.tape.op.clear();
        self.tape.op.push(END);
        self.tape.write_op();
        match self.tape.failed {
            Some(e) => Err(e),
            None => self.tape.out.finish().map(|_| self.tape.total),
        }
    }
}

impl Tape {
    /// Writes what has been collected as one operation.
    fn flush(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        self.op.clear();
        self.op.push(RAW);
        put(&mut self.op, self.raw.len() as u64);
        self.write_op();
        let written = self.out.write_all(&self.raw);
        self.note(written);
        self.raw.clear();
    }

    fn write_op(&mut self) {
        let written = self.out.write_all(&self.op);
        self.note(written);
    }

    fn note(&mut self, written: io::Result<()>) {
        if let (Err(e), None) = (written, &self.failed) {
            self.failed = Some(e);
        }
    }
}

impl<R: BufRead> Read for Taped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let n = chunk.len().min(buf.len());
        buf[..n].copy_from_slice(&chunk[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Taped<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.tape.total += n as u64;
        if !self.in_file
            && let Ok(chunk) = self.inner.fill_buf()
        {
            // What is consumed was seen, so it is still there.
            self.tape.raw.extend_from_slice(&chunk[..n]);
            if self.tape.raw.len() >= RAW_BUFFER {
                self.tape.flush();
            }
        }
        self.inner.consume(n);
    }
}

/// Where the content goes that a later entry of the same archive replaces: it is still a part of the tar.
pub(crate) struct Keep {
    /// The layer's directory.
    dir: OwnedFd,
    kept: Option<OwnedFd>,
    index: Vec<u8>,
    count: u64,
}

impl Keep {
    pub fn new(dir: OwnedFd) -> Self {
        Self {
            dir,
            kept: None,
            index: Vec::new(),
            count: 0,
        }
    }

    /// Takes what lies at `name` in `parent` out of the way, if there is content in it. `path` is where it really is, `at`
    /// how many files have been recorded. Says whether it is gone.
    pub fn take(
        &mut self,
        parent: impl AsFd,
        name: &CStr,
        path: &[u8],
        at: u64,
    ) -> Result<bool, Errno> {
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::RegularFile if stat.st_size > 0 => {}
            _ => return Ok(false),
        }
        let kept = match &self.kept {
            Some(kept) => kept,
            None => {
                rustix::fs::mkdirat(&self.dir, KEPT, Mode::RWXU)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&self.dir, KEPT, flags, Mode::empty())?;
                self.kept.insert(fd)
            }
        };
        rustix::fs::renameat(parent, name, kept, self.count.to_string())?;
        put(&mut self.index, at);
        put_bytes(&mut self.index, path);
        self.count += 1;
        Ok(true)
    }

    /// Writes the index, if anything was kept.
    pub fn finish(self) -> io::Result<()> {
        let Some(kept) = self.kept else {
            return Ok(());
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(kept, INDEX, flags, Mode::from_raw_mode(0o600))?;
        File::from(fd).write_all(&self.index)
    }
}
