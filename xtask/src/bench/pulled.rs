//! Images to pull, the same bytes each time, made once and kept in `target/bench/images`.
//!
//! They look like installed systems as far as an engine can tell: thousands of files of all sizes, most of
//! them small, text that compresses well beside data that does not. The big one is four gzip layers, 718 MB unpacked and
//! about 253 MB packed; the others differ from it in one respect each.

use anyhow::{Context, Result};
use barque_testkit::image::{Layer, architecture, digest};
use barque_testkit::registry::Wire;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes of files per layer; together with tar headers 718 MB.
const LAYERS: [usize; 4] = [280_000_000, 200_000_000, 140_000_000, 80_000_000];
/// Files of the image of small files.
const SMALL: usize = 100_000;

/// In how many of a hundred files there is no redundancy at all.
const INCOMPRESSIBLE: u64 = 12;

/// What is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Four gzip layers, 718 MB.
    Big,
    /// The first of them alone.
    Single,
    /// The same four, zstd.
    Zstd,
    /// The first three of them, and another one.
    Shared,
    /// 100,000 small files in one layer.
    Small,
}

impl Sort {
    pub(super) const ALL: [Self; 5] = [
        Self::Big,
        Self::Single,
        Self::Zstd,
        Self::Shared,
        Self::Small,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Single => "single",
            Self::Zstd => "zstd",
            Self::Shared => "shared",
            Self::Small => "small",
        }
    }

    /// Its layers, one made at a time: each takes gigabytes of memory while it is made.
    fn layers(self) -> Vec<Box<dyn Fn() -> Layer>> {
        let nth = |index: usize| -> Box<dyn Fn() -> Layer> {
            Box::new(move || layer(index as u64, LAYERS[index % LAYERS.len()]))
        };
        match self {
            Self::Big | Self::Zstd => (0..4).map(nth).collect(),
            Self::Single => vec![nth(0)],
            // Number 7 is as large as number 3, and another one.
            Self::Shared => [0, 1, 2, 7].map(nth).into(),
            Self::Small => vec![Box::new(small)],
        }
    }

    fn directory(self, kept: &Path) -> PathBuf {
        kept.join(self.name())
    }

    /// The compressed layers, base first.
    pub(super) fn blobs(self, kept: &Path) -> Result<Vec<PathBuf>> {
        let dir = self.directory(kept);
        let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json"))?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        let file = |layer: &Value| Some(dir.join(layer["digest"].as_str()?.replace(':', "-")));
        layers
            .iter()
            .map(|layer| file(layer).context("no digest"))
            .collect()
    }
}

/// Makes the image unless it is there.
pub(super) fn make(sort: Sort, kept: &Path) -> Result<()> {
    let dir = sort.directory(kept);
    if dir.join("manifest.json").exists() {
        return Ok(());
    }
    eprintln!("making an image to pull, once: {}", dir.display());
    std::fs::create_dir_all(&dir)?;
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (index, make) in sort.layers().into_iter().enumerate() {
        let layer = make();
        diff_ids.push(layer.diff_id());
        let (kind, blob) = match sort {
            Sort::Zstd => ("application/vnd.oci.image.layer.v1.tar+zstd", layer.zstd()),
            _ => (GZIP, gzip(&layer)?),
        };
        eprintln!(
            "  layer {index}: {} MB, packed {} MB",
            layer.tar.len() / 1_000_000,
            blob.len() / 1_000_000
        );
        layers.push(store(&dir, kind, &blob)?);
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (media_type, kind) = types(sort);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": store(&dir, kind, config.to_string().as_bytes())?,
        "layers": layers,
    });
    // Written last: an image that was begun and not finished is begun again.
    std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
    Ok(())
}

const GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The media types of manifest and configuration: zstd is the OCI's alone.
const fn types(sort: Sort) -> (&'static str, &'static str) {
    match sort {
        Sort::Zstd => (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
        ),
        _ => (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
        ),
    }
}

fn gzip(layer: &Layer) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&layer.tar)?;
    Ok(encoder.finish()?)
}

fn store(dir: &Path, kind: &str, blob: &[u8]) -> Result<Value> {
    let digest = digest(blob);
    std::fs::write(dir.join(digest.replace(':', "-")), blob)?;
    Ok(json!({"mediaType": kind, "digest": digest, "size": blob.len()}))
}

/// The image as it is pushed.
pub(super) fn wire(sort: Sort, kept: &Path) -> Result<Wire> {
    let dir = sort.directory(kept);
    let manifest = std::fs::read(dir.join("manifest.json"))?;
    let parsed: Value = serde_json::from_slice(&manifest)?;
    let layers = parsed["layers"].as_array().context("no layers")?;
    let mut blobs = Vec::new();
    for descriptor in layers.iter().chain([&parsed["config"]]) {
        let digest = descriptor["digest"]
            .as_str()
            .context("no digest")?
            .to_owned();
        let file = dir.join(digest.replace(':', "-"));
        let blob = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        blobs.push((digest, blob));
    }
    Ok(Wire {
        media_type: types(sort).0,
        manifest,
        blobs,
        platform: json!({"os": "linux", "architecture": architecture()}),
    })
}

/// Many files of a few hundred bytes.
fn small() -> Layer {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let words = words(&mut numbers);
    let mut layer = Layer::builder().dir("opt", 0o755);
    for n in 0..SMALL {
        if n.is_multiple_of(100) {
            layer = layer.dir(&format!("opt/d{}", n / 100), 0o755);
        }
        let length = 100 + numbers.below(800) as usize;
        let content = prose(&mut numbers, &words, length);
        layer = layer.file(&format!("opt/d{}/f{n}", n / 100), 0o644, &content);
    }
    layer.build()
}

/// Numbers that look random and are the same each time (xorshift64*, seeded).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn layer(index: u64, size: usize) -> Layer {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (index + 1));
    let words = words(&mut numbers);
    let top = format!("opt/layer{index}");
    let mut layer = Layer::builder().dir("opt", 0o755).dir(&top, 0o755);
    let (mut written, mut files, mut dir) = (0, 0_u32, String::new());
    while written < size {
        if files.is_multiple_of(40) {
            dir = format!("{top}/d{}", files / 40);
            layer = layer.dir(&dir, 0o755);
        }
        // From 256 bytes to 2 MB; each power of two is as likely as the next.
        let power = 8 + numbers.below(13);
        let length = ((1 << power) + numbers.below(1 << power)) as usize;
        let content = if numbers.below(100) < INCOMPRESSIBLE {
            (0..length.div_ceil(8))
                .flat_map(|_| numbers.next().to_le_bytes())
                .take(length)
                .collect()
        } else {
            prose(&mut numbers, &words, length)
        };
        layer = layer.file(&format!("{dir}/f{files}"), 0o644, &content);
        written += content.len();
        files += 1;
    }
    layer.build()
}

fn words(numbers: &mut Numbers) -> Vec<Vec<u8>> {
    (0..4096)
        .map(|_| {
            let length = 3 + numbers.below(9);
            (0..length)
                .map(|_| b'a' + numbers.below(26) as u8)
                .collect()
        })
        .collect()
}

/// Words, the earlier ones more often, as in any language.
fn prose(numbers: &mut Numbers, words: &[Vec<u8>], length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        let rare = numbers.below(words.len() as u64);
        let index = numbers.below(rare + 1) as usize;
        text.extend_from_slice(&words[index]);
        text.push(b' ');
    }
    text.truncate(length);
    text
}
