//! One HTTP exchange: which agent, which scheme, and redirects that carry no credentials away.

use crate::config::Config;
use crate::dns::SystemResolver;
use crate::error::Error;
use crate::failure::{Failure, explain};
use crate::proxy::proxy_for;
use crate::tls;
use crate::url::{Origin, authority_of, encode_form, host_of, is_loopback, join};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{self, Method};
use ureq::{Agent, Body};

/// A response with its body unread.
pub type Response = http::Response<Body>;

const REDIRECTS_MAX: usize = 10;
/// Bytes that one read takes off a socket. Blobs are large; fewer, larger reads cost less.
const INPUT_BUFFER: usize = 256 * 1024;
/// More idle connections than anyone downloads in parallel.
const IDLE_PER_HOST: usize = 8;

/// One request, before authorisation.
pub struct Request<'a> {
    /// GET, HEAD or POST.
    pub method: Method,
    /// An absolute URL.
    pub url: String,
    /// Headers that may go to any host.
    pub headers: Vec<(&'static str, String)>,
    /// `Authorization`: for the URL's own origin only.
    pub authorization: Option<&'a str>,
    /// The form of a POST.
    pub form: Option<Vec<(&'static str, String)>>,
}

/// Why [`Transport::send`] gave no response.
#[derive(Debug)]
pub enum SendError {
    /// The exchange failed; what that means is the caller's to say.
    Failure(Failure),
    /// Cancelled, or the configuration is unusable.
    Error(Error),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl SendError {
    fn fatal(detail: String) -> Self {
        Self::Failure(Failure::new(detail, false))
    }
}

/// The agents of one client.
pub struct Transport {
    config: Config,
    agents: Mutex<HashMap<String, Agent>>,
    cancelled: AtomicBool,
    // Wakes sleepers on cancellation.
    gate: (Mutex<()>, Condvar),
}

impl Transport {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            agents: Mutex::default(),
            cancelled: AtomicBool::new(false),
            gate: (Mutex::new(()), Condvar::new()),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Breaks every connection and refuses new ones.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        drop(lock(&self.gate.0));
        self.gate.1.notify_all();
        for (_, agent) in lock(&self.agents).drain() {
            agent.shutdown();
        }
    }

    /// Waits, unless cancelled.
    pub fn pause(&self, pause: Duration) -> Result<(), Error> {
        let until = Instant::now() + pause;
        let mut guard = lock(&self.gate.0);
        loop {
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            guard = match self.gate.1.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Whether this `host[:port]` may be spoken to in plain http.
    pub fn is_insecure(&self, authority: &str) -> bool {
        let host = host_of(authority);
        let listed = |entry: &String| {
            entry.eq_ignore_ascii_case(authority) || entry.eq_ignore_ascii_case(host)
        };
        is_loopback(host) || self.config.insecure.iter().any(listed)
    }

    /// Whether the user configured certificates for this host, which then surely speaks TLS.
    pub fn has_certificates(&self, authority: &str) -> bool {
        !tls::certificate_dirs(&self.config, authority).is_empty()
    }

    /// Sends a request and follows redirects.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, SendError> {
        let mut url = request.url.clone();
        let home = Origin::of(&url);
        for _ in 0..=REDIRECTS_MAX {
            let at_home = Origin::of(&url) == home;
            let response = self.send_once(request, &url, at_home)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let fatal = SendError::fatal;
            let location = response.headers().get("location");
            let location = location.and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| join(&url, location));
            let target =
                target.ok_or_else(|| fatal("a redirect without a usable Location".to_owned()))?;
            if url.starts_with("https:") && !target.starts_with("https:") {
                return Err(fatal(format!(
                    "a redirect from https to {target} was refused"
                )));
            }
            if request.form.is_some() {
                return Err(fatal(
                    "a redirect of a token request was refused".to_owned(),
                ));
            }
            url = target;
        }
        Err(SendError::fatal(format!(
            "more than {REDIRECTS_MAX} redirects"
        )))
    }

    fn send_once(
        &self,
        request: &Request<'_>,
        url: &str,
        at_home: bool,
    ) -> Result<Response, SendError> {
        let agent = self.agent(url)?;
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = request.authorization.filter(|_| at_home) {
            builder = builder.header("authorization", authorization);
        }
        let sent = match &request.form {
            None => builder.body(()).map(|request| agent.run(request)),
            Some(form) => builder
                .header("content-type", "application/x-www-form-urlencoded")
                .body(encode_form(form))
                .map(|request| agent.run(request)),
        };
        let sent = sent.map_err(|error| {
            SendError::fatal(format!("cannot form a request for {url}: {error}"))
        })?;
        sent.map_err(|error| {
            if self.is_cancelled() {
                SendError::Error(Error::Cancelled)
            } else {
                SendError::Failure(explain(&error))
            }
        })
    }

    /// The agent for a URL. Hosts differ in certificates and proxies, so each has its own connections.
    fn agent(&self, url: &str) -> Result<Agent, Error> {
        let origin = Origin::of(url);
        let mut agents = lock(&self.agents);
        if self.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(agent) = agents.get(&origin.0) {
            return Ok(agent.clone());
        }
        let agent = self.make_agent(url)?;
        agents.insert(origin.0, agent.clone());
        Ok(agent)
    }

    fn make_agent(&self, url: &str) -> Result<Agent, Error> {
        let config = &self.config;
        let authority = authority_of(url);
        let https = url.starts_with("https:");
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(config.user_agent.as_str())
            .accept_encoding("identity")
            .timeout_resolve(Some(config.timeouts.connect))
            .timeout_connect(Some(config.timeouts.connect))
            .timeout_per_read(Some(config.timeouts.read))
            .timeout_per_write(Some(config.timeouts.read))
            .input_buffer_size(INPUT_BUFFER)
            .max_idle_connections(2 * IDLE_PER_HOST)
            .max_idle_connections_per_host(IDLE_PER_HOST)
            .proxy(proxy_for(&config.proxies, https, host_of(authority)));
        if https {
            builder = builder.tls_config(tls::settings(
                config,
                authority,
                self.is_insecure(authority),
            )?);
        }
        let resolver = SystemResolver {
            hosts_file: config.hosts_file.clone(),
            resolv_conf: config.resolv_conf.clone(),
        };
        let connector = ureq::unversioned::transport::DefaultConnector::default();
        Ok(Agent::with_parts(builder.build(), connector, resolver))
    }
}

/// A lock that a panicking thread cannot poison for the others: the data is valid between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_hosts() {
        let transport = Transport::new(Config {
            insecure: vec!["reg.lan:5000".to_owned(), "plain.lan".to_owned()],
            ..Config::default()
        });
        let insecure = [
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "reg.lan:5000",
            "plain.lan:1",
        ];
        for authority in insecure {
            assert!(transport.is_insecure(authority), "{authority}");
        }
        for authority in [
            "reg.lan",
            "reg.lan:5001",
            "docker.io",
            "10.0.0.1",
            "localhost.evil.io",
        ] {
            assert!(!transport.is_insecure(authority), "{authority}");
        }
    }
}
