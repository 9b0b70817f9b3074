//! `--format` of whole objects (`inspect`, `info`, `version`).

use crate::errors::Failure;
use crate::template::{Template, Value, to_value};
use serde::Serialize;

/// JSON as `docker inspect` indents it.
pub fn pretty(data: &impl Serialize) -> Result<String, Failure> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    data.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, formatter,
    ))
    .map_err(unshowable)?;
    String::from_utf8(out).map_err(unshowable)
}

/// JSON in one line.
pub fn compact(data: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(data).map_err(unshowable)
}

fn unshowable(error: impl std::fmt::Display) -> Failure {
    Failure::Refused(format!("cannot show the result: {error}"))
}

/// The data as a template's value.
pub fn value(data: &impl Serialize) -> Result<Value, Failure> {
    to_value(data).map_err(unshowable)
}

/// What a template makes of one object.
pub fn formatted(format: &str, data: &impl Serialize) -> Result<String, Failure> {
    if format == "json" {
        return compact(data);
    }
    let template = Template::parse(format).map_err(Failure::Template)?;
    template
        .execute(&value(data)?)
        .map_err(Failure::TemplateData)
}
