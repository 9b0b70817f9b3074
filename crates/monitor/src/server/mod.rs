//! The monitor process: one loop over poll(2) that owns a container from its start to its end.
//!
//! ```text
//!            ┌────────── restart policy ─ Backoff{until} ◄─┐
//!            ▼                                             │
//!  start ─→ Running ── pidfd readable, reaped ─→ Draining ─┴─→ finish ─→ Lingering ─→ exit
//! ```
//! What the loop waits for is computed anew from the state each time round; nothing is registered, so
//! nothing can be registered wrongly. Times of waiting are deadlines, the earliest of which bounds the
//! poll.

mod clients;
mod io;
mod lifecycle;
pub(crate) mod restart;
mod socket;
pub use socket::is_served;
pub(crate) mod stop;

pub(crate) use clients::Connection;
pub(crate) use socket::{ControlSocket, connect};

use crate::log;
use crate::supervised::{Config, Finish, Supervised};
use barque_types::restart::RestartPolicy;
use io::ContainerStreams;
use restart::Backoff;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::protocol::ExitStatus;
use barque_types::time::Timestamp;

/// Bytes taken from a pipe at once: half of what a pipe holds, so the container seldom waits for us.
const READ_SIZE: usize = 32 * 1024;

/// How long the output of a dead container is awaited: another process may hold its pipes open.
const DRAIN: Duration = Duration::from_secs(1);

/// After SIGKILL, when a `stop` gives up and says so.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// After so long without events the monitor gives back the memory that it will not need while it waits.
const QUIET: Duration = Duration::from_secs(1);

/// How long a client that may be dropped gets to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);

/// A container's PID 1 with its stdio.
struct Run {
    pid: i32,
    pidfd: OwnedFd,
    streams: ContainerStreams,
    started: Instant,
    started_at: Timestamp,
    /// Set when PID 1 was reaped.
    ended: Option<(ExitStatus, Timestamp)>,
    /// When its output is awaited no longer.
    drain_until: Option<Instant>,
}

/// A stop under way.
#[derive(Default)]
struct Stopping {
    /// When SIGKILL is sent; `None`: never, or it has been.
    kill_at: Option<Instant>,
    /// When those who wait are told that even SIGKILL did not help.
    give_up_at: Option<Instant>,
}

/// Where the container is in its life.
enum Phase {
    /// PID 1 runs, or its output is being drained.
    Running(Run),
    /// It will be started again.
    Backoff(Instant),
    /// It will not; clients still get what is theirs.
    Lingering { since: Instant },
}

/// The monitor's whole state.
pub(crate) struct Monitor<S> {
    config: Config,
    supervised: S,
    socket: Option<ControlSocket>,
    clients: Vec<Connection>,
    phase: Phase,
    policy: RestartPolicy,
    backoff: Backoff,
    /// Restarts by this monitor.
    restarts: u32,
    stop_requested: bool,
    stopping: Stopping,
    last_exit: ExitStatus,
    log: Option<log::Writer>,
    size: Option<(u16, u16)>,
    buffer: Box<[u8]>,
    /// When memory is given back; `None`: it has been.
    tidy_at: Option<Instant>,
}

/// What a poll entry stands for.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Pidfd,
    Output(usize),
    Stdin,
    Client(usize),
}

impl<S: Supervised> Monitor<S> {
    /// Starts the container and supervises it to its end. `spawner` is the connection of the caller,
    /// which gets `Started` or `StartFailed` first.
    pub(crate) fn run(config: Config, supervised: S, socket: ControlSocket, spawner: Connection) {
        let mut monitor = Self {
            policy: config.restart,
            log: config.log.clone().map(log::Writer::new),
            size: config.console_size,
            config,
            supervised,
            socket: Some(socket),
            clients: vec![spawner],
            phase: Phase::Lingering {
                since: Instant::now(),
            },
            backoff: Backoff::default(),
            restarts: 0,
            stop_requested: false,
            stopping: Stopping::default(),
            last_exit: ExitStatus {
                code: 0,
                signal: None,
            },
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            tidy_at: None,
        };
        monitor.first_start();
        monitor.tidy_at = Some(Instant::now() + QUIET);
        // After the caller has its answer, for this is not on the path of a start.
        monitor.flush_clients();
        let id = monitor.config.id.get(..12).unwrap_or(&monitor.config.id);
        let _ = barque_sys::daemon::set_title(&format!("barque-monitor {id}"));
        while !monitor.is_done() {
            monitor.turn();
        }
    }

