//! The order of the layers, from `cargo metadata` against the table of `docs/architecture.md`.

use crate::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crates by row. A crate may depend on crates of lower rows only.
const ROWS: [(&str, u8); 20] = [
    ("barque-sys", 0),
    ("barque-types", 0),
    ("barque-state", 1),
    ("barque-cgroup", 1),
    ("barque-runtime", 2),
    ("barque-image", 2),
    ("barque-registry", 2),
    ("barque-network", 2),
    ("barque-monitor", 2),
    ("barque-engine", 3),
    ("barque-build", 4),
    ("barque-compose", 5),
    ("barque-cli", 6),
    ("barque-api", 6),
    ("barque-cri", 6),
    ("barque-oci", 6),
    ("barque", 7),
    // The tests and the habits stand beside the product; nothing of it may depend on them.
    ("barque-testkit", 8),
    ("barque-tests", 9),
    ("xtask", 9),
];

/// What a front-end may reach: the engine and what stands on it, and row 0 (the vocabulary, and the
/// kernel doors that terminals and signals need), nothing between.
const BELOW_FRONT_ENDS: [&str; 5] = [
    "barque-sys",
    "barque-engine",
    "barque-build",
    "barque-compose",
    "barque-types",
];

/// The row of the front-ends.
pub(super) const FRONT_ENDS: u8 = 6;

/// The row of a crate of the workspace.
pub(super) fn row(name: &str) -> Option<u8> {
    ROWS.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, row)| *row)
}

/// One line per violation.
pub(super) fn check() -> Result<Vec<String>> {
    let output = cargo("metadata")
        .args(["--no-deps", "--format-version", "1"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(violations(&serde_json::from_slice(&output.stdout)?))
}

fn violations(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        if row(name).is_none() {
            found.push(format!("{name}: has no row in xtask/src/lint/layers.rs"));
        }
        for dependency in array(&package["dependencies"]) {
            let kind = dependency["kind"].as_str();
            found.extend(violation(name, text(&dependency["name"]), kind));
        }
    }
    found
}

/// What is wrong with one dependency, if anything. `kind` is cargo's: absent, `build` or `dev`.
fn violation(from: &str, to: &str, kind: Option<&str>) -> Option<String> {
    let from_row = row(from)?;
    if to == "tokio" && matches!(from, "barque-runtime" | "barque-monitor") {
        return Some(format!("{from}: must not link tokio"));
    }
    let to_row = row(to)?;
    if to == "barque-testkit" && kind == Some("dev") {
        return None;
    }
    if to_row >= from_row {
        return Some(format!(
            "{from} (row {from_row}) depends on {to} (row {to_row}): only lower rows are allowed"
        ));
    }
    let reaches_below = from_row == FRONT_ENDS
        && !BELOW_FRONT_ENDS.contains(&to)
        && (from, to) != ("barque-oci", "barque-runtime")
        && kind != Some("dev");
    reaches_below.then(|| format!("{from} depends on {to}: a front-end reaches the engine only"))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_obeyed() {
        let bad = |from, to, kind| violation(from, to, kind).is_some();
        assert!(!bad("barque-engine", "barque-image", None));
        assert!(!bad("barque-engine", "serde", None));
        assert!(bad("barque-image", "barque-registry", None));
        assert!(bad("barque-state", "barque-engine", None));
        assert!(bad("barque-cli", "barque-image", None));
        assert!(!bad("barque-cli", "barque-types", None));
        assert!(!bad("barque-oci", "barque-runtime", None));
        assert!(bad("barque-monitor", "tokio", None));
        assert!(!bad("barque-runtime", "barque-testkit", Some("dev")));
        assert!(bad("barque-runtime", "barque-testkit", None));
    }
}
