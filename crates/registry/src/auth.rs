//! From a challenge to an `Authorization` header: Basic, and Bearer tokens with a cache
//! (distribution's token and OAuth2 specifications).

use crate::challenge::Challenge;
use crate::config::Config;
use crate::credentials::{Credential, Credentials};
use crate::error::Error;
use crate::failure::Failure;
use crate::transport::{self, Request, SendError, Transport};
use crate::url::percent_encode;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// A token without a lifetime is good for this long (token specification: `expires_in`).
const DEFAULT_LIFETIME: u64 = 60;
/// Tokens are not used in their last seconds: the request takes time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(5);
const TOKEN_ANSWER_MAX: u64 = 1024 * 1024;

/// Why there is no authorisation.
pub enum Refusal {
    /// The credentials (or their absence) are not accepted; the server's words.
    Denied(String),
    /// The token server could not be asked; may pass or not.
    Failed(Failure),
    /// Nothing to retry.
    Error(Error),
}

/// Credentials and what was got for them. Keyed by registry and scope, so nothing is ever sent elsewhere.
pub struct Authorizer {
    credentials: Credentials,
    // Held while a token is fetched: parallel downloads wait for the one token.
    granted: Mutex<HashMap<(String, String), Grant>>,
}

#[derive(Clone)]
struct Grant {
    header: String,
    expires: Option<Instant>,
}

impl Grant {
    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() + MARGIN < at)
    }
}

impl Authorizer {
    pub fn new(config: &Config) -> Result<Self, Error> {
        let path = config.docker_config.as_deref();
        Ok(Self {
            credentials: Credentials::load(path, config.helper.clone())?,
            granted: Mutex::default(),
        })
    }

    /// What was granted before and is still good.
    pub fn cached(&self, registry: &str, scope: &str) -> Option<String> {
        let granted = transport::lock(&self.granted);
        let grant = granted.get(&(registry.to_owned(), scope.to_owned()))?;
        grant.is_fresh().then(|| grant.header.clone())
    }

    /// Answers a challenge. `used` is the header that was refused, if one was sent.
    pub fn answer(
        &self,
        http: &Transport,
        registry: &str,
        scope: &str,
        used: Option<&str>,
        secure: bool,
        challenge: &Challenge,
    ) -> Result<String, Refusal> {
        let key = (registry.to_owned(), scope.to_owned());
        let mut granted = transport::lock(&self.granted);
        // Another thread may have got a new one meanwhile.
        if let Some(grant) = granted.get(&key)
            && grant.is_fresh()
            && Some(grant.header.as_str()) != used
        {
            return Ok(grant.header.clone());
        }
        let credential = self.credentials.find(registry).map_err(Refusal::Error)?;
        let grant = match (challenge, &credential) {
            (Challenge::Basic, Some(Credential::Basic { username, password })) => Grant {
                header: Credential::basic(username, password),
                expires: None,
            },
            (Challenge::Basic, _) => {
                return Err(Refusal::Denied(format!(
                    "no basic auth credentials for {registry}"
                )));
            }
            (Challenge::Bearer { .. }, Some(Credential::Registry(token))) => Grant {
                header: format!("Bearer {token}"),
                expires: None,
            },
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope: wanted,
                    ..
                },
                credential,
            ) => {
                let query = TokenQuery {
                    realm,
                    service: service.as_deref(),
                    // The registry knows best; a challenge of `/v2/` itself names no scope.
                    scope: wanted.as_deref().unwrap_or(scope),
                };
                if secure && !realm.starts_with("https://") && credential.is_some() {
                    return Err(Refusal::Denied(format!(
                        "the registry wants the credentials sent to {realm}, which is not encrypted; refused"
                    )));
                }
                query.fetch(http, credential.as_ref())?
            }
        };
        // The same credentials again would be refused again.
        if grant.expires.is_none() && Some(grant.header.as_str()) == used {
            return Err(Refusal::Denied(
                "the credentials were refused; log in again".to_owned(),
            ));
        }
        granted.insert(key, grant.clone());
        Ok(grant.header)
    }
}

struct TokenQuery<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: &'a str,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl TokenQuery<'_> {
    fn fetch(&self, http: &Transport, credential: Option<&Credential>) -> Result<Grant, Refusal> {
        let basic;
        let request = match credential {
            Some(Credential::Identity(token)) => self.refresh(token),
            Some(Credential::Basic { username, password }) => {
                basic = Credential::basic(username, password);
                self.get(Some(username), Some(&basic))
            }
            _ => self.get(None, None),
        };
        let asked = Instant::now();
        let mut response = http.send(&request).map_err(|failure| match failure {
            SendError::Failure(failure) => Refusal::Failed(Failure {
                detail: format!("token server {}: {}", self.realm, failure.detail),
                ..failure
            }),
            SendError::Error(error) => Refusal::Error(error),
        })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let read = response
            .body_mut()
            .as_reader()
            .take(TOKEN_ANSWER_MAX)
            .read_to_end(&mut body);
        if matches!(status, 401 | 403) {
            let words = crate::session::words(&body)
                .unwrap_or_else(|| "incorrect username or password".to_owned());
            return Err(Refusal::Denied(words));
        }
        let failed = |detail: String, transient| {
            Refusal::Failed(Failure::new(
                format!("token server {}: {detail}", self.realm),
                transient,
            ))
        };
        if status != 200 {
            return Err(failed(
                format!("status {status}"),
                status >= 500 || status == 429,
            ));
        }
        read.map_err(|error| failed(error.to_string(), true))?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| failed("the answer is not a token".to_owned(), false))?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        let header_safe = !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
        if !header_safe {
            return Err(failed("the answer holds no token".to_owned(), false));
        }
        let lifetime = answer
            .expires_in
            .unwrap_or(DEFAULT_LIFETIME)
            .clamp(10, 86_400);
        Ok(Grant {
            header: format!("Bearer {token}"),
            expires: Some(asked + Duration::from_secs(lifetime)),
        })
    }

    fn get<'a>(&self, account: Option<&str>, authorization: Option<&'a str>) -> Request<'a> {
        let mut url = self.realm.to_owned();
        let mut separator = if url.contains('?') { '&' } else { '?' };
        let service = self.service.map(|service| ("service", service));
        let account = account.map(|account| ("account", account));
        let pairs = [service, Some(("scope", self.scope)), account];
        for (key, value) in pairs.into_iter().flatten() {
            url.push(separator);
            url.push_str(&format!("{key}={}", percent_encode(value)));
            separator = '&';
        }
        Request {
            method: Method::GET,
            url,
            headers: Vec::new(),
            authorization,
            form: None,
        }
    }

    fn refresh(&self, token: &str) -> Request<'static> {
        Request {
            method: Method::POST,
            url: self.realm.to_owned(),
            headers: Vec::new(),
            authorization: None,
            form: Some(vec![
                ("grant_type", "refresh_token".to_owned()),
                ("service", self.service.unwrap_or("").to_owned()),
                ("client_id", "barque".to_owned()),
                ("scope", self.scope.to_owned()),
                ("refresh_token", token.to_owned()),
            ]),
        }
    }
}
