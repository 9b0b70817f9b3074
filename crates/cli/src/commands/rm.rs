//! `rm`.

use super::lifecycle::parsed;
use super::{ANY, Verb};
use crate::context::{Context, failed, for_each_at_once};
use crate::errors::Failure;
use barque_engine::Kind;
use barque_engine::containers::RemoveOptions;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container (there are none in this version)
    #[arg(short, long)]
    volumes: bool,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `rm`.
pub const VERB: Verb = Verb {
    name: "rm",
    long: &["container rm", "container remove"],
    about: "Remove one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: "barque rm web\nbarque rm -f $(barque ps -aq)",
    arguments: (1, ANY),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let engine = context.engine()?;
    let options = RemoveOptions { force: flags.force };
    for_each_at_once(context, &flags.args, |name| {
        match engine.containers().remove(name, options) {
            // As with rm(1), -f is content with what is gone already. Docker tells it, and exits with 0.
            Err(e) if flags.force && e.kind() == Kind::NoSuchContainer => {
                crate::output::complain(&format!("barque: {e}\n"));
                Ok(false)
            }
            other => other.map(|()| true).map_err(failed),
        }
    })
}
