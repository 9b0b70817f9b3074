//! The OCI runtime's command line, compatible with runc's to the flag: `barque oci …`, and the same binary under the
//! name `barque-oci` or `runc`.
//!
//! Containers that callers make here are theirs: they have a root directory of their own ([`globals`]), and the engine
//! never sees them. What the commands do is in `barque_runtime::lifecycle`; here is how they are asked and answered:
//! [`args`] parses as Go's flag packages do, [`log`] writes what callers read, and each command has a file.

mod args;
mod commands;
mod console;
mod failure;
mod forward;
mod globals;
mod log;
mod output;
mod pattern;
mod processes;
mod stats;
mod units;

use commands::{COMMANDS, Call, Command};
use failure::{Failure, While};
use globals::Globals;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

/// The names under which the binary is the OCI runtime alone.
const NAMES: [&str; 2] = ["barque-oci", "runc"];

/// The commands that execute a program of a container.
const SHIELDED: [&str; 4] = ["create", "run", "exec", "restore"];

/// Whether these words (the first is the program's name) ask for the OCI runtime, and if so, the rest of them.
pub fn asked(words: &[OsString]) -> Option<&[OsString]> {
    let (program, rest) = words.split_first()?;
    let name = std::path::Path::new(program)
        .file_name()
        .and_then(OsStr::to_str);
    if name.is_some_and(|name| NAMES.contains(&name)) {
        return Some(rest);
    }
    match rest.split_first() {
        Some((first, rest)) if first == "oci" => Some(rest),
        _ => None,
    }
}

/// Runs the command line; the code to exit with. The caller has to be single-threaded.
pub fn run(words: &[OsString]) -> u8 {
    match dispatch(words) {
        Ok(code) => code,
        Err(failure) => {
            log::error(&failure.message);
            failure.code
        }
    }
}

fn dispatch(words: &[OsString]) -> Result<u8, Failure> {
    let words = args::texts(words)?;
    let parsed = args::parse(&globals::FLAGS, &words, args::Order::FlagsFirst)?;
    if parsed.has("version") {
        return output::text(&commands::version());
    }
    let mut rest = parsed.positionals().to_vec();
    let wants_help = parsed.has("help");
    let name = if rest.is_empty() {
        String::from("help")
    } else {
        rest.remove(0)
    };
    if name == "help" || name == "h" || wants_help {
        return match rest.first().and_then(|name| find(name)) {
            Some(command) => output::text(&command.help()),
            None => output::text(&commands::help()),
        };
    }
    // Before anything is opened or claimed: this executes us once more.
    let shielded = match SHIELDED.contains(&name.as_str()) {
        true => shield(),
        false => Ok(()),
    };
    let globals = Globals::resolve(&parsed, &environment)?;
    let command =
        find(&name).map(|command| (command, args::parse(command.flags, &rest, command.order)));
    // Before anything is opened: a descriptor of ours must not take a number that the caller left free.
    let listen_fds = environment("LISTEN_FDS");
    let inherited = match &command {
        Some((command, Ok(parsed))) if command.takes_fds() => {
            let listening = listen_fds.as_deref().filter(|_| command.name != "exec");
            inherited(commands::preserved(parsed, listening)?)?
        }
        _ => Vec::new(),
    };
    log::open(&globals.log)?;
    if let Err(why) = shielded {
        log::warn(&format!(
            "the runtime's binary is not protected from containers: {why}"
        ));
    }
    let Some((command, parsed)) = command else {
        return Err(Failure::usage(format!(
            "no such command {name:?}; see `--help` for the commands that there are"
        )));
    };
    let parsed = parsed?;
    if parsed.has("help") {
        return output::text(&command.help());
    }
    command.check_count(parsed.positionals().len())?;
    (command.run)(&Call {
        globals: &globals,
        args: &parsed,
        inherited: &inherited,
    })
}

/// Sees to it that no container that we make can reach our binary. Other users than root cannot, and need not: their
/// containers have no more rights over it than they have.
fn shield() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let c_string = |word: OsString| CString::new(word.into_vec()).map_err(|e| e.to_string());
    let args = std::env::args_os()
        .map(c_string)
        .collect::<Result<_, _>>()?;
    let env = std::env::vars_os()
        .map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            c_string(variable)
        })
        .collect::<Result<_, _>>()?;
    barque_runtime::shield::shield(args, env).map_err(|e| e.to_string())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn inherited(count: usize) -> Result<Vec<OwnedFd>, Failure> {
    barque_sys::process::inherited_fds(count).while_(|| {
        format!(
            "--preserve-fds {count}: the descriptors from 3 to {} have to be open",
            count + 2
        )
    })
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_name_or_the_first_word_decides() {
        assert_eq!(
            asked(&words("/usr/bin/runc list -q")),
            Some(&words("list -q")[..])
        );
        assert_eq!(asked(&words("barque-oci")), Some(&[][..]));
        assert_eq!(
            asked(&words("barque oci state x")),
            Some(&words("state x")[..])
        );
        assert_eq!(asked(&words("barque run oci")), None);
        assert_eq!(asked(&[]), None);
    }
}
