//! Whom to trust: the host's certificates, the binary's, and those of a `certs.d` directory.

use crate::config::Config;
use crate::error::Error;
use std::path::Path;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

/// The TLS settings for a host. One that may be spoken to in plain http is not verified either, as with Docker, unless
/// the user gave a CA to verify it with.
pub fn settings(config: &Config, authority: &str, insecure: bool) -> Result<TlsConfig, Error> {
    let own = HostCertificates::load(config, authority)?;
    let unverified = insecure && own.roots.is_empty();
    let mut builder = TlsConfig::builder().disable_verification(unverified);
    if !unverified {
        builder = builder.root_certs(roots(own.roots));
    }
    Ok(builder.client_cert(own.client).build())
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

/// The `certs.d` directories that a host has.
pub fn certificate_dirs(config: &Config, authority: &str) -> Vec<std::path::PathBuf> {
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
