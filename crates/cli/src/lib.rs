//! Docker's command line on the engine: parse, call, render.
//!
//! Only the verb that was called has its table of flags built. Nothing here starts a thread that outlives a call: the
//! engine forks.

mod commands;
mod context;
mod create;
mod errors;
mod format;
mod globals;
mod log;
mod output;
mod progress;
mod stream;
mod table;
mod template;
mod usage;

use clap::{Args, Command, FromArgMatches};
use commands::{GROUPS, Named, VERBS, Verb};
use context::Context;
use errors::Failure;
use globals::GlobalFlags;
use std::ffi::OsString;
use usage::help::{self, Style};
use usage::parse;

/// Runs the command line; the code to exit with.
pub fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = words.into_iter().skip(1).collect();
    let mut path = String::new();
    match dispatch(&words, &mut path) {
        Ok(code) => code,
        Err(failure) => {
            let report = failure.report(&path);
            output::complain(&report.text);
            report.code
        }
    }
}

/// The table of global options. Flags stop at the command.
fn global_command() -> Command {
    GlobalFlags::augment_args(Command::new("barque")).arg(
        clap::Arg::new("words")
            .num_args(0..)
            .trailing_var_arg(true)
            .value_parser(clap::value_parser!(OsString)),
    )
}

/// Finds and runs the verb; `path` becomes its name as typed.
fn dispatch(words: &[OsString], path: &mut String) -> Result<u8, Failure> {
    let wants_help = parse::wants_help(&global_command(), words);
    let no_color = globals::no_color(&globals::environment);
    if wants_help {
        return show(&main_help(Style::of_stdout(no_color)));
    }
    let mut matches = parse::parse(global_command(), words)?;
    let rest: Vec<OsString> = matches
        .remove_many("words")
        .map(Iterator::collect)
        .unwrap_or_default();
    let flags = GlobalFlags::from_arg_matches(&matches)
        .map_err(|e| Failure::Flag(e.to_string().lines().next().unwrap_or_default().to_owned()))?;
    if flags.version {
        output::line(&commands::version_line())?;
        return Ok(0);
    }
    let names: Vec<String> = rest
        .iter()
        .take(3)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let style = || Style::of_stdout(no_color);
    match names.first().map(String::as_str) {
        None => show(&main_help(style())),
        Some("help") if names.len() == 1 => show(&main_help(style())),
        Some("help") => match commands::find(&names[1..])? {
            Named::Verb(verb, path, _) => show(&verb_help(verb, &path, style())),
            Named::Group(noun, about) => show(&group_help(noun, about, style())),
        },
        Some(_) => match commands::find(&names)? {
            Named::Group(noun, about) => show(&group_help(noun, about, style())),
            Named::Verb(verb, name, taken) => {
                *path = name;
                invoke(verb, path, &rest[taken..], flags, style)
            }
        },
    }
}

fn invoke(
    verb: &Verb,
    path: &str,
    words: &[OsString],
    flags: GlobalFlags,
    style: impl FnOnce() -> Style,
) -> Result<u8, Failure> {
    let command = verb.command();
    if parse::wants_help(&command, words) {
        return show(&verb_help(verb, path, style()));
    }
    let matches = parse::parse(command, words)?;
    let count = matches
        .get_many::<String>("args")
        .map_or(0, Iterator::count);
    verb.check_count(path, count)?;
    let root = rustix::process::geteuid().is_root();
    let globals = globals::resolve(flags, root, &globals::environment, &globals::read_file)?;
    log::install(globals.log_level);
    (verb.run)(
        &Context {
            globals,
            path: path.to_owned(),
        },
        &matches,
    )
}

fn show(text: &str) -> Result<u8, Failure> {
    output::text(text).map(|()| 0)
}

/// `barque run --help`.
fn verb_help(verb: &Verb, path: &str, style: Style) -> String {
    let usage = format!("barque {path} {}", verb.usage);
    help::command(
        &parse::docker_style(verb.command()),
        usage.trim_end(),
        &verb.names(),
        verb.examples,
        style,
    )
}

