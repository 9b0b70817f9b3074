//! `exec`.

use super::lifecycle::parsed;
use super::{ANY, Verb, container};
use crate::context::Context;
use crate::create::variables;
use crate::errors::{Failure, Phase};
use crate::output;
use crate::stream::detach::Watch;
use crate::stream::pump::{End, Pump};
use crate::stream::{signals, terminal};
use barque_engine::containers::ExecSession;
use barque_types::container::ExecRequest;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container (default "ctrl-p,ctrl-q")
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    #[arg(trailing_var_arg = true, value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `exec`.
pub const VERB: Verb = Verb {
    name: "exec",
    long: &["container exec"],
    about: "Execute a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    examples: "barque exec web ps -ef\nbarque exec -it web sh",
    arguments: (2, ANY),
    flags: Flags::augment_args,
    run,
    common: true,
};

fn request(context: &Context, flags: &Flags, command: &[String]) -> Result<ExecRequest, Failure> {
    Ok(ExecRequest {
        command: command.to_vec(),
        env: context.with_surroundings(|around| variables(&flags.env, &flags.env_file, around))?,
        user: flags.user.clone().filter(|text| !text.is_empty()),
        workdir: flags.workdir.clone().filter(|text| !text.is_empty()),
        tty: flags.tty,
        interactive: flags.interactive && !flags.detach,
        detach: flags.detach,
        privileged: flags.privileged,
        console_size: if flags.tty { terminal::size() } else { None },
    })
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let (name, command) = flags.args.split_first().expect("counted before");
    let watch = container::watch(
        flags.detach_keys.as_deref(),
        context.globals.detach_keys.as_deref(),
    )?;
    let request = request(context, &flags, command)?;
    container::check_tty(request.interactive, request.tty)?;
    let engine = context.engine()?;
    let session = engine
        .containers()
        .exec(name, &request)
        .map_err(|e| Failure::Engine(Phase::Exec, e))?;
    output::warn(&session.warnings);
    if flags.detach {
        return Ok(0);
    }
    foreground(session, &request, watch)
}

/// Carries bytes until the process ends; its exit code.
fn foreground(
    mut session: ExecSession,
    request: &ExecRequest,
    watch: Watch,
) -> Result<u8, Failure> {
    // Without a terminal a signal ends us, and with us the pipes: as with docker exec, it is not handed on.
    let signals = if request.tty {
        Some(signals::take()?)
    } else {
        None
    };
    let raw = if request.tty && request.interactive {
        container::raw_mode()?
    } else {
        None
    };
    let pump = Pump {
        stdin: request.interactive,
        tty: request.tty,
        watch,
        signals: signals.as_ref(),
        forward: None,
        asked_to_end: 0,
    };
    let end = pump.exec(&mut session);
    drop(raw);
    match end? {
        End::Exited(code) => Ok(container::exit_code(code)),
        End::Detached => {
            output::complain("read escape sequence\n");
            Ok(0)
        }
        End::Signalled(number) => Err(container::died_of(number)),
        End::Lost | End::Insisted => Err(Failure::Said(1)),
    }
}
