//! Writing a log: bytes in, rotated files of entries out, within a hard budget.
//!
//! Lines are cut as Docker cuts them: an entry per line; a line longer than 16 KiB becomes entries of
//! 16 KiB without a newline; a line without an end waits for it, in memory, until the stream ends.
//! (Unlike Docker a character is never cut in two.) One write(2) per batch of input as a rule.
//!
//! A log never hurts the container: when the disk is full the entry is lost and counted, the file is cut
//! back to its last whole entry, and the next entry is tried again.

use super::{Stream, encode, rotated};
use crate::supervised::LogConfig;
use barque_types::time::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Longest piece of a line in one entry, as Docker's copier has it.
const MAX_LINE: usize = 16 * 1024;

/// Encoded bytes held before they are written.
const BATCH: usize = 32 * 1024;

/// The log of one container.
#[derive(Debug)]
pub struct Writer {
    config: LogConfig,
    /// The newest file, open from the first entry on.
    file: Option<OwnedFd>,
    /// Bytes in it.
    size: u64,
    /// Unfinished lines, by stream.
    pending: [Vec<u8>; 2],
    /// Encoded entries, and where in them the last whole one ends is always their end.
    batch: Vec<u8>,
    /// Entries in the batch.
    batched: u64,
    lost: u64,
}

impl Writer {
    /// A log that appends to what is there. Touches no file before the first entry: a container that
    /// says nothing has no log.
    pub fn new(config: LogConfig) -> Self {
        Self {
            config,
            file: None,
            size: 0,
            pending: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batched: 0,
            lost: 0,
        }
    }

    /// Logs what one read returned. All its lines get the present time.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = Timestamp::now().to_string();
        while !bytes.is_empty() {
            let held = self.pending[stream as usize].len();
            let room = MAX_LINE - held;
            let newline = bytes.iter().take(room).position(|b| *b == b'\n');
            match newline {
                Some(end) => {
                    self.line(stream, &bytes[..end], true, &time);
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() >= room => {
                    let end = room - cut_character(&bytes[..room]);
                    self.line(stream, &bytes[..end], false, &time);
                    bytes = &bytes[end..];
                }
                None => {
                    self.pending[stream as usize].extend_from_slice(bytes);
                    break;
                }
            }
        }
        self.flush();
    }

    /// The streams have ended: logs what waits for a newline that will not come.
    pub fn end_of_streams(&mut self) {
        let time = Timestamp::now().to_string();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.pending[stream as usize].is_empty() {
                self.line(stream, b"", false, &time);
            }
        }
        self.flush();
    }

    /// Entries that could not be written (a full disk, a directory that is gone).
    pub fn entries_lost(&self) -> u64 {
        self.lost
    }

    /// One entry: what is pending, then `rest`.
    fn line(&mut self, stream: Stream, rest: &[u8], newline: bool, time: &str) {
        let before = self.batch.len();
        let pending = &mut self.pending[stream as usize];
        if pending.is_empty() {
            encode::entry(&mut self.batch, rest, newline, stream, time);
        } else {
            pending.extend_from_slice(rest);
            encode::entry(&mut self.batch, pending, newline, stream, time);
            *pending = Vec::new();
        }
        // The budget is per file: an entry that would not fit beside the others goes into the next batch.
        let max = self.config.max_size.unwrap_or(u64::MAX);
        if before > 0 && self.size.saturating_add(self.batch.len() as u64) > max {
            let last = self.batch.split_off(before);
            self.flush();
            self.batch = last;
        }
        self.batched += 1;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes the batch to the newest file, rotating before if it would not fit.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.try_flush().is_err() {
            self.lost += self.batched;
            // The directory may come back, the disk may get space: start from what is there then.
            self.file = None;
        }
        self.batch.clear();
        self.batched = 0;
        // A single burst should not stay in memory for the container's life.
        self.batch.shrink_to(2 * BATCH);
    }

    fn try_flush(&mut self) -> Result<(), Errno> {
        if self.file.is_none() {
            self.open()?;
        }
        let max = self.config.max_size.unwrap_or(u64::MAX);
        if self.size > 0 && self.size + self.batch.len() as u64 > max {
            self.rotate()?;
        }
        let Some(file) = &self.file else {
            return Err(Errno::BADF);
        };
        let mut rest = &self.batch[..];
        while !rest.is_empty() {
            match retry_on_intr(|| rustix::io::write(file, rest)) {
                Ok(n) => rest = &rest[n..],
                Err(e) => {
                    // Readers must not find half an entry with the next one glued to it.
                    let _ = rustix::fs::ftruncate(file, self.size);
                    return Err(e);
                }
            }
        }
        self.size += self.batch.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> Result<(), Errno> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&self.config.path, flags, Mode::from_raw_mode(0o640))?;
        self.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        self.file = Some(file);
        Ok(())
    }

    /// path.1 → path.2, path → path.1, a new path. The oldest is overwritten by rename; with a single
    /// file it is removed, not truncated, so that a reader can finish it.
    fn rotate(&mut self) -> Result<(), Errno> {
        let path: &Path = &self.config.path;
        let oldest = self.config.max_files.max(1) - 1;
        let absent = |done: Result<(), Errno>| match done {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        };
        if oldest == 0 {
            absent(rustix::fs::unlink(path))?;
        }
        for n in (0..oldest).rev() {
            absent(rustix::fs::rename(rotated(path, n), rotated(path, n + 1)))?;
        }
        self.open()
    }
}

