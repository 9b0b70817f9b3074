//! Flags as runc's callers write them: `--flag value`, `--flag=value`, `-f value`, and Go's `-flag`; before or after the
//! words that are no flags, but for commands whose words may look like flags themselves.

use crate::failure::Failure;
use std::ffi::OsString;

/// A flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Without dashes.
    pub long: &'static str,
    /// One letter, or empty.
    pub short: &'static str,
    /// What its value is called in the help; empty for a switch.
    pub value: &'static str,
    pub help: &'static str,
}

/// A flag with a value.
pub(crate) const fn value(
    long: &'static str,
    short: &'static str,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        value,
        help,
    }
}

/// A flag without one.
pub(crate) const fn switch(long: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short,
        value: "",
        help,
    }
}

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Anywhere.
    Mixed,
    /// Before the first word that is none (the words after it are a command).
    FlagsFirst,
    /// Anywhere until the second such word (`exec ID COMMAND…`).
    UntilSecond,
}

/// A parsed command line.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    flags: Vec<(&'static str, String)>,
    positionals: Vec<String>,
}

impl Parsed {
    /// Whether the flag was given (and, for a switch, not as `=false`).
    pub fn has(&self, long: &str) -> bool {
        self.last(long).is_some_and(|value| value != "false")
    }

    /// The last value of a flag.
    pub fn last(&self, long: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, long: &str) -> Result<Option<T>, Failure> {
        self.last(long)
            .map(|text| {
                text.trim().parse().map_err(|_| {
                    Failure::usage(format!(
                        "--{long}: {text:?} is not a number that is possible here"
                    ))
                })
            })
            .transpose()
    }

    /// The words that are no flags.
    pub fn positionals(&self) -> &[String] {
        &self.positionals
    }
}

/// Turns words into texts; everything that is named here has to be one.
pub(crate) fn texts(words: &[OsString]) -> Result<Vec<String>, Failure> {
    words
        .iter()
        .map(|word| match word.to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Failure::usage(format!("{word:?} is not UTF-8"))),
        })
        .collect()
}

/// `--help` is known everywhere.
const HELP: Flag = switch("help", "h", "show help");

fn find(flags: &[Flag], name: &str) -> Option<Flag> {
    let matches =
        |flag: &&Flag| flag.long == name || (!flag.short.is_empty() && flag.short == name);
    flags
        .iter()
        .find(matches)
        .copied()
        .or_else(|| matches(&&HELP).then_some(HELP))
}

/// Parses.
pub(crate) fn parse(flags: &[Flag], words: &[String], order: Order) -> Result<Parsed, Failure> {
    let mut parsed = Parsed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let enough = match order {
            Order::Mixed => false,
            Order::FlagsFirst => !parsed.positionals.is_empty(),
            Order::UntilSecond => parsed.positionals.len() > 1,
        };
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        match name {
            // The rest is taken as it stands, also when it looks like flags.
            Some("") if word == "--" && !enough => {
                parsed.positionals.extend(words.cloned());
                break;
            }
            Some(name) if !enough && !name.is_empty() => {
                flag(flags, word, name, &mut words, &mut parsed)?
            }
            _ => parsed.positionals.push(word.clone()),
        }
    }
    Ok(parsed)
}

fn flag<'w>(
    flags: &[Flag],
    word: &str,
    name: &str,
    words: &mut impl Iterator<Item = &'w String>,
    parsed: &mut Parsed,
) -> Result<(), Failure> {
    let (name, given) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    let Some(flag) = find(flags, name) else {
        return Err(Failure::usage(format!(
            "flag provided but not defined: {word}; see `--help`"
        )));
    };
    let text = match (flag.value.is_empty(), given) {
        (true, None) => "true".to_owned(),
        (true, Some(text @ ("true" | "false"))) => text.to_owned(),
        (true, Some(text)) => {
            return Err(Failure::usage(format!(
                "--{}: {text:?} is neither true nor false",
                flag.long
            )));
        }
        (false, Some(text)) => text.to_owned(),
        (false, None) => match words.next() {
            Some(text) => text.clone(),
            None => return Err(Failure::usage(format!("flag needs an argument: {word}"))),
        },
    };
    parsed.flags.push((flag.long, text));
    Ok(())
}

/// The lines of a help text for flags.
pub(crate) fn help(flags: &[Flag]) -> String {
    let left = |flag: &Flag| {
        let short = if flag.short.is_empty() {
            String::new()
        } else {
            format!(", -{}", flag.short)
        };
        let value = if flag.value.is_empty() {
            String::new()
        } else {
            format!(" {}", flag.value)
        };
        format!("--{}{short}{value}", flag.long)
    };
    let all: Vec<Flag> = flags.iter().copied().chain([HELP]).collect();
    let width = all.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    all.iter()
        .map(|flag| format!("   {:width$}  {}\n", left(flag), flag.help))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 3] = [
        value("bundle", "b", "DIR", ""),
        switch("detach", "d", ""),
        value("env", "e", "NAME=VALUE", ""),
    ];

    fn parsed(text: &str, order: Order) -> Result<Parsed, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&FLAGS, &words, order).map_err(|f| f.message)
    }

    #[test]
    fn every_spelling() {
        for text in [
            "--bundle x -d id",
            "-b x id --detach",
            "id --bundle=x -detach",
            "-bundle x -d=true id",
            "-b=x --detach -- id",
        ] {
            let p = parsed(text, Order::Mixed).expect(text);
            assert_eq!(
                (p.last("bundle"), p.has("detach"), p.positionals()),
                (Some("x"), true, &["id".to_owned()][..]),
                "{text}"
            );
        }
        assert!(
            !parsed("--detach=false", Order::Mixed)
                .expect("ok")
                .has("detach")
        );
        let many = parsed("-e A=1 --env B=2", Order::Mixed).expect("ok");
        assert_eq!(many.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let p = parsed("-d id -e A=1 ls -b --detach", Order::UntilSecond).expect("ok");
        assert_eq!(p.positionals(), ["id", "ls", "-b", "--detach"]);
        assert_eq!(p.last("env"), Some("A=1"));
        let p = parsed("--detach list -b x", Order::FlagsFirst).expect("ok");
        assert_eq!(p.positionals(), ["list", "-b", "x"]);
        let p = parsed("id -- -x", Order::UntilSecond).expect("ok");
        assert_eq!(p.positionals(), ["id", "-x"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("--nope", "not defined: --nope"),
            ("--bundle", "needs an argument"),
            ("--detach=3", "neither true nor false"),
        ] {
            let message = parsed(text, Order::Mixed).expect_err(text);
            assert!(message.contains(said), "{message}");
        }
        assert!(
            parsed("-b x", Order::Mixed)
                .expect("ok")
                .number::<u32>("bundle")
                .is_err()
        );
    }
}
