//! The signals that a foreground `run`, `start -a`, `attach` and `exec` take instead of dying from them.

use crate::errors::Failure;
use barque_sys::signal::{self, SignalFd};
use rustix::process::Signal;

/// What is done with a signal to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The terminal has another size.
    Resized,
    /// This one, to be handed on to the container or to be died of.
    Signal(i32),
}

/// Those that ask a process to do something. Not among them: SIGCHLD and SIGPIPE, which concern us alone; those of
/// job control, so that Ctrl-Z stops the client as it stops any program; and faults.
const ASKING: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
];

/// Takes the signals from here on. One that comes before the container runs stays pending and reaches it then.
pub fn take() -> Result<SignalFd, Failure> {
    let asking = ASKING
        .into_iter()
        .map(Signal::as_raw)
        .chain(signal::real_time());
    SignalFd::new(asking.chain([Signal::WINCH.as_raw()]))
        .map_err(|errno| Failure::Io("cannot take signals".to_owned(), errno.into()))
}

/// The next one that came, if any.
pub fn next(signals: &SignalFd) -> Option<Taken> {
    let number = signals.next().ok().flatten()?;
    Some(if number == Signal::WINCH.as_raw() {
        Taken::Resized
    } else {
        Taken::Signal(number)
    })
}
