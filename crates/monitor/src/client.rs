//! The monitor's clients: short conversations ([`Client`]) and attachments ([`Attachment`]).
//!
//! Reading takes exactly one frame at a time from the socket and never more, so an fd that poll(2) calls
//! readable has something to say, and one that it does not, has not.

use crate::error::{Context, Error, Result};
use crate::protocol::{
    Answer, AttachOptions, ExitStatus, HEADER, Malformed, Request, Status, VERSION, WaitCondition,
    parse_header, put_stdin,
};
use crate::server::connect;
use barque_types::restart::RestartPolicy;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection that frames go over.
#[derive(Debug)]
pub(crate) struct Connector {
    fd: OwnedFd,
    run_dir: PathBuf,
    /// The monitor's Hello is still to come.
    expects_hello: bool,
}

impl Connector {
    /// The connection made before the fork: it needs no greeting.
    pub(crate) fn inherited(fd: OwnedFd, run_dir: &Path) -> Self {
        Self {
            fd,
            run_dir: run_dir.to_owned(),
            expects_hello: false,
        }
    }

    pub(crate) fn into_attachment(self) -> Attachment {
        Attachment {
            connector: self,
            unsent: Vec::new(),
        }
    }

    fn not_running(&self) -> Error {
        Error::NotRunning {
            path: self.run_dir.clone(),
        }
    }

    fn send_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match retry_on_intr(|| send(&self.fd, bytes, SendFlags::NOSIGNAL)) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(self.not_running()),
                Err(e) => return Err(e).context("send to the monitor"),
            }
        }
        Ok(())
    }

    /// Fills `buffer`; false when the monitor hung up before its first byte.
    fn receive(&self, buffer: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match retry_on_intr(|| recv(&self.fd, &mut buffer[filled..], RecvFlags::empty())) {
                Ok((0, _)) if filled == 0 => return Ok(false),
                Ok((0, _)) => return Err(self.not_running()),
                Ok((n, _)) => filled += n,
                Err(Errno::CONNRESET) => return Ok(false),
                Err(e) => return Err(e).context("receive from the monitor"),
            }
        }
        Ok(true)
    }

    /// The next answer; `None` when the monitor hung up.
    pub(crate) fn read_answer(&mut self) -> Result<Option<Answer>> {
        if self.expects_hello && !self.read_hello()? {
            return Ok(None);
        }
        match self.read_frame()? {
            Some(Answer::Error(message)) => Err(Error::Refused { message }),
            answer => Ok(answer),
        }
    }

    /// Takes the monitor's greeting, after which the fd is readable for answers alone; false when the
    /// monitor hung up.
    fn read_hello(&mut self) -> Result<bool> {
        match self.read_frame()? {
            Some(Answer::Hello(version)) if (1..=VERSION).contains(&version) => {
                self.expects_hello = false;
                Ok(true)
            }
            Some(Answer::Error(message)) => Err(Error::Refused { message }),
            Some(other) => unexpected(&other),
            None => Ok(false),
        }
    }

    fn read_frame(&mut self) -> Result<Option<Answer>> {
        let mut header = [0; HEADER];
        if !self.receive(&mut header)? {
            return Ok(None);
        }
        let (kind, len) = parse_header(header).map_err(protocol)?;
        let mut body = vec![0; len];
        if !body.is_empty() && !self.receive(&mut body)? {
            return Ok(None);
        }
        Answer::decode(kind, &body).map(Some).map_err(protocol)
    }
}

fn protocol(Malformed(reason): Malformed) -> Error {
    Error::Protocol {
        peer: "the monitor",
        reason,
    }
}

fn unexpected<T>(answer: &Answer) -> Result<T> {
    Err(Error::Protocol {
        peer: "the monitor",
        reason: format!("unexpected answer {answer:?}"),
    })
}

/// A conversation with the monitor of one container.
///
/// Every call gives [`Error::NotRunning`] when the monitor is gone, also in the middle: the caller looks
/// at the container's record then.
#[derive(Debug)]
pub struct Client {
    connector: Connector,
}

impl Client {
    /// Connects to the monitor whose container has this run directory.
    pub fn connect(run_dir: &Path) -> Result<Self> {
        let connector = Connector {
            fd: connect(run_dir)?,
            run_dir: run_dir.to_owned(),
            expects_hello: true,
        };
        let client = Self { connector };
        client.send(&Request::Hello(VERSION))?;
        Ok(client)
    }

