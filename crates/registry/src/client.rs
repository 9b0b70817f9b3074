//! What callers use.

use crate::blob::BlobReader;
use crate::config::Config;
use crate::error::Error;
use crate::manifest::{self, ACCEPT, Fetched, MANIFEST_MAX, digest_of};
use crate::session::{Ask, Session, Trouble};
use crate::transport::Response;
use barque_types::digest::Digest;
use barque_types::oci::Descriptor;
use barque_types::reference::Reference;
use std::io::Read;
use std::sync::Arc;
use ureq::http::Method;

/// A client for any number of registries. Clones share connections, tokens and cancellation.
#[derive(Clone)]
pub struct Client(Arc<Session>);

impl Client {
    /// Reads the credentials' file; opens no connection.
    pub fn new(config: Config) -> Result<Self, Error> {
        Session::new(config).map(Arc::new).map(Self)
    }

    /// Breaks off everything that any clone is doing, which then fails with [`Error::Cancelled`], as does everything
    /// after. Only a name lookup or a connect under way ends by its own timeout.
    pub fn cancel(&self) {
        self.0.http.cancel();
    }

    /// The digest that a reference leads to now, without fetching it (HEAD: registries do not count it against pull
    /// limits). `None` if the registry does not tell.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let ask = ask_manifest(reference, Method::HEAD);
        self.0
            .request(&ask, |response| Ok(stated_digest(&response)))
    }

    /// Fetches the manifest or index that a reference leads to; its digest if it has one, else its tag.
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        let ask = ask_manifest(reference, Method::GET);
        let bad = |detail: String| Error::BadAnswer {
            registry: reference.domain().to_owned(),
            repository: reference.familiar_name(),
            detail,
        };
        self.0.request(&ask, |mut response| {
            let content_type = content_type(&response);
            let stated = stated_digest(&response);
            let bytes = read_manifest(reference, &mut response)?;
            let digest = digest_of(&bytes);
            if let Some(want) = reference.digest().or(stated)
                && want != digest
            {
                return Err(Trouble::Fatal(Error::DigestMismatch {
                    registry: reference.domain().to_owned(),
                    what: format!("the manifest of {}", reference.familiar()),
                    want: want.to_string(),
                    got: digest.to_string(),
                }));
            }
            let (media_type, document) = manifest::parse(&content_type, &bytes).map_err(bad)?;
            Ok(Fetched {
                media_type,
                digest,
                bytes,
                document,
            })
        })
    }

    /// Opens a blob of a reference's repository.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        BlobReader::open(self.0.clone(), reference, descriptor)
    }

    /// Fetches a small blob (an image's configuration) and verifies it; refuses one of more than `limit` bytes.
    pub fn blob_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let bad = |detail: String| Error::BadAnswer {
            registry: reference.domain().to_owned(),
            repository: reference.familiar_name(),
            detail,
        };
        if descriptor.size > limit {
            let digest = descriptor.digest;
            return Err(bad(format!(
                "blob {digest} of {} bytes is too large (limit {limit})",
                descriptor.size
            )));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or(0));
        self.blob(reference, descriptor)?
            .read_to_end(&mut bytes)
            .map_err(|error| match Error::from_io(&error) {
                Some(own) => own.clone(),
                None => bad(error.to_string()),
            })?;
        let got = digest_of(&bytes);
        if got != descriptor.digest {
            return Err(Error::DigestMismatch {
                registry: reference.domain().to_owned(),
                what: format!("a blob of {}", reference.familiar_name()),
                want: descriptor.digest.to_string(),
                got: got.to_string(),
            });
        }
        Ok(bytes)
    }
}

fn ask_manifest(reference: &Reference, method: Method) -> Ask<'_> {
    let target = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag
            .unwrap_or(barque_types::reference::DEFAULT_TAG)
            .to_owned(),
    };
    Ask {
        reference,
        method,
        path: format!("manifests/{target}"),
        headers: vec![("accept", ACCEPT.join(", "))],
        is_manifest: true,
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get("content-type");
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = text.split(';').next().unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

/// `Docker-Content-Digest`; other algorithms than sha256 cannot be compared.
fn stated_digest(response: &Response) -> Option<Digest> {
    let value = response.headers().get("docker-content-digest")?;
    value.to_str().ok()?.parse().ok()
}

fn read_manifest(reference: &Reference, response: &mut Response) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let reader = response.body_mut().as_reader();
    reader
        .take(MANIFEST_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let error = Error::Unreachable {
                registry: reference.domain().to_owned(),
                detail: format!("the connection broke within the manifest: {error}"),
            };
            Trouble::Passing(error, None)
        })?;
    if bytes.len() as u64 > MANIFEST_MAX {
        return Err(Trouble::Fatal(Error::BadAnswer {
            registry: reference.domain().to_owned(),
            repository: reference.familiar_name(),
            detail: format!(
                "the manifest is larger than {MANIFEST_MAX} bytes; check the reference"
            ),
        }));
    }
    Ok(bytes)
}