/// `barque container --help`.
fn group_help(noun: &str, about: &str, style: Style) -> String {
    let prefix = format!("{noun} ");
    let mut members: Vec<(&str, &str)> = VERBS
        .iter()
        .filter_map(|verb| {
            Some((
                verb.long
                    .iter()
                    .find_map(|path| path.strip_prefix(prefix.as_str()))?,
                verb.about,
            ))
        })
        .collect();
    members.sort_unstable();
    format!(
        "{}  barque {noun} COMMAND\n\n{about}\n\n{}\n{}\nRun 'barque {noun} COMMAND --help' for more information on a command.\n",
        style.heading("Usage:"),
        style.heading("Commands:"),
        rows(members, style)
    )
}

/// `  name   text`, sorted by name unless they come in an order of their own.
fn rows<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>, style: Style) -> String {
    let rows: Vec<(String, &str)> = rows
        .into_iter()
        .map(|(name, about)| (format!("  {name}"), about))
        .collect();
    let left = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, about)| help::row(name, about, left.max(12), style.width))
        .collect()
}

/// `barque --help`.
fn main_help(style: Style) -> String {
    let of = |common: bool| {
        VERBS
            .iter()
            .filter(move |verb| verb.common == common)
            .map(|verb| (verb.name, verb.about))
    };
    let mut out = format!(
        "{}  barque [OPTIONS] COMMAND\n\nA container engine in one program: no daemon, no helpers\n",
        style.heading("Usage:")
    );
    for (heading, section) in [
        ("Common Commands:", rows(of(true), style)),
        ("Management Commands:", rows(GROUPS.iter().copied(), style)),
        ("Commands:", rows(of(false), style)),
    ] {
        out.push_str(&format!("\n{}\n{section}", style.heading(heading)));
    }
    // Another front-end of the same binary: its own flags, its own containers.
    let oci = "The OCI runtime, with runc's command line (see barque oci --help)";
    out.push_str(&format!(
        "\n{}\n{}",
        style.heading("Other Command Lines:"),
        rows([("oci", oci)], style)
    ));
    let globals = parse::docker_style(GlobalFlags::augment_args(Command::new("barque")));
    out.push_str(&help::flags(&globals, style).replacen("Options:", "Global Options:", 1));
    out.push_str(&format!(
        "\n{}\n  barque run --rm --rootfs / echo hello    # needs no image: the host's own files, copy-on-write\n  barque run -it --rm debian bash\n",
        style.heading("Examples:")
    ));
    out.push_str("\nRun 'barque COMMAND --help' for more information on a command.\n");
    out
}

/// The whole table, for man pages and completion scripts.
pub fn command() -> Command {
    let verb_command = |verb: &Verb, name: &'static str| {
        let mut command = (verb.flags)(Command::new(name))
            .about(verb.about)
            .disable_help_flag(true);
        if !verb.examples.is_empty() {
            command = command.after_help(format!("EXAMPLES\n{}", verb.examples));
        }
        command
    };
    let mut root = GlobalFlags::augment_args(Command::new("barque"))
        .about("A container engine in one program: no daemon, no helpers")
        .disable_help_subcommand(true)
        .disable_version_flag(true);
    for verb in VERBS {
        root = root.subcommand(verb_command(verb, verb.name));
    }
    for (noun, about) in GROUPS {
        let mut group = Command::new(*noun)
            .about(*about)
            .disable_help_subcommand(true);
        for verb in VERBS {
            let own = verb
                .long
                .iter()
                .find_map(|path| path.strip_prefix(noun)?.strip_prefix(' '));
            if let Some(name) = own {
                group = group.subcommand(verb_command(verb, name));
            }
        }
        root = root.subcommand(group);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        width: 80,
        bold: false,
    };

    #[test]
    fn the_whole_table_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_says_what_a_reader_needs() {
        let main = main_help(PLAIN);
        assert!(
            main.starts_with("Usage:  barque [OPTIONS] COMMAND\n"),
            "{main}"
        );
        assert!(main.contains("\nCommon Commands:\n  run"), "{main}");
        assert!(main.contains("\nGlobal Options:\n"), "{main}");
        assert!(main.contains("\n  oci "), "{main}");
        let run = verb_help(VERBS[0], "run", PLAIN);
        assert!(run.contains("(default \"none\","), "{run}");
        assert!(
            run.contains("\nAliases:\n  barque container run, barque run\n"),
            "{run}"
        );
        assert!(!run.contains("--publish"), "{run}");
        assert!(
            run.lines()
                .all(|line| line.chars().count() <= 82 || line.contains('#')),
            "{run}"
        );
        let group = group_help("container", "Manage containers", PLAIN);
        assert!(group.contains("\n  ls "), "{group}");
    }
}
