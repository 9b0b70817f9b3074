//! An image of four gzip layers, 718 MB unpacked and about 253 MB packed, the same bytes each time.
//!
//! It looks like an installed system as far as an engine can tell: thousands of files of all sizes, most of
//! them small, text that compresses well beside data that does not. Made once, kept in `target/bench/big`.

use anyhow::{Context, Result};
use barque_testkit::image::{Layer, architecture, digest};
use barque_testkit::registry::Wire;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Bytes of files per layer; together with tar headers 718 MB.
const LAYERS: [usize; 4] = [280_000_000, 200_000_000, 140_000_000, 80_000_000];

/// In how many of a hundred files there is no redundancy at all.
const INCOMPRESSIBLE: u64 = 12;

/// Makes the image unless it is there.
pub(super) fn make(dir: &Path) -> Result<()> {
    if dir.join("manifest.json").exists() {
        return Ok(());
    }
    eprintln!("making the image to pull, once: {}", dir.display());
    std::fs::create_dir_all(dir)?;
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (index, size) in LAYERS.iter().enumerate() {
        let layer = layer(index as u64, *size);
        diff_ids.push(layer.diff_id());
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&layer.tar)?;
        let blob = encoder.finish()?;
        eprintln!(
            "  layer {index}: {} MB, packed {} MB",
            layer.tar.len() / 1_000_000,
            blob.len() / 1_000_000
        );
        layers.push(store(
            dir,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            &blob,
        )?);
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let kind = "application/vnd.docker.container.image.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": store(dir, kind, config.to_string().as_bytes())?,
        "layers": layers,
    });
    // Written last: an image that was begun and not finished is begun again.
    std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
    Ok(())
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn store(dir: &Path, kind: &str, blob: &[u8]) -> Result<Value> {
    let digest = digest(blob);
    std::fs::write(dir.join(digest.replace(':', "-")), blob)?;
    Ok(json!({"mediaType": kind, "digest": digest, "size": blob.len()}))
}

/// The image as it is pushed.
pub(super) fn wire(dir: &Path) -> Result<Wire> {
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
        media_type: MANIFEST,
        manifest,
        blobs,
        platform: json!({"os": "linux", "architecture": architecture()}),
    })
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
