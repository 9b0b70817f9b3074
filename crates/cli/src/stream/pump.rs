//! The loops that carry bytes between the user and a container or an exec'd process until it ends.
//!
//! One thread, one poll(2): the engine forks, so there are no threads here. stdin is not read while bytes wait to be
//! sent, and output is read always, so that neither side can wait for the other for ever.

use super::detach::Watch;
use super::signals::{self, Taken};
use super::terminal;
use crate::errors::{Failure, Phase};
use crate::output::write_failure;
use barque_engine::containers::{AttachEvent, Attachment, ExecSession};
use barque_sys::signal::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, retry_on_intr, write};
use std::io::{self, Write, stdin};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a pump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// The user typed the detach keys.
    Detached,
    /// This signal came, which is not handed on: the caller dies of it.
    Signalled(i32),
    /// The other side hung up without saying how it ended.
    Lost,
}

/// What a pump does beside carrying output.
pub struct Pump<'a> {
    /// Carry stdin.
    pub stdin: bool,
    /// There is a terminal: watch its size, and for the detach keys.
    pub tty: bool,
    /// The detach keys.
    pub watch: Watch,
    /// The signals that were taken, if any.
    pub signals: Option<&'a SignalFd>,
    /// Hands a signal on to the container; without it a signal ends the pump.
    pub forward: Option<&'a dyn Fn(i32)>,
}

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// What is ready, in the order in which the fds were given.
fn wait(fds: &[(BorrowedFd<'_>, PollFlags)]) -> Result<Vec<bool>, Failure> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    retry_on_intr(|| poll(&mut polled, None))
        .map_err(|e| Failure::Io("cannot wait for input".into(), e.into()))?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Writes output; the terminal is in raw mode or the text is the program's own: no buffering by lines.
fn put(mut target: impl Write + AsFd, mut bytes: &[u8]) -> Result<(), Failure> {
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
fn take(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Failure> {
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

impl Pump<'_> {
    /// Between the user and an attached container.
    pub fn container(mut self, attachment: &mut Attachment) -> Result<End, Failure> {
        let engine = |e| Failure::Engine(Phase::Other, e);
        let input = stdin();
        let mut reading = self.stdin;
        loop {
            let unsent = attachment.has_unsent();
            let events = if unsent {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            let mut fds = vec![(attachment.fd(), events)];
            if let Some(signals) = self.signals {
                fds.push((signals.as_fd(), PollFlags::IN));
            }
            if reading && !unsent {
                fds.push((input.as_fd(), PollFlags::IN));
            }
            let ready = wait(&fds)?;
            let (attached, signalled) = (ready[0], self.signals.is_some() && ready[1]);
            let typed = reading && !unsent && ready[ready.len() - 1];
            if unsent && attached {
                attachment.flush().map_err(engine)?;
            }
            if attached && readable(attachment.fd()) {
                match attachment.next_event().map_err(engine)? {
                    Some(AttachEvent::Stdout(bytes)) => put(io::stdout().lock(), &bytes)?,
                    Some(AttachEvent::Stderr(bytes)) => put(io::stderr().lock(), &bytes)?,
                    Some(AttachEvent::Exited(code)) => return Ok(End::Exited(code)),
                    None => return Ok(End::Lost),
                }
            }
            if signalled
                && let Some(end) = self.signal(|rows, cols| drop(attachment.resize(rows, cols)))
            {
                return Ok(end);
            }
            if typed && let Some(bytes) = take(input.as_fd())? {
                let (through, detached) = self.typed(&bytes);
                if !through.is_empty() {
                    attachment.send_stdin(&through).map_err(engine)?;
                }
                if detached {
                    return Ok(End::Detached);
                }
                if bytes.is_empty() {
                    reading = false;
                    attachment.close_stdin().map_err(engine)?;
                }
            }
        }
    }

    /// Between the user and a process of `exec`.
    pub fn exec(mut self, session: &mut ExecSession) -> Result<End, Failure> {
        let mut streams = Streams::take(session)?;
        let input = stdin();
        let mut reading = self.stdin;
        let mut ended = false;
        loop {
            let wants_input = reading && streams.unsent.is_empty() && streams.accepts_input();
            let mut fds = Vec::new();
            let mut roles = Vec::new();
            let mut add = |role, fd, events| {
                roles.push(role);
                fds.push((fd, events));
            };
            if let Some(signals) = self.signals {
                add(Role::Signals, signals.as_fd(), PollFlags::IN);
            }
            if wants_input {
                add(Role::Input, input.as_fd(), PollFlags::IN);
            }
            if let (Some(sink), false) = (&streams.sink, streams.unsent.is_empty()) {
                add(Role::Sink, sink.as_fd(), PollFlags::OUT);
            }
            for (position, (source, _)) in streams.sources.iter().enumerate() {
                add(Role::Source(position), source.as_fd(), PollFlags::IN);
            }
            if !ended {
                add(Role::Process, session.pidfd.as_fd(), PollFlags::IN);
            }
            // Everything the process wrote is in the pipes by the time that it has ended; a child that it left
            // behind may hold them open for ever, and nobody waits for that.
            let ready = if ended { drained(&fds)? } else { wait(&fds)? };
            if ended
                && !ready
                    .iter()
                    .zip(&roles)
                    .any(|(ready, role)| *ready && matches!(role, Role::Source(_)))
            {
                return session
                    .wait()
                    .map(End::Exited)
                    .map_err(|e| Failure::Engine(Phase::Exec, e));
            }
            for (role, _) in roles
                .into_iter()
                .zip(ready)
                .filter(|(_, ready)| *ready)
                .rev()
            {
                match role {
                    Role::Process => ended = true,
                    Role::Source(position) => streams.carry(position)?,
                    Role::Sink => streams.flush()?,
                    Role::Signals => {
                        if let Some(end) =
                            self.signal(|rows, cols| drop(session.resize(rows, cols)))
                        {
                            return Ok(end);
                        }
                    }
                    Role::Input => {
                        let Some(bytes) = take(input.as_fd())? else {
                            continue;
                        };
                        let (through, detached) = self.typed(&bytes);
                        streams.unsent.extend_from_slice(&through);
                        if detached {
                            return Ok(End::Detached);
                        }
                        reading = !bytes.is_empty();
                        // A terminal's other direction stays open; a pipe's reader is told of the end.
                        streams.closing = !reading && !streams.is_terminal;
                        streams.flush()?;
                    }
                }
            }
        }
    }

    /// What of the input goes on, and whether the detach keys were typed. Only a terminal has keys: in a file the same
    /// bytes are data.
    fn typed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.tty {
            self.watch.feed(bytes)
        } else {
            (bytes.to_vec(), false)
        }
    }

    /// Does what a signal to us means; some end the pump.
    fn signal(&self, resize: impl FnOnce(u16, u16)) -> Option<End> {
        match signals::next(self.signals?)? {
            Taken::Resized => {
                if let (true, Some((rows, cols))) = (self.tty, terminal::size()) {
                    resize(rows, cols);
                }
                None
            }
            Taken::Signal(number) => match self.forward {
                Some(forward) => {
                    forward(number);
                    None
                }
                None => Some(End::Signalled(number)),
            },
        }
    }
}

/// Whether reading would not block.
fn readable(fd: BorrowedFd<'_>) -> bool {
    drained(&[(fd, PollFlags::IN)]).is_ok_and(|ready| ready[0])
}

/// As [`wait`], without waiting.
fn drained(fds: &[(BorrowedFd<'_>, PollFlags)]) -> Result<Vec<bool>, Failure> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    retry_on_intr(|| poll(&mut polled, Some(&now)))
        .map_err(|e| Failure::Io("cannot look for input".into(), e.into()))?;
    // A hang-up without bytes is nothing to read.
    Ok(polled
        .iter()
        .map(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP))
        .collect())
}

/// What a polled fd of an exec is.
#[derive(Clone, Copy)]
enum Role {
    Signals,
    Input,
    Sink,
    Source(usize),
    Process,
}

/// Where a source's bytes go.
#[derive(Clone, Copy)]
enum To {
    Stdout,
    Stderr,
}

/// An exec's ends of pipes or terminal.
struct Streams {
    sink: Option<OwnedFd>,
    is_terminal: bool,
    unsent: Vec<u8>,
    /// Close the sink when everything has been sent.
    closing: bool,
    sources: Vec<(OwnedFd, To)>,
}

impl Streams {
    fn take(session: &mut ExecSession) -> Result<Self, Failure> {
        let mut sources = Vec::new();
        let io = |e: io::Error| Failure::Io("cannot use the terminal".into(), e);
        let is_terminal = session.console.is_some();
        let sink = match &session.console {
            Some(console) => {
                sources.push((console.try_clone().map_err(io)?, To::Stdout));
                Some(console.try_clone().map_err(io)?)
            }
            None => session.stdin.take(),
        };
        sources.extend(session.stdout.take().map(|fd| (fd, To::Stdout)));
        sources.extend(session.stderr.take().map(|fd| (fd, To::Stderr)));
        if let Some(sink) = &sink {
            // Our writes must not block: the process may wait for us to read first.
            fcntl_getfl(sink)
                .and_then(|flags| fcntl_setfl(sink, flags | OFlags::NONBLOCK))
                .map_err(|e| io(e.into()))?;
        }
        Ok(Self {
            sink,
            is_terminal,
            unsent: Vec::new(),
            closing: false,
            sources,
        })
    }

    fn accepts_input(&self) -> bool {
        self.sink.is_some()
    }

    /// Carries what one source has; a source at its end is dropped.
    fn carry(&mut self, position: usize) -> Result<(), Failure> {
        let (source, to) = &self.sources[position];
        match take(source.as_fd())? {
            Some(bytes) if bytes.is_empty() => {
                self.sources.remove(position);
            }
            Some(bytes) => match to {
                To::Stdout => put(io::stdout().lock(), &bytes)?,
                To::Stderr => put(io::stderr().lock(), &bytes)?,
            },
            None => {}
        }
        Ok(())
    }

    /// Sends what the sink takes now. A process that closed its stdin wants no more.
    fn flush(&mut self) -> Result<(), Failure> {
        let Some(sink) = &self.sink else {
            self.unsent.clear();
            return Ok(());
        };
        while !self.unsent.is_empty() {
            match retry_on_intr(|| write(sink, &self.unsent)) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::PIPE | Errno::IO) => {
                    self.unsent.clear();
                    self.sink = None;
                    return Ok(());
                }
                Err(e) => return Err(Failure::Io("cannot write to the process".into(), e.into())),
            }
        }
        if self.closing {
            self.sink = None;
        }
        Ok(())
    }
}
