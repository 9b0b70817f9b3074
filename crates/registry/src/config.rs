//! What a client is told by its caller.

use crate::credentials::CredentialHelper;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything a client needs to know. The default is a client without credentials, proxies and private CAs.
#[derive(Clone)]
pub struct Config {
    /// Hosts (`host` or `host:port`) that are spoken to without TLS, or with TLS that is not verified. Loopback
    /// addresses and `localhost` always are, as with Docker.
    pub insecure: Vec<String>,
    /// Docker's `config.json` or the directory that holds it. A missing file means no credentials.
    pub docker_config: Option<PathBuf>,
    /// Runs the helper programs that a `config.json` may name. Without it their entries are skipped with a warning.
    pub helper: Option<Arc<dyn CredentialHelper>>,
    /// Proxies.
    pub proxies: Proxies,
    /// Directories in the form of `/etc/docker/certs.d`: `<host[:port]>/{*.crt,*.cert,*.key}`.
    pub certs_dirs: Vec<PathBuf>,
    /// The `User-Agent` to send.
    pub user_agent: String,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
    /// The hosts file.
    pub hosts_file: PathBuf,
    /// The resolver's configuration.
    pub resolv_conf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            docker_config: None,
            helper: None,
            proxies: Proxies::default(),
            certs_dirs: vec![PathBuf::from("/etc/docker/certs.d")],
            user_agent: concat!("barque/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            hosts_file: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// The values of the usual proxy variables, read by the caller.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`: for plain http.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for https.
    pub https: Option<String>,
    /// `NO_PROXY`: comma-separated hosts, `.domains`, addresses, CIDR blocks, or `*`.
    pub no_proxy: Option<String>,
}

/// How long to wait.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For name resolution, and for the connection with its TLS handshake.
    pub connect: Duration,
    /// For the next byte of an answer. There is no limit on the whole of a blob.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
        }
    }
}

/// How often to try what may pass: broken connections, 5xx, 429.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, also when a registry asks for more (`Retry-After`).
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(60),
        }
    }
}
