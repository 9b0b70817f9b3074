//! `cargo xtask lint`: the house rules as a program. It prints every violation, not the first.

mod layers;
mod source;
mod tokens;

use crate::{cargo, must, workspace};
use anyhow::{Result, bail};

/// All checks; fails when any does.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    if must(cargo("fmt").args(["--all", "--check"])).is_err() {
        failed.push("rustfmt");
    }
    let clippy = [
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    if must(cargo("clippy").args(clippy)).is_err() {
        failed.push("clippy");
    }
    for (name, violations) in [
        ("layers", layers::check()?),
        ("sources", source::check(&workspace())?),
    ] {
        violations.iter().for_each(|line| println!("{line}"));
        if !violations.is_empty() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: {} failed", failed.join(", "));
    }
    println!("lint: rustfmt, clippy, layers and sources are as they should be");
    Ok(())
}
