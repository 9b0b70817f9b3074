//! `cargo xtask dist`: the binary as it is shipped, checked to need nothing.

use crate::{cargo, elf, must, programs, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The promise of the README.
const MAX_BYTES: u64 = 15_000_000;

/// Builds, checks, copies to `target/dist/barque`; the path.
pub(crate) fn run() -> Result<PathBuf> {
    must(
        cargo("build")
            .args(["--release", "--package", "barque"])
            .env("BARQUE_GIT_COMMIT", commit()),
    )?;
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
    manual_pages(&dist.join("man"))?;
    completions(&path, &dist.join("completions"))?;
    Ok(path)
}

/// What `barque version` shows; sources without their history have none.
fn commit() -> String {
    let asked = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    match asked {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn manual_pages(dir: &Path) -> Result<()> {
    let example = [
        "run",
        "--quiet",
        "--package",
        "barque-cli",
        "--example",
        "manpages",
        "--",
    ];
    must(cargo(example[0]).args(&example[1..]).arg(dir))?;
    println!(
        "{}: {} pages",
        dir.display(),
        std::fs::read_dir(dir)?.count()
    );
    Ok(())
}

fn completions(binary: &Path, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(binary).args(["completion", shell]).output()?;
        if !script.status.success() {
            bail!("{} completion {shell}: {}", binary.display(), script.status);
        }
        std::fs::write(dir.join(format!("barque.{shell}")), script.stdout)?;
    }
    println!("{}: bash, zsh, fish", dir.display());
    Ok(())
}
