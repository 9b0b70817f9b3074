//! One HTTP exchange: which agent, which scheme, and redirects that carry no credentials away.

use crate::config::{Config, Proxies};
use crate::dns::{LookupError, SystemResolver};
use crate::error::Error;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{self, Method, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
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

/// Why an exchange gave no response.
#[derive(Debug)]
pub struct Failure {
    /// What to tell the user.
    pub detail: String,
    /// Whether trying again may help.
    pub transient: bool,
    /// Whether something answered, but not in HTTP.
    pub not_http: bool,
}

impl Failure {
    /// A failure of a server that speaks HTTP, or of none.
    pub fn new(detail: impl Into<String>, transient: bool) -> Self {
        Self {
            detail: detail.into(),
            transient,
            not_http: false,
        }
    }
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
        !certificate_dirs(&self.config, authority).is_empty()
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
            builder = builder.tls_config(self.tls(authority)?);
        }
        let resolver = SystemResolver {
            hosts_file: config.hosts_file.clone(),
            resolv_conf: config.resolv_conf.clone(),
        };
        let connector = ureq::unversioned::transport::DefaultConnector::default();
        Ok(Agent::with_parts(builder.build(), connector, resolver))
    }

    fn tls(&self, authority: &str) -> Result<TlsConfig, Error> {
        let own = HostCertificates::load(&self.config, authority)?;
        // A host listed as insecure is not verified, as with Docker, unless the user gave a CA to verify it with.
        let unverified = self.is_insecure(authority) && own.roots.is_empty();
        let mut builder = TlsConfig::builder().disable_verification(unverified);
        if !unverified {
            builder = builder.root_certs(roots(own.roots));
        }
        Ok(builder.client_cert(own.client).build())
    }
}

/// A lock that a panicking thread cannot poison for the others: the data is valid between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scheme and authority of a URL, with the default port left out.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Origin(String);

impl Origin {
    fn of(url: &str) -> Self {
        let scheme = url.split(':').next().unwrap_or("").to_ascii_lowercase();
        let authority = authority_of(url).to_ascii_lowercase();
        let default = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default).unwrap_or(&authority);
        Self(format!("{scheme}://{authority}"))
    }
}

fn authority_of(url: &str) -> &str {
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

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An absolute URL for a `Location` (RFC 3986, 5.2, without dot segments, which registries do not send).
fn join(base: &str, location: &str) -> Option<String> {
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

fn encode_form(form: &[(&'static str, String)]) -> String {
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

/// What an HTTP client's error means to a user, and whether it may pass.
fn explain(error: &ureq::Error) -> Failure {
    let failure = |detail: String, transient| Failure::new(detail, transient);
    match error {
        ureq::Error::Other(other) => match other.downcast_ref::<LookupError>() {
            Some(lookup) => failure(lookup.to_string(), lookup.transient),
            None => failure(other.to_string(), true),
        },
        ureq::Error::Io(io) => explain_io(io),
        ureq::Error::Timeout(timeout) => failure(format!("timed out ({timeout})"), true),
        ureq::Error::Rustls(tls) => failure(explain_tls(&tls.to_string()), false),
        ureq::Error::Tls(tls) => failure(explain_tls(tls), false),
        ureq::Error::ConnectProxyFailed(proxy) => {
            failure(format!("the proxy refused: {proxy}"), false)
        }
        ureq::Error::Protocol(protocol) => Failure {
            not_http: true,
            ..failure(
                format!("the server does not speak HTTP ({protocol}); check the address and port"),
                false,
            )
        },
        other => failure(other.to_string(), true),
    }
}

fn explain_io(io: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let text = io.to_string();
    let failure = |detail: String, transient| Failure::new(detail, transient);
    match io.kind() {
        ErrorKind::ConnectionRefused => failure(
            "connection refused; is the registry running at this address?".to_owned(),
            false,
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            failure(format!("{text}; check the network"), false)
        }
        // rustls hands its errors through io::Error during a handshake.
        ErrorKind::InvalidData => failure(explain_tls(&text), false),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => failure("timed out".to_owned(), true),
        _ => failure(text, true),
    }
}

fn explain_tls(text: &str) -> String {
    let advice = if text.contains("UnknownIssuer") {
        "; put the registry's CA into /etc/docker/certs.d/<host:port>/ca.crt or the system's certificate store"
    } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
        "; the registry seems to speak plain http: list it as insecure to allow that"
    } else {
        ""
    };
    format!("TLS: {text}{advice}")
}

/// The proxy for a host, or none. Loopback is never proxied.
fn proxy_for(proxies: &Proxies, https: bool, host: &str) -> Option<ureq::Proxy> {
    let url = if https { &proxies.https } else { &proxies.http };
    let url = url.as_deref().filter(|url| !url.is_empty())?;
    if is_loopback(host) || is_exempt(proxies.no_proxy.as_deref().unwrap_or(""), host) {
        return None;
    }
    match ureq::Proxy::new(url) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            // The URL may hold a password.
            tracing::warn!("the configured proxy's URL is unusable and ignored: {error}");
            None
        }
    }
}

/// Whether NO_PROXY names a host: `*`, the host, a parent domain, an address, or a CIDR block.
fn is_exempt(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    no_proxy.split(',').map(str::trim).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = entry
            .split(':')
            .next()
            .filter(|_| !entry.contains("::"))
            .unwrap_or(&entry);
        if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
            return in_block(network, bits, address);
        }
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && (host == domain
                    || host
                        .strip_suffix(domain)
                        .is_some_and(|rest| rest.ends_with('.'))))
    })
}

