//! Why there was no answer, in words that say what to do.

use crate::dns::LookupError;

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

/// What an HTTP client's error means to a user, and whether it may pass.
pub fn explain(error: &ureq::Error) -> Failure {
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
