//! The container's stdio: pipes or a terminal, and the pumps between them, the log and the clients.

use super::{Monitor, Phase, READ_SIZE};
use crate::log::Stream;
use crate::protocol::put_output;
use crate::supervised::{Config, ContainerIo, Supervised};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Stdin bytes held for a container that does not read; beyond it, clients wait.
const STDIN_LIMIT: usize = 64 * 1024;

/// More than a pipe holds (/proc/sys/fs/pipe-max-size is 1 MiB).
const MAX_PIPE: usize = 2 * 1024 * 1024;

/// Our ends.
#[derive(Default)]
pub(super) struct ContainerStreams {
    stdin: Option<OwnedFd>,
    /// stdout and stderr; both empty with a terminal.
    outputs: [Option<OwnedFd>; 2],
    console: Option<OwnedFd>,
    /// Whether the console has hung up.
    console_ended: bool,
    /// The terminal's other side, held while PID 1 lives: a terminal that nobody has open reports a
    /// hang-up for ever, although PID 1 may open it again (/dev/console).
    peer: Option<OwnedFd>,
    /// Bytes on their way to stdin or the console.
    pending: Vec<u8>,
    /// Close stdin when `pending` is through.
    close_stdin: bool,
    size: Option<(u16, u16)>,
}

/// The index that stands for the console among the outputs.
const CONSOLE: usize = 2;

impl ContainerStreams {
    /// Our ends and the container's.
    pub(super) fn make(
        config: &Config,
        size: Option<(u16, u16)>,
    ) -> Result<(Self, ContainerIo), Errno> {
        let mut ours = Self {
            size,
            ..Self::default()
        };
        if config.tty {
            return Ok((ours, ContainerIo::Terminal { size }));
        }
        let stdin = if config.open_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            set_nonblocking(write.as_fd())?;
            ours.stdin = Some(write);
            read
        } else {
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?
        };
        let mut output = |index: usize| -> Result<OwnedFd, Errno> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            set_nonblocking(read.as_fd())?;
            ours.outputs[index] = Some(read);
            Ok(write)
        };
        let (stdout, stderr) = (output(0)?, output(1)?);
        let io = ContainerIo::Fds {
            stdin,
            stdout,
            stderr,
        };
        Ok((ours, io))
    }

    /// The terminal that the engine made.
    pub(super) fn set_console(&mut self, console: OwnedFd) {
        // Failing either leaves a terminal that works, of another size or with a pump that may wait.
        let _ = set_nonblocking(console.as_fd());
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        self.peer = ioctl_tiocgptpeer(&console, flags).ok();
        self.console = Some(console);
        if let Some((rows, cols)) = self.size {
            self.resize(rows, cols);
        }
    }

    /// PID 1 has ended: what comes now is the rest.
    pub(super) fn init_ended(&mut self) {
        self.peer = None;
    }

    /// Tells the terminal its size; the kernel sends SIGWINCH to its foreground processes.
    pub(super) fn resize(&mut self, rows: u16, cols: u16) {
        self.size = Some((rows, cols));
        if let Some(console) = &self.console {
            let size = Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = tcsetwinsize(console, size);
        }
    }

    /// What can be read from, with the index for [`Monitor::pump_output`].
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &OwnedFd)> {
        let console = self.console.as_ref().filter(|_| !self.console_ended);
        let pipes = self.outputs.iter().enumerate();
        pipes
            .filter_map(|(index, fd)| Some((index, fd.as_ref()?)))
            .chain(console.map(|fd| (CONSOLE, fd)))
    }

    /// Whether all output has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.outputs().next().is_none()
    }

    /// Whether clients should wait with more stdin.
    pub(super) fn stdin_is_full(&self) -> bool {
        self.pending.len() >= STDIN_LIMIT
    }

    /// The fd that pending stdin waits for.
    pub(super) fn stdin_waiting(&self) -> Option<&OwnedFd> {
        self.stdin_fd().filter(|_| !self.pending.is_empty())
    }

    fn stdin_fd(&self) -> Option<&OwnedFd> {
        match &self.console {
            Some(console) => Some(console).filter(|_| !self.console_ended),
            None => self.stdin.as_ref(),
        }
    }

    /// Bytes from a client. Without stdin they go nowhere.
    pub(super) fn push_stdin(&mut self, bytes: &[u8]) {
        if self.stdin_fd().is_some() && !self.close_stdin {
            self.pending.extend_from_slice(bytes);
            self.flush_stdin();
        }
    }

    /// No more stdin, once what is pending is through. A terminal has no end of input.
    pub(super) fn end_stdin(&mut self) {
        if self.console.is_none() {
            self.close_stdin = true;
            self.flush_stdin();
        }
    }

    fn flush_stdin(&mut self) {
        while !self.pending.is_empty() {
            let Some(fd) = self.stdin_fd() else {
                self.pending = Vec::new();
                break;
            };
            match retry_on_intr(|| rustix::io::write(fd, &self.pending)) {
                Ok(n) => {
                    self.pending.drain(..n);
                }
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // The container closed its stdin (EPIPE): nobody will ever read.
                    self.pending = Vec::new();
                    self.stdin = None;
                }
            }
        }
        self.pending = Vec::new();
        if self.close_stdin {
            self.stdin = None;
        }
    }

    fn close_output(&mut self, index: usize) {
        match self.outputs.get_mut(index) {
            Some(output) => *output = None,
            None => self.console_ended = true,
        }
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}

