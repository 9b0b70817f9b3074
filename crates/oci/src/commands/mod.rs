//! The commands, one file each; what several of them share stands here.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::args::{self, Flag, Order, Parsed, value};
use crate::failure::{Failure, While};
use crate::globals::{self, Globals};
use crate::{console, log};
use barque_runtime::Stdio;
use std::fmt::Write as _;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a command is called with.
pub(crate) struct Call<'a> {
    pub globals: &'a Globals,
    pub args: &'a Parsed,
    /// Descriptors from 3 on that the container's program is to get.
    pub inherited: &'a [OwnedFd],
}

/// One command.
pub(crate) struct Command {
    pub name: &'static str,
    /// What follows the name and the flags.
    pub usage: &'static str,
    pub about: &'static str,
    /// More of it, for the command's own help; may be empty.
    pub details: &'static str,
    pub flags: &'static [Flag],
    pub order: Order,
    /// At least and at most so many words.
    pub words: (usize, usize),
    pub run: fn(&Call<'_>) -> Result<u8, Failure>,
}

/// All of them, in the order of a container's life.
pub(crate) const COMMANDS: &[Command] = &[
    create::COMMAND,
    start::COMMAND,
    run::COMMAND,
    exec::COMMAND,
    kill::COMMAND,
    delete::COMMAND,
    state::COMMAND,
    list::COMMAND,
    pause::PAUSE,
    pause::RESUME,
    checkpoint::COMMAND,
    restore::COMMAND,
    ps::COMMAND,
    events::COMMAND,
    update::COMMAND,
    spec::COMMAND,
    features::COMMAND,
];

impl Command {
    pub fn check_count(&self, count: usize) -> Result<(), Failure> {
        let (least, most) = self.words;
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let wanted = if least == most {
            format!("exactly {least}")
        } else {
            format!("at least {least}")
        };
        let name = self.name;
        Err(Failure::usage(format!(
            "{name:?} requires {wanted} argument(s), {count} given; usage: {name} [options] {}",
            self.usage
        )))
    }

    /// Whether descriptors of the caller can be for the container.
    pub fn takes_fds(&self) -> bool {
        self.flags.iter().any(|flag| flag.long == PRESERVE_FDS.long)
    }

    pub fn help(&self) -> String {
        let details = match self.details {
            "" => String::new(),
            text => {
                let lines = text.lines().map(|line| match line {
                    "" => "\n".to_owned(),
                    line => format!("   {line}\n"),
                });
                format!("\nDESCRIPTION:\n{}", lines.collect::<String>())
            }
        };
        format!(
            "NAME:\n   {name} - {about}\n\nUSAGE:\n   barque oci {name} [options] {usage}\n{details}\nOPTIONS:\n{flags}",
            name = self.name,
            about = self.about,
            usage = self.usage,
            flags = args::help(self.flags)
        )
    }
}

/// The help of the whole.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "NAME:\n   barque oci - the OCI runtime: containers from bundles\n\nUSAGE:\n   barque oci [global options] COMMAND [options] [arguments...]\n\nCOMMANDS:\n",
    );
    for command in COMMANDS {
        let _ = writeln!(text, "   {:10}  {}", command.name, command.about);
    }
    let _ = write!(
        text,
        "\nGLOBAL OPTIONS:\n{}\nEXAMPLES:\n   barque oci spec                    # in a bundle: a directory with a rootfs/\n   barque oci run -b /the/bundle demo\n   barque oci list\n",
        args::help(&globals::FLAGS)
    );
    text
}

/// What `--version` prints; callers look for the line of the specification.
pub(crate) fn version() -> String {
    format!(
        "barque-oci version {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        barque_types::spec::SPEC_VERSION
    )
}

