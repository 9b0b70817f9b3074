//! Platforms, `os/architecture[/variant]` in Go's names, and the choice of the image that a host can run.
//!
//! The names that users and kernels use (`x86_64`, `armhf`) are normalised; the order of preference among an index's
//! images is containerd's: the exact variant first, then ever older ones that the processor also runs.

use crate::oci::{Descriptor, Index, PlatformSpec};
use std::fmt;
use std::str::FromStr;

/// A normalised platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// GOOS name; `linux`.
    pub os: String,
    /// GOARCH name; `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// `v7` and the like; `None` where it is the architecture's usual one (`arm64` means `v8`, `amd64` means `v1`).
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this binary was built for.
    pub fn host() -> Self {
        let (architecture, variant) = normalise(std::env::consts::ARCH, "");
        let architecture = match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
            ("powerpc64", true) => "ppc64le".to_owned(),
            ("powerpc64", false) => "ppc64".to_owned(),
            _ => architecture,
        };
        Self {
            os: "linux".to_owned(),
            architecture,
            variant,
        }
    }

    /// From an index entry or an image configuration.
    pub fn from_parts(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant.unwrap_or(""));
        Self {
            os: os.to_ascii_lowercase(),
            architecture,
            variant,
        }
    }

    /// The platforms whose images this one can run, best first; this one is the first.
    pub fn candidates(&self) -> Vec<Self> {
        let mut out = vec![self.clone()];
        let mut add = |architecture: &str, variant: Option<u32>| {
            out.push(Self {
                os: self.os.clone(),
                architecture: architecture.to_owned(),
                variant: variant.map(|v| format!("v{v}")),
            });
        };
        let version = self.version();
        match self.architecture.as_str() {
            "amd64" => {
                for older in (2..version.unwrap_or(1)).rev() {
                    add("amd64", Some(older));
                }
                if version.is_some() {
                    add("amd64", None);
                }
                add("386", None);
            }
            "arm" => {
                for older in (5..version.unwrap_or(7)).rev() {
                    add("arm", Some(older));
                }
            }
            "arm64" => {
                if self.variant.is_some() {
                    add("arm64", None);
                }
                for older in (5..=8).rev() {
                    add("arm", Some(older));
                }
            }
            _ => {}
        }
        out
    }

    /// The best entry of an index for this platform, or `None`. With `strict` (the user named the platform) only the
    /// platform itself counts; otherwise whatever this host can run does. Entries that name no platform come last:
    /// what they are for is known only from their configuration.
    pub fn choose<'a>(&self, index: &'a Index, strict: bool) -> Option<&'a Descriptor> {
        let mut candidates = self.candidates();
        if strict {
            candidates.truncate(1);
        }
        let rank = |descriptor: &Descriptor| match &descriptor.platform {
            None => Some(usize::MAX),
            Some(spec) => {
                let platform = Self::from(spec);
                candidates.iter().position(|c| *c == platform)
            }
        };
        index
            .manifests
            .iter()
            .filter_map(|descriptor| rank(descriptor).map(|rank| (rank, descriptor)))
            // The first of equals, as containerd does.
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, descriptor)| descriptor)
    }

    fn version(&self) -> Option<u32> {
        self.variant.as_deref()?.strip_prefix('v')?.parse().ok()
    }
}

impl From<&PlatformSpec> for Platform {
    fn from(spec: &PlatformSpec) -> Self {
        Self::from_parts(&spec.os, &spec.architecture, spec.variant.as_deref())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Why a platform could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPlatform(String);

impl fmt::Display for InvalidPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid platform {:?}: want os/architecture[/variant], for example linux/arm64",
            self.0
        )
    }
}

