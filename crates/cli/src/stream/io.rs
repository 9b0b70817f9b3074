//! poll(2), reads and writes for the pumps.

use crate::errors::Failure;
use crate::output::write_failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// What is ready, in the order in which the fds were given.
pub fn wait(fds: &[(BorrowedFd<'_>, PollFlags)]) -> Result<Vec<bool>, Failure> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    retry_on_intr(|| poll(&mut polled, None))
        .map_err(|e| Failure::Io("cannot wait for input".into(), e.into()))?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Writes output; the terminal is in raw mode or the text is the program's own: no buffering by lines.
pub fn put(mut target: impl Write + AsFd, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else made the terminal that we share non-blocking.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                drop(wait(&[(target.as_fd(), PollFlags::OUT)])?)
            }
            Err(e) => return Err(write_failure(e)),
        }
    }
    target.flush().map_err(write_failure)
}

/// Some bytes; empty at the end. A terminal or pipe that is gone has ended.
pub fn take(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let mut buffer = vec![0; CHUNK];
    match retry_on_intr(|| read(fd, &mut buffer)) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(Errno::IO) => Ok(Some(Vec::new())),
        Err(e) => Err(Failure::Io("cannot read".into(), e.into())),
    }
}

/// Whether reading would not block.
pub fn readable(fd: BorrowedFd<'_>) -> bool {
    now(&[(fd, PollFlags::IN)]).is_ok_and(|ready| ready[0])
}

/// As [`wait`], without waiting.
pub fn now(fds: &[(BorrowedFd<'_>, PollFlags)]) -> Result<Vec<bool>, Failure> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    retry_on_intr(|| poll(&mut polled, Some(&at_once)))
        .map_err(|e| Failure::Io("cannot look for input".into(), e.into()))?;
    // A hang-up without bytes is nothing to read.
    Ok(polled
        .iter()
        .map(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP))
        .collect())
}
