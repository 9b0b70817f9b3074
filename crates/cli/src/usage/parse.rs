//! clap with the habits of Docker's flag parser, and its faults in Docker's words.

use crate::errors::Failure;
use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};

/// Go's spellings of a truth value.
#[derive(Clone)]
struct Truth;

impl TypedValueParser for Truth {
    type Value = bool;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<bool, clap::Error> {
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => {
                let mut error = clap::Error::new(ErrorKind::ValueValidation).with_cmd(command);
                let name = arg.map(ToString::to_string).unwrap_or_default();
                error.insert(ContextKind::InvalidArg, ContextValue::String(name));
                let typed = value.to_string_lossy().into_owned();
                error.insert(ContextKind::InvalidValue, ContextValue::String(typed));
                Err(error)
            }
        }
    }
}

/// The command with the habits of Docker's parser: a switch may be given a value (`--rm=false`), any flag may be
/// repeated (the last one counts), a flag takes the next word whatever it begins with, and `--help` is `-h` only
/// where `-h` is nothing else.
pub fn docker_style(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => switch(arg).default_value("false"),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() && !is_switch(&arg) => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        })
}

/// A switch that is on unless it is given `=false`.
pub fn on_by_default(arg: Arg) -> Arg {
    switch(arg).default_value("true")
}

fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(Truth)
}

/// Whether `--help` was asked for among a command's own flags: before its first argument where flags stop there
/// (`run IMAGE --help` asks the image), anywhere else where they do not.
pub fn wants_help(command: &Command, words: &[OsString]) -> bool {
    let stops = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let short = !command
        .get_arguments()
        .any(|arg| arg.get_short() == Some('h'));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match text.as_ref() {
            "--help" => return true,
            "-h" if short => return true,
            "--" => return false,
            text if text.len() > 1 && text.starts_with('-') => {
                let skipped = usize::from(takes_next(command, text));
                words.by_ref().take(skipped).for_each(drop);
            }
            _ if stops => return false,
            _ => {}
        }
    }
    false
}

/// Whether a flag is a truth value: it never takes the next word.
pub fn is_switch(arg: &Arg) -> bool {
    !arg.get_action().takes_values() || arg.is_require_equals_set()
}

/// Whether the flag (or the last of a cluster of them) takes the next word as its value.
fn takes_next(command: &Command, word: &str) -> bool {
    let wants_value = |arg: &Arg| !is_switch(arg);
    if let Some(long) = word.strip_prefix("--") {
        return !long.contains('=')
            && command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(long) && wants_value(arg));
    }
    let mut cluster = word.chars().skip(1).peekable();
    while let Some(short) = cluster.next() {
        let value = command
            .get_arguments()
            .any(|arg| arg.get_short() == Some(short) && wants_value(arg));
        if value {
            return cluster.peek().is_none();
        }
    }
    false
}

/// Parses the words behind the command's name.
pub fn parse(command: Command, words: &[OsString]) -> Result<ArgMatches, Failure> {
    let mut command = docker_style(command).no_binary_name(true);
    command
        .try_get_matches_from_mut(words)
        .map_err(|error| fault(&command, &error, words))
}

