//! One authorised request to a registry: scheme, challenges, retries, and the registry's own words.

use crate::auth::{Authorizer, Refusal};
use crate::challenge::{self, Challenge};
use crate::config::Config;
use crate::error::Error;
use crate::failure::Failure;
use crate::transport::{self, Request, Response, SendError, Transport};
use barque_types::reference::Reference;
use barque_types::time::Timestamp;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;
use ureq::http::Method;

/// How often one request answers a challenge: once, and once more if the token had expired on the way.
const CHALLENGES_MAX: usize = 2;
/// Of an error page, more is not read.
const ERROR_BODY_MAX: u64 = 64 * 1024;
const WORDS_MAX: usize = 300;

/// Docker Hub's API is not at the name its references have.
const HUB_HOST: &str = "registry-1.docker.io";

/// What is asked of a registry.
pub struct Ask<'a> {
    /// Which registry and repository.
    pub reference: &'a Reference,
    /// GET or HEAD.
    pub method: Method,
    /// After `/v2/<repository>/`.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Whether a 404 means that the tag or digest does not exist.
    pub is_manifest: bool,
}

/// Why one attempt failed.
pub enum Trouble {
    /// Trying again will not help.
    Fatal(Error),
    /// Trying again may help, after this time if the registry named one.
    Passing(Error, Option<Duration>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// A client's state.
pub struct Session {
    pub http: Transport,
    authorizer: Authorizer,
    /// What insecure hosts turned out to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Session {
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self {
            authorizer: Authorizer::new(&config)?,
            http: Transport::new(config),
            schemes: Mutex::default(),
        })
    }

    /// Asks until there is a successful answer that `finish` accepts, an error that is final, or attempts run out.
    pub fn request<T>(
        &self,
        ask: &Ask<'_>,
        mut finish: impl FnMut(Response) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let trouble = match self.attempt(ask).and_then(&mut finish) {
                Ok(done) => return Ok(done),
                Err(_) if self.http.is_cancelled() => return Err(Error::Cancelled),
                Err(trouble) => trouble,
            };
            self.wait_or_give_up(&mut attempt, trouble)?;
        }
    }

    /// Waits before another attempt, or returns the error if there is to be none.
    pub fn wait_or_give_up(&self, attempt: &mut u32, trouble: Trouble) -> Result<(), Error> {
        let retry = &self.http.config().retry;
        let (error, after) = match trouble {
            Trouble::Fatal(error) => return Err(error),
            Trouble::Passing(error, after) => (error, after),
        };
        let doubled = retry.first_pause * 2_u32.saturating_pow(*attempt - 1).min(1 << 16);
        let pause = after.unwrap_or(doubled.min(retry.longest_pause));
        if *attempt >= retry.attempts || pause > retry.longest_pause {
            return Err(error);
        }
        tracing::debug!("attempt {attempt} failed, again in {pause:?}: {error}");
        *attempt += 1;
        self.http.pause(pause)
    }

    /// One attempt, with its challenges.
    fn attempt(&self, ask: &Ask<'_>) -> Result<Response, Trouble> {
        let registry = ask.reference.domain();
        let scope = format!("repository:{}:pull", ask.reference.path());
        let mut authorization = self.authorizer.cached(registry, &scope);
        for _ in 0..=CHALLENGES_MAX {
            let mut response = self.exchange(ask, authorization.as_deref())?;
            if response.status() != 401 {
                return judge(ask, response);
            }
            let values = response.headers().get_all("www-authenticate");
            let challenge =
                challenge::choose(values.iter().filter_map(|value| value.to_str().ok()));
            let detail = error_words(&mut response);
            let Some(challenge) = challenge else {
                return Err(denied(ask, detail).into());
            };
            if refuses_scope(&challenge) && authorization.is_some() {
                return Err(denied(ask, detail).into());
            }
            let secure = self.scheme(registry) == "https";
            let used = authorization.as_deref();
            let answer = self
                .authorizer
                .answer(&self.http, registry, &scope, used, secure, &challenge);
            authorization = Some(answer.map_err(|refusal| refused(ask, refusal))?);
        }
        Err(denied(
            ask,
            "the registry refuses every token that its token server gives".to_owned(),
        )
        .into())
    }

    /// Sends a request in the scheme of its host. An insecure host may speak either: plain http is tried first.
    fn exchange(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Response, Trouble> {
        let domain = ask.reference.domain();
        let scheme = self.scheme(domain);
        let known = scheme == "https" || transport::lock(&self.schemes).contains_key(domain);
        let sent = self.send(ask, scheme, authorization);
        let wants_tls = match &sent {
            _ if known => false,
            Ok(response) => response.status() == 400,
            Err(SendError::Failure(failure)) => failure.not_http,
            Err(SendError::Error(_)) => false,
        };
        if wants_tls && let Ok(response) = self.send(ask, "https", authorization) {
            transport::lock(&self.schemes).insert(domain.to_owned(), "https");
            return Ok(response);
        }
        let response = sent.map_err(|error| unreachable(ask, error))?;
        transport::lock(&self.schemes).insert(domain.to_owned(), scheme);
        Ok(response)
    }

    fn send(
        &self,
        ask: &Ask<'_>,
        scheme: &str,
        authorization: Option<&str>,
    ) -> Result<Response, SendError> {
        let host = match ask.reference.domain() {
            "docker.io" => HUB_HOST,
            domain => domain,
        };
        let url = format!("{scheme}://{host}/v2/{}/{}", ask.reference.path(), ask.path);
        self.http.send(&Request {
            method: ask.method.clone(),
            url,
            headers: ask.headers.clone(),
            authorization,
            form: None,
        })
    }

    fn scheme(&self, domain: &str) -> &'static str {
        if let Some(scheme) = transport::lock(&self.schemes).get(domain) {
            return scheme;
        }
        if self.http.is_insecure(domain) && !self.http.has_certificates(domain) {
            "http"
        } else {
            "https"
        }
    }
}

