//! What goes to standard output.

use crate::failure::{Failure, While};
use serde::Serialize;
use std::io::Write;

/// Writes a text; the exit code of a command that has nothing else to say.
pub(crate) fn text(text: &str) -> Result<u8, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        other => other
            .map(|()| 0)
            .while_(|| "writing to standard output".to_owned()),
    }
}

/// Writes a value as JSON, indented by two blanks as runc does, or in one line.
pub(crate) fn json(value: &impl Serialize, pretty: bool) -> Result<u8, Failure> {
    let rendered = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    match rendered {
        Ok(rendered) => text(&(rendered + "\n")),
        Err(e) => Err(Failure::usage(format!("rendering JSON: {e}"))),
    }
}

/// Columns, each as wide as its widest cell and three blanks (as runc's tabwriter).
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
