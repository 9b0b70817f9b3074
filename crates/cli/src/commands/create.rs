//! `create`.

use super::lifecycle::parsed;
use super::{ANY, Verb, container};
use crate::context::Context;
use crate::create::flags::ContainerFlags;
use crate::create::resolve;
use crate::errors::Failure;
use crate::output;
use barque_engine::containers::Purpose;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    #[command(flatten)]
    container: ContainerFlags,
    #[arg(trailing_var_arg = true, value_name = "IMAGE")]
    args: Vec<String>,
}

/// `create`.
pub const VERB: Verb = Verb {
    name: "create",
    long: &["container create"],
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    examples: "barque create --name web -m 64m busybox httpd -f\nbarque start web",
    arguments: (0, ANY),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    if flags.container.rootfs.is_none() && flags.args.is_empty() {
        return super::at_least_one(&VERB, &context.path);
    }
    let request = context
        .with_surroundings(|around| resolve(&flags.container, &flags.args, false, around))?;
    let engine = context.engine()?;
    let created = container::create(&engine, &request, &flags.container, Purpose::Keep)?;
    output::line(created.id.as_str())?;
    Ok(0)
}
