//! Names of units, and how `cgroupsPath` tells one.

use crate::error::{Error, Result};

/// A transient unit of ours, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitName {
    slice: String,
    unit: String,
}

/// systemd's own limit (`UNIT_NAME_MAX`).
const LONGEST: usize = 255;

impl UnitName {
    /// Reads `slice:prefix:name`: the scope `prefix-name.scope` (`name.scope` without a prefix) in
    /// the slice, or the slice `name` when it ends in `.slice`, as runc has it. Without a slice it
    /// is `default_slice`: `system.slice`, or `user.slice` with a user's manager. `-` is the root
    /// slice.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for text of another form, and for names that systemd would not take.
    pub fn parse(path: &str, default_slice: &str) -> Result<Self> {
        let mut parts = path.split(':');
        let (Some(slice), Some(prefix), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::unsupported(format!(
                "cgroupsPath {path:?}: with the systemd driver it has the form slice:prefix:name"
            )));
        };
        let slice = match slice {
            "" => default_slice.to_owned(),
            "-" => "-.slice".to_owned(),
            other => other.to_owned(),
        };
        let unit = match (prefix, name) {
            (_, slice) if slice.ends_with(".slice") => slice.to_owned(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let bad = |why: &str| Err(Error::unsupported(format!("cgroupsPath {path:?}: {why}")));
        if name.is_empty() {
            return bad("it names no unit");
        }
        if !slice.ends_with(".slice") {
            return bad("the name of a slice ends in .slice");
        }
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.\\@".contains(&c);
        for text in [&slice, &unit] {
            if text.len() > LONGEST || !text.bytes().all(allowed) {
                return bad(
                    "the name of a unit has at most 255 letters, digits and any of -_.\\@ (use systemd-escape for others)",
                );
            }
        }
        Ok(Self { slice, unit })
    }

    /// `prefix-name.scope`.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The slice around it.
    #[must_use]
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// Whether the unit is a slice itself, which holds groups and no processes.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_three_parts() {
        for (path, slice, unit) in [
            (
                "machine.slice:libpod:abc",
                "machine.slice",
                "libpod-abc.scope",
            ),
            (":cri:abc", "system.slice", "cri-abc.scope"),
            ("-::abc", "-.slice", "abc.scope"),
            (
                "kubepods.slice::kubepods-pod1.slice",
                "kubepods.slice",
                "kubepods-pod1.slice",
            ),
        ] {
            let name = UnitName::parse(path, "system.slice").unwrap();
            assert_eq!((name.slice(), name.unit()), (slice, unit), "{path}");
            assert_eq!(name.is_slice(), unit.ends_with("slice"));
        }
    }

    #[test]
    fn other_paths_are_refused() {
        let long = format!(":x:{}", "y".repeat(250));
        for path in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a.slice:b:",
            ":b/c:d",
            &long,
        ] {
            let error = UnitName::parse(path, "system.slice").unwrap_err();
            assert!(error.to_string().contains("cgroupsPath"), "{error}");
        }
    }
}
