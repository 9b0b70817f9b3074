//! URLs, as far as redirects and token requests need them.

use std::net::IpAddr;
use ureq::http::Uri;

/// Scheme and authority of a URL, with the default port left out.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Origin(pub String);

impl Origin {
    /// The origin of an absolute URL.
    pub fn of(url: &str) -> Self {
        let scheme = url.split(':').next().unwrap_or("").to_ascii_lowercase();
        let authority = authority_of(url).to_ascii_lowercase();
        let default = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default).unwrap_or(&authority);
        Self(format!("{scheme}://{authority}"))
    }
}

/// `host[:port]` of a URL, without user information.
pub fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit('@').next().unwrap_or(authority)
}

/// The host of `host[:port]`, an IPv6 one without its brackets.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Whether a host's traffic stays on this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An absolute URL for a `Location` (RFC 3986, 5.2, without dot segments, which registries do not send).
pub fn join(base: &str, location: &str) -> Option<String> {
    let (scheme, _) = base.split_once("://")?;
    let joined = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", authority_of(base))
    } else if location.is_empty() || location.contains("://") {
        return None;
    } else {
        let path = base.split(['?', '#']).next()?;
        let directory = &path[..=path.rfind('/')?];
        format!("{directory}{location}")
    };
    // User information in a Location would become credentials that no one configured.
    let authority = joined.split_once("://")?.1.split('/').next()?;
    (!authority.contains('@') && joined.parse::<Uri>().is_ok()).then_some(joined)
}

/// The body of an `application/x-www-form-urlencoded` request.
pub fn encode_form(form: &[(&'static str, String)]) -> String {
    let pairs: Vec<String> = form
        .iter()
        .map(|(key, value)| format!("{key}={}", percent_encode(value)))
        .collect();
    pairs.join("&")
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base = "https://r.io:5000/v2/a/blobs/x?y=1";
        let table = [
            ("https://s3.io/k?sig=1", Some("https://s3.io/k?sig=1")),
            ("//s3.io/k", Some("https://s3.io/k")),
            ("/k", Some("https://r.io:5000/k")),
            ("k", Some("https://r.io:5000/v2/a/blobs/k")),
            ("", None),
            ("ftp://x/y", None),
            ("https://u:p@evil.io/", None),
        ];
        for (location, want) in table {
            assert_eq!(join(base, location).as_deref(), want, "{location}");
        }
    }

    #[test]
    fn origins() {
        let same = |a, b| Origin::of(a) == Origin::of(b);
        assert!(same("https://A.io/x", "https://a.io:443/y"));
        assert!(same("http://a.io:80", "http://a.io/?x"));
        assert!(!same("https://a.io/x", "http://a.io/x"));
        assert!(!same("https://a.io/x", "https://a.io:444/x"));
        assert!(!same("https://a.io/", "https://a.io.evil.io/"));
        assert!(!same("https://a.io/", "https://a.io@evil.io/"));
    }
}
