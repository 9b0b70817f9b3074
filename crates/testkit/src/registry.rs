//! A real registry (Debian's `docker-registry`) on loopback, and pushing to it.

use crate::http;
use crate::image::{Image, Layer, digest};
use crate::{Cmd, Running, poll};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use tempfile::TempDir;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Whose media types a manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dialect {
    Docker,
    Oci,
}

impl Dialect {
    fn manifest(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.container.image.v1+json",
            Self::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            (Self::Docker, Compression::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The blobs and the manifest of an image as they go over the wire.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Media type of the manifest.
    pub media_type: &'static str,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Configuration and compressed layers by digest.
    pub blobs: Vec<(String, Vec<u8>)>,
    /// `os` and `architecture`.
    pub platform: Value,
}

impl Wire {
    /// Packs an image.
    pub fn new(image: &Image, compression: Compression, dialect: Dialect) -> Self {
        let config = image.configuration();
        let mut layers = Vec::new();
        let mut blobs = Vec::new();
        for layer in &image.layers {
            let blob = compress(layer, compression);
            layers.push(descriptor(dialect.layer(compression), &blob));
            blobs.push((digest(&blob), blob));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": dialect.manifest(),
            "config": descriptor(dialect.config(), &config),
            "layers": layers,
        });
        blobs.push((digest(&config), config));
        Self {
            media_type: dialect.manifest(),
            manifest: manifest.to_string().into_bytes(),
            blobs,
            platform: json!({"os": "linux", "architecture": image.architecture}),
        }
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }
}

fn compress(layer: &Layer, compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => layer.tar.to_vec(),
        Compression::Gzip => layer.gzip(),
        Compression::Zstd => layer.zstd(),
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

/// A running registry. Stopped when dropped.
#[derive(Debug)]
pub struct Registry {
    addr: SocketAddr,
    process: Option<Running>,
    dir: TempDir,
}

impl Registry {
    /// Starts one on a free port of 127.0.0.1.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(|_| Vec::new())
    }

    /// Starts one that asks for this name and password (basic authentication).
    ///
    /// `htpasswd` is a line of a bcrypt password file, as the registry wants it.
    #[track_caller]
    pub fn with_password_file(htpasswd: &str) -> Self {
        Self::with(|dir| {
            let file = dir.join("htpasswd");
            std::fs::write(&file, htpasswd).expect("write htpasswd");
            vec![
                ("REGISTRY_AUTH".into(), "htpasswd".into()),
                ("REGISTRY_AUTH_HTPASSWD_REALM".into(), "testkit".into()),
                (
                    "REGISTRY_AUTH_HTPASSWD_PATH".into(),
                    file.to_string_lossy().into_owned(),
                ),
            ]
        })
    }

    #[track_caller]
    fn with(environment: impl Fn(&Path) -> Vec<(String, String)>) -> Self {
        // The port is free when it is looked up and may be taken when the registry binds it.
        for _ in 0..5 {
            let dir = tempfile::Builder::new()
                .prefix("bq-registry-")
                .tempdir_in("/var/tmp")
                .expect("make a directory");
            let mut registry = Self {
                addr: free_port(),
                process: None,
                dir,
            };
            let environment = environment(registry.dir.path());
            if registry.run(&environment) {
                return registry;
            }
        }
        panic!("docker-registry would not start");
    }

    /// Whether it answers.
    fn run(&mut self, environment: &[(String, String)]) -> bool {
        let config = self.dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{}'}}\n",
            self.dir.path().display(),
            self.addr
        );
        std::fs::write(&config, text).expect("write the registry's config");
        let mut cmd = Cmd::new("/usr/bin/docker-registry")
            .args(["serve", &config.to_string_lossy()])
            .timeout(std::time::Duration::from_secs(3600));
        for (name, value) in environment {
            cmd = cmd.env(name, value);
        }
        let mut process = cmd.spawn_without_stdin();
        let up = poll::within(poll::PATIENCE, || {
            if process.ended() {
                return Some(false);
            }
            let answer = http::request(self.addr, "GET", "/v2/", &[], b"").ok()?;
            Some(matches!(answer.status, 200 | 401))
        });
        self.process = Some(process);
        up == Some(true)
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// `127.0.0.1:PORT/name`
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.addr)
    }

    /// Stops it, as if the machine had gone.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The file in which the registry keeps a blob, for tests that damage it.
    pub fn blob_file(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir
            .path()
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Pushes an image; the digest of its manifest.
    #[track_caller]
    pub fn push(
        &self,
        repository: &str,
        tag: &str,
        image: &Image,
        compression: Compression,
        dialect: Dialect,
    ) -> String {
        let wire = Wire::new(image, compression, dialect);
        self.push_wire(repository, tag, &wire);
        wire.digest()
    }

    /// Pushes an index of several images; its digest.
    #[track_caller]
    pub fn push_index(
        &self,
        repository: &str,
        tag: &str,
        images: &[Image],
        dialect: Dialect,
    ) -> String {
        let mut manifests = Vec::new();
        for image in images {
            let wire = Wire::new(image, Compression::Gzip, dialect);
            self.push_wire(repository, &wire.digest(), &wire);
            let mut entry = descriptor(wire.media_type, &wire.manifest);
            entry["platform"] = wire.platform;
            manifests.push(entry);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": dialect.index(),
            "manifests": manifests,
        })
        .to_string();
        self.put_manifest(repository, tag, dialect.index(), index.as_bytes());
        digest(index.as_bytes())
    }

    /// Pushes blobs and manifest as they are.
    #[track_caller]
    pub fn push_wire(&self, repository: &str, tag: &str, wire: &Wire) {
        for (digest, blob) in &wire.blobs {
            self.put_blob(repository, digest, blob);
        }
        self.put_manifest(repository, tag, wire.media_type, &wire.manifest);
    }

    #[track_caller]
    fn put_blob(&self, repository: &str, digest: &str, blob: &[u8]) {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send("POST", &path, &[], b"", 202);
        let location = begun.header("location").expect("an upload has a location");
        let path = match location.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => location.trim_start_matches('/'),
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("/{path}{mark}digest={digest}");
        let kind = [("Content-Type", "application/octet-stream")];
        self.send("PUT", &path, &kind, blob, 201);
    }

    #[track_caller]
    fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.send("PUT", &path, &[("Content-Type", media_type)], manifest, 201);
    }

    #[track_caller]
    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        want: u16,
    ) -> http::Response {
        let answer = http::request(self.addr, method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, want, "{method} {path}: {text}");
        answer
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on loopback")
}
