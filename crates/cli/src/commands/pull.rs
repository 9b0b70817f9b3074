//! `pull`, and the progress that `run` shows, too.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::Context;
use crate::errors::{Failure, Phase};
use crate::output;
use barque_engine::Engine;
use barque_engine::images::{PullOptions, Pulled};
use barque_types::platform::Platform;
use barque_types::reference::{InvalidReference, Reference};
use clap::{ArgAction, ArgMatches, Args};

pub use crate::progress::Progress;

#[derive(Debug, Args)]
struct Flags {
    /// Set platform if the image has several (os[/arch[/variant]])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Download all tagged images in the repository (not in this version)
    #[arg(short, long, hide = true)]
    all_tags: bool,
    /// Skip image verification by Notary: there is none
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    disable_content_trust: bool,
    #[arg(value_name = "NAME")]
    args: Vec<String>,
}

/// `pull`.
pub const VERB: Verb = Verb {
    name: "pull",
    long: &["image pull"],
    about: "Download an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    examples: "\
barque pull debian:trixie
barque pull --platform linux/arm64 busybox
barque --insecure-registry registry.lan:5000 pull registry.lan:5000/app",
    arguments: (1, 1),
    flags: |command| {
        Flags::augment_args(command)
            .mut_arg("disable_content_trust", crate::usage::parse::on_by_default)
    },
    run,
    common: true,
};

/// A reference as typed, with `latest` where nothing is said.
pub fn reference(text: &str) -> Result<Reference, InvalidReference> {
    Reference::parse(text).map(Reference::or_latest)
}

/// Pulls, and says what Docker says around it.
pub fn pull(
    engine: &Engine,
    reference: &Reference,
    platform: Option<Platform>,
    progress: Progress,
    phase: Phase,
) -> Result<Pulled, Failure> {
    let options = PullOptions {
        platform,
        ..PullOptions::default()
    };
    let pulled = engine
        .images()
        .pull(reference, &options, &|event| progress.tell(&event));
    progress.finish();
    let pulled = pulled.map_err(|e| Failure::Engine(phase, e))?;
    let verdict = if pulled.newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    progress.say(&format!(
        "Digest: {}\nStatus: {verdict} for {}\n",
        pulled.digest,
        reference.familiar()
    ))?;
    Ok(pulled)
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    if flags.all_tags {
        return Err(Failure::Absent(
            "pull --all-tags is not in this version: pull the tags one by one".into(),
        ));
    }
    if !flags.disable_content_trust {
        return Err(Failure::Absent(
            "--disable-content-trust=false: content trust is not in this version; pull by digest, which is verified"
                .into(),
        ));
    }
    let platform = flags
        .platform
        .as_deref()
        .map(|text| {
            text.parse()
                .map_err(|e| Failure::value("--platform", text, e))
        })
        .transpose()?;
    let typed = Reference::parse(&flags.args[0]).map_err(|e| Failure::Refused(e.to_string()))?;
    let reference = typed.clone().or_latest();
    let engine = context.engine()?;
    if typed.is_name_only() && !flags.quiet {
        output::line("Using default tag: latest")?;
    }
    pull(
        &engine,
        &reference,
        platform,
        Progress::for_pull(flags.quiet),
        Phase::Other,
    )?;
    output::line(&reference.to_string())?;
    Ok(0)
}
