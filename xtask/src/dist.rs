//! `cargo xtask dist`: the binary as it is shipped, checked to need nothing.

use crate::{cargo, elf, must, programs, target};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The promise of the README.
const MAX_BYTES: u64 = 15_000_000;

/// Builds, checks, copies to `target/dist/barque`; the path.
pub(crate) fn run() -> Result<PathBuf> {
    must(cargo("build").args(["--release", "--package", "barque"]))?;
    let built = programs("release").join("barque");
    let bytes = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let facts = elf::read(&bytes).with_context(|| format!("{}", built.display()))?;
    if !facts.is_static_pie() {
        bail!("{} is no static-pie program: {facts:?}", built.display());
    }
    let size = bytes.len() as u64;
    if size > MAX_BYTES {
        bail!(
            "{}: {size} bytes are more than {MAX_BYTES}",
            built.display()
        );
    }
    let dist = target().join("dist");
    std::fs::create_dir_all(&dist)?;
    let path = dist.join("barque");
    std::fs::copy(&built, &path).with_context(|| format!("write {}", path.display()))?;
    println!(
        "{}: static-pie, no interpreter, no shared libraries, {:.1} MB ({size} bytes)",
        path.display(),
        size as f64 / 1e6
    );
    Ok(path)
}
