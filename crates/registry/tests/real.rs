//! Against Debian's `docker-registry`: what a well-behaved registry says.

mod common;

use barque_registry::{Client, Config, Document, Error};
use barque_types::oci::{Index, PlatformSpec, media_type};
use barque_types::platform::Platform;
use common::real::{Options, Registry};
use common::{client, client_with_auth, config, descriptor, digest, manifest, noise};
use std::io::Read;
use std::path::Path;
use std::process::Command;

const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// Pushes an image of one layer; returns its manifest's bytes.
fn push(registry: &Registry, repository: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
    registry.push_blob(repository, CONFIG);
    registry.push_blob(repository, layer);
    let bytes = manifest(CONFIG, &[layer]);
    registry.push_manifest(repository, tag, media_type::OCI_MANIFEST, &bytes);
    bytes
}

fn read(client: &Client, reference: &barque_types::reference::Reference, layer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let blob = descriptor(media_type::OCI_LAYER_GZIP, layer);
    client
        .blob(reference, &blob)
        .unwrap()
        .read_to_end(&mut out)
        .unwrap();
    out
}

#[test]
fn an_image_by_tag_and_by_digest() {
    let registry = Registry::start(&Options::default());
    let layer = noise(3_000_000);
    let bytes = push(&registry, "some/app", "v1", &layer);
    let client = client();
    let by_tag = registry.reference("some/app:v1");
    let fetched = client.manifest(&by_tag).unwrap();
    assert_eq!(fetched.bytes, bytes);
    assert_eq!(fetched.digest, digest(&bytes));
    assert_eq!(fetched.media_type, media_type::OCI_MANIFEST);
    let Document::Manifest(parsed) = &fetched.document else {
        panic!("not a manifest");
    };
    assert_eq!(client.resolve(&by_tag).unwrap(), Some(fetched.digest));
    let by_digest = by_tag.with_digest(fetched.digest);
    assert_eq!(client.manifest(&by_digest).unwrap().bytes, bytes);
    let config = client.blob_bytes(&by_tag, &parsed.config, 1 << 20).unwrap();
    assert_eq!(config, CONFIG);
    assert!(read(&client, &by_tag, &layer) == layer, "the layer differs");
    let error = client.blob_bytes(&by_tag, &parsed.config, 10).unwrap_err();
    assert!(
        error.to_string().contains("too large (limit 10)"),
        "{error}"
    );
}

#[test]
fn dockers_types_and_indexes() {
    let registry = Registry::start(&Options::default());
    let layer = noise(1000);
    registry.push_blob("x", CONFIG);
    registry.push_blob("x", &layer);
    let docker = String::from_utf8(manifest(CONFIG, &[&layer]))
        .unwrap()
        .replace(media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST)
        .replace(media_type::OCI_CONFIG, media_type::DOCKER_CONFIG)
        .replace(media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP);
    registry.push_manifest(
        "x",
        "docker",
        media_type::DOCKER_MANIFEST,
        docker.as_bytes(),
    );
    let mut entry = descriptor(media_type::DOCKER_MANIFEST, docker.as_bytes());
    entry.platform = Some(PlatformSpec {
        os: "linux".to_owned(),
        architecture: "arm64".to_owned(),
        variant: Some("v8".to_owned()),
        os_version: None,
    });
    let index = serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: Some(media_type::DOCKER_LIST.to_owned()),
        manifests: vec![entry.clone()],
    })
    .unwrap();
    registry.push_manifest("x", "list", media_type::DOCKER_LIST, &index);
    let client = client();
    let fetched = client.manifest(&registry.reference("x:docker")).unwrap();
    assert_eq!(fetched.media_type, media_type::DOCKER_MANIFEST);
    let fetched = client.manifest(&registry.reference("x:list")).unwrap();
    let Document::Index(index) = fetched.document else {
        panic!("not an index");
    };
    let arm: Platform = "linux/arm64".parse().unwrap();
    let chosen = arm.choose(&index, true).unwrap();
    assert_eq!(chosen.digest, entry.digest);
    let child = client
        .manifest(&registry.reference("x").with_digest(chosen.digest))
        .unwrap();
    assert_eq!(child.bytes, docker.as_bytes());
}

#[test]
fn what_does_not_exist() {
    let registry = Registry::start(&Options::default());
    push(&registry, "here", "1", b"layer");
    let client = client();
    for missing in ["here:2", "nowhere:1"] {
        let reference = registry.reference(missing);
        let error = client.manifest(&reference).unwrap_err();
        assert!(matches!(error, Error::ManifestNotFound { .. }), "{error}");
        let want = format!(
            "manifest for {} not found: manifest unknown",
            reference.familiar()
        );
        assert!(error.to_string().starts_with(&want), "{error}");
        assert!(client.resolve(&reference).is_err());
    }
    let blob = descriptor("", b"never pushed");
    let error = client
        .blob(&registry.reference("here"), &blob)
        .err()
        .unwrap();
    assert!(error.to_string().contains("blob unknown"), "{error}");
}

