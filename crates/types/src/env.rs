//! Environment variables and labels as users give them: flags (`-e`, `-l`) and files (`--env-file`, `--label-file`).

use std::collections::BTreeMap;
use std::fmt;

/// Why a variable or a file of them is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidEnv {
    /// Nothing before the `=`.
    NoName(String),
    /// White space in the name (files only).
    Whitespace(String),
    /// The value (or name) has a NUL byte, which no environment can hold.
    Nul(String),
}

impl fmt::Display for InvalidEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName(text) => write!(f, "invalid environment variable: {text}"),
            Self::Whitespace(name) => write!(f, "variable '{name}' contains whitespaces"),
            Self::Nul(name) => write!(f, "variable '{name}' contains a NUL byte"),
        }
    }
}

impl std::error::Error for InvalidEnv {}

/// One `-e` argument. A bare `NAME` takes the caller's value through `lookup`; when that has none it stays bare,
/// which removes the variable that the image sets.
pub fn variable(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, InvalidEnv> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if name.is_empty() {
        return Err(InvalidEnv::NoName(text.to_owned()));
    }
    if text.contains('\0') {
        return Err(InvalidEnv::Nul(name.to_owned()));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(lookup(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}")))
}

/// The lines of a file that say something: without blank lines, comments, a byte order mark, and leading white space.
fn lines(content: &str) -> impl Iterator<Item = &str> {
    content
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The name of a file's line, checked.
fn name(line: &str) -> Result<&str, InvalidEnv> {
    let name = line.split_once('=').map_or(line, |(name, _)| name);
    if name.is_empty() {
        Err(InvalidEnv::NoName(line.to_owned()))
    } else if name.contains(char::is_whitespace) {
        Err(InvalidEnv::Whitespace(name.to_owned()))
    } else {
        Ok(name)
    }
}

/// The variables of an `--env-file`: values are taken as they stand (quotes included); a bare `NAME` takes the
/// caller's value and is dropped when there is none.
pub fn file(
    content: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, InvalidEnv> {
    let mut variables = Vec::new();
    for line in lines(content) {
        let name = name(line)?;
        if line.contains('\0') {
            return Err(InvalidEnv::Nul(name.to_owned()));
        }
        if line.contains('=') {
            variables.push(line.to_owned());
        } else if let Some(value) = lookup(name) {
            variables.push(format!("{name}={value}"));
        }
    }
    Ok(variables)
}

/// One `-l` argument: `key=value`, or `key` with an empty value.
pub fn label(text: &str) -> Result<(String, String), InvalidEnv> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(InvalidEnv::NoName(text.to_owned()));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The labels of a `--label-file`.
pub fn label_file(content: &str) -> Result<BTreeMap<String, String>, InvalidEnv> {
    lines(content)
        .map(|line| name(line).and_then(|_| label(line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn flags() {
        for (text, want) in [
            ("A=b", "A=b"),
            ("A=", "A="),
            ("A=b=c d", "A=b=c d"),
            ("HOME", "HOME=/root"),
            ("NOPE", "NOPE"),
            ("with blank=x", "with blank=x"),
        ] {
            assert_eq!(variable(text, &lookup).as_deref(), Ok(want));
        }
        assert_eq!(
            variable("=x", &lookup).unwrap_err().to_string(),
            "invalid environment variable: =x"
        );
        assert!(variable("", &lookup).is_err());
        assert!(variable("A=\0", &lookup).is_err());
    }

    #[test]
    fn files() {
        let content = "\u{feff}# comment\nA=1\n\n  B=two words \nC=\"q\"\nHOME\nNOPE\r\n   # x\n";
        assert_eq!(
            file(content, &lookup).unwrap(),
            ["A=1", "B=two words ", "C=\"q\"", "HOME=/root"]
        );
        assert_eq!(
            file("A B=1", &lookup).unwrap_err().to_string(),
            "variable 'A B' contains whitespaces"
        );
        assert!(file("=1", &lookup).is_err());
    }

    #[test]
    fn labels() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a"), Ok(("a".into(), String::new())));
        assert!(label("=x").is_err());
        let map = label_file("a=1\n#no\nb\n").unwrap();
        assert_eq!(
            map.into_iter().collect::<Vec<_>>(),
            [("a".into(), "1".into()), ("b".into(), String::new())]
        );
    }
}
