//! Credentials from Docker's `config.json`.
//!
//! ```text
//! { "auths": { "<registry>": { "auth": base64("user:password") | "username" + "password", "identitytoken", "registrytoken" } },
//!   "credHelpers": { "<registry>": "<helper>" }, "credsStore": "<helper>" }
//! ```
//!
//! Keys are hosts, or URLs as old clients wrote them; Docker Hub's is `https://index.docker.io/v1/`. Helpers are
//! programs, which this crate does not run: a front-end that wants them gives a [`CredentialHelper`].

use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key of Docker Hub in a `config.json`.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves a user to a registry. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Name and password.
    Basic {
        /// The user's name.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// An OAuth2 refresh token for the registry's token server.
    Identity(String),
    /// A token to be sent to the registry as it is.
    Registry(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Identity(_) => "Identity(…)",
            Self::Registry(_) => "Registry(…)",
        })
    }
}

impl Credential {
    /// The value of an `Authorization: Basic` header.
    pub(crate) fn basic(username: &str, password: &str) -> String {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{username}:{password}"))
        )
    }
}

/// Asks a `docker-credential-<name>` program; see docker-credential-helpers' protocol.
pub trait CredentialHelper: Send + Sync {
    /// The credential for `server` from the helper `name`; `None` if it has none. A user name of `<token>` means
    /// [`Credential::Identity`].
    fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, String>;
}

#[derive(Deserialize, Default)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// The credentials that a user configured.
pub struct Credentials {
    path: PathBuf,
    file: File,
    helper: Option<Arc<dyn CredentialHelper>>,
}

impl Credentials {
    /// Reads a `config.json`, given itself or by its directory. A file that does not exist holds no credentials.
    pub fn load(
        path: Option<&Path>,
        helper: Option<Arc<dyn CredentialHelper>>,
    ) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self {
                path: PathBuf::new(),
                file: File::default(),
                helper,
            });
        };
        let path = if path.is_dir() {
            path.join("config.json")
        } else {
            path.to_owned()
        };
        let bad = |detail: String| Error::Config {
            path: path.clone(),
            detail,
        };
        let file = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| bad(format!("cannot read credentials: {error}")))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(error) => return Err(bad(format!("cannot read credentials: {error}"))),
        };
        Ok(Self { path, file, helper })
    }

    /// The credential for a registry, by the domain of its references.
    pub fn find(&self, domain: &str) -> Result<Option<Credential>, Error> {
        let server = if domain == "docker.io" {
            HUB_KEY
        } else {
            domain
        };
        let named = self.file.helpers.iter().find(|(key, _)| same(key, domain));
        let name = named.map_or(self.file.store.as_str(), |(_, name)| name.as_str());
        if !name.is_empty()
            && let Some(found) = self.ask(name, server)?
        {
            return Ok(Some(found));
        }
        let exact = self.file.auths.get(server);
        let entry = exact.or_else(|| {
            let mut entries = self.file.auths.iter();
            entries.find(|(key, _)| same(key, domain)).map(|(_, e)| e)
        });
        entry.map_or(Ok(None), |entry| self.decode(domain, entry))
    }

    fn ask(&self, name: &str, server: &str) -> Result<Option<Credential>, Error> {
        let Some(helper) = &self.helper else {
            tracing::warn!(
                "{}: credential helper {name:?} is not supported here; `docker login` without a helper writes the credentials into the file",
                self.path.display()
            );
            return Ok(None);
        };
        helper.get(name, server).map_err(|detail| Error::Config {
            path: self.path.clone(),
            detail: format!("credential helper docker-credential-{name}: {detail}"),
        })
    }

    fn decode(&self, domain: &str, entry: &Entry) -> Result<Option<Credential>, Error> {
        if !entry.registrytoken.is_empty() {
            return Ok(Some(Credential::Registry(entry.registrytoken.clone())));
        }
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(entry.identitytoken.clone())));
        }
        if entry.auth.is_empty() {
            return Ok((!entry.username.is_empty()).then(|| Credential::Basic {
                username: entry.username.clone(),
                password: entry.password.clone(),
            }));
        }
        let bad = || Error::Config {
            path: self.path.clone(),
            detail: format!("auths: {domain}: auth is not base64 of user:password; log in again"),
        };
        let auth = entry.auth.trim();
        let decoded = STANDARD
            .decode(auth)
            .or_else(|_| STANDARD_NO_PAD.decode(auth))
            .map_err(|_| bad())?;
        let text = String::from_utf8(decoded).map_err(|_| bad())?;
        let (username, password) = text.split_once(':').ok_or_else(bad)?;
        Ok(Some(Credential::Basic {
            username: username.to_owned(),
            // Docker's client strips NULs that other clients pad with.
            password: password.trim_matches('\0').to_owned(),
        }))
    }
}

