//! Device rules: read once, then written to v1's `devices.allow` and `devices.deny`, or compiled
//! for v2 ([`super::bpf`]).
//!
//! The runtime spec says that the entries apply in order. Both writers hold to one meaning: every
//! kind of access (read, write, mknod) to a device is decided by the last rule that names both.
//! v2 programs can say that exactly; v1 keeps one default with a list of exceptions of the opposite
//! sense, so rules that cannot be said there are refused rather than bent ([`v1_writes`]).

use std::collections::BTreeMap;

use barque_types::spec::DeviceRule;

use super::{Missing, Write, warning};
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

    fn parse(text: &str) -> Option<Self> {
        let bits = text.bytes().try_fold(0, |bits, byte| match byte {
            b'r' => Some(bits | Self::READ),
            b'w' => Some(bits | Self::WRITE),
            b'm' => Some(bits | Self::MKNOD),
            _ => None,
        })?;
        Some(Self(bits))
    }

    fn letters(self) -> String {
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

type Key = (Kind, Option<u32>, Option<u32>);

/// Whether two sets of devices have one in common, without being the same set.
fn overlaps(a: Key, b: Key) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a != b && a.0 == b.0 && meet(a.1, b.1) && meet(a.2, b.2)
}

/// What v1 keeps for a group: a default, and exceptions from it.
struct Model {
    allow_by_default: bool,
    exceptions: BTreeMap<Key, u8>,
}

impl Model {
    /// Does what the kernel does (`devcgroup_update_access`); false when the rule would not have
    /// the effect that it says.
    fn take(&mut self, allow: bool, key: Key, access: Access) -> bool {
        if allow != self.allow_by_default {
            *self.exceptions.entry(key).or_default() |= access.0;
            return true;
        }
        // Towards the default: the kernel takes the access off the exception for exactly these
        // devices, and leaves every other that covers some of them.
        if let Some(bits) = self.exceptions.get_mut(&key) {
            *bits &= !access.0;
        }
        !self
            .exceptions
            .iter()
            .any(|(&other, &bits)| bits & access.0 != 0 && overlaps(key, other))
    }
}

/// The lines for `devices.allow` and `devices.deny`, in order; neighbours for one file share an
/// open file.
pub(super) fn v1_writes(rules: &[Rule]) -> Result<Vec<Write>> {
    let mut model = Model {
        allow_by_default: true,
        exceptions: BTreeMap::new(),
    };
    let mut writes: Vec<Write> = Vec::new();
    for rule in rules {
        let (allow, line) = match rule {
            Rule::Everything { allow } => {
                model.allow_by_default = *allow;
                model.exceptions.clear();
                (*allow, "a".to_owned())
            }
            Rule::Some {
                allow,
                kind,
                major,
                minor,
                access,
            } => {
                let line = v1_line(*kind, *major, *minor, *access);
                if !model.take(*allow, (*kind, *major, *minor), *access) {
                    let verb = if *allow { "allow" } else { "deny" };
                    return Err(Error::unsupported(format!(
                        "device rule {verb} {line}: cgroup v1 cannot make an exception from an earlier rule for more devices; begin with a rule for all devices and name what differs from it"
                    )));
                }
                (*allow, line)
            }
        };
        let file = if allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        match writes.last_mut().map(|write| &mut write.candidates[0]) {
            Some((last, lines)) if last == file => lines.push(line),
            _ => writes.push(Write::one(file, line, Missing::Warn(warning::DEVICES))),
        }
    }
    Ok(writes)
}

fn v1_line(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> String {
    let letter = match kind {
        Kind::Block => 'b',
        Kind::Char => 'c',
    };
    let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
    format!(
        "{letter} {}:{} {}",
        number(major),
        number(minor),
        access.letters()
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

    fn v1(text: &str) -> Result<Vec<(String, Vec<String>)>> {
        let writes = v1_writes(&normalise(&rules(text))?)?;
        Ok(writes
            .into_iter()
            .flat_map(|write| write.candidates)
            .collect())
    }

    #[test]
    fn lines_of_v1() {
        let writes =
            v1("deny a; allow c 1:3 rwm; allow c 136:* rw; deny c 1:3 m; allow a *:* m").unwrap();
        assert_eq!(
            writes,
            [
                ("devices.deny".to_owned(), vec!["a".to_owned()]),
                (
                    "devices.allow".to_owned(),
                    vec!["c 1:3 rwm".to_owned(), "c 136:* rw".to_owned()]
                ),
                ("devices.deny".to_owned(), vec!["c 1:3 m".to_owned()]),
                (
                    "devices.allow".to_owned(),
                    vec!["c *:* m".to_owned(), "b *:* m".to_owned()]
                ),
            ]
        );
    }

    #[test]
    fn what_v1_cannot_say_is_refused() {
        for (text, good) in [
            ("deny a; allow c *:* rwm; deny c 1:3 r", false),
            ("deny c *:* rwm; allow c 1:3 r", false),
            ("deny a; allow c *:* m; deny c 1:3 rw", true),
            ("deny a; allow b *:* rwm; deny c 1:3 r", true),
            ("deny c 1:3 r; allow c 1:3 r", true),
            ("deny a; allow c 1:* r; deny c 1:* r", true),
            ("deny a; allow c 1:* r; deny c 2:3 r", true),
            ("allow c 1:* r; deny c 1:2 r", true),
        ] {
            assert_eq!(v1(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn bad_rules_say_what_is_bad() {
        for (text, word) in [
            ("allow x", "type"),
            ("allow c 1:3 rq", "access"),
            ("allow c -5:3", "-5"),
        ] {
            let error = v1(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
