//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    // crates/testkit → crates → the root.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("testkit lies two levels below the workspace")
}

/// The directory with this profile's programs, e.g. `target/x86_64-unknown-linux-gnu/debug`.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the running test");
    let dir = exe.parent().expect("a program lies in a directory");
    match dir.file_name() {
        Some(name) if name == "deps" => dir.parent().expect("deps has a parent").to_owned(),
        _ => dir.to_owned(),
    }
}

/// The `barque` binary under test: `$BARQUE_BIN` (set by `cargo xtask test`), else the one beside the
/// running test, brought up to date by cargo once per test process.
pub fn barque_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("BARQUE_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// CRIU 4.1: `$BARQUE_TEST_CRIU` (set by `cargo xtask test`), else what `cargo xtask criu` has unpacked.
pub fn criu() -> PathBuf {
    let program = match std::env::var_os("BARQUE_TEST_CRIU") {
        Some(path) => PathBuf::from(path),
        // …/<target dir>/<triple>/<profile>
        None => target_dir()
            .ancestors()
            .nth(2)
            .expect("the target directory")
            .join("criu/bin/criu"),
    };
    assert!(
        program.is_file(),
        "{} is missing: run `cargo xtask criu`",
        program.display()
    );
    program
}

/// A root file system with containerd, Docker and Podman of Debian 13: `$BARQUE_TEST_CALLERS` (set by
/// `cargo xtask test`), else what `cargo xtask callers` has unpacked.
pub fn callers() -> PathBuf {
    let root = match std::env::var_os("BARQUE_TEST_CALLERS") {
        Some(path) => PathBuf::from(path),
        // …/<target dir>/<triple>/<profile>
        None => target_dir()
            .ancestors()
            .nth(2)
            .expect("the target directory")
            .join("callers/root"),
    };
    assert!(
        root.join("usr/bin/containerd").is_file(),
        "{} is missing: run `cargo xtask callers`",
        root.display()
    );
    root
}

/// `CARGO_BIN_EXE_…` exists only within the package of the binary, hence cargo is asked.
fn build() -> PathBuf {
    let dir = target_dir();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "barque"])
        .current_dir(workspace());
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    // …/<target dir>/<triple>/<profile>
    if let Some(root) = dir.ancestors().nth(2) {
        cargo.arg("--target-dir").arg(root);
    }
    let status = cargo.status().expect("run cargo to build barque");
    assert!(status.success(), "cargo build --package barque: {status}");
    let binary = dir.join("barque");
    assert!(binary.is_file(), "{} was not built", binary.display());
    binary
}
