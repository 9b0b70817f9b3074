//! What the user sees when something fails, and the code that the program exits with: decided here and nowhere else.
//!
//! Exit codes are Docker's: 125 the engine or the command line, 126 not executable, 127 not found, 64 a template that
//! does not parse (in `inspect`), 1 for the rest; a container's own code passes through untouched.

use crate::template::{ExecError, ParseError};
use barque_engine::Kind;
use std::error::Error;
use std::fmt::Write;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A flag that does not exist, or whose value is refused.
    Flag(String),
    /// Too few or too many arguments.
    Arguments(String),
    /// No such command: the words typed, and a similar command.
    Command(String, Option<String>),
    /// What was asked is not in this version.
    Absent(String),
    /// Options that exclude each other, or anything else that is refused before the engine is asked.
    Refused(String),
    /// The engine refused or failed.
    Engine(Phase, barque_engine::Error),
    /// The client's own input or output failed: what was done, on what, and why.
    Io(String, std::io::Error),
    /// A template does not parse, in `inspect`, `info` and `version`.
    Template(ParseError),
    /// A template does not parse, or does not fit, in a list.
    ListTemplate(String),
    /// A template does not fit its data.
    TemplateData(ExecError),
    /// The reader of our output has gone: say nothing.
    BrokenPipe,
    /// Everything has been said; only the code is left.
    Said(u8),
}

/// What the engine was doing for us, as far as the exit code depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Making a container for `run` or `create`.
    Create,
    /// Starting it for `run`.
    Start,
    /// Running one more process.
    Exec,
    /// Anything else.
    Other,
}

/// The code of a program that SIGPIPE ended, as a shell shows it.
const BROKEN_PIPE: u8 = 128 + 13;

/// A failure's text (with a newline, or empty) and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// For stderr.
    pub text: String,
    /// For exit(2).
    pub code: u8,
}

impl Failure {
    /// A flag's value is refused: Docker's sentence. `flag` as the help shows it, `-m, --memory`.
    pub fn value(flag: &str, value: &str, reason: impl std::fmt::Display) -> Self {
        Self::Flag(format!(
            "invalid argument \"{value}\" for \"{flag}\" flag: {reason}"
        ))
    }

    /// Text and code; `command` is the command as typed, such as `run` or `container ls`, empty before one is known.
    pub fn report(&self, command: &str) -> Report {
        let help = if command.is_empty() {
            "barque --help".to_owned()
        } else {
            format!("barque {command} --help")
        };
        let hinted = |text: &str| format!("{text}\nSee '{help}'.\n");
        let (text, code) = match self {
            Self::Flag(text) => (hinted(text), 125),
            Self::Arguments(text) => (text.clone(), 1),
            Self::Command(words, similar) => (unknown_command(words, similar.as_deref(), &help), 1),
            Self::Absent(text) => (format!("barque: {text}\n"), 125),
            Self::Refused(text) if makes_containers(command) => {
                (hinted(&format!("barque: {text}")), 125)
            }
            Self::Refused(text) => (format!("barque: {text}\n"), 1),
            Self::Engine(phase, error) => {
                // Docker's `create` leaves what the engine says alone; only `run` adds its own.
                let phase = match phase {
                    Phase::Create if last_word(command) == "create" => Phase::Other,
                    other => *other,
                };
                let line = format!("barque: {}", chain(error));
                let text = if phase == Phase::Create {
                    hinted(&line)
                } else {
                    line + "\n"
                };
                (text, engine_code(phase, error.kind()))
            }
            Self::Io(what, error) => {
                let code = if makes_containers(command) { 125 } else { 1 };
                (format!("barque: {what}: {}\n", io_text(error)), code)
            }
            Self::Template(error) => (format!("{error}\n"), 64),
            Self::ListTemplate(text) => (format!("{text}\n"), 1),
            Self::TemplateData(error) => (format!("template parsing error: {error}\n"), 1),
            Self::BrokenPipe => (String::new(), BROKEN_PIPE),
            Self::Said(code) => (String::new(), *code),
        };
        Report { text, code }
    }
}

/// The verb of a command such as `container run`.
fn last_word(command: &str) -> &str {
    command.rsplit(' ').next().unwrap_or(command)
}

/// Whether Docker's rules for `run` hold: everything that is not the container's own failure exits with 125.
fn makes_containers(command: &str) -> bool {
    matches!(last_word(command), "run" | "create")
}

