//! `--format` of lists and of objects.

pub mod containers;
pub mod images;
pub mod object;

use crate::errors::Failure;
use crate::output;
use crate::table;
use crate::template::{Labels, Row, Template, Value};
use std::collections::BTreeMap;

/// How a kind of object is listed.
pub struct Listing {
    /// Columns and their headings; also the names that templates may use.
    pub headings: &'static [(&'static str, &'static str)],
    /// The template of the plain table.
    pub table: String,
    /// Whether rows have a method `Label`.
    pub labelled: bool,
}

/// Renders rows as `--format` and `-q` ask. `ids` is the column that `-q` shows.
pub fn list(
    listing: &Listing,
    format: Option<&str>,
    quiet: bool,
    rows: Vec<Row>,
) -> Result<String, Failure> {
    let format = format
        .filter(|format| !format.is_empty())
        .unwrap_or("table");
    let words = format
        .strip_prefix("table")
        .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
    if quiet {
        if words.is_none_or(|rest| !rest.trim().is_empty()) {
            output::complain(
                "WARNING: Ignoring custom format, because both --format and --quiet are set.\n",
            );
        }
        return lines(&parse("{{.ID}}")?, rows);
    }
    match words {
        Some(rest) => {
            let text = if rest.trim().is_empty() {
                listing.table.clone()
            } else {
                unescaped(rest.trim())
            };
            let template = parse(&text)?;
            let headings = Value::Row(Row {
                columns: listing
                    .headings
                    .iter()
                    .map(|(name, heading)| (*name, (*heading).into()))
                    .collect(),
                labels: listing.labelled.then_some(Labels::Heading),
            });
            let heading = template.heading(&headings).map_err(data_fault)?;
            Ok(table::align(&format!(
                "{heading}\n{}",
                lines(&template, rows)?
            )))
        }
        None if format == "json" => lines(&parse("{{json .}}")?, rows),
        None => lines(&parse(&unescaped(format.trim_matches(' ')))?, rows),
    }
}

fn parse(text: &str) -> Result<Template, Failure> {
    Template::parse(text).map_err(|e| Failure::ListTemplate(e.to_string()))
}

fn data_fault(error: crate::template::ExecError) -> Failure {
    Failure::ListTemplate(format!("failed to execute template: {error}"))
}

/// A shell hands `\t` and `\n` on as they were typed.
fn unescaped(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

fn lines(template: &Template, rows: Vec<Row>) -> Result<String, Failure> {
    let mut out = String::new();
    for row in rows {
        out.push_str(&template.execute(&Value::Row(row)).map_err(data_fault)?);
        out.push('\n');
    }
    Ok(out)
}

/// `k=v,k2=v2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// At most so many characters, the last one `…` when some were cut.
pub fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// The first twelve digits of an id, without `sha256:`.
pub fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// Go's text for a time, in UTC: `2024-01-02 03:04:05 +0000 UTC`.
pub fn created_at(seconds: i64) -> String {
    let time = barque_types::time::Timestamp::from_unix_nanos(i128::from(seconds) * 1_000_000_000)
        .to_string();
    format!("{} +0000 UTC", time.trim_end_matches('Z').replace('T', " "))
}

/// `name=value` filters; the flag as help shows it.
pub fn filters(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let split = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned())),
        None => Err(Failure::value(
            flag,
            text,
            "bad format of filter (expected name=value)",
        )),
    };
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(split)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: fn() -> Listing = || Listing {
        headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
        table: "{{.ID}}\t{{.Names}}".to_owned(),
        labelled: true,
    };

    fn rows() -> Vec<Row> {
        let row = |id: &'static str, name: &'static str| Row {
            columns: BTreeMap::from([("ID", id.into()), ("Names", name.into())]),
            labels: Some(Labels::Of(BTreeMap::from([(
                "app".to_owned(),
                name.to_owned(),
            )]))),
        };
        vec![row("aaa", "web"), row("bbb", "db")]
    }

    fn shown(format: Option<&str>, quiet: bool) -> String {
        list(&LISTING(), format, quiet, rows()).unwrap_or_else(|f| f.report("ps").text)
    }

    #[test]
    fn formats() {
        let table = "CONTAINER ID   NAMES\naaa            web\nbbb            db\n";
        assert_eq!(shown(None, false), table);
        assert_eq!(shown(Some("table"), false), table);
        assert_eq!(
            shown(Some("table {{.Names}}\\t{{.Label \"app\"}}"), false),
            "NAMES     app\nweb       web\ndb        db\n"
        );
        assert_eq!(
            shown(Some("{{.Names}}:{{.ID}}"), false),
            "web:aaa\ndb:bbb\n"
        );
        assert_eq!(
            shown(Some("json"), false),
            "{\"ID\":\"aaa\",\"Names\":\"web\"}\n{\"ID\":\"bbb\",\"Names\":\"db\"}\n"
        );
        assert_eq!(shown(None, true), "aaa\nbbb\n");
        assert_eq!(shown(Some("tablet"), false), "tablet\ntablet\n");
        assert!(
            shown(Some("{{.Foo}}"), false).starts_with(
                "failed to execute template: template: :1:2: executing \"\" at <.Foo>"
            )
        );
        assert_eq!(
            shown(Some("{{"), false),
            "template parsing error: template: :1: unclosed action\n"
        );
    }

    #[test]
    fn pieces() {
        assert_eq!(ellipsis("sleep 1000", 20), "sleep 1000");
        assert_eq!(
            ellipsis("abcdefghijklmnopqrstuvwxyz", 20),
            "abcdefghijklmnopqrs…"
        );
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(created_at(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
        assert_eq!(
            filters("-f, --filter", &["Status=running".into()]).unwrap(),
            [("status".into(), "running".into())]
        );
        assert!(filters("-f, --filter", &["x".into()]).is_err());
    }
}
