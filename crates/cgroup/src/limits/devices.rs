//! Device rules: read once, then written to v1's `devices.allow` and `devices.deny`
//! ([`super::whitelist`]), or compiled for v2 ([`super::bpf`]).
//!
//! The runtime spec says that the entries apply in order. Both writers hold to one meaning: every
//! kind of access (read, write, mknod) to a device is decided by the last rule that names both.
//! v2 programs can say that exactly; v1 keeps one default with a list of exceptions of the opposite
//! sense, so rules that cannot be said there are refused rather than bent.

use barque_types::spec::DeviceRule;

use crate::error::{Error, Result};

/// Block or character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block,
    Char,
}

/// Bits of `BPF_DEVCG_ACC_*`, which are also the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(pub(super) u8);

impl Access {
    pub(super) const MKNOD: u8 = 1;
    pub(super) const READ: u8 = 2;
    pub(super) const WRITE: u8 = 4;
    pub(super) const ALL: Self = Self(7);

    pub(super) fn parse(text: &str) -> Option<Self> {
        let bits = text.bytes().try_fold(0, |bits, byte| match byte {
            b'r' => Some(bits | Self::READ),
            b'w' => Some(bits | Self::WRITE),
            b'm' => Some(bits | Self::MKNOD),
            _ => None,
        })?;
        Some(Self(bits))
    }

    pub(super) fn letters(self) -> String {
        [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')]
            .into_iter()
            .filter_map(|(bit, letter)| (self.0 & bit != 0).then_some(letter))
            .collect()
    }
}

/// A rule that says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// Every access to every device; all that came before is void.
    Everything { allow: bool },
    /// Some access to some devices of one kind.
    Some {
        allow: bool,
        kind: Kind,
        /// `None` is every one.
        major: Option<u32>,
        /// `None` is every one.
        minor: Option<u32>,
        access: Access,
    },
}

/// Reads the spec's rules. Type `a` (or none) with less than everything behind it becomes one rule
/// for block and one for character devices: v1 would silently take it for everything.
pub(super) fn normalise(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut normal = Vec::with_capacity(rules.len());
    for rule in rules {
        let bad =
            |what: String| Error::unsupported(format!("device rule {}: {what}", describe(rule)));
        let kinds: &[Kind] = match rule.kind.as_deref() {
            None | Some("" | "a") => &[Kind::Char, Kind::Block],
            // `u` is an unbuffered character device: the same to the kernel.
            Some("c" | "u") => &[Kind::Char],
            Some("b") => &[Kind::Block],
            Some(other) => return Err(bad(format!("the type is a, b or c, not {other:?}"))),
        };
        let access = match rule.access.as_deref() {
            // The spec leaves it out for "all".
            None | Some("") => Access::ALL,
            Some(text) => Access::parse(text)
                .ok_or_else(|| bad(format!("the access is made of r, w and m, not {text:?}")))?,
        };
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value)
                .ok()
                .filter(|&value| i32::try_from(value).is_ok())
                .map(Some)
                .ok_or_else(|| bad(format!("there is no device number {value}"))),
        };
        let (major, minor) = (number(rule.major)?, number(rule.minor)?);
        if kinds.len() == 2 && major.is_none() && minor.is_none() && access == Access::ALL {
            normal.push(Rule::Everything { allow: rule.allow });
            continue;
        }
        normal.extend(kinds.iter().map(|&kind| Rule::Some {
            allow: rule.allow,
            kind,
            major,
            minor,
            access,
        }));
    }
    Ok(normal)
}

fn describe(rule: &DeviceRule) -> String {
    let number = |value: Option<i64>| match value {
        None | Some(-1) => "*".to_owned(),
        Some(value) => value.to_string(),
    };
    format!(
        "{} {} {}:{} {}",
        if rule.allow { "allow" } else { "deny" },
        rule.kind.as_deref().unwrap_or("a"),
        number(rule.major),
        number(rule.minor),
        rule.access.as_deref().unwrap_or("rwm"),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `allow c 1:3 rw`, `deny a`, … separated by `;`.
    pub(in crate::limits) fn rules(text: &str) -> Vec<DeviceRule> {
        let number = |text: &str| if text == "*" { None } else { text.parse().ok() };
        text.split(';')
            .map(|rule| {
                let words: Vec<&str> = rule.split_whitespace().collect();
                let numbers = words.get(2).and_then(|word| word.split_once(':'));
                DeviceRule {
                    allow: words[0] == "allow",
                    kind: words.get(1).map(ToString::to_string),
                    major: numbers.and_then(|(major, _)| number(major)),
                    minor: numbers.and_then(|(_, minor)| number(minor)),
                    access: words.get(3).map(ToString::to_string),
                }
            })
            .collect()
    }

    #[test]
    fn bad_rules_say_what_is_bad() {
        for (text, word) in [
            ("allow x", "type"),
            ("allow c 1:3 rq", "access"),
            ("allow c -5:3", "-5"),
        ] {
            let error = super::super::whitelist::tests::v1(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
