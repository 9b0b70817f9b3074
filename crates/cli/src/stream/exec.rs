//! The loop that carries bytes between the user and a process of `exec` until it ends.

use super::io::{now, put, take, wait};
use super::pump::{End, Pump};
use crate::errors::{Failure, Phase};
use barque_engine::containers::ExecSession;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr, write};
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often the pipes are looked at after the process has ended: with 32 KiB each time, more than fits into a pipe of
/// the largest size (fs.pipe-max-size is 1 MiB). A child that it left behind may write for ever; nobody waits for that.
const LAST_LOOKS: usize = 64;

/// What a polled fd is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Signals,
    Input,
    Sink,
    Source(usize),
    Process,
}

impl Pump<'_> {
    /// Between the user and a process of `exec`.
    pub fn exec(mut self, session: &mut ExecSession) -> Result<End, Failure> {
        let mut streams = Streams::take(session)?;
        let mut reading = self.stdin;
        let mut ended = false;
        let mut looks = LAST_LOOKS;
        loop {
            let ready =
                self.ready_of(session, &streams, reading && streams.wants_input(), ended)?;
            let output = ready.iter().any(|role| matches!(role, Role::Source(_)));
            if ended && (!output || looks == 0) {
                let code = session.wait();
                return code
                    .map(End::Exited)
                    .map_err(|e| Failure::Engine(Phase::Exec, e));
            }
            looks -= usize::from(ended);
            // Sources last to first: one at its end is removed.
            for role in ready.into_iter().rev() {
                let end = match role {
                    Role::Process => {
                        ended = true;
                        None
                    }
                    Role::Source(position) => streams.carry(position).map(|()| None)?,
                    Role::Sink => streams.flush().map(|()| None)?,
                    Role::Signals => self.signal(|rows, cols| drop(session.resize(rows, cols))),
                    Role::Input => match take(stdin().as_fd())? {
                        None => None,
                        Some(bytes) => {
                            let (through, detached) = self.typed(&bytes);
                            reading = !bytes.is_empty();
                            streams.input(&through, !reading)?;
                            detached.then_some(End::Detached)
                        }
                    },
                };
                if let Some(end) = end {
                    return Ok(end);
                }
            }
        }
    }

    /// Waits until there is something to do; does not wait when the process has ended.
    fn ready_of(
        &self,
        session: &ExecSession,
        streams: &Streams,
        reading: bool,
        ended: bool,
    ) -> Result<Vec<Role>, Failure> {
        let input = stdin();
        let mut polled = Vec::new();
        // Looked at in this order and served in the reverse one: a change of the terminal's size before what is
        // typed after it.
        if reading {
            polled.push((Role::Input, (input.as_fd(), PollFlags::IN)));
        }
        if let Some(signals) = self.signals {
            polled.push((Role::Signals, (signals.as_fd(), PollFlags::IN)));
        }
        streams.poll(&mut polled);
        if !ended {
            polled.push((Role::Process, (session.pidfd.as_fd(), PollFlags::IN)));
        }
        let (roles, fds): (Vec<Role>, Vec<_>) = polled.into_iter().unzip();
        // Everything that the process wrote is in the pipes by the time that it has ended.
        let ready = if ended { now(&fds)? } else { wait(&fds)? };
        Ok(roles
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|(role, _)| role)
            .collect())
    }
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
        let io = |e: std::io::Error| Failure::Io("cannot use the terminal".into(), e);
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

    /// Whether input should be read: there is somebody to give it to, who has taken what there was.
    fn wants_input(&self) -> bool {
        self.sink.is_some() && self.unsent.is_empty()
    }

    /// Adds the process's fds to what is polled.
    fn poll<'s>(&'s self, polled: &mut Vec<(Role, (BorrowedFd<'s>, PollFlags))>) {
        if let (Some(sink), false) = (&self.sink, self.unsent.is_empty()) {
            polled.push((Role::Sink, (sink.as_fd(), PollFlags::OUT)));
        }
        for (position, (source, _)) in self.sources.iter().enumerate() {
            polled.push((Role::Source(position), (source.as_fd(), PollFlags::IN)));
        }
    }

    /// Takes input on its way to the process; an empty one is its end.
    fn input(&mut self, bytes: &[u8], is_last: bool) -> Result<(), Failure> {
        self.unsent.extend_from_slice(bytes);
        // A terminal's other direction stays open; a pipe's reader is told of the end.
        self.closing = is_last && !self.is_terminal;
        self.flush()
    }

    /// Carries what one source has; a source at its end is dropped.
    fn carry(&mut self, position: usize) -> Result<(), Failure> {
        let (source, to) = &self.sources[position];
        match take(source.as_fd())? {
            Some(bytes) if bytes.is_empty() => {
                self.sources.remove(position);
            }
            Some(bytes) => match to {
                To::Stdout => put(stdout().lock(), &bytes)?,
                To::Stderr => put(stderr().lock(), &bytes)?,
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
