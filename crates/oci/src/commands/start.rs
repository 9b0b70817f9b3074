//! `start`: the program of a created container.

use super::*;

pub(super) const COMMAND: Command = Command {
    name: "start",
    usage: "<container-id>",
    about: "execute the program of a created container",
    details: "Returns when the program is executed and the poststart hooks have run.",
    flags: &[],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let container = call.globals.home.open(id(call))?;
    warn_all(&container.start()?);
    Ok(0)
}
