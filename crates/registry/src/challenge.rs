//! `WWW-Authenticate` (RFC 9110, 11.6.1; distribution's token specification).

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// `user:password` with every request.
    Basic,
    /// A token from the server `realm`.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the token must allow, if the registry says so.
        scope: Option<String>,
        /// Why the token sent was not good enough.
        error: Option<String>,
    },
}

/// The challenge to answer among a response's header values: a Bearer one if there is one.
pub fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for challenge in headers.flat_map(parse) {
        match challenge {
            Challenge::Bearer { .. } => return Some(challenge),
            Challenge::Basic => basic = Some(challenge),
        }
    }
    basic
}

/// All challenges of one header value that are understood.
fn parse(value: &str) -> Vec<Challenge> {
    let mut out = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (params, after) = params(after);
        rest = after;
        let find = |key: &str| {
            params
                .iter()
                .find(|(k, _)| k.eq_ignore_ascii_case(key))
                .map(|(_, v)| v.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            out.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            out.push(Challenge::Bearer {
                realm,
                service: find("service"),
                scope: find("scope"),
                error: find("error"),
            });
        }
    }
    out
}

/// A word, and what follows it and blanks.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `key=value` pairs, up to the end or to the next scheme (a word that no `=` follows).
fn params(mut rest: &str) -> (Vec<(&str, String)>, &str) {
    let mut out = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (key, after) = token(rest);
        let Some(after) = after.strip_prefix('=').filter(|_| !key.is_empty()) else {
            // Not a pair: the next scheme, or something malformed that nothing can be read after.
            let next = if key.is_empty() { "" } else { rest };
            return (out, next);
        };
        let (value, after) = value(after.trim_start());
        out.push((key, value));
        rest = after.trim_start();
    }
}

/// A word or a quoted string.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (out, &quoted[at + 1..]),
            _ => out.push(c),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Option<Challenge> {
        choose(std::iter::once(value))
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            error: None,
        })
    }

    #[test]
    fn table() {
        assert_eq!(one("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(one("basic"), Some(Challenge::Basic));
        assert_eq!(
            one(
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\""
            ),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )
        );
        assert_eq!(
            one("bearer realm = \"http://h/t\" , service=plain"),
            bearer("http://h/t", Some("plain"), None)
        );
        assert_eq!(
            one("Basic realm=\"a, b\", Bearer realm=\"http://h/\\\"t\""),
            bearer("http://h/\"t", None, None)
        );
        assert_eq!(
            one("Negotiate abc==, Basic realm=x"),
            Some(Challenge::Basic)
        );
        assert_eq!(
            choose(["Basic realm=x", "Bearer realm=\"r\""].into_iter()),
            bearer("r", None, None)
        );
        for none in [
            "",
            "Digest realm=\"x\"",
            "Bearer",
            "Bearer service=x",
            "=,=",
            "\"",
            ", ,",
        ] {
            assert_eq!(one(none), None, "{none}");
        }
    }
}
