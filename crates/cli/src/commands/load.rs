//! `load`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::output;
use crate::stream::terminal;
use clap::{ArgMatches, Args};
use std::fs::File;
use std::io::{self, Read};

#[derive(Debug, Args)]
struct Flags {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// `load`.
pub const VERB: Verb = Verb {
    name: "load",
    long: &["image load"],
    about: "Load an image from a tar archive or STDIN",
    usage: "[OPTIONS]",
    examples: "barque load -i image.tar\nskopeo copy docker://… docker-archive:/dev/stdout | barque load",
    arguments: (0, 0),
    flags: Flags::augment_args,
    run,
    common: false,
};

/// A file, or stdin for `-` and for nothing.
pub fn open(path: Option<&str>) -> Result<Box<dyn Read>, Failure> {
    match path.filter(|path| !path.is_empty() && *path != "-") {
        None => Ok(Box::new(io::stdin().lock())),
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(Failure::Io(format!("open {path}"), e)),
        },
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    if flags.input.is_none() && terminal::stdin_is_terminal() {
        return Err(Failure::Refused(
            "requested load from stdin, but stdin is a terminal: use -i FILE".into(),
        ));
    }
    let archive = open(flags.input.as_deref())?;
    let loaded = context.engine()?.images().load(archive).map_err(failed)?;
    let mut lines = String::new();
    for image in &loaded {
        if image.names.is_empty() {
            lines.push_str(&format!("Loaded image ID: {}\n", image.image.id));
        }
        for name in &image.names {
            lines.push_str(&format!("Loaded image: {}\n", name.familiar()));
        }
    }
    output::text(&lines)?;
    Ok(0)
}
