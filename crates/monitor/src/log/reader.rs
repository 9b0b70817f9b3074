//! Reading a log across its rotated files, from the end, between two times, and following it.
//!
//! A reader opens the whole chain of files at once and from then on holds inodes. When it has read one
//! to its end it looks for the successor: the file whose name is one step newer than the one its inode
//! has now. So a rotation, or several, while it reads loses no entry that still exists.

use super::{Stream, rotated};
use crate::error::{Context, Result};
use barque_types::time::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::{Errno, retry_on_intr};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes per read.
const BLOCK: usize = 64 * 1024;

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was read from the container.
    pub time: Timestamp,
    /// From which stream.
    pub stream: Stream,
    /// A line with its newline, or a part of a line without.
    pub bytes: Vec<u8>,
}

/// Which entries.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// Only the last so many; applied before `since` and `until`, as Docker does.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// Why [`Reader::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The log may have grown.
    Log,
    /// This one of the other fds is ready (or hung up).
    Other(usize),
}

/// A file of the chain.
#[derive(Debug)]
struct Part {
    file: File,
    inode: (u64, u64),
    at: u64,
}

/// A position in a log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    options: ReadOptions,
    /// Files still to read, the oldest first; the first is the current one.
    parts: VecDeque<Part>,
    /// The file that was read last, kept to recognise its successor.
    last: Option<Part>,
    /// Bytes read from the current file and not yet returned.
    buffer: Vec<u8>,
    taken: usize,
    /// `until` has passed.
    over: bool,
    inotify: Option<OwnedFd>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    time: Timestamp,
}