fn htpasswd(user: &str, password: &str) -> String {
    let out = Command::new("htpasswd")
        .args(["-nbB", "-C", "5", user, password])
        .output()
        .expect("cannot run htpasswd: install the Debian package apache2-utils");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn basic_authentication() {
    let registry = Registry::start(&Options {
        htpasswd: Some(&htpasswd("user", "pass:word")),
        ..Options::default()
    });
    let host = registry.host();
    let reference = registry.reference("private:1");
    let denied = |client: &Client| match client.manifest(&reference).unwrap_err() {
        Error::Denied { detail, .. } => detail,
        other => panic!("{other}"),
    };
    assert!(denied(&client()).contains("no basic auth credentials"));
    let wrong = client_with_auth(&host, r#"{"username": "user", "password": "wrong"}"#);
    assert!(denied(&wrong).contains("refused; log in again"));
    // base64("user:pass:word"); the registry lets the client in, and there is no such manifest.
    let right = client_with_auth(
        &format!("http://{host}/v2/"),
        r#"{"auth": "dXNlcjpwYXNzOndvcmQ="}"#,
    );
    let error = right.manifest(&reference).unwrap_err();
    assert!(matches!(error, Error::ManifestNotFound { .. }), "{error}");
    let text = client().manifest(&reference).unwrap_err().to_string();
    let want = format!(
        "pull access denied for {host}/private, repository does not exist or may require 'docker login'"
    );
    assert!(text.starts_with(&want), "{text}");
}

/// A private CA and a certificate of it for `registry.test`: `ca.crt`, `server.crt`, `server.key`.
fn make_certificates(dir: &Path) {
    let openssl = |args: &str| {
        let out = Command::new("openssl")
            .args(args.split_ascii_whitespace())
            .current_dir(dir)
            .output()
            .expect("cannot run openssl: install the Debian package openssl");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:registry.test\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=test-ca -days 2"
    ));
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=registry.test"
    ));
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -days 2 -out server.crt",
    );
}

#[test]
fn tls_with_a_private_ca() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make_certificates(dir);
    let registry = Registry::start(&Options {
        tls: Some((&dir.join("server.crt"), &dir.join("server.key"))),
        ..Options::default()
    });
    let hosts = dir.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 registry.test other.test\n").unwrap();
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = Config {
            hosts_file: hosts.clone(),
            ..config()
        };
        change(&mut config);
        Client::new(config).unwrap()
    };
    let host = format!("registry.test:{}", registry.port());
    let reference = common::reference(&format!("{host}/x:1"));
    let reached = |client: &Client, reference| {
        let error = client.manifest(reference).unwrap_err();
        assert!(matches!(error, Error::ManifestNotFound { .. }), "{error}");
    };
    let refused = |client: &Client, reference, want: &str| {
        let error = client.manifest(reference).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    };

    refused(&with(&|_| ()), &reference, "UnknownIssuer");
    refused(
        &with(&|_| ()),
        &reference,
        "put the registry's CA into /etc/docker/certs.d",
    );
    let certs = dir.join("certs.d");
    std::fs::create_dir_all(certs.join(&host)).unwrap();
    std::fs::copy(dir.join("ca.crt"), certs.join(&host).join("ca.crt")).unwrap();
    reached(
        &with(&|config| config.certs_dirs = vec![certs.clone()]),
        &reference,
    );
    // The CA is this host's only, and a name that the certificate does not have is refused with it, too.
    let other = format!("other.test:{}", registry.port());
    let foreign = common::reference(&format!("{other}/x:1"));
    refused(
        &with(&|config| config.certs_dirs = vec![certs.clone()]),
        &foreign,
        "UnknownIssuer",
    );
    std::fs::rename(certs.join(&host), certs.join(&other)).unwrap();
    refused(
        &with(&|config| config.certs_dirs = vec![certs.clone()]),
        &foreign,
        "not valid for name",
    );
    // Insecure hosts, loopback among them, may speak TLS that no one vouches for.
    reached(
        &with(&|config| config.insecure = vec![host.clone()]),
        &reference,
    );
    reached(&with(&|_| ()), &registry.reference("x:1"));
}

#[test]
fn plain_http_needs_permission() {
    let registry = Registry::start(&Options::default());
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 registry.test\n").unwrap();
    let host = format!("registry.test:{}", registry.port());
    let reference = common::reference(&format!("{host}/x:1"));
    let base = Config {
        hosts_file: hosts,
        ..config()
    };
    let error = Client::new(base.clone())
        .unwrap()
        .manifest(&reference)
        .unwrap_err();
    assert!(error.to_string().contains("list it as insecure"), "{error}");
    let insecure = Config {
        insecure: vec![host],
        ..base
    };
    let error = Client::new(insecure)
        .unwrap()
        .manifest(&reference)
        .unwrap_err();
    assert!(matches!(error, Error::ManifestNotFound { .. }), "{error}");
}
