//! `ps`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::create::integer;
use crate::errors::Failure;
use crate::{format, output};
use barque_engine::containers::ListOptions;
use barque_types::time::Timestamp;
use clap::{ArgMatches, Args};

/// The help of `--format` in lists.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template";

#[derive(Debug, Args)]
struct Flags {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(short = 'n', long, value_name = "int")]
    last: Option<String>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// `ps`.
pub const VERB: Verb = Verb {
    name: "ps",
    long: &["container ls", "container list", "container ps"],
    about: "List containers",
    usage: "[OPTIONS]",
    examples: "\
barque ps -a
barque ps -q --filter status=exited
barque ps --format 'table {{.Names}}\\t{{.Status}}'",
    arguments: (0, 0),
    flags: Flags::augment_args,
    run,
    common: true,
};

fn limit(flags: &Flags) -> Result<Option<usize>, Failure> {
    let last = flags
        .last
        .as_deref()
        .map(|text| integer::<i64>("-n, --last", text))
        .transpose()?;
    Ok(
        match last
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count > 0)
        {
            None if flags.latest => Some(1),
            other => other,
        },
    )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let asked_in_format = flags
        .format
        .as_deref()
        .is_some_and(|format| format.contains(".Size"));
    let options = ListOptions {
        all: flags.all,
        limit: limit(&flags)?,
        size: flags.size || asked_in_format,
        filters: format::filters("-f, --filter", &flags.filter)?,
    };
    let listed = context
        .engine()?
        .containers()
        .list(&options)
        .map_err(failed)?;
    let now = Timestamp::now().unix_secs();
    let rows = listed
        .containers
        .iter()
        .map(|container| format::containers::row(container, flags.no_trunc, now))
        .collect();
    let listing = format::containers::listing(flags.size);
    output::text(&format::list(
        &listing,
        flags.format.as_deref(),
        flags.quiet,
        rows,
    )?)?;
    Ok(output::unreadable(&listed.unreadable))
}
