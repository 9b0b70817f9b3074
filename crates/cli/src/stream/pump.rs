//! The loop that carries bytes between the user and a container until it ends; see [`super::exec`] for its sibling.
//!
//! One thread, one poll(2): the engine forks, so there are no threads here. stdin is not read while bytes wait to be
//! sent, and output is read always, so that neither side can wait for the other for ever.

use super::detach::Watch;
use super::io::{put, readable, take, wait};
use super::signals::{self, Taken};
use super::terminal;
use crate::errors::{Failure, Phase};
use barque_engine::containers::{AttachEvent, Attachment};
use barque_sys::signal::SignalFd;
use rustix::event::PollFlags;
use rustix::process::Signal;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};

/// How a pump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// The user typed the detach keys.
    Detached,
    /// This signal came, which is not handed on: the caller dies of it.
    Signalled(i32),
    /// The user asked to end three times, in vain: the client goes, the container stays.
    Insisted,
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
    /// How many SIGINT and SIGTERM were handed on.
    pub asked_to_end: u8,
}

/// As Docker's client: a PID 1 without a handler never hears SIGINT, and nobody shall need a second terminal
/// to get rid of it.
const PATIENCE: u8 = 3;

impl Pump<'_> {
    /// Between the user and an attached container.
    pub fn container(mut self, attachment: &mut Attachment) -> Result<End, Failure> {
        let mut reading = self.stdin;
        loop {
            let unsent = attachment.has_unsent();
            let ready = self.ready(attachment, reading && !unsent)?;
            if ready.attached && unsent {
                attachment.flush().map_err(engine)?;
            }
            if ready.attached
                && readable(attachment.fd())
                && let Some(end) = deliver(attachment)?
            {
                return Ok(end);
            }
            if ready.signalled
                && let Some(end) = self.signal(|rows, cols| drop(attachment.resize(rows, cols)))
            {
                return Ok(end);
            }
            if ready.typed
                && let Some(bytes) = take(stdin().as_fd())?
            {
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

    /// Waits until there is something to do.
    fn ready(&self, attachment: &Attachment, reading: bool) -> Result<Ready, Failure> {
        let input = stdin();
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, attachment.has_unsent());
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> = vec![(attachment.fd(), events)];
        // poll(2) looks at them in this order: what is typed after a change of the terminal's size finds the signal of
        // that change there, and the signal is served first.
        if reading {
            fds.push((input.as_fd(), PollFlags::IN));
        }
        fds.extend(self.signals.map(|signals| (signals.as_fd(), PollFlags::IN)));
        let ready = wait(&fds)?;
        Ok(Ready {
            attached: ready[0],
            typed: reading && ready[1],
            signalled: self.signals.is_some() && ready[ready.len() - 1],
        })
    }

    /// What of the input goes on, and whether the detach keys were typed. Only a terminal has keys: in a file the same
    /// bytes are data.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.tty {
            self.watch.feed(bytes)
        } else {
            (bytes.to_vec(), false)
        }
    }

    /// Does what a signal to us means; some end the pump.
    pub(super) fn signal(&mut self, resize: impl FnOnce(u16, u16)) -> Option<End> {
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
                    if [Signal::INT.as_raw(), Signal::TERM.as_raw()].contains(&number) {
                        self.asked_to_end += 1;
                    }
                    (self.asked_to_end >= PATIENCE).then_some(End::Insisted)
                }
                None => Some(End::Signalled(number)),
            },
        }
    }
}

/// What poll(2) found.
struct Ready {
    attached: bool,
    signalled: bool,
    typed: bool,
}

fn engine(error: barque_engine::Error) -> Failure {
    Failure::Engine(Phase::Other, error)
}

/// Hands the container's next event to the user; some end the pump.
fn deliver(attachment: &mut Attachment) -> Result<Option<End>, Failure> {
    match attachment.next_event().map_err(engine)? {
        Some(AttachEvent::Stdout(bytes)) => put(stdout().lock(), &bytes)?,
        Some(AttachEvent::Stderr(bytes)) => put(stderr().lock(), &bytes)?,
        Some(AttachEvent::Exited(code)) => return Ok(Some(End::Exited(code))),
        None => return Ok(Some(End::Lost)),
    }
    Ok(None)
}