    /// One turn of the loop: wait, then handle what is ready.
    fn turn(&mut self) {
        let ready = self.wait();
        self.tidy_at = (!ready.is_empty()).then(|| Instant::now() + QUIET);
        for (source, flags) in ready {
            match source {
                Source::Output(index) => self.pump_output(index),
                Source::Stdin => self.pump_stdin(),
                Source::Client(index) => self.serve(index, flags),
                Source::Listener => self.accept(),
                Source::Pidfd => self.reap(),
            }
        }
        self.check_deadlines();
        self.flush_clients();
        self.apply_stdin_once();
        self.clients.retain(|client| !client.is_gone());
    }

    /// Everything of interest that is ready, in the order in which it should be handled.
    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.clients.len() + 5);
        let mut sources = Vec::with_capacity(fds.capacity());
        let mut stdin_full = false;
        if let Phase::Running(run) = &self.phase {
            stdin_full = run.streams.stdin_is_full();
            if !self.clients.iter().any(Connection::holds_back) {
                for (index, fd) in run.streams.outputs() {
                    fds.push(PollFd::new(fd, PollFlags::IN));
                    sources.push(Source::Output(index));
                }
            }
            if let Some(fd) = run.streams.stdin_waiting() {
                fds.push(PollFd::new(fd, PollFlags::OUT));
                sources.push(Source::Stdin);
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let flags = client.interest(stdin_full);
            if let Some(flags) = flags {
                fds.push(PollFd::new(client, flags));
                sources.push(Source::Client(index));
            }
        }
        if let Some(socket) = &self.socket {
            fds.push(PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
            sources.push(Source::Listener);
        }
        if let Phase::Running(run) = &self.phase
            && run.ended.is_none()
        {
            fds.push(PollFd::new(&run.pidfd, PollFlags::IN));
            sources.push(Source::Pidfd);
        }
        let deadline = self.next_deadline();
        let first = deadline.into_iter().chain(self.tidy_at).min();
        let mut polled = poll(&mut fds, first.map(timespec_until).as_ref());
        if polled == Ok(0) && deadline.is_none_or(|deadline| deadline > Instant::now()) {
            // Just before the wait that may last for days: what is touched after this counts as ours.
            barque_sys::memory::release_unused();
            polled = poll(&mut fds, deadline.map(timespec_until).as_ref());
        }
        // EINTR is a turn without events. Anything else (ENOMEM) is no reason to give the container up.
        if polled.is_err() {
            return Vec::new();
        }
        let events = fds.iter().map(PollFd::revents);
        sources
            .into_iter()
            .zip(events)
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Running(run) => run.drain_until,
            Phase::Backoff(until) => Some(*until),
            Phase::Lingering { since } => Some(*since + LINGER).filter(|_| {
                self.clients
                    .iter()
                    .any(|c| c.has_output() && !c.must_be_waited_for())
            }),
        };
        [phase, self.stopping.kill_at, self.stopping.give_up_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|d| d <= now);
        if passed(self.stopping.kill_at) {
            self.kill_now();
        }
        if passed(self.stopping.give_up_at) {
            self.give_up_stopping();
        }
        match &self.phase {
            Phase::Running(run)
                if run.ended.is_some() && (passed(run.drain_until) || run.streams.is_drained()) =>
            {
                self.end_run();
            }
            Phase::Backoff(until) if *until <= now => self.start_again(),
            Phase::Lingering { since } if *since + LINGER <= now => {
                self.clients.retain(Connection::must_be_waited_for);
            }
            _ => {}
        }
    }

    /// Whether nobody needs this process any more.
    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
            && !self.clients.iter().any(Connection::has_output)
    }

    fn flush_clients(&mut self) {
        self.clients.iter_mut().for_each(Connection::flush);
    }

    /// Leaves: the engine cleans up, the socket goes, and then everybody hears of it.
    fn finish(&mut self, finish: &Finish) {
        self.supervised.finished(finish);
        // Whoever is told may start the container anew at once, so socket and lock go first.
        self.socket = None;
        self.log = None;
        for client in &mut self.clients {
            client.container_finished(self.last_exit, finish);
        }
        self.stopping = Stopping::default();
        self.phase = Phase::Lingering {
            since: Instant::now(),
        };
    }
}

/// The time until `deadline`, rounded up, for poll.
fn timespec_until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs() as _,
        tv_nsec: left.subsec_nanos() as _,
    }
}
