//! Rules about single files: where `unsafe` may stand, what the library must not do, module docs, length.

use super::layers;
use super::tokens::{code_only, has_word};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 800;

/// Talking to the user, ending the process, reading the user's environment, running helper programs:
/// all the front-end's business, or nobody's.
const NOT_BELOW_FRONT_ENDS: [(&str, &str); 12] = [
    ("println!", "prints"),
    ("eprintln!", "prints"),
    ("print!", "prints"),
    ("eprint!", "prints"),
    ("io::stdout", "writes to the user's stdout"),
    ("io::stderr", "writes to the user's stderr"),
    ("process::exit", "exits"),
    ("env::var", "reads the user's environment"),
    ("env::var_os", "reads the user's environment"),
    ("env::vars", "reads the user's environment"),
    ("process::Command", "runs a helper program"),
    ("Command::new", "runs a helper program"),
];

/// One line per violation in all Rust files of the workspace.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for top in ["crates", "tests", "xtask"] {
        for path in rust_files(&root.join(top))? {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            let shown = path.strip_prefix(root).unwrap_or(&path);
            found.extend(violations(shown, &text));
        }
    }
    Ok(found)
}

fn violations(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(format!(
            "{shown}:1: does not begin with `//!`: what is it for?"
        ));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{shown}: {lines} lines are more than {MAX_LINES}"));
    }
    if !path.starts_with("crates/sys") {
        let code = code_only(text, true);
        found.extend(
            numbered(&code, "unsafe")
                .map(|line| format!("{shown}:{line}: unsafe is for crates/sys alone")),
        );
    }
    if library(path) {
        let code = code_only(text, false);
        for (word, what) in NOT_BELOW_FRONT_ENDS {
            found.extend(
                numbered(&code, word)
                    .map(|line| format!("{shown}:{line}: {what} ({word}) below the front-ends")),
            );
        }
    }
    found
}

/// Whether the file is part of a crate below the front-ends (and not of its tests).
fn library(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let (Some(top), Some(folder), Some(src)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let row = layers::row(&format!("barque-{folder}")).or_else(|| layers::row(&folder));
    // `#[cfg(test)] mod tests;` puts a module's tests into a file of that name.
    let test_file =
        path.file_stem().is_some_and(|stem| stem == "tests") || parts.any(|part| part == "tests");
    top == "crates" && src == "src" && !test_file && row.is_some_and(|row| row < layers::FRONT_ENDS)
}

fn numbered(code: &str, word: &str) -> impl Iterator<Item = usize> {
    code.lines()
        .enumerate()
        .filter(move |(_, line)| has_word(line, word))
        .map(|(index, _)| index + 1)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_seen() {
        let seen = |path: &str, text: &str| violations(Path::new(path), text).len();
        assert_eq!(seen("crates/engine/src/a.rs", "//! A.\nfn a() {}\n"), 0);
        assert_eq!(seen("crates/engine/src/a.rs", "fn a() {}\n"), 1);
        assert_eq!(
            seen("crates/engine/src/a.rs", "//! A.\nunsafe fn a() {}\n"),
            1
        );
        assert_eq!(seen("crates/sys/src/a.rs", "//! A.\nunsafe fn a() {}\n"), 0);
        let prints = "//! A.\nfn a() { println!(\"x\"); std::process::exit(1) }\n";
        assert_eq!(seen("crates/engine/src/a.rs", prints), 2);
        assert_eq!(seen("crates/engine/tests/a.rs", prints), 0);
        assert_eq!(seen("crates/cli/src/a.rs", prints), 0);
        let long = format!("//! A.\n{}", "\n".repeat(900));
        assert_eq!(seen("crates/cli/src/a.rs", &long), 1);
    }
}