impl Reader {
    /// Opens the log whose newest file is (or will be) `path`. A log without files is empty.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            options,
            parts: open_chain(path)?,
            last: None,
            buffer: Vec::new(),
            taken: 0,
            over: false,
            inotify: None,
        };
        if let Some(lines) = options.tail {
            reader.seek_tail(lines)?;
        }
        if let Some(since) = options.since {
            // A file that was last written well before `since` holds nothing after it (file times come
            // from a coarser clock than the entries').
            while reader.parts.len() > 1 && written_before(&reader.parts[0].file, since) {
                reader.last = reader.parts.pop_front();
            }
        }
        Ok(reader)
    }

    /// The next entry; `None` at the end of what there is now (entries may be appended later).
    /// Lines that are no entries (torn by a power cut) are passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        while !self.over {
            let Some(line) = self.next_line()? else {
                return Ok(None);
            };
            let entry = parse(&self.buffer[line]);
            let Some(entry) = entry else { continue };
            if self.options.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            if self.options.until.is_some_and(|until| entry.time > until) {
                self.over = true;
                break;
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// Whether no further entry can match (`until` has passed).
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Waits until the log may have grown or one of `others` is ready. Call it when [`Self::next_entry`]
    /// has returned `None`; the first call returns at once, for what was written before the watch began.
    pub fn wait(&mut self, others: &[BorrowedFd<'_>]) -> Result<Wake> {
        let Some(inotify) = &self.inotify else {
            self.inotify = Some(watch(&self.path)?);
            return Ok(Wake::Log);
        };
        let mut fds = vec![PollFd::new(inotify, PollFlags::IN)];
        fds.extend(others.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        retry_on_intr(|| poll(&mut fds, None)).context("wait for the log")?;
        let log = !fds[0].revents().is_empty();
        let other = fds[1..].iter().position(|fd| !fd.revents().is_empty());
        drop(fds);
        if log {
            drain(inotify.as_fd());
            return Ok(Wake::Log);
        }
        Ok(other.map_or(Wake::Log, Wake::Other))
    }

    /// The range in the buffer of the next whole line, without its newline.
    fn next_line(&mut self) -> Result<Option<std::ops::Range<usize>>> {
        let mut searched = self.taken;
        loop {
            if let Some(found) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let line = self.taken..searched + found;
                self.taken = searched + found + 1;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            searched = self.buffer.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads one more block; false at the end of the chain.
    fn fill(&mut self) -> Result<bool> {
        loop {
            if let Some(part) = self.parts.front_mut() {
                let start = self.buffer.len();
                self.buffer.resize(start + BLOCK, 0);
                let n = part
                    .file
                    .read_at(&mut self.buffer[start..], part.at)
                    .context(format!("read {}", self.path.display()))?;
                self.buffer.truncate(start + n);
                part.at += n as u64;
                if n > 0 {
                    return Ok(true);
                }
                if part.file.metadata().is_ok_and(|m| m.len() < part.at) {
                    // Somebody emptied the file by hand: begin again with what comes.
                    part.at = 0;
                    continue;
                }
                if self.parts.len() == 1 {
                    if !self.find_successors()? {
                        return Ok(false);
                    }
                    // It was rotated, so nobody writes to it any more: one more read finds what was
                    // added between the last read and the rotation.
                    continue;
                }
                // A torn last line of a finished file will never be completed.
                self.buffer.clear();
                self.last = self.parts.pop_front();
            } else if !self.find_successors()? {
                return Ok(false);
            }
        }
    }

    /// Appends the files newer than the last one known. False when there are none.
    fn find_successors(&mut self) -> Result<bool> {
        let newest = self.parts.back().or(self.last.as_ref()).map(|p| p.inode);
        // The usual answer, for one stat: the newest file is the one we have.
        match std::fs::metadata(&self.path) {
            Ok(meta) if Some((meta.dev(), meta.ino())) == newest => return Ok(false),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            _ => {}
        }
        let mut chain = open_chain(&self.path)?;
        if let Some(known) = chain.iter().position(|p| Some(p.inode) == newest) {
            chain.drain(..=known);
        }
        let found = !chain.is_empty();
        self.parts.append(&mut chain);
        Ok(found)
    }

    /// Moves to the start of the last `lines` lines, reading backwards from the end.
    fn seek_tail(&mut self, lines: u64) -> Result<()> {
        let mut missing = lines;
        for index in (0..self.parts.len()).rev() {
            let path = &self.path;
            let found = tail_offset(&self.parts[index].file, &mut missing)
                .context(format!("read {}", path.display()))?;
            self.parts[index].at = found;
            if missing == 0 {
                self.last = self.parts.drain(..index).next_back();
                break;
            }
        }
        Ok(())
    }
}

/// Where the last `missing` lines of the file begin; reduces `missing` by the lines it has.
fn tail_offset(file: &File, missing: &mut u64) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    if *missing == 0 {
        return Ok(end);
    }
    let mut block = vec![0; BLOCK];
    let mut in_lines = false; // what follows the last newline is no whole line
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let bytes = &mut block[..(end - start) as usize];
        file.read_exact_at(bytes, start)?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            if in_lines {
                *missing -= 1;
                if *missing == 0 {
                    return Ok(start + at as u64 + 1);
                }
            }
            in_lines = true;
        }
        end = start;
    }
    if in_lines {
        *missing -= 1; // the first line has no newline before it
    }
    Ok(0)
}

/// All files of the log, the oldest first.
///
/// They are opened from the newest on. If a rotation happens in between, the next name holds an inode
/// that we have already, and we begin again; so the chain has neither a gap nor a file twice. One name
/// may be missing, for the instant between two of a rotation's renames.
fn open_chain(path: &Path) -> Result<VecDeque<Part>> {
    'again: loop {
        let mut parts: VecDeque<Part> = VecDeque::new();
        let mut missing = 0;
        for n in 0.. {
            let name = rotated(path, n);
            let file = match File::open(&name) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    missing += 1;
                    if missing > 1 {
                        break;
                    }
                    continue;
                }
                Err(e) => return Err(e).context(format!("open {}", name.display())),
            };
            let meta = file
                .metadata()
                .context(format!("stat {}", name.display()))?;
            let inode = (meta.dev(), meta.ino());
            if parts.iter().any(|p| p.inode == inode) {
                continue 'again;
            }
            parts.push_front(Part { file, inode, at: 0 });
        }
        return Ok(parts);
    }
}

fn written_before(file: &File, time: Timestamp) -> bool {
    let modified = file.metadata().and_then(|m| m.modified()).ok();
    let nanos = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
    nanos.is_some_and(|n| (n.as_nanos() as i128) + 1_000_000_000 < time.unix_nanos())
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        time: line.time,
        stream: match &*line.stream {
            "stderr" => Stream::Stderr,
            _ => Stream::Stdout,
        },
        bytes: line.log.into_owned().into_bytes(),
    })
}

/// Watches the log's directory: one watch sees growth, rotation and the birth of the first file.
fn watch(path: &Path) -> Result<OwnedFd> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags)
        .context("make an inotify instance (see fs.inotify.max_user_instances)")?;
    let events = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::MOVE_SELF;
    inotify::add_watch(&fd, dir, events).context(format!("watch {}", dir.display()))?;
    Ok(fd)
}

fn drain(fd: BorrowedFd<'_>) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    loop {
        match reader.next() {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
