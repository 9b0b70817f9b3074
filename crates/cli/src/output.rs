//! stdout and stderr: whole writes, a reader that has gone is noticed, colour only where it can be seen.

use crate::errors::{Failure, chain};
use std::io::{self, IsTerminal, Write};

/// Turns a failed write into the failure it means: a broken pipe is nobody's fault.
pub fn write_failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::BrokenPipe
    } else {
        Failure::Io("cannot write to standard output".to_owned(), error)
    }
}

/// Writes bytes to stdout at once.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(write_failure)
}

/// Writes a text to stdout.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes a line to stdout.
pub fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Writes a text to stderr. That it cannot be written cannot be told to anybody.
pub fn complain(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// What the user should know though nothing failed.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        complain(&format!("WARNING: {warning}\n"));
    }
}

/// Tells what a listing lacks. The exit code says it to scripts, which count lines.
pub fn unreadable(errors: &[barque_engine::Error]) -> u8 {
    for error in errors {
        complain(&format!("barque: {}\n", chain(error)));
    }
    u8::from(!errors.is_empty())
}

/// The width of the terminal that stdout is, if it is one.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Whether headings may be bold: stdout is a terminal that wants colour (<https://no-color.org>).
pub fn colour(no_color: bool) -> bool {
    !no_color && io::stdout().is_terminal()
}