/// `--preserve-fds`, and the sockets of systemd's activation, which come before them (sd_listen_fds(3)).
pub(crate) fn preserved(args: &Parsed, listen_fds: Option<&str>) -> Result<usize, Failure> {
    let asked: usize = args.number("preserve-fds")?.unwrap_or(0);
    let listening = listen_fds
        .and_then(|n| n.parse::<usize>().ok())
        .unwrap_or(0);
    match asked.checked_add(listening) {
        Some(count) if count <= 1 << 16 => Ok(count),
        _ => Err(Failure::usage(
            "--preserve-fds: so many descriptors cannot be open",
        )),
    }
}

const BUNDLE: Flag = value(
    "bundle",
    "b",
    "DIR",
    "path to the root of the bundle directory (default: the working directory)",
);
const CONFIG: Flag = value(
    "config",
    "f",
    "FILE",
    "the configuration, instead of the bundle's config.json",
);
const CONSOLE_SOCKET: Flag = value(
    "console-socket",
    "",
    "PATH",
    "AF_UNIX socket that receives the master of the terminal",
);
const PIDFD_SOCKET: Flag = value(
    "pidfd-socket",
    "",
    "PATH",
    "AF_UNIX socket that receives a pidfd of the process",
);
const PID_FILE: Flag = value("pid-file", "", "FILE", "file to write the process id to");
const PRESERVE_FDS: Flag = value(
    "preserve-fds",
    "",
    "N",
    "pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
);
const NO_PIVOT: Flag = args::switch(
    "no-pivot",
    "",
    "do not use pivot_root; for a root on a ramdisk",
);
const NO_NEW_KEYRING: Flag = args::switch(
    "no-new-keyring",
    "",
    "do not create a new session keyring for the container",
);

/// The container's id is the first word.
fn id<'a>(call: &Call<'a>) -> &'a str {
    call.args.positionals().first().map_or("", String::as_str)
}

fn bundle(args: &Parsed) -> Result<PathBuf, Failure> {
    let given = args.last("bundle").filter(|b| !b.is_empty()).unwrap_or(".");
    Path::new(given)
        .canonicalize()
        .while_(|| format!("looking at the bundle {given}"))
}

fn own_streams<'a>(streams: &'a (std::io::Stdin, std::io::Stdout, std::io::Stderr)) -> Stdio<'a> {
    Stdio::Fds {
        stdin: streams.0.as_fd(),
        stdout: streams.1.as_fd(),
        stderr: streams.2.as_fd(),
    }
}

fn streams() -> (std::io::Stdin, std::io::Stdout, std::io::Stderr) {
    (stdin(), stdout(), stderr())
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// Whether the terminal and the socket for it go together.
fn check_console(terminal: bool, detached: bool, socket: Option<&str>) -> Result<(), Failure> {
    match (terminal, detached, socket) {
        (true, true, None) => Err(Failure::usage(
            "the process wants a terminal and nobody stays to serve it: give --console-socket",
        )),
        (false, _, Some(_)) => Err(Failure::usage(
            "--console-socket is of no use: the process wants no terminal (process.terminal, or --tty for exec)",
        )),
        _ => Ok(()),
    }
}

/// Hands over what callers have asked to be told of a new process.
fn announce(
    args: &Parsed,
    pid: i32,
    pidfd: BorrowedFd<'_>,
    console: Option<&OwnedFd>,
) -> Result<(), Failure> {
    if let (Some(socket), Some(master)) = (args.last("console-socket"), console) {
        let name = rustix::pty::ptsname(master, Vec::new());
        let name = name.ok().and_then(|name| name.into_string().ok());
        console::send(
            socket,
            master.as_fd(),
            name.as_deref().unwrap_or("/dev/ptmx"),
        )?;
    }
    if let Some(socket) = args.last("pidfd-socket") {
        console::send(socket, pidfd, "pidfd")?;
    }
    match args.last("pid-file") {
        Some(path) => write_pid(Path::new(path), pid),
        None => Ok(()),
    }
}

/// Whoever sees the file sees all of it.
fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    let what = || format!("writing the pid file {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path));
    written
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .while_(what)
}

fn warn_all(warnings: &[String]) {
    for warning in warnings {
        log::warn(warning);
    }
}
