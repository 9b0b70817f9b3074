//! `ps`: the processes of a container, as the host sees them.

use super::*;
use crate::output;
use crate::processes::{Host, Process, layout, table};

pub(super) const COMMAND: Command = Command {
    name: "ps",
    usage: "<container-id> [ps options]",
    about: "display the processes running inside a container",
    details: "After the id, options of ps(1) choose the columns: -ef (the default), aux, or -o with a list of
columns. Which processes are shown is decided by the container alone. Times are UTC.",
    flags: &[value(
        "format",
        "f",
        "FORMAT",
        "'table' (default), or 'json' for the process ids alone",
    )],
    order: Order::FlagsFirst,
    words: (1, usize::MAX),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let pids = call.globals.home.open(id(call))?.pids()?;
    match call.args.last("format") {
        None | Some("table") => {}
        Some("json") => return output::json(&pids, false),
        Some(other) => {
            return Err(Failure::usage(format!(
                "invalid format {other:?}: 'table' and 'json' are known"
            )));
        }
    }
    let options = call.args.positionals().get(1..).unwrap_or_default();
    let columns = layout(options).map_err(Failure::usage)?;
    // One that ends meanwhile is not shown.
    let processes: Vec<Process> = pids.into_iter().filter_map(Process::look).collect();
    output::text(&table(&columns, &processes, &Host::look()))
}
