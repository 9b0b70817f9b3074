//! Waiting for something to become true, with a deadline instead of a hopeful sleep.

use std::time::{Duration, Instant};

/// How long [`eventually`] waits. Generous: it is only reached when the test fails, and a loaded
/// machine with two cores can be slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks every few milliseconds until `look` returns something; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, look) {
        Some(value) => value,
        None => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// [`eventually`] for a condition.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}

/// Looks until `look` returns something or `patience` is over.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