/// Whether a key of the file means this registry: keys may be URLs, and Docker Hub has several names.
fn same(key: &str, domain: &str) -> bool {
    let host = |text: &str| {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        let host = rest.split('/').next().unwrap_or("").to_ascii_lowercase();
        match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => host,
        }
    };
    host(key) == host(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, helper: Option<Arc<dyn CredentialHelper>>) -> Result<Credentials, Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        Credentials::load(Some(dir.path()), helper)
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn finds_by_every_kind_of_key() {
        let credentials = load(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
                "http://localhost:5000/v2/": {"username": "a", "password": "b"},
                "quay.io": {"identitytoken": "t"},
                "ghcr.io": {"registrytoken": "r"},
                "empty.io": {}
            }}"#,
            None,
        )
        .unwrap();
        let table = [
            ("docker.io", basic("u", "p:q")),
            ("localhost:5000", basic("a", "b")),
            ("quay.io", Some(Credential::Identity("t".to_owned()))),
            ("ghcr.io", Some(Credential::Registry("r".to_owned()))),
            ("empty.io", None),
            ("localhost:5001", None),
        ];
        for (domain, want) in table {
            assert_eq!(credentials.find(domain).unwrap(), want, "{domain}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        let error = load("{", None).err().unwrap().to_string();
        assert!(
            error.contains("config.json: cannot read credentials"),
            "{error}"
        );
        let bad = load(r#"{"auths": {"x.io": {"auth": "!secret!"}}}"#, None).unwrap();
        let error = bad.find("x.io").unwrap_err().to_string();
        assert!(error.contains("auths: x.io: auth is not base64"), "{error}");
        assert!(!error.contains("secret"));
        let none = Credentials::load(Some(Path::new("/nonexistent/x")), None).unwrap();
        assert_eq!(none.find("x.io").unwrap(), None);
    }

    struct Helper;

    impl CredentialHelper for Helper {
        fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, String> {
            match name {
                "pass" => Ok(basic(server, name)),
                "none" => Ok(None),
                _ => Err("not installed".to_owned()),
            }
        }
    }

    #[test]
    fn helpers_come_first() {
        let text = r#"{"auths": {"a.io": {"auth": "dTpw"}, "c.io": {"auth": "dTpw"}}, "credsStore": "pass",
                       "credHelpers": {"b.io": "gone", "c.io": "none"}}"#;
        let credentials = load(text, Some(Arc::new(Helper))).unwrap();
        assert_eq!(credentials.find("a.io").unwrap(), basic("a.io", "pass"));
        assert_eq!(
            credentials.find("docker.io").unwrap(),
            basic(HUB_KEY, "pass")
        );
        assert_eq!(credentials.find("c.io").unwrap(), basic("u", "p"));
        let error = credentials.find("b.io").unwrap_err().to_string();
        assert!(
            error.contains("docker-credential-gone: not installed"),
            "{error}"
        );
        // Without a runner the file's own entries still count.
        let credentials = load(text, None).unwrap();
        assert_eq!(credentials.find("a.io").unwrap(), basic("u", "p"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", basic("user", "hunter2"));
        assert!(
            !text.contains("hunter2") && !text.contains("user"),
            "{text}"
        );
    }
}
