//! Image references, `[domain/]path[:tag][@digest]`, in the grammar that Docker's users type.
//!
//! ```text
//! reference      = name [ ":" tag ] [ "@" digest ]
//! name           = [ domain "/" ] path-component { "/" path-component }      at most 255 bytes
//! domain         = ( domain-component { "." domain-component } | "[" ipv6 "]" ) [ ":" port ]
//! path-component = alnum { separator alnum }        alnum = [a-z0-9]+   separator = "_" | "." | "__" | "-"+
//! tag            = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```
//!
//! What is typed is *familiar* (`busybox`), what is stored and compared is *canonical*
//! (`docker.io/library/busybox:latest`). The first component is a domain only if it looks like one: it has a dot or a
//! port, is `localhost`, or has an upper-case letter (which no path may have).

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The registry that a name without a domain means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that a name without a tag means.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A parsed and normalised reference. `Display` is its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user typed. A missing tag stays missing; see [`Reference::or_latest`].
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Format);
        }
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            None => (rest.as_str(), None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| InvalidReference::Digest)?;
                (rest, Some(digest))
            }
        };
        let (path, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        if path.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase(path.to_owned()));
        }
        if !is_domain(&domain) || !path.split('/').all(is_path_component) {
            return Err(InvalidReference::Format);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(InvalidReference::TooLong);
        }
        Ok(Self {
            domain,
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry's name, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether it has neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// With the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Tag(tag.to_owned()));
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            ..self.name_only()
        })
    }

    /// The same repository with this digest and no tag: how an image is pinned (`RepoDigests`).
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.name_only()
        }
    }

    /// The same repository without tag and digest.
    #[must_use]
    pub fn name_only(&self) -> Self {
        Self {
            domain: self.domain.clone(),
            path: self.path.clone(),
            tag: None,
            digest: None,
        }
    }

    /// The canonical name without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as users know it: `busybox`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The familiar name with tag and digest: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// Whether a `reference` filter's pattern fits: a shell pattern against the familiar reference or name, in which
    /// `*` and `?` stop at `/`.
    pub fn matches_pattern(&self, pattern: &str) -> bool {
        crate::glob::matches(pattern, &self.familiar())
            || crate::glob::matches(pattern, &self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Why a reference could not be parsed. The texts are Docker's, which scripts look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidReference {
    /// It does not follow the grammar.
    Format,
    /// The repository has upper-case letters.
    Uppercase(String),
    /// 64 hex digits: an image id, which cannot be a name.
    LooksLikeId(String),
    /// The part after `@` is no sha256 digest.
    Digest,
    /// The tag does not follow the grammar.
    Tag(String),
    /// The name is longer than 255 bytes.
    TooLong,
}

impl fmt::Display for InvalidReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("invalid reference format"),
            Self::Uppercase(name) => write!(
                f,
                "invalid reference format: repository name ({name}) must be lowercase"
            ),
            Self::LooksLikeId(id) => write!(
                f,
                "invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"
            ),
            Self::Digest => f.write_str(
                "invalid reference format: the digest must be sha256:<64 lower-case hex digits>",
            ),
            Self::Tag(tag) => write!(
                f,
                "invalid tag format {tag:?}: want letters, digits, '_', '.', '-', at most 128"
            ),
            Self::TooLong => write!(
                f,
                "repository name must not be more than {NAME_MAX} characters"
            ),
        }
    }
}

impl std::error::Error for InvalidReference {}

/// Splits the domain off and fills in what is implied.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let rest = if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        format!("{OFFICIAL}{rest}")
    } else {
        rest.to_owned()
    };
    (domain.to_owned(), rest)
}

fn looks_like_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|c| c.is_ascii_uppercase())
}

fn is_lower_hex(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'a'..=b'f')
}

fn is_domain(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match port.strip_prefix(':') {
            Some(port) => ("ipv6", Some(port)),
            None if port.is_empty() => ("ipv6", None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    host.split('.').all(is_domain_component) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_domain_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || *c == b'-')
}

fn is_path_component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(alnum) || !text.ends_with(alnum) {
        return false;
    }
    text.split(alnum)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || all_dashes(separator))
}

fn all_dashes(text: &str) -> bool {
    text.bytes().all(|c| c == b'-')
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn canonical_and_familiar() {
        let pinned = format!("docker.io/library/busybox@{DIGEST}");
        let table = [
            ("busybox", "docker.io/library/busybox", "busybox"),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox",
                "busybox",
            ),
            ("docker.io/a/b", "docker.io/a/b", "a/b"),
            ("a/b:T_1.x-y", "docker.io/a/b:T_1.x-y", "a/b:T_1.x-y"),
            ("localhost/x", "localhost/x", "localhost/x"),
            (
                "localhost:5000/x:1",
                "localhost:5000/x:1",
                "localhost:5000/x:1",
            ),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("quay.io/a/b/c", "quay.io/a/b/c", "quay.io/a/b/c"),
            ("HOST/x", "HOST/x", "HOST/x"),
            (
                "a__b/c.d/e---f",
                "docker.io/a__b/c.d/e---f",
                "a__b/c.d/e---f",
            ),
        ];
        for (text, canonical, familiar) in table {
            let reference = Reference::parse(text).expect(text);
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(canonical).unwrap(), reference);
            assert_eq!(Reference::parse(familiar).unwrap(), reference);
        }
        let reference = Reference::parse(&format!("busybox@{DIGEST}")).unwrap();
        assert_eq!(reference.to_string(), pinned);
        assert_eq!(reference.clone().or_latest(), reference);
        let both = Reference::parse(&format!("busybox:1@{DIGEST}")).unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(both.digest(), Some(DIGEST.parse().unwrap()));
    }

    #[test]
    fn latest_is_added_only_when_asked() {
        let bare = Reference::parse("busybox").unwrap();
        assert!(bare.is_name_only());
        assert_eq!(bare.or_latest().familiar(), "busybox:latest");
        let tagged = Reference::parse("busybox:1").unwrap().or_latest();
        assert_eq!(tagged.tag(), Some("1"));
        assert_eq!(tagged.with_tag("2").unwrap().familiar(), "busybox:2");
        assert!(tagged.with_tag(".2").is_err());
    }

    #[test]
    fn refuses() {
        let long = "a/".repeat(130) + "b";
        let table = [
            ("", "invalid reference format"),
            (":x", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a_", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("https://x.io/a", "invalid reference format"),
            ("x.io:port/a", "invalid reference format"),
            ("../../etc", "invalid reference format"),
            (
                "Foo",
                "invalid reference format: repository name (library/Foo) must be lowercase",
            ),
            ("a@sha256:12", "invalid reference format: the digest must"),
            (&DIGEST[7..], "invalid repository name ("),
            (&long, "repository name must not be more than 255"),
        ];
        for (text, want) in table {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }

    #[test]
    fn filter_patterns() {
        let table = [
            ("busybox:1.36", "busybox", true),
            ("busybox:1.36", "busy*", true),
            ("busybox:1.36", "busybox:1.*", true),
            ("busybox:1.36", "*:latest", false),
            ("a/b:1", "*", false),
            ("a/b:1", "*/*", true),
            ("a/b:1", "a/[a-c]:?", true),
        ];
        for (reference, pattern, want) in table {
            let reference = Reference::parse(reference).unwrap();
            assert_eq!(reference.matches_pattern(pattern), want, "{pattern}");
        }
    }
}
