//! Connections: what each client asked for, and the bytes on their way to it.
//!
//! A client can do no harm: its input is bounded by the protocol's frame size, its output by
//! [`HOLD_BACK`] or [`DROP_BEYOND`], its number by [`MAX_CLIENTS`], and every error closes only its own
//! connection. Writing never blocks.

use super::{Monitor, Phase};
use crate::log::Stream;
use crate::protocol::{
    Answer, AttachOptions, Decoder, ExitStatus, Malformed, Request, SlowClient, VERSION,
    WaitCondition,
};
use crate::supervised::{Finish, Supervised};
use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Connections served at once; more are closed on arrival.
pub(super) const MAX_CLIENTS: usize = 64;

/// A client that is to be waited for stops the container's output with so many bytes outstanding.
const HOLD_BACK: usize = 64 * 1024;

/// With so many outstanding, a client that may be dropped is.
const DROP_BEYOND: usize = 1024 * 1024;

/// No client has more: [`HOLD_BACK`] and the content of two pipes when PID 1 ends.
const DROP_ANY_BEYOND: usize = 8 * DROP_BEYOND;

/// Bytes received at once.
const RECEIVE_SIZE: usize = 16 * 1024;

/// One client.
pub(crate) struct Connection {
    fd: OwnedFd,
    input: Decoder,
    out: Vec<u8>,
    /// Start of what has not been sent.
    sent: usize,
    greeted: bool,
    attach: Option<AttachOptions>,
    wait: Option<WaitCondition>,
    /// It sent a stop and waits for the answer.
    stopping: bool,
    /// Its last bytes are worth waiting for, however long it takes.
    patient: bool,
    /// It sends stdin, and has not ended it.
    gives_stdin: bool,
    stdin_ended: bool,
    /// The peer hung up while we were not reading.
    hung_up: bool,
    /// Close when everything is sent.
    closing: bool,
    gone: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Connection {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            input: Decoder::default(),
            out: Vec::new(),
            sent: 0,
            greeted: false,
            attach: None,
            wait: None,
            stopping: false,
            patient: false,
            gives_stdin: false,
            stdin_ended: false,
            hung_up: false,
            closing: false,
            gone: false,
        }
    }

    /// The connection that the spawning process inherited: attached before the first byte of output.
    pub(crate) fn spawner(fd: OwnedFd, attach: Option<AttachOptions>) -> Self {
        let mut connection = Self::new(fd);
        connection.greeted = true;
        connection.patient = true;
        if let Some(options) = attach {
            connection.attach_with(options);
        }
        connection
    }

    fn attach_with(&mut self, options: AttachOptions) {
        self.patient = options.slow == SlowClient::Wait;
        self.gives_stdin = options.stdin;
        self.attach = Some(options);
    }

    /// Tells the spawner (whose socket is empty, so this does not wait) that there will be no container.
    pub(crate) fn fail_start(&mut self, error: crate::supervised::StartError) {
        self.answer(&Answer::StartFailed(error));
        self.flush();
    }

    /// What to poll for; `None` when nothing can be done with it now.
    pub(super) fn interest(&self, stdin_full: bool) -> Option<PollFlags> {
        let mut flags = PollFlags::empty();
        if stdin_full && self.gives_stdin {
            if self.hung_up {
                return None; // poll would report it for ever
            }
        } else {
            flags |= PollFlags::IN;
        }
        if self.has_output() {
            flags |= PollFlags::OUT;
        }
        Some(flags)
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attach.is_some() && !self.gone
    }

    pub(super) fn wants(&self, stream: Stream) -> bool {
        self.attach.is_some_and(|a| match stream {
            Stream::Stdout => a.stdout,
            Stream::Stderr => a.stderr,
        })
    }

    /// Whether the container's output must wait for this client.
    pub(super) fn holds_back(&self) -> bool {
        let waited_for = self.attach.is_some_and(|a| a.slow == SlowClient::Wait);
        waited_for && !self.gone && self.outstanding() >= HOLD_BACK
    }

    fn outstanding(&self) -> usize {
        self.out.len() - self.sent
    }

    pub(super) fn has_output(&self) -> bool {
        !self.gone && self.outstanding() > 0
    }

    pub(super) fn must_be_waited_for(&self) -> bool {
        self.patient && self.has_output()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone || (self.closing && !self.has_output())
    }

    /// Queues output bytes by way of `put`.
    pub(super) fn output(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.out);
        let limit = if self.patient {
            DROP_ANY_BEYOND
        } else {
            DROP_BEYOND
        };
        self.gone |= self.outstanding() > limit;
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        self.output(|out| answer.encode(out));
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) {
        while self.has_output() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match retry_on_intr(|| send(&self.fd, &self.out[self.sent..], flags)) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => break,
                Err(_) => self.gone = true,
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.out.shrink_to(HOLD_BACK);
            self.sent = 0;
        } else if self.sent >= HOLD_BACK {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// PID 1 ended and will be restarted: attachments and next-exit waits are over.
    pub(super) fn run_ended(&mut self, exit: ExitStatus) {
        if self.attach.is_some() || self.wait == Some(WaitCondition::NextExit) {
            self.answer(&Answer::Exit(exit));
            self.attach = None;
            self.gives_stdin = false;
            self.wait = None;
        }
    }

    /// The container will not run again: everybody gets an answer, then the connection ends.
    pub(super) fn container_finished(&mut self, exit: ExitStatus, finish: &Finish) {
        if let Finish::RestartFailed(error) = finish
            && self.attach.is_some()
        {
            self.answer(&Answer::Error(format!("the restart failed: {error}")));
        }
        if self.attach.is_some() || self.wait.is_some() {
            self.answer(&Answer::Exit(exit));
        }
        if self.stopping {
            self.answer(&Answer::Ok);
        }
        (self.attach, self.wait) = (None, None);
        (self.stopping, self.gives_stdin) = (false, false);
        self.closing = true;
    }

    pub(super) fn stop_failed(&mut self, message: &str) {
        if std::mem::take(&mut self.stopping) {
            self.answer(&Answer::Error(message.to_owned()));
        }
    }

    /// Whether stdin of this client has just ended, by its own word or because it is gone.
    pub(super) fn take_stdin_ended(&mut self) -> bool {
        let ended = self.gives_stdin && (self.stdin_ended || self.gone);
        if ended {
            self.gives_stdin = false;
        }
        ended
    }

    /// Reads once and feeds the decoder. False when nothing came.
    fn receive(&mut self) -> bool {
        let mut bytes = [0; RECEIVE_SIZE];
        match retry_on_intr(|| recv(&self.fd, &mut bytes, RecvFlags::DONTWAIT)) {
            Ok((0, _)) => self.gone = true,
            Ok((n, _)) => {
                self.input.feed(&bytes[..n]);
                return true;
            }
            Err(Errno::AGAIN) => {}
            Err(_) => self.gone = true,
        }
        false
    }

    /// The next request that is complete, with the greeting handled.
    fn next_request(&mut self) -> Option<Request> {
        loop {
            match self.input.next_request() {
                Ok(Some(Request::Hello(version))) if version > 0 => {
                    self.greeted = true;
                    self.answer(&Answer::Hello(VERSION.min(version)));
                }
                Ok(Some(request)) if self.greeted => return Some(request),
                Ok(Some(_)) => return self.refuse("the first message must be Hello"),
                Ok(None) => return None,
                Err(Malformed(reason)) => return self.refuse(&reason),
            }
        }
    }

    fn refuse(&mut self, reason: &str) -> Option<Request> {
        self.answer(&Answer::Error(reason.to_owned()));
        self.closing = true;
        None
    }
}