/// `-m, --memory`, as the help shows the flag.
fn flag_name(command: &Command, shown: &str) -> String {
    let name = shown.split([' ', '[', '=']).next().unwrap_or(shown);
    let found = command.get_arguments().find(|arg| {
        name.strip_prefix("--")
            .is_some_and(|long| arg.get_long() == Some(long))
            || name
                .strip_prefix('-')
                .is_some_and(|short| arg.get_short().map(String::from).as_deref() == Some(short))
    });
    match found.map(|arg| (arg.get_short(), arg.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((None, Some(long))) => format!("--{long}"),
        _ => name.to_owned(),
    }
}

fn fault(command: &Command, error: &clap::Error, words: &[OsString]) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let arg = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    Failure::Flag(match error.kind() {
        ErrorKind::UnknownArgument => unknown(command.get_name(), arg),
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues
            if value.is_empty() =>
        {
            let last = words
                .last()
                .map(|word| word.to_string_lossy().into_owned())
                .unwrap_or_default();
            // clap takes an empty word for a path as no word at all.
            let flag = flag_name(command, arg);
            if !flag.split(", ").any(|name| ends_with_flag(&last, name)) {
                return Failure::value(&flag, "", "it must not be empty");
            }
            match last.chars().last() {
                Some(short) if !last.starts_with("--") => {
                    format!("flag needs an argument: '{short}' in {last}")
                }
                _ => format!("flag needs an argument: {last}"),
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            return Failure::value(&flag_name(command, arg), value, "use true or false");
        }
        // What no table above foresees is told in clap's words.
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    })
}

/// Whether a word is this flag, or a cluster of switches that ends with it.
fn ends_with_flag(word: &str, flag: &str) -> bool {
    let cluster = word.starts_with('-') && !word.starts_with("--");
    word == flag || (cluster && flag.len() == 2 && word.ends_with(&flag[1..]))
}

fn unknown(verb: &str, arg: &str) -> String {
    let name = arg.split('=').next().unwrap_or(arg);
    match name.strip_prefix('-') {
        Some(short) if !short.starts_with('-') => {
            let letter = short.chars().next().map(|c| format!("-{c}"));
            if let Some(why) = letter.and_then(|flag| not_yet(verb, &flag)) {
                return format!("{name}: {why}");
            }
            format!(
                "unknown shorthand flag: '{}' in {name}",
                short.chars().next().unwrap_or('-')
            )
        }
        _ => match not_yet(verb, name) {
            Some(why) => format!("{name}: {why}"),
            None => format!("unknown flag: {name}"),
        },
    }
}

/// Why a flag of Docker's is not there.
fn not_yet(verb: &str, flag: &str) -> Option<&'static str> {
    let of_verb = NOT_YET_OF_VERB
        .iter()
        .filter(|(verbs, ..)| verbs.contains(&verb))
        .map(|(_, flags, why)| (flags, why));
    let all = NOT_YET.iter().map(|(flags, why)| (flags, why));
    all.chain(of_verb)
        .find(|(flags, _)| flags.contains(&flag))
        .map(|(_, why)| *why)
}

/// Docker's flags that this version does not have: who types one has made no mistake, and wants to hear why.
/// (What its users type most is told apart by its value too, see `create::resolve`.)
const NOT_YET: [(&[&str], &str); 5] = [
    (
        &[
            "--dns-option",
            "--dns-opt",
            "--dns-search",
            "--expose",
            "--ip",
            "--ip6",
            "--link-local-ip",
            "--mac-address",
            "--net-alias",
            "--network-alias",
        ],
        "networks come with a later version; use --network none, host or container:ID",
    ),
    (
        &[
            "--health-interval",
            "--health-retries",
            "--health-start-interval",
            "--health-start-period",
            "--health-timeout",
        ],
        "health checks come with a later version",
    ),
    (
        &["--volume-driver", "--storage-opt"],
        "volumes and storage drivers come with a later version; use -v HOST_DIR:CONTAINER_DIR",
    ),
    (
        &[
            "--blkio-weight-device",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--device-cgroup-rule",
            "--kernel-memory",
        ],
        "this limit is not in this version",
    ),
    (
        &[
            "--isolation",
            "--cpu-count",
            "--cpu-percent",
            "--io-maxbandwidth",
            "--io-maxiops",
        ],
        "this is a flag for Windows",
    ),
];