fn in_block(network: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let value = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((network, width), (address, other)) = (value(network), value(address));
    width == other && bits <= width && (bits == 0 || (network ^ address) >> (128 - bits) == 0)
}

/// The bundles that distributions keep their trusted certificates in.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
];

/// The host's trusted certificates and these; Mozilla's, carried in the binary, where the host has none.
fn roots(own: Vec<Certificate<'static>>) -> RootCerts {
    let bundle = BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let system = rustls_native_certs::load_certs_from_paths(bundle, None);
    for error in &system.errors {
        tracing::warn!("trusted certificates: {error}");
    }
    if system.certs.is_empty() && own.is_empty() {
        return RootCerts::WebPki;
    }
    let system = system
        .certs
        .iter()
        .map(|der| Certificate::from_der(der).to_owned());
    own.into_iter().chain(system).into()
}

/// What a `certs.d` directory holds for one host.
#[derive(Default)]
struct HostCertificates {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

fn certificate_dirs(config: &Config, authority: &str) -> Vec<std::path::PathBuf> {
    let dirs = config.certs_dirs.iter().map(|dir| dir.join(authority));
    dirs.filter(|dir| dir.is_dir()).collect()
}

impl HostCertificates {
    fn load(config: &Config, authority: &str) -> Result<Self, Error> {
        let mut out = Self::default();
        for dir in certificate_dirs(config, authority) {
            let entries = std::fs::read_dir(&dir).map_err(|error| bad_file(&dir, &error))?;
            for entry in entries {
                let path = entry.map_err(|error| bad_file(&dir, &error))?.path();
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => out.roots.extend(certificates(&path)?),
                    Some("cert") => out.client = Some(client_certificate(&path)?),
                    _ => {}
                }
            }
        }
        Ok(out)
    }
}

fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Config {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let pem = std::fs::read(path).map_err(|error| bad_file(path, &error))?;
    let mut out = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| bad_file(path, &error))? {
            out.push(certificate);
        }
    }
    if out.is_empty() {
        return Err(bad_file(path, &"holds no PEM certificate"));
    }
    Ok(out)
}

fn client_certificate(path: &Path) -> Result<ClientCert, Error> {
    let chain = certificates(path)?;
    let key_path = path.with_extension("key");
    let pem = std::fs::read(&key_path).map_err(|error| bad_file(&key_path, &error))?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| bad_file(&key_path, &error))?;
    Ok(ClientCert::new_with_certs(&chain, key))
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

    #[test]
    fn exempt_from_the_proxy() {
        let table = [
            ("*", "a.io", true),
            ("a.io", "a.io", true),
            ("a.io", "x.a.io", true),
            (".a.io, b.io", "x.a.io", true),
            ("*.a.io", "x.a.io", true),
            ("a.io:5000", "a.io", true),
            ("a.io", "ba.io", false),
            ("", "a.io", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/8", "fd12::1", false),
        ];
        for (list, host, want) in table {
            assert_eq!(is_exempt(list, host), want, "{list} {host}");
        }
        let proxies = Proxies {
            https: Some("http://user:pw@proxy:3128".to_owned()),
            ..Proxies::default()
        };
        assert!(proxy_for(&proxies, true, "a.io").is_some());
        assert!(proxy_for(&proxies, false, "a.io").is_none());
        assert!(proxy_for(&proxies, true, "127.0.0.1").is_none());
    }
}
