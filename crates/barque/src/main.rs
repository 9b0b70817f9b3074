//! The binary: hands its arguments to the command line, before any thread exists.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(barque_cli::run(std::env::args_os()))
}
