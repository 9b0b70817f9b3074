//! The binary: picks the front-end by its name and first argument, before any thread exists.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    ExitCode::from(match barque_oci::asked(&words) {
        Some(words) => barque_oci::run(words),
        None => barque_cli::run(words),
    })
}
