//! `images`.

use super::Verb;
use super::lifecycle::parsed;
use super::ps::FORMAT_HELP;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::{format, output};
use barque_types::time::Timestamp;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Show all images (there are no intermediate images to hide)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    args: Vec<String>,
}

/// `images`.
pub const VERB: Verb = Verb {
    name: "images",
    long: &["image ls", "image list"],
    about: "List images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    examples: "barque images\nbarque images --filter dangling=true -q\nbarque images 'debian*'",
    arguments: (0, 1),
    flags: Flags::augment_args,
    run,
    common: true,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let mut filters = format::filters("-f, --filter", &flags.filter)?;
    filters.extend(
        flags
            .args
            .iter()
            .map(|name| ("reference".to_owned(), name.clone())),
    );
    let listed = context.engine()?.images().list(&filters).map_err(failed)?;
    let now = Timestamp::now().unix_secs();
    let rows = listed
        .images
        .iter()
        .flat_map(|image| format::images::rows(image, flags.no_trunc, now))
        .collect();
    let listing = format::images::listing(flags.digests);
    output::text(&format::list(
        &listing,
        flags.format.as_deref(),
        flags.quiet,
        rows,
    )?)?;
    Ok(output::unreadable(&listed.unreadable))
}