    fn send(&self, request: &Request) -> Result<()> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        self.connector.send_all(&bytes)
    }

    fn answer(&mut self) -> Result<Answer> {
        let answer = self.connector.read_answer()?;
        answer.ok_or_else(|| self.connector.not_running())
    }

    fn expect_ok(&mut self) -> Result<()> {
        match self.answer()? {
            Answer::Ok => Ok(()),
            other => unexpected(&other),
        }
    }

    /// Ends the container with `signal`, after `timeout` (`None`: never) with SIGKILL — or at once when
    /// PID 1 cannot hear the signal. Returns when it has ended and was cleaned up; disables the restart.
    pub fn stop(&mut self, signal: i32, timeout: Option<Duration>) -> Result<()> {
        self.begin_stop(signal, timeout)?;
        self.finish_stop()
    }

    /// Asks for [`Client::finish_stop`] without waiting: the monitor has seen the request before any that
    /// is sent to it later, by whomever. Poll [`Client::as_fd`] meanwhile.
    pub fn begin_stop(&mut self, signal: i32, timeout: Option<Duration>) -> Result<()> {
        self.begin(&Request::Stop { signal, timeout })
    }

    /// The answer to [`Client::begin_stop`].
    pub fn finish_stop(&mut self) -> Result<()> {
        self.expect_ok()
    }

    /// Sends a signal to PID 1.
    pub fn kill(&mut self, signal: i32) -> Result<()> {
        self.send(&Request::Kill(signal))?;
        self.expect_ok()
    }

    /// Waits for the condition.
    pub fn wait(&mut self, condition: WaitCondition) -> Result<ExitStatus> {
        self.begin_wait(condition)?;
        self.finish_wait()
    }

    /// Asks for [`Client::finish_wait`] without waiting: the monitor has seen the request before any
    /// that this process sends it later is handled. Poll [`Client::as_fd`] meanwhile.
    pub fn begin_wait(&mut self, condition: WaitCondition) -> Result<()> {
        self.begin(&Request::Wait(condition))
    }

    /// Sends a request whose answer is polled for: nothing else is to be readable then.
    fn begin(&mut self, request: &Request) -> Result<()> {
        self.send(request)?;
        match self.connector.expects_hello && !self.connector.read_hello()? {
            true => Err(self.connector.not_running()),
            false => Ok(()),
        }
    }

    /// The answer to [`Client::begin_wait`].
    pub fn finish_wait(&mut self) -> Result<ExitStatus> {
        match self.answer()? {
            Answer::Exit(exit) => Ok(exit),
            other => unexpected(&other),
        }
    }

    /// What the monitor knows.
    pub fn status(&mut self) -> Result<Status> {
        self.send(&Request::Status)?;
        match self.answer()? {
            Answer::Status(status) => Ok(status),
            other => unexpected(&other),
        }
    }

    /// Another restart policy, from the next end of PID 1 on.
    pub fn set_restart_policy(&mut self, policy: RestartPolicy) -> Result<()> {
        self.send(&Request::SetRestartPolicy(policy))?;
        self.expect_ok()
    }

    /// Tells the terminal its size.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        self.send(&Request::Resize { rows, cols })
    }

    /// Attaches to the container's streams. Output before this moment is in the log.
    pub fn attach(mut self, options: AttachOptions) -> Result<Attachment> {
        self.send(&Request::Attach(options))?;
        self.expect_ok()?;
        Ok(self.connector.into_attachment())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connector.fd.as_fd()
    }
}

/// What an attachment delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Output (with a terminal: all of it).
    Stdout(Vec<u8>),
    /// Output.
    Stderr(Vec<u8>),
    /// PID 1 ended, everything it wrote has been delivered, and the engine has recorded the end (when it
    /// is not restarted: also cleaned up).
    Exit(ExitStatus),
}

/// Attached to a container's streams. Dropping it detaches.
///
/// Sending never blocks, because a caller that blocked in sending would not read, the container would
/// block in writing, would not read its stdin, and nobody could go on. So: poll for reading always; and
/// while [`Attachment::has_unsent`], poll for writing too, call [`Attachment::flush`] when it is
/// writable, and give no more stdin meanwhile.
#[derive(Debug)]
pub struct Attachment {
    connector: Connector,
    unsent: Vec<u8>,
}

impl Attachment {
    /// The next event; blocks until there is one (poll [`AsFd`] first to avoid that). `None`: the monitor
    /// hung up, after [`Event::Exit`] as it should, or before because it was killed.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            return Ok(Some(match self.connector.read_answer()? {
                Some(Answer::Stdout(bytes)) => Event::Stdout(bytes),
                Some(Answer::Stderr(bytes)) => Event::Stderr(bytes),
                Some(Answer::Exit(exit)) => Event::Exit(exit),
                Some(Answer::Ok) => continue,
                Some(other) => return unexpected(&other),
                None => return Ok(None),
            }));
        }
    }

    /// Sends bytes to stdin, as far as that is possible without waiting; the rest is kept.
    pub fn send_stdin(&mut self, bytes: &[u8]) -> Result<()> {
        put_stdin(&mut self.unsent, bytes);
        self.flush()
    }

    /// No more stdin from here. The container sees the end of its stdin when it was made with
    /// `stdin_once` and has no terminal.
    pub fn close_stdin(&mut self) -> Result<()> {
        Request::StdinEof.encode(&mut self.unsent);
        self.flush()
    }

    /// Tells the terminal its size.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        Request::Resize { rows, cols }.encode(&mut self.unsent);
        self.flush()
    }

    /// Whether something waits for [`Attachment::flush`].
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what can be sent without waiting. To a monitor that is gone nothing can be sent, and that is
    /// no error here: [`Attachment::next_event`] still has what it said last.
    pub fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match retry_on_intr(|| send(&self.connector.fd, &self.unsent, flags)) {
                Ok(n) => {
                    self.unsent.drain(..n);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET) => self.unsent.clear(),
                Err(e) => return Err(e).context("send to the monitor"),
            }
        }
        Ok(())
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connector.fd.as_fd()
    }
}
