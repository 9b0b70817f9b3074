//! `rmi`.

use super::lifecycle::parsed;
use super::{ANY, Verb};
use crate::context::{Context, failed, for_each};
use crate::errors::Failure;
use crate::output;
use barque_engine::Kind;
use barque_engine::images::RemoveEvent;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (images have none here)
    #[arg(long)]
    no_prune: bool,
    #[arg(value_name = "IMAGE")]
    args: Vec<String>,
}

/// `rmi`.
pub const VERB: Verb = Verb {
    name: "rmi",
    long: &["image rm", "image remove"],
    about: "Remove one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    examples: "barque rmi busybox\nbarque rmi $(barque images -q --filter dangling=true)",
    arguments: (1, ANY),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        let removed = match engine.images().remove(name, flags.force) {
            Err(e) if flags.force && e.kind() == Kind::NoSuchImage => {
                output::complain(&format!("barque: {e}\n"));
                return Ok(());
            }
            other => other.map_err(failed)?,
        };
        let lines: String = removed
            .events
            .iter()
            .map(|event| match event {
                RemoveEvent::Untagged(name) => format!("Untagged: {name}\n"),
                RemoveEvent::Deleted(digest) => format!("Deleted: {digest}\n"),
            })
            .collect();
        output::text(&lines)
    })
}
