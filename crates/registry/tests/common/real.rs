//! Debian's `docker-registry` (CNCF distribution 2.8) as a child process on a loopback port.

use super::{digest, reference};
use barque_types::digest::Digest;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How the registry is to be run.
#[derive(Default)]
pub struct Options<'a> {
    /// Contents of a htpasswd file.
    pub htpasswd: Option<&'a str>,
    /// Certificate and key files.
    pub tls: Option<(&'a Path, &'a Path)>,
}

/// A registry; it is killed with its value.
pub struct Registry {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Registry {
    /// Starts one and waits until it listens.
    pub fn start(options: &Options<'_>) -> Self {
        // The free port may be taken between finding and using it: try another then.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(options) {
                return registry;
            }
        }
        panic!("docker-registry does not start; is the Debian package docker-registry installed?");
    }

    fn try_start(options: &Options<'_>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.path().join("data").display()
        );
        if let Some((certificate, key)) = options.tls {
            config.push_str(&format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                certificate.display(),
                key.display()
            ));
        }
        if let Some(htpasswd) = options.htpasswd {
            let path = dir.path().join("htpasswd");
            std::fs::write(&path, htpasswd).unwrap();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                path.display()
            ));
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run docker-registry: install the Debian package docker-registry");
        let mut registry = Self { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if registry.child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data lie.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Stores a blob (distribution-spec: POST, then PUT with everything).
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let agent = ureq::Agent::new_with_defaults();
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.host());
        let started = agent.post(&url).send_empty().unwrap();
        let location = started.headers()["location"].to_str().unwrap().to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        agent
            .put(format!("{location}{separator}digest={digest}"))
            .header("content-type", "application/octet-stream")
            .send(bytes)
            .unwrap();
        digest
    }

    /// Stores a manifest or index under a tag or digest.
    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host());
        ureq::Agent::new_with_defaults()
            .put(url)
            .header("content-type", media_type)
            .send(bytes)
            .unwrap();
    }

    /// A reference into this registry.
    pub fn reference(&self, rest: &str) -> barque_types::reference::Reference {
        reference(&format!("{}/{rest}", self.host()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