/// The exit code of an engine's failure.
const fn engine_code(phase: Phase, kind: Kind) -> u8 {
    match (phase, kind) {
        (Phase::Start | Phase::Exec, Kind::CommandNotFound) => 127,
        (Phase::Start | Phase::Exec, Kind::NotExecutable) => 126,
        // The container is there and runs, the process could not be made: its user, its directory.
        (Phase::Exec, Kind::Invalid | Kind::System) => 126,
        (Phase::Create | Phase::Start, _) => 125,
        (Phase::Exec | Phase::Other, _) => 1,
    }
}

fn unknown_command(words: &str, similar: Option<&str>, help: &str) -> String {
    let mut text = format!("barque: '{words}' is not a barque command.\nSee '{help}'\n");
    if let Some(similar) = similar {
        let _ = write!(text, "\nDid you mean this?\n\t{similar}\n");
    }
    text
}

/// An error and what caused it, in one line: `a: b: c`. A cause that the text before already tells is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let told = next.to_string();
        if !told.is_empty() && !text.contains(&told) {
            let _ = write!(text, ": {told}");
        }
        cause = next.source();
    }
    without_numbers(&text.replace('\n', " "))
        .trim_end()
        .to_owned()
}

/// Rust tells the number of a system error after its words; users know the words.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(" (os error ") {
        out.push_str(before);
        rest = behind.split_once(')').map_or("", |(_, behind)| behind);
    }
    out + rest
}

/// An I/O error in the system's words, without Rust's "(os error 2)".
pub fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(failure: &Failure, command: &str) -> (String, u8) {
        let report = failure.report(command);
        (report.text, report.code)
    }

    #[test]
    fn command_line() {
        assert_eq!(
            shown(&Failure::Flag("unknown flag: --x".into()), "run"),
            ("unknown flag: --x\nSee 'barque run --help'.\n".into(), 125)
        );
        assert_eq!(
            shown(
                &Failure::value("-m, --memory", "5x", "invalid suffix: 'x'"),
                "run"
            )
            .0,
            "invalid argument \"5x\" for \"-m, --memory\" flag: invalid suffix: 'x'\nSee 'barque run --help'.\n"
        );
        assert_eq!(
            shown(&Failure::Command("imges".into(), Some("images".into())), ""),
            (
                "barque: 'imges' is not a barque command.\nSee 'barque --help'\n\nDid you mean this?\n\timages\n".into(),
                1
            )
        );
        assert_eq!(shown(&Failure::BrokenPipe, "ps"), (String::new(), 141));
    }

    #[test]
    fn engine_kinds() {
        let engine = |phase, kind| Failure::Engine(phase, barque_engine::Error::new(kind, "why"));
        for (phase, kind, code) in [
            (Phase::Create, Kind::Conflict, 125),
            (Phase::Create, Kind::NoSuchImage, 125),
            (Phase::Start, Kind::CommandNotFound, 127),
            (Phase::Start, Kind::NotExecutable, 126),
            (Phase::Start, Kind::System, 125),
            (Phase::Exec, Kind::CommandNotFound, 127),
            (Phase::Exec, Kind::NotExecutable, 126),
            (Phase::Exec, Kind::NoSuchContainer, 1),
            (Phase::Exec, Kind::NotRunning, 1),
            (Phase::Exec, Kind::System, 126),
            (Phase::Other, Kind::NoSuchContainer, 1),
        ] {
            assert_eq!(
                engine(phase, kind).report("run").code,
                code,
                "{phase:?} {kind:?}"
            );
        }
        assert_eq!(
            engine(Phase::Create, Kind::Conflict).report("run").text,
            "barque: why\nSee 'barque run --help'.\n"
        );
        let create = engine(Phase::Create, Kind::NoSuchImage).report("container create");
        assert_eq!((create.text.as_str(), create.code), ("barque: why\n", 1));
        assert_eq!(
            engine(Phase::Start, Kind::System).report("run").text,
            "barque: why\n"
        );
    }

    #[test]
    fn causes_in_one_line() {
        let inner = std::io::Error::other("no space left on device");
        let outer = barque_engine::Error::system("cannot write the record of web", inner);
        assert_eq!(
            chain(&outer),
            "cannot write the record of web: no space left on device"
        );
        let told = barque_engine::Error::system("a: gone", std::io::Error::other("gone"));
        assert_eq!(chain(&told), "a: gone");
        assert_eq!(
            without_numbers("a: Is a directory (os error 21): b (os error 2)"),
            "a: Is a directory: b"
        );
        assert_eq!(
            io_text(&std::io::Error::from_raw_os_error(2)),
            "no such file or directory"
        );
    }
}
