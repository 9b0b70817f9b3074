//! `--ulimit name=soft[:hard]`.

use crate::container::Ulimit;
use std::fmt;
use std::str::FromStr;

/// The names that exist, without `RLIMIT_` (getrlimit(2)).
pub const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Stands for "unlimited" (`-1` as typed).
pub const UNLIMITED: u64 = u64::MAX;

/// Why a text is no ulimit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidUlimit {
    /// Not `name=soft[:hard]`.
    Form(String),
    /// An unknown name.
    Name(String),
    /// A limit that is no number.
    Value(String),
    /// The soft limit is above the hard one.
    Order(String, String),
}

impl fmt::Display for InvalidUlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(f, "invalid ulimit argument: {text}"),
            Self::Name(name) => write!(
                f,
                "invalid ulimit type: {name} (known: {})",
                NAMES.join(", ")
            ),
            Self::Value(text) => write!(
                f,
                "invalid ulimit value: \"{text}\" is not a number (-1 is unlimited)"
            ),
            Self::Order(soft, hard) => write!(
                f,
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ),
        }
    }
}

impl std::error::Error for InvalidUlimit {}

fn limit(text: &str) -> Result<u64, InvalidUlimit> {
    match text {
        "-1" | "unlimited" => Ok(UNLIMITED),
        _ => text
            .parse()
            .map_err(|_| InvalidUlimit::Value(text.to_owned())),
    }
}

impl FromStr for Ulimit {
    type Err = InvalidUlimit;

    /// `nofile=1024:2048` or `nofile=1024` (both limits); `-1` is unlimited.
    fn from_str(text: &str) -> Result<Self, InvalidUlimit> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| InvalidUlimit::Form(text.to_owned()))?;
        let name = name.to_ascii_lowercase();
        if !NAMES.contains(&name.as_str()) {
            return Err(InvalidUlimit::Name(name));
        }
        let (soft_text, hard_text) = value.split_once(':').unwrap_or((value, value));
        let (soft, hard) = (limit(soft_text)?, limit(hard_text)?);
        if soft > hard {
            return Err(InvalidUlimit::Order(
                soft_text.to_owned(),
                hard_text.to_owned(),
            ));
        }
        Ok(Self { name, hard, soft })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let parsed = |text: &str| text.parse::<Ulimit>().map(|u| (u.name, u.soft, u.hard));
        assert_eq!(
            parsed("nofile=1024:2048"),
            Ok(("nofile".into(), 1024, 2048))
        );
        assert_eq!(parsed("NPROC=5"), Ok(("nproc".into(), 5, 5)));
        assert_eq!(parsed("core=0:-1"), Ok(("core".into(), 0, UNLIMITED)));
        assert_eq!(
            parsed("memlock=-1"),
            Ok(("memlock".into(), UNLIMITED, UNLIMITED))
        );
    }

    #[test]
    fn refuses() {
        let message = |text: &str| text.parse::<Ulimit>().unwrap_err().to_string();
        assert_eq!(message("x"), "invalid ulimit argument: x");
        assert!(message("foo=1").starts_with("invalid ulimit type: foo"));
        assert!(message("nofile=a").contains("\"a\" is not a number"));
        assert!(message("nofile=1:").contains("\"\" is not a number"));
        assert_eq!(
            message("nofile=2:1"),
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1"
        );
        assert_eq!(
            message("nofile=-1:1"),
            "ulimit soft limit must be less than or equal to hard limit: -1 > 1"
        );
    }
}
