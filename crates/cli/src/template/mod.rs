//! Go's text/template for `--format`, with the functions of Docker's CLI.
//!
//! Scripts everywhere carry these templates, so the language, the way values print, and the messages are Go's:
//! `{{.State.Status}}`, `{{range .Mounts}}{{.Source}}{{end}}`, `{{json .Config.Labels}}`. Not here, because a format
//! is a single template: `define`, `template`, `block`.

mod eval;
mod from_serde;
mod funcs;
mod lexer;
mod parse;
mod print;
mod printf;
#[cfg(test)]
mod tests;
mod value;

pub use from_serde::to_value;
pub use value::{Labels, Row, Value};

use std::fmt;

/// A template that parsed.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template parsing error: {}", self.0)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// Go's form: `template: :LINE: message`.
    fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        Self(format!(
            "template: :{}: {}",
            line_column(source, offset).0,
            message.into()
        ))
    }
}

/// Why a template could not be filled in: Go's form, `template: :LINE:COLUMN: executing "" at <TEXT>: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecError(String);

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExecError {}

/// Line from 1 and column from 0, in bytes, as Go counts them.
fn line_column(source: &str, offset: usize) -> (usize, usize) {
    let before = &source.as_bytes()[..offset.min(source.len())];
    let line_start = before
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    (
        1 + before.iter().filter(|&&b| b == b'\n').count(),
        before.len() - line_start,
    )
}

impl Template {
    /// Parses.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        Ok(Self {
            nodes: parse::parse(source)?,
            source: source.to_owned(),
        })
    }

    /// Fills the template in with the data.
    pub fn execute(&self, data: &Value) -> Result<String, ExecError> {
        eval::execute(&self.source, &self.nodes, data, eval::Mode::Data)
    }

    /// Fills it in with the headings of columns: functions that change a value (`json`, `upper`, `truncate`, …)
    /// leave a heading alone.
    pub fn heading(&self, headings: &Value) -> Result<String, ExecError> {
        eval::execute(&self.source, &self.nodes, headings, eval::Mode::Heading)
    }
}
