//! Kernel versions, as far as profiles ask for them (`minKernel`).

use std::fmt;
use std::str::FromStr;

/// The first two numbers of a kernel release; Docker's `minKernel` compares no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// That of the running kernel, by uname(2). A release that does not begin with two numbers (none is
    /// known) counts as 0.0: what needs a minimum is then not granted.
    pub fn running() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        Self::of_release(&release).unwrap_or(Self { major: 0, minor: 0 })
    }

    /// Reads a release such as `6.18.44-cloud` or `5.10`.
    pub(crate) fn of_release(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let minor = &rest[..digits.unwrap_or(rest.len())];
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// A profile's `"minKernel": "4.8"`: exactly two numbers.
impl FromStr for KernelVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |s: &str| {
            (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
                .then(|| s.parse().ok())
                .flatten()
        };
        let (major, minor) = text.split_once('.').ok_or(())?;
        match (number(major), number(minor)) {
            // 0.0 is what a forgotten value looks like; Docker refuses it too.
            (Some(0), Some(0)) => Err(()),
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_minimums_are_read() {
        let v = |major, minor| Some(KernelVersion { major, minor });
        for (text, want) in [
            ("6.18.44-fc", v(6, 18)),
            ("4.8", v(4, 8)),
            ("5.10-rc1", v(5, 10)),
            ("6", None),
            ("x.1", None),
            ("", None),
        ] {
            assert_eq!(KernelVersion::of_release(text), want, "{text}");
        }
        assert_eq!("4.8".parse(), Ok(KernelVersion { major: 4, minor: 8 }));
        for bad in ["4", "4.8.1", "0.0", "a.b", "4.", "+4.8", ""] {
            assert_eq!(bad.parse::<KernelVersion>(), Err(()), "{bad}");
        }
        assert!(KernelVersion::running() > "3.17".parse().unwrap());
        assert!(
            KernelVersion {
                major: 4,
                minor: 19
            } > KernelVersion { major: 4, minor: 8 }
        );
    }
}