/// Whether the token was accepted as such but does not allow this: asking for another is vain.
fn refuses_scope(challenge: &Challenge) -> bool {
    matches!(challenge, Challenge::Bearer { error: Some(error), .. } if error == "insufficient_scope")
}

fn denied(ask: &Ask<'_>, detail: String) -> Error {
    Error::Denied {
        repository: ask.reference.familiar_name(),
        detail,
    }
}

fn refused(ask: &Ask<'_>, refusal: Refusal) -> Trouble {
    match refusal {
        Refusal::Denied(detail) => Trouble::Fatal(denied(ask, detail)),
        Refusal::Failed(failure) => unreachable(ask, SendError::Failure(failure)),
        Refusal::Error(error) => Trouble::Fatal(error),
    }
}

fn unreachable(ask: &Ask<'_>, error: SendError) -> Trouble {
    match error {
        SendError::Error(error) => Trouble::Fatal(error),
        SendError::Failure(Failure {
            detail, transient, ..
        }) => {
            let error = Error::Unreachable {
                registry: ask.reference.domain().to_owned(),
                detail,
            };
            if transient {
                Trouble::Passing(error, None)
            } else {
                Trouble::Fatal(error)
            }
        }
    }
}

/// Lets successes through and names the rest.
fn judge(ask: &Ask<'_>, mut response: Response) -> Result<Response, Trouble> {
    let status = response.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let after = retry_after(&response);
    let is_registry = response
        .headers()
        .contains_key("docker-distribution-api-version");
    let body = read_error_body(&mut response);
    let own = words(&body);
    let known = own.is_some() || is_registry || body.is_empty();
    let detail = own.unwrap_or_else(|| reason(status, &body));
    let registry = ask.reference.domain().to_owned();
    let repository = ask.reference.familiar_name();
    Err(match status {
        404 if ask.is_manifest && known => Trouble::Fatal(Error::ManifestNotFound {
            reference: ask.reference.familiar(),
            detail,
        }),
        404 if !known => Trouble::Fatal(Error::BadAnswer {
            registry,
            repository,
            detail: "status 404 without a registry's error message; is it a registry, and is the name right?".to_owned(),
        }),
        403 => Trouble::Fatal(denied(ask, detail)),
        429 => Trouble::Passing(Error::TooManyRequests { registry, detail }, after),
        408 | 500..=599 => {
            let error = Error::Status { registry, repository, status, detail };
            Trouble::Passing(error, after)
        }
        _ => Trouble::Fatal(Error::Status { registry, repository, status, detail }),
    })
}

fn read_error_body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reader = response.body_mut().as_reader();
    // What can be read of it is good enough for a message.
    let _ = reader.take(ERROR_BODY_MAX).read_to_end(&mut body);
    body
}

fn error_words(response: &mut Response) -> String {
    let status = response.status().as_u16();
    let body = read_error_body(response);
    words(&body).unwrap_or_else(|| reason(status, &body))
}

fn reason(status: u16, body: &[u8]) -> String {
    let code = ureq::http::StatusCode::from_u16(status).ok();
    let reason = code.and_then(|code| code.canonical_reason()).unwrap_or("");
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') {
        return format!("{status} {}", reason.to_ascii_lowercase())
            .trim_end()
            .to_owned();
    }
    printable(text)
}

/// The first error of a registry's error body, as Docker words it: `manifest unknown: …`.
pub fn words(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        // Token servers and some registries answer with one of these instead.
        #[serde(default)]
        details: String,
        #[serde(default)]
        error_description: String,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: serde_json::Value,
        #[serde(default)]
        message: Option<String>,
    }
    let parsed: Errors = serde_json::from_slice(body).ok()?;
    let Some(first) = parsed.errors.into_iter().next() else {
        let text = [parsed.details, parsed.error_description];
        return text
            .iter()
            .find(|text| !text.is_empty())
            .map(|text| printable(text));
    };
    let code = first
        .code
        .as_str()
        .unwrap_or("")
        .to_ascii_lowercase()
        .replace('_', " ");
    let message = first.message.unwrap_or_default();
    let parts: Vec<&str> = [code.as_str(), message.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| printable(&parts.join(": ")))
}

/// What a server said, made fit for one line of a terminal.
fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(WORDS_MAX).map(clean).collect()
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(value)?.unix_secs() - Timestamp::now().unix_secs();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110, 5.6.7; the obsolete forms are not read).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words() {
        let table = [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                Some("manifest unknown: manifest unknown"),
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Some("denied")),
            (r#"{"errors":[{"message":"m\u001b[31m"}]}"#, Some("m [31m")),
            (
                r#"{"details":"incorrect username or password"}"#,
                Some("incorrect username or password"),
            ),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
            ("", None),
        ];
        for (body, want) in table {
            assert_eq!(words(body.as_bytes()).as_deref(), want, "{body}");
        }
        assert_eq!(reason(502, b"<html>bad"), "502 bad gateway");
        assert_eq!(reason(500, b"disk full\n"), "disk full");
    }

    #[test]
    fn dates() {
        let date = http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        assert_eq!(date.unix_secs(), 1_445_412_480);
        assert!(http_date("soon").is_none());
        assert!(http_date("Wed, 21 Foo 2015 07:28:00 GMT").is_none());
    }
}
