//! `run`: create and start, and in the foreground wait and delete.

use super::create::make;
use super::*;
use crate::args::switch;
use crate::forward;

pub(super) const COMMAND: Command = Command {
    name: "run",
    usage: "<container-id>",
    about: "create and run a container",
    details: "In the foreground, signals are passed on to the container, its exit code is the one of this command, and it is
deleted afterwards. With --detach, the command ends when the container runs.",
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
    let signals = match detached {
        true => None,
        false => Some(forward::Signals::block()?),
    };
    if let Some(master) = &console {
        console::resize(master);
    }
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
    let Some(signals) = &signals else {
        return Ok(0);
    };
    let code = match &console {
        Some(master) => console::serve(master, &pidfd, signals),
        None => forward::wait(&pidfd, signals),
    }?;
    if !call.args.has("keep") {
        warn_all(&container.delete(true)?);
    }
    Ok(code)
}