/// How many bytes at the end of `bytes` begin a UTF-8 character that they do not finish.
fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    for back in 1..=tail.len().min(3) {
        let byte = tail[tail.len() - back];
        let len = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue, // inside a character: look further back
            _ => return 0,
        };
        return if len > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn writer(dir: &Path, max_size: Option<u64>, max_files: u32) -> Writer {
        Writer::new(LogConfig {
            path: dir.join("x-json.log"),
            max_size,
            max_files,
        })
    }

    /// (log, stream) of each entry in a file.
    fn entries(path: &Path) -> Vec<(String, String)> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = |key: &str| value[key].as_str().unwrap().to_owned();
                assert!(text("time").parse::<Timestamp>().is_ok());
                (text("log"), text("stream"))
            })
            .collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn lines_streams_and_the_last_without_newline() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), None, 1);
        let path = log.config.path.clone();
        log.write(Stream::Stdout, b"one\ntw");
        assert_eq!(entries(&path), pairs(&[("one\n", "stdout")]));
        log.write(Stream::Stderr, b"err\n\n");
        log.write(Stream::Stdout, b"o\nthree");
        log.end_of_streams();
        assert_eq!(
            entries(&path),
            pairs(&[
                ("one\n", "stdout"),
                ("err\n", "stderr"),
                ("\n", "stderr"),
                ("two\n", "stdout"),
                ("three", "stdout")
            ])
        );
    }

    #[test]
    fn long_lines_are_cut_at_16_kib_as_dockers_and_never_within_a_character() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), None, 1);
        let line = [&[b'x'; MAX_LINE * 2][..], b"\n"].concat();
        for piece in line.chunks(1000) {
            log.write(Stream::Stdout, piece);
        }
        let lens: Vec<_> = entries(&log.config.path)
            .iter()
            .map(|(l, _)| l.len())
            .collect();
        assert_eq!(lens, [MAX_LINE, MAX_LINE, 1]);

        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), None, 1);
        let text = "€".repeat(MAX_LINE);
        log.write(Stream::Stdout, text.as_bytes());
        log.end_of_streams();
        let joined: String = entries(&log.config.path)
            .into_iter()
            .map(|(l, _)| l)
            .collect();
        assert_eq!(joined, text);
    }

    #[test]
    fn characters_cut_at_the_end() {
        for (bytes, want) in [
            (&b"a"[..], 0),
            ("€".as_bytes(), 0),
            (b"a\xe2", 1),
            (b"a\xe2\x82", 2),
            (b"a\xf0\x9f\x98", 3),
            (b"\xc3", 1),
            (b"\xff", 0),
            (b"\x80\x80\x80\x80", 0),
            (b"", 0),
        ] {
            assert_eq!(cut_character(bytes), want, "{bytes:?}");
        }
    }

    fn files(path: &Path) -> Vec<PathBuf> {
        (0..10)
            .map(|n| rotated(path, n))
            .filter(|p| p.exists())
            .collect()
    }

    #[test]
    fn the_budget_holds_at_every_moment() {
        for (max_size, max_files) in [(4096, 3), (100_000, 2), (4096, 1), (200, 5)] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = writer(dir.path(), Some(max_size), max_files);
            let path = log.config.path.clone();
            for n in 0..300 {
                let text: String = (0..n % 50).map(|k| format!("line {n} {k}\n")).collect();
                log.write(Stream::Stdout, text.as_bytes());
                for file in files(&path) {
                    assert!(
                        std::fs::metadata(&file).unwrap().len() <= max_size,
                        "{max_size}"
                    );
                }
                assert!(files(&path).len() <= max_files as usize);
            }
            let newest = entries(&path).pop().unwrap().0;
            assert_eq!(newest, "line 299 48\n");
            let all: usize = files(&path).iter().map(|f| entries(f).len()).sum();
            assert!(all > 0);
            assert_eq!(log.entries_lost(), 0);
        }
    }

    #[test]
    fn an_existing_log_is_continued_and_a_missing_directory_loses_entries_only() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let mut log = writer(&inner, None, 1);
        log.write(Stream::Stdout, b"lost\nlost too\n");
        assert_eq!(log.entries_lost(), 2);
        std::fs::create_dir(&inner).unwrap();
        log.write(Stream::Stdout, b"kept\n");
        let mut again = writer(&inner, None, 1);
        again.write(Stream::Stdout, b"more\n");
        assert_eq!(
            entries(&log.config.path),
            pairs(&[("kept\n", "stdout"), ("more\n", "stdout")])
        );
    }
}
