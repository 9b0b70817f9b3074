//! Start, end, restart and stop: the container's life, one step per function.

use super::io::ContainerStreams;
use super::restart::should_restart;
use super::stop::{can_hear, read_state};
use super::{DRAIN, KILL_PATIENCE, Monitor, Phase, Run, Stopping};
use crate::protocol::{Answer, ExitStatus, Status, WaitCondition};
use crate::supervised::{Ended, Finish, Restart, StartError, StartRequest, Supervised};
use barque_sys::signal::pidfd_send;
use barque_types::time::Timestamp;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

impl<S: Supervised> Monitor<S> {
    /// The start that the spawning caller waits for.
    pub(super) fn first_start(&mut self) {
        let answer = match self.start() {
            Ok(warnings) => {
                let Phase::Running(run) = &self.phase else {
                    return;
                };
                Answer::Started {
                    pid: run.pid,
                    warnings,
                }
            }
            Err(error) => {
                // The caller may try again at once.
                self.socket = None;
                Answer::StartFailed(error)
            }
        };
        for client in &mut self.clients {
            client.answer(&answer);
        }
    }

    fn start(&mut self) -> Result<Vec<String>, StartError> {
        let (streams, io) =
            ContainerStreams::make(&self.config, self.size).map_err(|e| StartError {
                message: format!("cannot make the stdio of container {}: {e}", self.config.id),
                exit_code: 125,
            })?;
        let started = self.supervised.start(StartRequest {
            io,
            restart_count: self.restarts,
        })?;
        let mut streams = streams;
        if let Some(console) = started.console {
            streams.set_console(console);
        }
        self.phase = Phase::Running(Run {
            pid: started.pid,
            pidfd: started.pidfd,
            streams,
            started: Instant::now(),
            started_at: Timestamp::now(),
            ended: None,
            drain_until: None,
        });
        Ok(started.warnings)
    }

    /// The pause is over.
    pub(super) fn start_again(&mut self) {
        if let Err(error) = self.start() {
            self.finish(&Finish::RestartFailed(error));
        }
    }

    /// The pidfd is readable: PID 1 has ended, and we are its parent.
    pub(super) fn reap(&mut self) {
        let Phase::Running(run) = &mut self.phase else {
            return;
        };
        let waited = retry_on_intr(|| {
            waitid(
                WaitId::PidFd(run.pidfd.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            )
        });
        let exit = match waited {
            Ok(None) => return,
            Ok(Some(status)) => match status.terminating_signal() {
                Some(signal) => ExitStatus {
                    code: 128 + signal,
                    signal: Some(signal),
                },
                None => ExitStatus {
                    code: status.exit_status().unwrap_or(255),
                    signal: None,
                },
            },
            // Not our child after all: that it ended is known, how is not.
            Err(_) => ExitStatus {
                code: 255,
                signal: None,
            },
        };
        run.ended = Some((exit, Timestamp::now()));
        run.drain_until = Some(Instant::now() + DRAIN);
        run.streams.init_ended();
        self.stopping = Stopping::default();
        self.supervised.init_ended();
        self.drain_outputs();
    }

    /// PID 1 was reaped and its output is in the log: record, tell, and decide what comes next.
    pub(super) fn end_run(&mut self) {
        let placeholder = Phase::Lingering {
            since: Instant::now(),
        };
        let Phase::Running(run) = std::mem::replace(&mut self.phase, placeholder) else {
            return;
        };
        let Some((exit, ended_at)) = run.ended else {
            return;
        };
        if let Some(log) = &mut self.log {
            log.end_of_streams();
        }
        let total = self.config.restart_count + self.restarts;
        let again = should_restart(self.policy, exit.code, self.stop_requested, total);
        let restart = again.then(|| Restart {
            after: self.backoff.next(run.started.elapsed()),
            count: total + 1,
        });
        self.last_exit = exit;
        self.supervised.ended(&Ended {
            exit,
            started_at: run.started_at,
            ended_at,
            stop_requested: self.stop_requested,
            restart,
        });
        drop(run);
        let Some(restart) = restart else {
            return self.finish(&Finish::Ended);
        };
        self.restarts += 1;
        for client in &mut self.clients {
            client.run_ended(exit);
        }
        self.phase = Phase::Backoff(Instant::now() + restart.after);
    }

    /// A client wants the container to end.
    pub(super) fn stop(&mut self, signal: i32, timeout: Option<Duration>) {
        self.stop_requested = true;
        match &self.phase {
            Phase::Backoff(_) => self.finish(&Finish::RestartCancelled),
            Phase::Running(run) if run.ended.is_none() => {
                let in_vain = signal == SIGKILL
                    || timeout == Some(Duration::ZERO)
                    || read_state(run.pid).is_ok_and(|state| !can_hear(state, signal));
                if in_vain {
                    return self.kill_now();
                }
                // ESRCH: it has just ended, and the pidfd says so in the next turn.
                let _ = pidfd_send(run.pidfd.as_fd(), signal);
                // Of several stops the most impatient one counts.
                let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
                let earlier = self.stopping.kill_at;
                self.stopping.kill_at = deadline.into_iter().chain(earlier).min();
            }
            _ => {}
        }
    }

    pub(super) fn kill_now(&mut self) {
        self.stopping.kill_at = None;
        if let Phase::Running(run) = &self.phase
            && run.ended.is_none()
        {
            let _ = pidfd_send(run.pidfd.as_fd(), SIGKILL);
            self.stopping.give_up_at = Some(Instant::now() + KILL_PATIENCE);
        }
    }

    pub(super) fn give_up_stopping(&mut self) {
        self.stopping.give_up_at = None;
        let id = &self.config.id;
        let message = format!(
            "container {id} did not end within {} s of SIGKILL: it is frozen, or waits in the kernel for a device",
            KILL_PATIENCE.as_secs()
        );
        for client in &mut self.clients {
            client.stop_failed(&message);
        }
    }

    /// A client wants a signal sent.
    pub(super) fn kill(&mut self, signal: i32) -> Answer {
        let id = &self.config.id;
        let not_running = || Answer::Error(format!("container {id} is not running"));
        let Phase::Running(run) = &self.phase else {
            return not_running();
        };
        if run.ended.is_some() {
            return not_running();
        }
        if signal == SIGKILL || signal == self.config.stop_signal {
            self.stop_requested = true;
        }
        match pidfd_send(run.pidfd.as_fd(), signal) {
            Ok(()) => Answer::Ok,
            Err(Errno::SRCH) => not_running(),
            Err(e) => Answer::Error(format!(
                "cannot send signal {signal} to container {id}: {e}"
            )),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            pid: match &self.phase {
                Phase::Running(run) if run.ended.is_none() => Some(run.pid),
                _ => None,
            },
            restarting: matches!(self.phase, Phase::Backoff(_)),
            restart_count: self.config.restart_count + self.restarts,
            stop_requested: self.stop_requested,
            attached: self.clients.iter().filter(|c| c.is_attached()).count() as u32,
            log_entries_lost: self
                .log
                .as_ref()
                .map_or(0, crate::log::Writer::entries_lost),
        }
    }

    /// Whether a new waiter has its answer already.
    pub(super) fn is_over_for(&self, condition: WaitCondition) -> bool {
        match condition {
            WaitCondition::NextExit => false,
            WaitCondition::NotRunning => matches!(self.phase, Phase::Lingering { .. }),
        }
    }
}
