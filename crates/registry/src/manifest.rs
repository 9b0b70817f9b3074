//! Manifests and indexes: from an answer's bytes to a document whose digest is right and whose type is certain.

use barque_types::digest::Digest;
use barque_types::oci::{Index, Manifest, media_type};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The largest manifest that is read (distribution-spec: registries should accept at least this).
pub const MANIFEST_MAX: u64 = 4 * 1024 * 1024;

/// The media types that are asked for.
pub const ACCEPT: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
];

/// A verified manifest or index.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// One of the media types above.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The document as the registry sent it, to be stored and sent on unchanged.
    pub bytes: Vec<u8>,
    /// The document, parsed.
    pub document: Document,
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// One image per platform.
    Index(Index),
}

/// The sha256 of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// What decides the type of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Parses a document. `content_type` is the header's value without parameters, empty if there was none. The error is
/// one sentence for the user.
///
/// The same bytes must not be a manifest to one reader and an index to another (CVE-2021-41190), so members and
/// media types have to agree.
pub fn parse(content_type: &str, bytes: &[u8]) -> Result<(String, Document), String> {
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| {
        if content_type == "text/html" || bytes.trim_ascii_start().starts_with(b"<") {
            "a web page instead of a manifest; is it a registry, or does a proxy or login page stand before it?".to_owned()
        } else {
            format!("the manifest is not valid JSON ({error}); try again, or push the image again")
        }
    })?;
    if shape.schema_version == 1 {
        return Err(
            "the image is in Docker's retired schema 1 format; push it again with a current client"
                .to_owned(),
        );
    }
    let is_index = shape.manifests.is_some();
    let is_manifest = shape.layers.is_some() || shape.config.is_some();
    if is_index == is_manifest {
        return Err(
            "the document is neither a manifest nor an index; check the reference".to_owned(),
        );
    }
    let allowed = if is_index { &ACCEPT[..2] } else { &ACCEPT[2..] };
    let stated = [shape.media_type.as_str(), content_type];
    for stated in stated.iter().filter(|stated| ACCEPT.contains(stated)) {
        if !allowed.contains(stated) {
            return Err(format!(
                "the document does not have the form that its media type {stated} says"
            ));
        }
    }
    // Registries on plain file servers send application/json or text/plain: the document then speaks for itself.
    let chosen = stated.into_iter().find(|stated| allowed.contains(stated));
    if chosen.is_none() && !shape.media_type.is_empty() {
        return Err(format!("media type {} is not supported", shape.media_type));
    }
    let document = if is_index {
        serde_json::from_slice(bytes).map(Document::Index)
    } else {
        serde_json::from_slice(bytes).map(|manifest| Document::Manifest(Box::new(manifest)))
    };
    let document = document
        .map_err(|error| format!("the manifest is malformed ({error}); push the image again"))?;
    Ok((chosen.unwrap_or(allowed[0]).to_owned(), document))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(media_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"digest":"{D}","size":0}},"layers":[]}}"#
        )
    }

    #[test]
    fn types() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let table = [
            ("", manifest(""), media_type::OCI_MANIFEST),
            ("application/json", manifest(""), media_type::OCI_MANIFEST),
            (
                media_type::DOCKER_MANIFEST,
                manifest(""),
                media_type::DOCKER_MANIFEST,
            ),
            (
                "text/plain",
                manifest(media_type::DOCKER_MANIFEST),
                media_type::DOCKER_MANIFEST,
            ),
            (
                media_type::OCI_INDEX,
                index.to_owned(),
                media_type::OCI_INDEX,
            ),
            ("", index.to_owned(), media_type::OCI_INDEX),
        ];
        for (content_type, body, want) in table {
            assert_eq!(
                parse(content_type, body.as_bytes()).unwrap().0,
                want,
                "{body}"
            );
        }
    }

    #[test]
    fn garbage() {
        let both = manifest("").replace("\"layers\"", "\"manifests\":[],\"layers\"");
        let table = [
            ("text/html", "<!doctype html><p>hi", "a web page"),
            ("", " <html>", "a web page"),
            (
                media_type::OCI_MANIFEST,
                "{\"schemaVersion\":2,\"conf",
                "not valid JSON",
            ),
            ("", "", "not valid JSON"),
            ("", r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (
                "",
                r#"{"schemaVersion":2}"#,
                "neither a manifest nor an index",
            ),
            ("", &both, "neither a manifest nor an index"),
            (
                media_type::OCI_INDEX,
                &manifest(""),
                "does not have the form",
            ),
            (
                "",
                &manifest(media_type::DOCKER_LIST),
                "does not have the form",
            ),
            (
                "",
                &manifest("application/x"),
                "application/x is not supported",
            ),
            (
                "",
                r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
                "malformed",
            ),
        ];
        for (content_type, body, want) in table {
            let error = parse(content_type, body.as_bytes()).unwrap_err();
            assert!(error.contains(want), "{body}: {error}");
        }
    }
}
