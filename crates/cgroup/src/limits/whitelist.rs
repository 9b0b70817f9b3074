//! Device rules as cgroup v1 keeps them: a default for a group, and a list of exceptions from it
//! (Documentation/admin-guide/cgroup-v1/devices.rst, security/device_cgroup.c).

use std::collections::BTreeMap;

use barque_types::spec::DeviceRule;

use super::devices::{Access, Kind, Rule, normalise};
use super::{Missing, Write, warning};
use crate::error::{Error, Result};

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

/// What the rules leave in the end, and the lines that lead there from the kernel's default.
fn play(rules: &[Rule]) -> Result<(Model, Vec<(bool, String)>)> {
    let mut model = Model {
        allow_by_default: true,
        exceptions: BTreeMap::new(),
    };
    let mut lines = Vec::with_capacity(rules.len());
    for rule in rules {
        match rule {
            Rule::Everything { allow } => {
                model.allow_by_default = *allow;
                model.exceptions.clear();
                lines.push((*allow, "a".to_owned()));
            }
            Rule::Some {
                allow,
                kind,
                major,
                minor,
                access,
            } => {
                let line = v1_line((*kind, *major, *minor), *access);
                if !model.take(*allow, (*kind, *major, *minor), *access) {
                    let verb = if *allow { "allow" } else { "deny" };
                    return Err(Error::unsupported(format!(
                        "device rule {verb} {line}: cgroup v1 cannot make an exception from an earlier rule for more devices; begin with a rule for all devices and name what differs from it"
                    )));
                }
                lines.push((*allow, line));
            }
        }
    }
    model.exceptions.retain(|_, bits| *bits != 0);
    Ok((model, lines))
}

/// One entry of a whitelist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// `block` or `char`.
    pub(crate) kind: &'static str,
    /// `None` is every one.
    pub(crate) major: Option<u32>,
    /// `None` is every one.
    pub(crate) minor: Option<u32>,
    /// Of `r`, `w`, `m`.
    pub(crate) access: String,
}

/// The whitelist that the rules amount to; `None` when they are not one: everything else is allowed,
/// or a list cannot say it.
///
/// # Errors
/// Rules that mean nothing.
pub(crate) fn whitelist(rules: &[DeviceRule]) -> Result<Option<Vec<Listed>>> {
    let rules = normalise(rules)?;
    let Ok((model, _)) = play(&rules) else {
        return Ok(None);
    };
    if model.allow_by_default {
        return Ok(None);
    }
    let listed = model
        .exceptions
        .iter()
        .map(|(&(kind, major, minor), &bits)| Listed {
            kind: match kind {
                Kind::Block => "block",
                Kind::Char => "char",
            },
            major,
            minor,
            access: Access(bits).letters(),
        });
    Ok(Some(listed.collect()))
}

/// The lines for `devices.allow` and `devices.deny`, in order; neighbours for one file share an
/// open file. `current` is what `devices.list` holds in a group that is in use.
///
/// There, the rules as they stand would take everything away before they give it back, and a
/// container that opens `/dev/null` just then would fail. Both lists known, only the difference is
/// written: first what is new, then what is no more.
pub(super) fn v1_writes(rules: &[Rule], current: Option<&str>) -> Result<Vec<Write>> {
    let (model, mut lines) = play(rules)?;
    // Without a rule for everything the model begins with a guess.
    let complete = rules
        .iter()
        .any(|rule| matches!(rule, Rule::Everything { .. }));
    if complete
        && !model.allow_by_default
        && let Some(current) = current.and_then(parse_list)
    {
        lines = difference(&current, &model.exceptions);
    }
    let mut writes: Vec<Write> = Vec::new();
    for (allow, line) in lines {
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

/// `devices.list` of a group that denies by default; `None` for one that allows by default, whose
/// exceptions the kernel does not show.
fn parse_list(text: &str) -> Option<BTreeMap<Key, u8>> {
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let kind = match words.next()? {
                "b" => Kind::Block,
                "c" => Kind::Char,
                _ => return None,
            };
            let (major, minor) = words.next()?.split_once(':')?;
            let number = |text: &str| match text {
                "*" => Some(None),
                digits => digits.parse().ok().map(Some),
            };
            let access = Access::parse(words.next()?)?;
            Some(((kind, number(major)?, number(minor)?), access.0))
        })
        .collect()
}

fn difference(from: &BTreeMap<Key, u8>, to: &BTreeMap<Key, u8>) -> Vec<(bool, String)> {
    let more = |these: &BTreeMap<Key, u8>, those: &BTreeMap<Key, u8>, allow: bool| {
        let lines = these.iter().filter_map(|(key, bits)| {
            let rest = bits & !those.get(key).copied().unwrap_or(0);
            (rest != 0).then(|| (allow, v1_line(*key, Access(rest))))
        });
        lines.collect::<Vec<_>>()
    };
    let mut lines = more(to, from, true);
    lines.extend(more(from, to, false));
    lines
}

fn v1_line((kind, major, minor): Key, access: Access) -> String {
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
    use super::super::devices::tests::rules;
    use super::*;

    pub(in crate::limits) fn v1(text: &str) -> Result<Vec<(String, Vec<String>)>> {
        let writes = v1_writes(&normalise(&rules(text))?, None)?;
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
    fn a_change_is_written_as_the_difference() {
        let change = |list: &str, text: &str| {
            let writes = v1_writes(&normalise(&rules(text)).unwrap(), Some(list)).unwrap();
            let lines = writes.into_iter().flat_map(|write| write.candidates);
            lines
                .map(|(file, lines)| format!("{file}={}", lines.join("|")))
                .collect::<Vec<_>>()
        };
        let now = "c 1:3 rwm\nc *:* m\nb 8:* r\n";
        assert_eq!(
            change(now, "deny a; allow c 1:3 rw; allow c 1:5 r; allow c *:* m"),
            ["devices.allow=c 1:5 r", "devices.deny=b 8:* r|c 1:3 m"]
        );
        assert!(change(now, "deny a; allow b 8:* r; allow c 1:3 rwm; allow c *:* m").is_empty());
        assert_eq!(
            change("", "deny a; allow c 1:3 r"),
            ["devices.allow=c 1:3 r"]
        );
        // What is allowed by default is not shown, and what is incomplete not known.
        for (list, text) in [
            ("a *:* rwm\n", "deny a; allow c 1:3 r"),
            (now, "deny c 1:3 r"),
        ] {
            assert_eq!(
                change(list, text)[0].split('=').next(),
                Some("devices.deny")
            );
        }
        assert_eq!(change(now, "allow a"), ["devices.allow=a"]);
    }
}
