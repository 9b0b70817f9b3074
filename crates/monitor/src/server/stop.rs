//! Whether a process can hear a signal, so that a stop need not wait in vain.
//!
//! The kernel throws a signal away at the moment it is sent (`sig_ignored()` in kernel/signal.c) when the
//! main thread does not block it and its disposition is to ignore it — and for the init of a pid
//! namespace the *default* disposition counts as "ignore" too (`SIGNAL_UNKILLABLE`, pid_namespaces(7)).
//! A signal that is thrown away will never be seen, however long one waits: SIGKILL may follow at once.
//! A blocked signal is kept: programs that use signalfd(2) or sigwait(3) block theirs and do hear them.

use std::io;

/// What /proc/PID/status says about a process and its signals; bit n-1 of a mask is signal n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalState {
    /// `SigBlk` of the main thread, the one that the kernel asks.
    pub blocked: u64,
    /// `SigIgn`.
    pub ignored: u64,
    /// `SigCgt`: those with a handler.
    pub caught: u64,
    /// Whether it is PID 1 of its own pid namespace (the last field of `NSpid`).
    pub is_init: bool,
    /// Whether a tracer sees its signals first.
    pub traced: bool,
}

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

/// Signals whose default is to do nothing: CHLD, CONT (when not stopped), URG, WINCH.
const IGNORED_BY_DEFAULT: [i32; 4] = [17, 18, 23, 28];

/// Whether the signal, sent from outside the process's pid namespace, will have any effect.
pub fn can_hear(state: SignalState, signal: i32) -> bool {
    if signal == SIGKILL || signal == SIGSTOP || state.traced {
        return true;
    }
    let bit = 1u64 << (signal - 1);
    if (state.blocked | state.caught) & bit != 0 {
        return true;
    }
    let by_default = state.is_init || IGNORED_BY_DEFAULT.contains(&signal);
    state.ignored & bit == 0 && !by_default
}

/// Reads a process's signal state. Its pidfd must still be held unreaped, so that the pid is its own.
pub(crate) fn read_state(pid: i32) -> io::Result<SignalState> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_state(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_state(status: &str) -> Option<SignalState> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let mask = |name| u64::from_str_radix(field(name)?, 16).ok();
    Some(SignalState {
        blocked: mask("SigBlk")?,
        ignored: mask("SigIgn")?,
        caught: mask("SigCgt")?,
        is_init: field("NSpid")?.split_whitespace().next_back() == Some("1"),
        traced: field("TracerPid")? != "0",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = 15;
    const TERM_BIT: u64 = 1 << 14;

    #[test]
    fn who_hears_what() {
        let plain = SignalState::default();
        let init = SignalState {
            is_init: true,
            ..plain
        };
        for (what, state, signal, want) in [
            ("ordinary process, default action", plain, TERM, true),
            (
                "ordinary process that ignores",
                SignalState {
                    ignored: TERM_BIT,
                    ..plain
                },
                TERM,
                false,
            ),
            ("ordinary process, ignored by default", plain, 28, false),
            ("init without handler", init, TERM, false),
            (
                "init with handler",
                SignalState {
                    caught: TERM_BIT,
                    ..init
                },
                TERM,
                true,
            ),
            (
                "init with another handler",
                SignalState {
                    caught: TERM_BIT,
                    ..init
                },
                3,
                false,
            ),
            (
                "init with signalfd",
                SignalState {
                    blocked: TERM_BIT,
                    ..init
                },
                TERM,
                true,
            ),
            (
                "blocked and ignored is kept",
                SignalState {
                    blocked: TERM_BIT,
                    ignored: TERM_BIT,
                    ..init
                },
                TERM,
                true,
            ),
            (
                "init that ignores",
                SignalState {
                    ignored: TERM_BIT,
                    ..init
                },
                TERM,
                false,
            ),
            (
                "init under a tracer",
                SignalState {
                    traced: true,
                    ..init
                },
                TERM,
                true,
            ),
            (
                "init with a real-time handler",
                SignalState {
                    caught: 1 << 36,
                    ..init
                },
                37,
                true,
            ),
            ("init, last signal", init, 64, false),
            ("kill and stop reach even init", init, SIGKILL, true),
            ("kill and stop reach even init", init, SIGSTOP, true),
        ] {
            assert_eq!(can_hear(state, signal), want, "{what}");
        }
    }

    #[test]
    fn status_files() {
        let text = "Name:\ta\nTracerPid:\t0\nNSpid:\t4711\t1\nSigPnd:\t0000000000000000\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004000\n";
        let want = SignalState {
            blocked: 1,
            ignored: 1 << 12,
            caught: TERM_BIT,
            is_init: true,
            traced: false,
        };
        assert_eq!(parse_state(text), Some(want));
        assert_eq!(parse_state("Name:\tx\n"), None);
        let me = read_state(std::process::id() as i32).unwrap();
        assert!(me.ignored & (1 << 12) != 0, "Rust programs ignore SIGPIPE");
    }
}
