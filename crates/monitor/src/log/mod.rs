//! Container logs in Docker's `json-file` format, rotated.
//!
//! ```text
//! <id>-json.log      newest        {"log":"a line\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}
//! <id>-json.log.1    older
//! <id>-json.log.2    oldest
//! ```
//! A rotation renames upwards and makes a new newest file; a file that was renamed is never written
//! again. Readers hold inodes, not names, so a rotation under them loses nothing.

mod encode;
mod reader;
mod writer;

pub use reader::{Entry, ReadOptions, Reader, Wake};
pub use writer::Writer;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Which of the two output streams. A terminal's output is stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The name of the file that was rotated `n` times; 0 is the newest.
fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path);
    name.push(format!(".{n}"));
    name.into()
}
