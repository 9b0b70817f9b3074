//! Images made in memory: layers entry by entry, the Docker archive that `load` reads, and the blobs
//! that a registry serves.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::{Arc, OnceLock};
use tar::{EntryType, Header};

/// One layer: an uncompressed tar stream.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The tar stream.
    pub tar: Arc<Vec<u8>>,
}

/// Builds a [`Layer`]. Names are written as they are given, also those that no unpacker should follow.
#[derive(Debug, Default)]
pub struct LayerBuilder {
    bytes: Vec<u8>,
    owner: (u64, u64),
}

/// Layers (base first) and the `config` section of the image's configuration.
#[derive(Debug, Clone)]
pub struct Image {
    /// Base first.
    pub layers: Vec<Layer>,
    /// `Env`, `Cmd`, `Entrypoint`, `WorkingDir`, …
    pub config: Value,
    /// `amd64`, `arm64`, …
    pub architecture: String,
}

/// `sha256:<hex>` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The name of this machine's architecture in image configurations.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl LayerBuilder {
    /// The owner of the entries that follow.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, mode, None, content.as_ref())
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, &format!("{name}/"), mode, None, b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, 0o777, Some(target), b"")
    }

    /// A hard link to an entry of the image.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, 0o644, Some(target), b"")
    }

    /// A FIFO.
    #[must_use]
    pub fn fifo(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Fifo, name, mode, None, b"")
    }

    /// The whiteout that deletes `dir/name` of the layers below.
    #[must_use]
    pub fn whiteout(self, dir: &str, name: &str) -> Self {
        self.file(&format!("{dir}/.wh.{name}"), 0o600, "")
    }

    /// The marker that hides all that the layers below have in `dir`.
    #[must_use]
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{dir}/.wh..wh..opq"), 0o600, "")
    }

    /// Any entry.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        mode: u32,
        target: Option<&str>,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // `Header::set_path` refuses `..`: a test wants exactly that.
        let field = &mut header.as_gnu_mut().expect("a GNU header").name;
        assert!(
            name.len() <= field.len(),
            "{name}: too long for this helper"
        );
        field[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = target {
            let field = &mut header.as_gnu_mut().expect("a GNU header").linkname;
            field[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        let padding = content.len().next_multiple_of(512) - content.len();
        self.bytes.resize(self.bytes.len() + padding, 0);
        self
    }

    /// The layer, with the two empty blocks at the end.
    pub fn build(mut self) -> Layer {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        Layer {
            tar: Arc::new(self.bytes),
        }
    }
}

impl Layer {
    /// An empty builder.
    pub fn builder() -> LayerBuilder {
        LayerBuilder::default()
    }

    /// The digest of the tar stream.
    pub fn diff_id(&self) -> String {
        digest(&self.tar)
    }

    /// Compressed with gzip.
    pub fn gzip(&self) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.tar).expect("compress in memory");
        encoder.finish().expect("compress in memory")
    }

    /// Compressed with zstd.
    pub fn zstd(&self) -> Vec<u8> {
        zstd::stream::encode_all(&self.tar[..], 1).expect("compress in memory")
    }

    /// A small userland: busybox with a link per applet, `/etc/passwd` and `/etc/group` with `root` and
    /// `guest` (1000), the usual directories. The same bytes each time.
    pub fn busybox() -> Self {
        static LAYER: OnceLock<Layer> = OnceLock::new();
        LAYER.get_or_init(busybox).clone()
    }
}

fn busybox() -> Layer {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .expect("Debian's busybox-static is installed (`cargo xtask test` does that)");
    let list = crate::Cmd::new("/bin/busybox")
        .args(["--list"])
        .output()
        .ok();
    let mut layer = Layer::builder();
    for dir in [
        "bin", "dev", "etc", "home", "mnt", "proc", "root", "sys", "usr", "var",
    ] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer
        .dir("tmp", 0o1777)
        .dir("usr/bin", 0o755)
        .dir("var/lib", 0o755);
    layer = layer.file("bin/busybox", 0o755, program);
    for applet in list.lines().iter().filter(|name| *name != "busybox") {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer
        .file("etc/passwd", 0o644, PASSWD)
        .file(
            "etc/group",
            0o644,
            "root:x:0:\nstaff:x:50:guest\nguest:x:1000:\n",
        )
        .build()
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:Guest:/home/guest:/bin/sh\n";

impl Image {
    /// An image of these layers that runs `sh`.
    pub fn new(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            config: json!({
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
            }),
            architecture: architecture().to_owned(),
        }
    }

    /// One layer with busybox.
    pub fn busybox() -> Self {
        Self::new(vec![Layer::busybox()])
    }

    /// Another layer on top.
    #[must_use]
    pub fn plus(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets one member of the `config` section.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.config[member] = value;
        self
    }

    /// The image's configuration, the bytes whose digest is the image's id.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(Layer::diff_id).collect();
        let history: Vec<Value> = self
            .layers
            .iter()
            .map(|_| json!({"created": "2024-01-02T03:04:05Z", "created_by": "testkit"}))
            .collect();
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        })
        .to_string()
        .into_bytes()
    }

    /// The image's id.
    pub fn id(&self) -> String {
        digest(&self.configuration())
    }

    /// What `docker save` would write for this image under `names`.
    pub fn docker_archive(&self, names: &[&str]) -> Vec<u8> {
        let config = self.configuration();
        let config_name = format!("{}.json", &digest(&config)["sha256:".len()..]);
        let mut archive = Layer::builder().file(&config_name, 0o644, &config);
        let mut layers = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", &layer.diff_id()["sha256:".len()..]);
            archive = archive.file(&name, 0o644, &layer.tar[..]);
            layers.push(name);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": layers}]);
        let archive = archive.file("manifest.json", 0o644, manifest.to_string());
        Arc::unwrap_or_clone(archive.build().tar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let layer = Layer::builder()
            .dir("etc", 0o755)
            .owner(7, 8)
            .file("etc/motd", 0o640, "hello")
            .symlink("motd", "etc/motd")
            .build();
        let mut archive = tar::Archive::new(&layer.tar[..]);
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                (path, header.uid().unwrap(), header.mode().unwrap())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("etc/".to_owned(), 0, 0o755),
                ("etc/motd".to_owned(), 7, 0o640),
                ("motd".to_owned(), 7, 0o777),
            ]
        );
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        assert_eq!(
            digest(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
