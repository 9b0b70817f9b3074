//! What the tests of this crate share: a server that misbehaves to order, a real `docker-registry`, small images.

#![allow(dead_code)] // each test binary uses its own part of this

pub mod fake;
pub mod real;

use barque_registry::{Client, Config, Retry, Timeouts};
use barque_types::digest::Digest;
use barque_types::oci::{Descriptor, Manifest, media_type};
use barque_types::reference::Reference;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// The sha256 of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// A descriptor of some bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: Default::default(),
    }
}

/// A manifest with this configuration and these layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: descriptor(media_type::OCI_CONFIG, config),
        layers: layers
            .iter()
            .map(|layer| descriptor(media_type::OCI_LAYER_GZIP, layer))
            .collect(),
        annotations: Default::default(),
    };
    serde_json::to_vec(&manifest).unwrap()
}

/// Bytes that do not repeat, so that a piece at the wrong place is noticed.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// A configuration that loses no time and sees nothing of the machine.
pub fn config() -> Config {
    Config {
        certs_dirs: Vec::new(),
        retry: Retry {
            attempts: 5,
            first_pause: Duration::from_millis(2),
            longest_pause: Duration::from_secs(5),
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(20),
        },
        hosts_file: "/nonexistent".into(),
        resolv_conf: "/nonexistent".into(),
        ..Config::default()
    }
}

/// A client with that configuration.
pub fn client() -> Client {
    Client::new(config()).unwrap()
}

/// A client with these credentials for a registry, kept in a `config.json`.
pub fn client_with_auth(registry: &str, entry: &str) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, format!(r#"{{"auths": {{"{registry}": {entry}}}}}"#)).unwrap();
    Client::new(Config {
        docker_config: Some(path),
        ..config()
    })
    .unwrap()
}

/// Parses a reference.
pub fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}
