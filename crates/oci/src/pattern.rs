//! The little of regular expressions that ids need: `^`, `$`, `.`, `*`, `+`, `?`, `\` and `[…]`.
//!
//! crun's `delete --regex` takes a POSIX expression, and what its callers write there is `^prefix-.*$`. Groups and
//! alternatives are refused, not misread.

use crate::failure::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    Any,
    Char(char),
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    least: usize,
    most: usize,
}

impl One {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Char(own) => *own == c,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *negated
            }
        }
    }
}

/// Whether the text has a part that the pattern matches.
pub(crate) fn matches(pattern: &str, text: &str) -> Result<bool, Failure> {
    let begins = pattern.starts_with('^');
    let body = pattern.strip_prefix('^').unwrap_or(pattern);
    let ends = body.ends_with('$') && !body.ends_with("\\$");
    let body = if ends { &body[..body.len() - 1] } else { body };
    let parts = parse(body).map_err(|why| Failure::usage(format!("--regex {pattern:?}: {why}")))?;
    let text: Vec<char> = text.chars().collect();
    let last = if begins { 0 } else { text.len() };
    Ok((0..=last).any(|start| from(&parts, &text[start..], ends)))
}

fn from(parts: &[(One, Times)], text: &[char], ends: bool) -> bool {
    let Some(((one, times), rest)) = parts.split_first() else {
        return !ends || text.is_empty();
    };
    let fitting = text
        .iter()
        .take(times.most)
        .take_while(|c| one.fits(**c))
        .count();
    (times.least..=fitting)
        .rev()
        .any(|n| from(rest, &text[n..], ends))
}

fn parse(body: &str) -> Result<Vec<(One, Times)>, String> {
    let mut parts = Vec::new();
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        let one = match c {
            '.' => One::Any,
            '[' => set(&mut chars)?,
            '\\' => One::Char(chars.next().ok_or("it ends in a backslash")?),
            '(' | ')' | '|' | '{' | '}' => return Err(format!("{c:?} is not supported here")),
            '*' | '+' | '?' => return Err(format!("{c:?} has nothing to repeat")),
            other => One::Char(other),
        };
        let times = match chars.peek() {
            Some('*') => Times {
                least: 0,
                most: usize::MAX,
            },
            Some('+') => Times {
                least: 1,
                most: usize::MAX,
            },
            Some('?') => Times { least: 0, most: 1 },
            _ => Times { least: 1, most: 1 },
        };
        if times != (Times { least: 1, most: 1 }) {
            chars.next();
        }
        parts.push((one, times));
    }
    Ok(parts)
}

fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<One, String> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        match chars.next() {
            None => return Err("a [ is not closed".to_owned()),
            Some(']') if !ranges.is_empty() => break,
            Some(first) => {
                let mut ahead = chars.clone();
                let range_to = (ahead.next() == Some('-'))
                    .then(|| ahead.next())
                    .flatten()
                    .filter(|c| *c != ']');
                match range_to {
                    Some(last) => {
                        *chars = ahead;
                        ranges.push((first, last));
                    }
                    None => ranges.push((first, first)),
                }
            }
        }
    }
    Ok(One::Set { negated, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (pattern, text, fits) in [
            ("^test-.*$", "test-12", true),
            ("^test-.*$", "a-test-12", false),
            ("test", "a-test-12", true),
            ("^a[0-9]+$", "a12", true),
            ("^a[0-9]+$", "a", false),
            ("^[^a]b?$", "cb", true),
            ("^[^a]b?$", "a", false),
            ("a\\.b", "axb", false),
            ("a\\.b", "a.b", true),
            ("", "x", true),
            ("^[a-]$", "-", true),
            ("x$", "xx", true),
        ] {
            assert_eq!(
                matches(pattern, text).expect(pattern),
                fits,
                "{pattern} {text}"
            );
        }
        for bad in ["a|b", "(a)", "[a", "*", "a\\"] {
            assert!(matches(bad, "a").is_err(), "{bad}");
        }
    }
}
