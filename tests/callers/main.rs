//! The runtime under those who call it: containerd (`ctr run`), Docker, Podman and buildah, as Debian 12
//! and 13 ship them.
//!
//! Nothing here looks into the runtime. The callers do what their users ask of them, with `barque` in the place
//! of runc, and what their users see has to be right: output, exit codes, health, limits, terminals.

/// The same tests for the callers of both releases. `$shared` makes or finds a caller.
macro_rules! on_both_releases {
    ($shared:path: $($name:ident)*) => {
        mod debian_12 {
            $(#[test] fn $name() { crate::with($shared(crate::machine::Release::Twelve), super::$name); })*
        }
        mod debian_13 {
            $(#[test] fn $name() { crate::with($shared(crate::machine::Release::Thirteen), super::$name); })*
        }
    };
}
mod buildah;
mod containerd;
mod docker;
mod machine;
mod podman;

use barque_testkit::{Cmd, Pty};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What several tests use at once: made by the first, dropped (and then checked) with the last.
struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.upgrade().unwrap_or_else(|| {
            let made = Arc::new(make());
            *slot = Arc::downgrade(&made);
            made
        })
    }
}

/// Runs a test. When it fails, its machine is not asked to be clean at the end: that would blame another test.
fn with<T: AsRef<machine::Machine>>(shared: Arc<T>, test: impl FnOnce(&T)) {
    let _mark = T::as_ref(&shared).marked_by_failure();
    test(&shared);
}

/// Runs a command on a terminal of 24 rows and 80 columns to its end; what it wrote, and its exit code.
#[track_caller]
fn on_a_terminal(cmd: Cmd) -> (String, i32) {
    let (code, screen) = Pty::start(cmd).finish();
    (screen, code)
}

/// A program that ends when it is asked to, with exit code 4, and has a child; neither uses the CPU.
const POLITE: &str = "trap 'exit 4' TERM; echo up; sleep 1000 & wait";

/// A program that wants more memory at once than any limit here.
const HUNGRY: [&str; 5] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];
