//! `start`.

use super::lifecycle::parsed;
use super::{ANY, Verb, checkpoint, container};
use crate::context::{Context, failed, for_each};
use crate::errors::Failure;
use crate::output;
use crate::stream::{signals, terminal};
use barque_engine::containers::{AttachOptions, StartCheckpoint, StartOptions};
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container (default "ctrl-p,ctrl-q")
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Restore from this checkpoint
    #[arg(long, value_name = "string")]
    checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `start`.
pub const VERB: Verb = Verb {
    name: "start",
    long: &["container start"],
    about: "Start one or more stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: "barque start web\nbarque start -ai shell\nbarque start --checkpoint before-lunch web",
    arguments: (1, ANY),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    if flags.attach || flags.interactive {
        return foreground(context, &flags);
    }
    let checkpoint = checkpoint(&flags)?;
    if checkpoint.is_some() && flags.args.len() > 1 {
        return Err(Failure::Refused(
            "you cannot restore multiple containers at once".into(),
        ));
    }
    let silent = checkpoint.is_some();
    let options = StartOptions {
        checkpoint,
        ..StartOptions::default()
    };
    let engine = context.engine()?;
    for_each(context, &flags.args, |name| {
        let started = engine.containers().start(name, &options).map_err(failed)?;
        output::warn(&started.warnings);
        // Docker's CLI says nothing then.
        if silent { Ok(()) } else { output::line(name) }
    })
}

/// The checkpoint that the flags name.
fn checkpoint(flags: &Flags) -> Result<Option<StartCheckpoint>, Failure> {
    let named = flags.checkpoint.clone().filter(|name| !name.is_empty());
    if named.is_none() && flags.checkpoint_dir.is_some() {
        return Err(Failure::Refused(
            "--checkpoint-dir is of use with --checkpoint only".into(),
        ));
    }
    Ok(named.map(|name| StartCheckpoint {
        name,
        dir: checkpoint::directory(flags.checkpoint_dir.as_deref()),
        criu: checkpoint::criu(&crate::globals::environment),
    }))
}

/// `start -a`, `start -i`: one container, its exit code.
fn foreground(context: &Context, flags: &Flags) -> Result<u8, Failure> {
    let watch = container::watch(
        flags.detach_keys.as_deref(),
        context.globals.detach_keys.as_deref(),
    )?;
    let [name] = &flags.args[..] else {
        return Err(Failure::Refused(
            "you cannot start and attach multiple containers at once".into(),
        ));
    };
    let engine = context.engine()?;
    let config = engine
        .containers()
        .inspect(name, false)
        .map_err(failed)?
        .config;
    let stdin = flags.interactive && config.open_stdin;
    container::check_tty(stdin, config.tty)?;
    let signals = signals::take()?;
    let options = StartOptions {
        attach: Some(AttachOptions {
            stdin,
            stdout: true,
            stderr: true,
        }),
        console_size: if config.tty { terminal::size() } else { None },
        checkpoint: checkpoint(flags)?,
    };
    let started = engine.containers().start(name, &options).map_err(failed)?;
    output::warn(&started.warnings);
    let Some(attachment) = started.attachment else {
        return Ok(0);
    };
    container::Foreground {
        engine: &engine,
        name,
        stdin,
        tty: config.tty,
        sig_proxy: true,
        watch,
        signals: Some(&signals),
    }
    .run(attachment)
}
