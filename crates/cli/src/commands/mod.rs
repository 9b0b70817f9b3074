//! The verbs: one file each, and the table that finds them.

mod attach;
mod check;
mod checkpoint;
mod completion;
mod container;
mod create;
mod diff;
mod exec;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod lifecycle;
mod load;
mod logs;
mod ps;
mod pull;
mod rm;
mod rmi;
mod run;
mod start;
mod tag;
mod version;
mod wait;

use crate::context::Context;
use crate::errors::Failure;
use clap::{ArgMatches, Command};

/// A verb.
pub struct Verb {
    /// Its short form: `ps`; the long one when it has none.
    pub name: &'static str,
    /// Its forms behind a noun: `container ls`. The first of a noun is the one that help lists.
    pub long: &'static [&'static str],
    /// One line.
    pub about: &'static str,
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// Whole lines to try.
    pub examples: &'static str,
    /// How many arguments, at least and at most.
    pub arguments: (usize, usize),
    /// Adds its flags to a command.
    pub flags: fn(Command) -> Command,
    /// Does it; the code to exit with.
    pub run: fn(&Context, &ArgMatches) -> Result<u8, Failure>,
    /// Common verbs lead the help.
    pub common: bool,
}

/// No upper bound of arguments.
pub const ANY: usize = usize::MAX;

/// All verbs.
pub const VERBS: &[&Verb] = &[
    &run::VERB,
    &exec::VERB,
    &ps::VERB,
    &pull::VERB,
    &images::VERB,
    &logs::VERB,
    &inspect::VERB,
    &version::VERB,
    &info::VERB,
    &attach::VERB,
    &check::VERB,
    &checkpoint::CREATE,
    &checkpoint::LIST,
    &checkpoint::REMOVE,
    &completion::VERB,
    &create::VERB,
    &diff::VERB,
    &history::VERB,
    &import::VERB,
    &lifecycle::KILL,
    &load::VERB,
    &lifecycle::PAUSE,
    &lifecycle::RESTART,
    &rm::VERB,
    &rmi::VERB,
    &start::VERB,
    &lifecycle::STOP,
    &tag::VERB,
    &lifecycle::UNPAUSE,
    &wait::VERB,
];

