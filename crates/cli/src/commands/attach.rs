//! `attach`.

use super::lifecycle::parsed;
use super::{Verb, container};
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::stream::signals;
use barque_engine::containers::AttachOptions;
use clap::{ArgAction, ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Override the key sequence for detaching a container (default "ctrl-p,ctrl-q")
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process, when it has no terminal (default true)
    #[arg(long, action = ArgAction::SetTrue)]
    sig_proxy: bool,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `attach`.
pub const VERB: Verb = Verb {
    name: "attach",
    long: &["container attach"],
    about: "Attach local standard input, output, and error streams to a running container",
    usage: "[OPTIONS] CONTAINER",
    examples: "",
    arguments: (1, 1),
    flags: |command| {
        Flags::augment_args(command).mut_arg("sig_proxy", crate::usage::parse::on_by_default)
    },
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let watch = container::watch(
        flags.detach_keys.as_deref(),
        context.globals.detach_keys.as_deref(),
    )?;
    let name = &flags.args[0];
    let engine = context.engine()?;
    let config = engine
        .containers()
        .inspect(name, false)
        .map_err(failed)?
        .config;
    let stdin = !flags.no_stdin && config.open_stdin;
    container::check_tty(stdin, config.tty)?;
    let signals = signals::take()?;
    let options = AttachOptions {
        stdin,
        stdout: true,
        stderr: true,
    };
    let attachment = engine.containers().attach(name, &options).map_err(failed)?;
    container::Foreground {
        engine: &engine,
        name,
        stdin,
        tty: config.tty,
        sig_proxy: flags.sig_proxy,
        watch,
        signals: Some(&signals),
    }
    .run(attachment)
}
