//! `run`: create and start, and in the foreground wait and delete.

use super::create::make;
use super::*;
use crate::args::switch;
use crate::forward;

pub(super) const COMMAND: Command = Command {
    name: "run",
    usage: "<container-id>",
    about: "create and run a container",
    flags: &[
        BUNDLE,
        CONFIG,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        PRESERVE_FDS,
        NO_PIVOT,
        NO_NEW_KEYRING,
        switch("detach", "d", "detach from the container's process"),
        switch(
            "keep",
            "",
            "do not delete the container after its process has ended",
        ),
        switch(
            "no-subreaper",
            "",
            "accepted for compatibility: nothing of ours waits for orphans",
        ),
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let detached = call.args.has("detach");
    let (made, console) = make(call, detached)?;
    let pidfd = made.pidfd()?;
    let container = made.let_go()?;
    let started = container.start();
    let warnings = match started {
        Ok(warnings) => warnings,
        Err(error) => {
            // The error of the start is the one to tell.
            let _ = container.delete(true);
            return Err(error.into());
        }
    };
    warn_all(&warnings);
    if detached {
        return Ok(0);
    }
    let code = match &console {
        Some(master) => console::serve(master, &pidfd),
        None => forward::wait(&pidfd),
    }?;
    if !call.args.has("keep") {
        warn_all(&container.delete(true)?);
    }
    Ok(code)
}
