//! Writes the man pages into the directory named on the command line: `barque.1`, `barque-run.1`, ….
//!
//! Run by `cargo xtask dist`. It lives beside the commands and not in the program, which need not carry the
//! generator around.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let usage = || std::io::Error::other("usage: manpages DIRECTORY");
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or_else(usage)?);
    std::fs::create_dir_all(&dir)?;
    clap_mangen::generate_to(barque_cli::command(), dir)
}
