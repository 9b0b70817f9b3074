//! `kill`: a signal to the container's first process.

use super::*;
use crate::args::switch;

pub(super) const COMMAND: Command = Command {
    name: "kill",
    usage: "<container-id> [signal]",
    about: "send a signal (default: SIGTERM) to the container's first process",
    details: "A signal is a name (TERM, SIGTERM, RTMIN+3) or a number. SIGKILL reaches a paused container too, and ends
every process of one that has no pid namespace of its own.",
    flags: &[switch(
        "all",
        "a",
        "send the signal to all processes of the container, also of a stopped one",
    )],
    order: Order::Mixed,
    words: (1, 2),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let text = call
        .args
        .positionals()
        .get(1)
        .map_or("SIGTERM", String::as_str);
    let Some(signal) = barque_types::signal::parse(text) else {
        return Err(Failure::usage(format!("{text:?} is not a signal")));
    };
    call.globals
        .home
        .open(id(call))?
        .kill(signal, call.args.has("all"))?;
    Ok(0)
}