impl std::error::Error for InvalidPlatform {}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// `linux/arm64/v8`, `linux/amd64`, or one word: an architecture (of linux) or an OS (on the host's).
    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
        };
        if !parts.iter().all(word) {
            return Err(invalid());
        }
        match parts[..] {
            [os] if KNOWN_OS.contains(&os.to_ascii_lowercase().as_str()) => Ok(Self {
                os: os.to_ascii_lowercase(),
                ..Self::host()
            }),
            [architecture] => {
                let platform = Self::from_parts("linux", architecture, None);
                if KNOWN_ARCH.contains(&platform.architecture.as_str()) {
                    Ok(platform)
                } else {
                    Err(invalid())
                }
            }
            [os, architecture] => Ok(Self::from_parts(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::from_parts(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

const KNOWN_OS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];
const KNOWN_ARCH: [&str; 11] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x",
];

/// Go's names for an architecture and its variant.
fn normalise(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let numbered = |variant: String| {
        if variant.bytes().next().is_some_and(|c| c.is_ascii_digit()) {
            format!("v{variant}")
        } else {
            variant
        }
    };
    let (architecture, variant) = match architecture.as_str() {
        "i386" | "i486" | "i586" | "i686" | "x86" | "386" => ("386", String::new()),
        "x86_64" | "x86-64" | "amd64" => match numbered(variant).as_str() {
            "v1" => ("amd64", String::new()),
            other => ("amd64", other.to_owned()),
        },
        "aarch64" | "arm64" => match numbered(variant).as_str() {
            "v8" | "v8.0" => ("arm64", String::new()),
            other => ("arm64", other.to_owned()),
        },
        "armhf" => ("arm", "v7".to_owned()),
        "armel" => ("arm", "v6".to_owned()),
        "arm" if variant.is_empty() => ("arm", "v7".to_owned()),
        "arm" => ("arm", numbered(variant)),
        "loongarch64" => ("loong64", variant),
        other => (other, variant),
    };
    (
        architecture.to_owned(),
        (!variant.is_empty()).then_some(variant),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        let table = [
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("LINUX/AMD64", "linux/amd64"),
            ("linux/riscv64", "linux/riscv64"),
            ("linux/ppc64le", "linux/ppc64le"),
            ("windows/amd64", "windows/amd64"),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        for bad in ["", "/", "linux/", "a/b/c/d", "nonsense", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let platform = (!text.is_empty()).then(|| {
                    let mut parts = text.split('/').map(str::to_owned);
                    PlatformSpec {
                        os: parts.next().unwrap(),
                        architecture: parts.next().unwrap(),
                        variant: parts.next(),
                        os_version: None,
                    }
                });
                Descriptor {
                    media_type: String::new(),
                    digest: crate::digest::Digest::from_sha256([n as u8; 32]),
                    size: n as u64,
                    platform,
                    annotations: Default::default(),
                }
            })
            .collect();
        Index {
            schema_version: 2,
            media_type: None,
            manifests,
        }
    }

    #[test]
    fn chooses() {
        let all = [
            "unknown/unknown",
            "linux/386",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/amd64",
            "linux/arm64/v8",
            "windows/amd64",
            "linux/amd64/v3",
        ];
        let table: [(&str, &[&str], bool, Option<u64>); 12] = [
            ("linux/amd64", &all, false, Some(4)),
            ("linux/amd64/v2", &all, false, Some(4)),
            ("linux/amd64/v4", &all, false, Some(7)),
            ("linux/arm64", &all, false, Some(5)),
            ("linux/arm/v7", &all, false, Some(3)),
            ("linux/arm/v6", &all, false, Some(2)),
            ("linux/arm64", &all[..4], false, Some(3)),
            ("linux/arm64", &all[..4], true, None),
            ("linux/amd64", &all[..4], false, Some(1)),
            ("linux/s390x", &all, false, None),
            ("linux/s390x", &["linux/amd64", ""], true, Some(1)),
            (
                "linux/amd64",
                &["linux/amd64", "linux/amd64"],
                true,
                Some(0),
            ),
        ];
        for (platform, entries, strict, want) in table {
            let index = index(entries);
            let platform: Platform = platform.parse().unwrap();
            let got = platform.choose(&index, strict).map(|d| d.size);
            assert_eq!(got, want, "{platform} in {entries:?}");
        }
    }
}
