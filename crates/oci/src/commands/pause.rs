//! `pause` and `resume`: all processes of a container stand still, and go on.

use super::*;

pub(super) const PAUSE: Command = Command {
    name: "pause",
    usage: "<container-id>",
    about: "suspend all processes inside the container",
    details: "They keep what they hold, and go on with `resume`.",
    flags: &[],
    order: Order::Mixed,
    words: (1, 1),
    run: |call| {
        call.globals.home.open(id(call))?.pause()?;
        Ok(0)
    },
};

pub(super) const RESUME: Command = Command {
    name: "resume",
    usage: "<container-id>",
    about: "resume all processes that have been paused",
    details: "",
    flags: &[],
    order: Order::Mixed,
    words: (1, 1),
    run: |call| {
        call.globals.home.open(id(call))?.resume()?;
        Ok(0)
    },
};
