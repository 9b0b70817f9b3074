//! `tag`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    #[arg(value_name = "IMAGE")]
    args: Vec<String>,
}

/// `tag`.
pub const VERB: Verb = Verb {
    name: "tag",
    long: &["image tag"],
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    examples: "",
    arguments: (2, 2),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    context
        .engine()?
        .images()
        .tag(&flags.args[0], &flags.args[1])
        .map_err(failed)?;
    Ok(0)
}
