//! `wait`.

use super::lifecycle::parsed;
use super::{ANY, Verb};
use crate::context::{Context, failed, for_each};
use crate::errors::Failure;
use crate::output;
use barque_engine::containers::WaitCondition;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `wait`.
pub const VERB: Verb = Verb {
    name: "wait",
    long: &["container wait"],
    about: "Block until one or more containers stop, then print their exit codes",
    usage: "CONTAINER [CONTAINER...]",
    examples: "",
    arguments: (1, ANY),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        let code = engine
            .containers()
            .wait(name, WaitCondition::NotRunning)
            .map_err(failed)?;
        output::line(&code.to_string())
    })
}