impl<S: Supervised> Monitor<S> {
    /// Moves one read's worth from the container to the log and the attached clients.
    /// Returns whether there may be more at once.
    pub(super) fn pump_output_once(&mut self, index: usize) -> bool {
        let Phase::Running(run) = &mut self.phase else {
            return false;
        };
        let Some((_, fd)) = run.streams.outputs().find(|(i, _)| *i == index) else {
            return false;
        };
        let n = match retry_on_intr(|| rustix::io::read(fd, &mut *self.buffer)) {
            Ok(n) if n > 0 => n,
            Err(Errno::AGAIN) => return false,
            // 0: all writers have closed the pipe. EIO: all have closed the terminal.
            _ => {
                run.streams.close_output(index);
                return false;
            }
        };
        let bytes = &self.buffer[..n];
        let stream = if index == 1 {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        if let Some(log) = &mut self.log {
            log.write(stream, bytes);
        }
        for client in &mut self.clients {
            if client.wants(stream) {
                client.output(|out| put_output(out, stream == Stream::Stderr, bytes));
            }
        }
        true
    }

    pub(super) fn pump_output(&mut self, index: usize) {
        self.pump_output_once(index);
    }

    /// Reads what was in the pipes when PID 1 ended, whether or not a client holds output back. Bounded,
    /// because with a shared pid namespace another process may go on writing for ever.
    pub(super) fn drain_outputs(&mut self) {
        for index in 0..=CONSOLE {
            for _ in 0..MAX_PIPE / READ_SIZE {
                if !self.pump_output_once(index) {
                    break;
                }
            }
        }
    }

    pub(super) fn pump_stdin(&mut self) {
        if let Phase::Running(run) = &mut self.phase {
            run.streams.flush_stdin();
        }
    }

    /// Docker's `StdinOnce`: stdin ends with the first client that ends its own or goes away.
    pub(super) fn apply_stdin_once(&mut self) {
        let ended = self
            .clients
            .iter_mut()
            .filter_map(|c| c.take_stdin_ended().then_some(()))
            .count()
            > 0;
        if ended
            && self.config.stdin_once
            && let Phase::Running(run) = &mut self.phase
        {
            run.streams.end_stdin();
        }
    }

    pub(super) fn resize(&mut self, rows: u16, cols: u16) {
        self.size = Some((rows, cols));
        if let Phase::Running(run) = &mut self.phase {
            run.streams.resize(rows, cols);
        }
    }

    pub(super) fn push_stdin(&mut self, bytes: &[u8]) {
        if let Phase::Running(run) = &mut self.phase {
            run.streams.push_stdin(bytes);
        }
    }
}
