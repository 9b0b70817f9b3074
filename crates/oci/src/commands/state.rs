//! `state`: one container as JSON.

use super::*;
use crate::output;

pub(super) const COMMAND: Command = Command {
    name: "state",
    usage: "<container-id>",
    about: "output the state of a container",
    details: "The result is JSON: id, pid, status (creating, created, running, paused, stopped), bundle, rootfs, annotations.",
    flags: &[],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let view = call.globals.home.open(id(call))?.view()?;
    output::json(&view, true)
}
