//! `run`: create, start, be in the foreground.

use super::lifecycle::parsed;
use super::{ANY, Verb, container};
use crate::context::Context;
use crate::create::flags::ContainerFlags;
use crate::create::resolve;
use crate::errors::{Failure, Phase};
use crate::output;
use crate::stream::{signals, terminal};
use barque_engine::Engine;
use barque_engine::containers::{AttachOptions, Created, Purpose, RemoveOptions, StartOptions};
use barque_types::container::CreateContainer;
use clap::{ArgAction, ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Proxy received signals to the process, when it has no terminal (default true)
    #[arg(long, action = ArgAction::SetTrue)]
    sig_proxy: bool,
    /// Override the key sequence for detaching a container (default "ctrl-p,ctrl-q")
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    #[command(flatten)]
    container: ContainerFlags,
    #[arg(trailing_var_arg = true, value_name = "IMAGE")]
    args: Vec<String>,
}

/// `run`.
pub const VERB: Verb = Verb {
    name: "run",
    long: &["container run"],
    about: "Create and run a new container from an image",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    examples: "\
barque run --rm busybox echo hello              # run a command and remove the container
barque run -it --rm debian bash                 # a shell; detach with ctrl-p ctrl-q
barque run -d --name web -m 64m busybox httpd -f    # in the background, with at most 64 MB
barque run --rm --rootfs / cat /etc/os-release  # no image: the host's own files, copy-on-write
barque run --rm --userns auto busybox id        # root inside, an ordinary user outside",
    arguments: (0, ANY),
    flags: |command| {
        Flags::augment_args(command).mut_arg("sig_proxy", crate::usage::parse::on_by_default)
    },
    run,
    common: true,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    if flags.container.rootfs.is_none() && flags.args.is_empty() {
        return super::at_least_one(&VERB, &context.path);
    }
    let request = context
        .with_surroundings(|around| resolve(&flags.container, &flags.args, flags.detach, around))?;
    let watch = container::watch(
        flags.detach_keys.as_deref(),
        context.globals.detach_keys.as_deref(),
    )?;
    if !flags.detach {
        container::check_tty(request.attach.stdin, request.tty)?;
    }
    let engine = context.engine()?;
    let mut created = container::create(&engine, &request, &flags.container, Purpose::Run)?;
    // Blocked from here on: a signal that comes during the start waits, and reaches the container.
    let signals = if flags.detach {
        None
    } else {
        Some(signals::take()?)
    };
    let started = engine
        .containers()
        .start(created.id.as_str(), &start_options(&flags, &request));
    let started = started.map_err(|e| {
        discard(&engine, &request, &created);
        Failure::Engine(Phase::Start, e)
    })?;
    created.unstarted = None;
    let id = created.id.as_str();
    output::warn(&started.warnings);
    match started.attachment {
        None => {
            output::line(id)?;
            Ok(0)
        }
        Some(attachment) => container::Foreground {
            engine: &engine,
            name: id,
            stdin: request.attach.stdin,
            tty: request.tty,
            sig_proxy: flags.sig_proxy,
            watch,
            signals: signals.as_ref(),
        }
        .run(attachment),
    }
}

fn start_options(flags: &Flags, request: &CreateContainer) -> StartOptions {
    let attach = request.attach;
    StartOptions {
        attach: (!flags.detach).then_some(AttachOptions {
            stdin: attach.stdin,
            stdout: attach.stdout,
            stderr: attach.stderr,
        }),
        console_size: if request.tty { terminal::size() } else { None },
        checkpoint: None,
    }
}

/// A container of `--rm` that could not be started goes as it would have gone after its end.
fn discard(engine: &Engine, request: &CreateContainer, created: &Created) {
    if request.auto_remove {
        // When the engine has removed it already, or cannot, the failure to start is what matters.
        drop(
            engine
                .containers()
                .remove(created.id.as_str(), RemoveOptions { force: true }),
        );
    }
}
