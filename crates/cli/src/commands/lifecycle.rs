//! `stop`, `restart`, `kill`, `pause`, `unpause`: one verb for many containers, each name printed when done.

use super::{ANY, Verb};
use crate::context::{Context, failed, for_each, for_each_at_once};
use crate::create::integer;
use crate::errors::Failure;
use crate::output;
use barque_engine::containers::StopOptions;
use clap::{ArgMatches, Args, FromArgMatches};

#[derive(Debug, Args)]
struct StopFlags {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container (-1: for ever)
    #[arg(short, long, visible_alias = "time", value_name = "int")]
    timeout: Option<String>,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct KillFlags {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct Names {
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `stop`.
pub const STOP: Verb = Verb {
    name: "stop",
    long: &["container stop"],
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: "barque stop web\nbarque stop -t 30 db\nbarque stop $(barque ps -q)",
    arguments: (1, ANY),
    flags: StopFlags::augment_args,
    run: stop,
    common: false,
};

/// `restart`.
pub const RESTART: Verb = Verb {
    name: "restart",
    long: &["container restart"],
    about: "Restart one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: "",
    arguments: (1, ANY),
    flags: StopFlags::augment_args,
    run: restart,
    common: false,
};

/// `kill`.
pub const KILL: Verb = Verb {
    name: "kill",
    long: &["container kill"],
    about: "Kill one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: "barque kill web\nbarque kill -s HUP web",
    arguments: (1, ANY),
    flags: KillFlags::augment_args,
    run: kill,
    common: false,
};

/// `pause`.
pub const PAUSE: Verb = Verb {
    name: "pause",
    long: &["container pause"],
    about: "Pause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    examples: "",
    arguments: (1, ANY),
    flags: Names::augment_args,
    run: pause,
    common: false,
};

/// `unpause`.
pub const UNPAUSE: Verb = Verb {
    name: "unpause",
    long: &["container unpause"],
    about: "Unpause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    examples: "",
    arguments: (1, ANY),
    flags: Names::augment_args,
    run: unpause,
    common: false,
};

fn stop_options(flags: &StopFlags) -> Result<StopOptions, Failure> {
    Ok(StopOptions {
        signal: flags.signal.clone().filter(|text| !text.is_empty()),
        timeout: flags
            .timeout
            .as_deref()
            .map(|text| integer("-t, --timeout", text))
            .transpose()?,
    })
}

fn stop(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<StopFlags>(matches)?;
    let options = stop_options(&flags)?;
    let engine = context.engine()?;
    for_each_at_once(context, &flags.args, |name| {
        engine
            .containers()
            .stop(name, &options)
            .map(|()| true)
            .map_err(failed)
    })
}

/// One by one: a start forks, and then there must be no threads.
fn restart(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<StopFlags>(matches)?;
    let options = stop_options(&flags)?;
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        engine
            .containers()
            .restart(name, &options)
            .map_err(failed)?;
        output::line(name)
    })
}

fn kill(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<KillFlags>(matches)?;
    let signal = flags
        .signal
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or("KILL");
    if barque_types::signal::parse(signal).is_none() {
        return Err(Failure::Refused(format!("invalid signal: {signal}")));
    }
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        engine.containers().kill(name, signal).map_err(failed)?;
        output::line(name)
    })
}

fn pause(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Names>(matches)?;
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        engine.containers().pause(name).map_err(failed)?;
        output::line(name)
    })
}

fn unpause(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Names>(matches)?;
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        engine.containers().unpause(name).map_err(failed)?;
        output::line(name)
    })
}

/// The typed form of what clap matched.
pub fn parsed<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, Failure> {
    T::from_arg_matches(matches).map_err(|e| Failure::Flag(e.to_string().trim().to_owned()))
}