/// Nouns with verbs of their own.
pub const GROUPS: &[(&str, &str)] = &[
    ("checkpoint", "Manage checkpoints"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("system", "Manage Barque"),
];

/// Docker's commands that a later version will have: a clear word instead of "unknown".
const LATER: &[&str] = &[
    "build", "builder", "buildx", "commit", "compose", "config", "context", "cp", "events",
    "export", "login", "logout", "manifest", "network", "node", "plugin", "port", "prune", "push",
    "rename", "save", "search", "secret", "service", "stack", "stats", "swarm", "top", "trust",
    "update", "volume", "df",
];

/// `barque -v`.
pub fn version_line() -> String {
    version::line()
}

/// What words name.
pub enum Named {
    /// A verb, with the words behind it.
    Verb(&'static Verb, String, usize),
    /// A noun without a verb.
    Group(&'static str, &'static str),
}

/// Finds the verb that the words begin with: `ps`, `container ls`.
pub fn find(words: &[String]) -> Result<Named, Failure> {
    let first = words.first().map_or("", String::as_str);
    if let Some((noun, about)) = GROUPS.iter().find(|(noun, _)| *noun == first) {
        let Some(second) = words.get(1).filter(|word| !word.starts_with('-')) else {
            return Ok(Named::Group(noun, about));
        };
        let path = format!("{noun} {second}");
        return match VERBS.iter().find(|verb| verb.long.contains(&path.as_str())) {
            Some(verb) => Ok(Named::Verb(verb, path, 2)),
            None if LATER.contains(&second.as_str()) => Err(later(&path)),
            None => Err(Failure::Command(path, None)),
        };
    }
    match VERBS.iter().find(|verb| verb.name == first) {
        Some(verb) => Ok(Named::Verb(verb, first.to_owned(), 1)),
        None if LATER.contains(&first) => Err(later(first)),
        // The binary hands the call over when it is the first word of all (`barque_oci::asked`).
        None if first == "oci" => Err(Failure::Absent(
            "the engine's options are not those of the OCI runtime: 'oci' comes before all options; \
             see 'barque oci --help'"
                .to_owned(),
        )),
        None => Err(Failure::Command(
            first.to_owned(),
            similar(first).map(str::to_owned),
        )),
    }
}

fn later(command: &str) -> Failure {
    Failure::Absent(format!(
        "'{command}' is not in this version of Barque ({}); 'barque --help' lists what is",
        env!("CARGO_PKG_VERSION")
    ))
}

/// The command that was most likely meant, if any is near.
fn similar(word: &str) -> Option<&'static str> {
    let nouns = GROUPS.iter().map(|(noun, _)| *noun);
    VERBS
        .iter()
        .map(|verb| verb.name)
        .chain(nouns)
        .map(|name| (distance(word, name), name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Edits (with swaps of neighbours) that make one word of the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

impl Verb {
    /// Its table of flags.
    pub fn command(&self) -> Command {
        (self.flags)(Command::new(self.name))
            .about(self.about)
            .disable_help_flag(true)
    }

    /// All of its names, as help lists them.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .long
            .iter()
            .map(|path| format!("barque {path}"))
            .collect();
        // What has no short form is named by its long one.
        if !self.long.contains(&self.name) {
            names.push(format!("barque {}", self.name));
        }
        names
    }

    /// Refuses too few and too many arguments, in Docker's words.
    pub fn check_count(&self, path: &str, count: usize) -> Result<(), Failure> {
        let (least, most) = self.arguments;
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let noun = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let wanted = match (least, most) {
            (0, 0) => "accepts no arguments".to_owned(),
            (a, b) if a == b => format!("requires exactly {a} {}", noun(a)),
            (a, ANY) => format!("requires at least {a} {}", noun(a)),
            (0, b) => format!("requires at most {b} {}", noun(b)),
            (a, b) => format!("requires at least {a} and at most {b} {}", noun(b)),
        };
        Err(Failure::Arguments(format!(
            "\"barque {path}\" {wanted}.\nSee 'barque {path} --help'.\n\nUsage:  barque {path}{}\n\n{}\n",
            if self.usage.is_empty() {
                String::new()
            } else {
                format!(" {}", self.usage)
            },
            self.about
        )))
    }
}

/// The fault of a verb that counts its arguments itself, because a flag may stand for the first.
fn at_least_one(verb: &Verb, path: &str) -> Result<u8, Failure> {
    Verb {
        arguments: (1, ANY),
        ..*verb
    }
    .check_count(path, 0)
    .map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match find(&words) {
            Ok(Named::Verb(verb, path, taken)) => format!("{} {path} {taken}", verb.name),
            Ok(Named::Group(noun, _)) => format!("group {noun}"),
            Err(failure) => failure.report("").text,
        }
    }

    #[test]
    fn finding() {
        assert_eq!(told(&["ps", "-a"]), "ps ps 1");
        assert_eq!(told(&["container", "ls", "-a"]), "ps container ls 2");
        assert_eq!(told(&["image", "rm"]), "rmi image rm 2");
        assert_eq!(told(&["system", "info"]), "info system info 2");
        assert_eq!(told(&["container"]), "group container");
        assert_eq!(told(&["container", "--help"]), "group container");
        assert!(told(&["imges"]).contains("Did you mean this?\n\timages\n"));
        assert!(
            told(&["frobnicate"])
                .ends_with("'frobnicate' is not a barque command.\nSee 'barque --help'\n")
        );
        assert!(told(&["oci"]).ends_with("see 'barque oci --help'\n"));
        assert!(told(&["build"]).starts_with("barque: 'build' is not in this version"));
        assert!(
            told(&["container", "prune"])
                .starts_with("barque: 'container prune' is not in this version")
        );
    }

    #[test]
    fn counts() {
        let ps = &ps::VERB;
        let text = ps.check_count("ps", 1).unwrap_err().report("ps").text;
        assert!(
            text.starts_with(
                "\"barque ps\" accepts no arguments.\nSee 'barque ps --help'.\n\nUsage:  barque ps"
            ),
            "{text}"
        );
        let text = at_least_one(&run::VERB, "run")
            .unwrap_err()
            .report("run")
            .text;
        assert!(
            text.starts_with("\"barque run\" requires at least 1 argument.\n"),
            "{text}"
        );
        assert!(tag::VERB.check_count("tag", 2).is_ok());
    }

    #[test]
    fn tables_are_sound() {
        for verb in VERBS {
            verb.command().debug_assert();
            crate::usage::parse::docker_style(verb.command()).debug_assert();
            for argument in verb
                .command()
                .get_arguments()
                .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
            {
                assert!(
                    argument.get_help().is_some(),
                    "{} --{}",
                    verb.name,
                    argument.get_id()
                );
            }
        }
    }
}