/// The same for flags that mean something only to some verbs, or that others have.
const NOT_YET_OF_VERB: [(&[&str], &[&str], &str); 4] = [
    (
        &["run", "create"],
        &["--annotation"],
        "annotations are not in this version; use -l, --label",
    ),
    (
        &["images"],
        &["--tree"],
        "a tree of an image's platforms is not in this version: each image here has one platform",
    ),
    (
        &["load", "rmi"],
        &["--platform"],
        "a choice of platforms is not in this version: each image here has one platform",
    ),
    (
        &["rm"],
        &["-l", "--link"],
        "links between containers come with networks in a later version",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[derive(Debug, Args)]
    struct Flags {
        #[arg(short, long)]
        interactive: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(long)]
        rm: bool,
        #[arg(short, long)]
        memory: Option<String>,
        #[arg(short = 'e', long)]
        env: Vec<String>,
        #[arg(long)]
        root: Option<std::path::PathBuf>,
        #[arg(trailing_var_arg = true)]
        args: Vec<String>,
    }

    fn command() -> Command {
        Flags::augment_args(Command::new("run"))
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn flags(text: &str) -> Result<Flags, String> {
        let matches = parse(command(), &words(text)).map_err(|f| f.report("run").text)?;
        Ok(Flags::from_arg_matches(&matches).unwrap())
    }

    #[test]
    fn dockers_habits() {
        let f = flags("-it --rm=false -m 5 -e A=1 -eB=2 --memory -1 image -it --rm -- ls").unwrap();
        assert!(f.interactive && f.tty && !f.rm);
        assert_eq!(f.memory.as_deref(), Some("-1"));
        assert_eq!(f.env, ["A=1", "B=2"]);
        assert_eq!(f.args, ["image", "-it", "--rm", "--", "ls"]);
        assert!(flags("--rm image").unwrap().rm);
        assert!(flags("-ti image").unwrap().tty);
        assert!(flags("-i=true -t=0 image").is_ok_and(|f| f.interactive && !f.tty));
        assert_eq!(flags("-- image -x").unwrap().args, ["image", "-x"]);
        assert_eq!(flags("-itm5 x").unwrap().memory.as_deref(), Some("5"));
        assert_eq!(flags("-m=5 x").unwrap().memory.as_deref(), Some("5"));
    }

    #[test]
    fn dockers_words() {
        let hint = "\nSee 'barque run --help'.\n";
        for (line, text) in [
            ("--foo x", "unknown flag: --foo"),
            ("--foo=1 x", "unknown flag: --foo"),
            (
                "--health-interval=5s x",
                "--health-interval: health checks come with a later version",
            ),
            ("-Z x", "unknown shorthand flag: 'Z' in -Z"),
            ("-itZ x", "unknown shorthand flag: 'Z' in -Z"),
            ("--memory", "flag needs an argument: --memory"),
            ("-m", "flag needs an argument: 'm' in -m"),
            ("--env= -m", "flag needs an argument: 'm' in -m"),
            (
                "--root= x",
                "invalid argument \"\" for \"--root\" flag: it must not be empty",
            ),
            ("--root", "flag needs an argument: --root"),
            ("-itm", "flag needs an argument: 'm' in -itm"),
            (
                "--rm=maybe x",
                "invalid argument \"maybe\" for \"--rm\" flag: use true or false",
            ),
            (
                "-t=maybe x",
                "invalid argument \"maybe\" for \"-t, --tty\" flag: use true or false",
            ),
        ] {
            assert_eq!(flags(line).unwrap_err(), format!("{text}{hint}"), "{line}");
        }
    }

    #[test]
    fn a_flag_that_is_to_come_is_told_by_the_verbs_that_will_have_it() {
        let told = |verb: &'static str, line: &str| {
            let command = Command::new(verb).arg(Arg::new("args").num_args(0..));
            let failure = parse(command, &words(line)).unwrap_err();
            failure.report(verb).text
        };
        for (verb, line, text) in [
            ("run", "--annotation=a=b x", "--annotation: annotations"),
            ("create", "--annotation a=b x", "--annotation: annotations"),
            ("images", "--tree", "--tree: a tree"),
            ("load", "--platform=linux/arm64", "--platform: a choice"),
            ("rmi", "--platform linux/arm64 x", "--platform: a choice"),
            ("rm", "--link x", "--link: links"),
            ("rm", "-l x", "-l: links"),
            ("ps", "--tree", "unknown flag: --tree"),
            ("kill", "--platform x", "unknown flag: --platform"),
            ("kill", "-l x", "unknown shorthand flag: 'l' in -l"),
        ] {
            let found = told(verb, line);
            assert!(found.starts_with(text), "{verb} {line}: {found}");
        }
    }

    #[test]
    fn help_is_the_commands_only_before_the_image() {
        for (line, wanted) in [
            ("--help", true),
            ("-h", true),
            ("-it --help", true),
            ("-m 5 --help", true),
            ("-e --help image", false),
            ("image --help", false),
            ("-- --help", false),
            ("-m5 --help", true),
        ] {
            assert_eq!(wants_help(&command(), &words(line)), wanted, "{line}");
        }
    }
}