impl<S: Supervised> Monitor<S> {
    pub(super) fn accept(&mut self) {
        while let Some(socket) = &self.socket {
            match socket.accept() {
                Ok(fd) => {
                    if self.clients.len() < MAX_CLIENTS {
                        self.clients.push(Connection::new(fd));
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PERM) => {}
                Err(_) => {
                    // No fds or memory: the connection stays in the queue and poll reports it again.
                    // A short rest, or the monitor would spin until somebody else frees some.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    /// Client `index` has sent something or hung up.
    pub(super) fn serve(&mut self, index: usize, flags: PollFlags) {
        let stdin_full = match &self.phase {
            Phase::Running(run) => run.streams.stdin_is_full(),
            _ => false,
        };
        let client = &mut self.clients[index];
        if stdin_full && client.gives_stdin {
            // Not read until there is room; what it sent before it hung up is still to be delivered.
            client.hung_up |= flags.intersects(PollFlags::HUP | PollFlags::ERR);
            return;
        }
        if client.closing || !client.receive() {
            // A client that gets its last bytes is not heard any more, but may be gone.
            client.gone |= client.closing && flags.intersects(PollFlags::HUP | PollFlags::ERR);
            return;
        }
        while !self.clients[index].closing
            && let Some(request) = self.clients[index].next_request()
        {
            self.handle(index, request);
        }
    }

    fn handle(&mut self, index: usize, request: Request) {
        match request {
            Request::Hello(_) => {}
            Request::Attach(options) => self.attach(index, options),
            Request::Stdin(bytes) => {
                if self.clients[index].gives_stdin {
                    self.push_stdin(&bytes);
                }
            }
            Request::StdinEof => self.clients[index].stdin_ended = true,
            Request::Resize { rows, cols } => self.resize(rows, cols),
            Request::Stop { signal, timeout } => {
                if !is_signal(signal) {
                    return self.clients[index].answer(&no_such_signal(signal));
                }
                if matches!(self.phase, Phase::Lingering { .. }) {
                    return self.clients[index].answer(&Answer::Ok);
                }
                self.clients[index].stopping = true;
                self.stop(signal, timeout);
            }
            Request::Kill(signal) => {
                let answer = if is_signal(signal) {
                    self.kill(signal)
                } else {
                    no_such_signal(signal)
                };
                self.clients[index].answer(&answer);
            }
            Request::Wait(condition) => {
                if self.is_over_for(condition) {
                    let exit = self.last_exit;
                    self.clients[index].answer(&Answer::Exit(exit));
                } else {
                    self.clients[index].wait = Some(condition);
                }
            }
            Request::Status => {
                let status = self.status();
                self.clients[index].answer(&Answer::Status(status));
            }
            Request::SetRestartPolicy(policy) => {
                self.policy = policy;
                self.clients[index].answer(&Answer::Ok);
            }
        }
    }

    fn attach(&mut self, index: usize, options: AttachOptions) {
        let id = &self.config.id;
        let refusal = match &self.phase {
            Phase::Running(_) => None,
            Phase::Backoff(_) => Some(format!(
                "container {id} is restarting: wait until it is running"
            )),
            Phase::Lingering { .. } => Some(format!("container {id} is not running")),
        };
        let client = &mut self.clients[index];
        match refusal {
            Some(message) => client.answer(&Answer::Error(message)),
            None => {
                client.attach_with(options);
                client.answer(&Answer::Ok);
            }
        }
    }
}

fn is_signal(number: i32) -> bool {
    (1..=64).contains(&number)
}

fn no_such_signal(number: i32) -> Answer {
    Answer::Error(format!("there is no signal {number}"))
}
