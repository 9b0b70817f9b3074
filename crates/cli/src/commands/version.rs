//! `version`: needs no engine, and no root.

use super::Verb;
use super::inspect::FORMAT_HELP;
use super::lifecycle::parsed;
use crate::context::Context;
use crate::errors::Failure;
use crate::format::object;
use crate::output;
use barque_types::docker::Version;
use clap::{ArgMatches, Args};
use serde::Serialize;

#[derive(Debug, Args)]
struct Flags {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// `version`.
pub const VERB: Verb = Verb {
    name: "version",
    long: &[],
    about: "Show the Barque version information",
    usage: "[OPTIONS]",
    examples: "barque version -f '{{.Client.Version}}'",
    arguments: (0, 0),
    flags: Flags::augment_args,
    run,
    common: true,
};

/// Scripts ask Docker's CLI for `{{.Client.Version}}` and `{{.Server.Version}}`: here both are this program.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Both<'a> {
    client: &'a Version,
    server: &'a Version,
}

/// `barque -v`.
pub fn line() -> String {
    let version = barque_engine::version();
    format!(
        "Barque version {}, build {}",
        version.version, version.git_commit
    )
}

fn run(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let version = barque_engine::version();
    match flags.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::line(&object::formatted(
            format,
            &Both {
                client: &version,
                server: &version,
            },
        )?)?,
        None => output::text(&plain(&version))?,
    }
    Ok(0)
}

fn plain(version: &Version) -> String {
    format!(
        "\
Barque (one program: client and engine):
 Version:           {}
 Git commit:        {}
 Rust version:      {}
 OS/Arch:           {}/{}
 Kernel:            {}
",
        version.version,
        version.git_commit,
        version.rust_version,
        version.os,
        version.arch,
        version.kernel_version
    )
}
