//! `diff`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::output;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `diff`.
pub const VERB: Verb = Verb {
    name: "diff",
    long: &["container diff"],
    about: "Inspect changes to files or directories on a container's filesystem",
    usage: "CONTAINER",
    examples: "",
    arguments: (1, 1),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let changes = context
        .engine()?
        .containers()
        .diff(&flags.args[0])
        .map_err(failed)?;
    let lines: String = changes
        .iter()
        .map(|change| {
            let letter = match change.kind {
                0 => 'C',
                1 => 'A',
                _ => 'D',
            };
            format!("{letter} {}\n", change.path)
        })
        .collect();
    output::text(&lines)?;
    Ok(0)
}
