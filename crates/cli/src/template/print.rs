//! How Go's fmt prints values (`%v`).

use super::value::Value;
use std::fmt::Write;

/// What an action prints: as `%v`, and `<no value>` for what is absent.
pub fn value(out: &mut String, value: &Value) {
    match value {
        Value::Absent => out.push_str("<no value>"),
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(flag) => {
            let _ = write!(out, "{flag}");
        }
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) => out.push_str(text),
        Value::List(items) => separated(out, ("[", "]"), items.iter(), |out, item| {
            self::value(out, item)
        }),
        Value::Map(map) => separated(out, ("map[", "]"), map.iter(), |out, (key, item)| {
            out.push_str(key);
            out.push(':');
            self::value(out, item);
        }),
        Value::Struct(fields) => separated(out, ("{", "}"), fields.iter(), |out, (_, item)| {
            self::value(out, item)
        }),
        Value::Row(row) => separated(out, ("{", "}"), row.columns.values(), self::value),
    }
}

/// As [`value`], but a string on its own.
pub fn to_string(of: &Value) -> String {
    let mut out = String::new();
    value(&mut out, of);
    out
}

fn separated<T>(
    out: &mut String,
    (open, close): (&str, &str),
    items: impl Iterator<Item = T>,
    each: impl Fn(&mut String, T),
) {
    out.push_str(open);
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(' ');
        }
        each(out, item);
    }
    out.push_str(close);
}

/// Go's `%v` of a float64: the shortest text that reads back, with an exponent below 1e-4 and from 1e6.
pub fn float(number: f64) -> String {
    let magnitude = number.abs();
    if number.is_finite() && magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        exponent(&format!("{number:e}"))
    } else if number.is_infinite() {
        (if number > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        number.to_string()
    }
}

/// Rust's `1e21` in Go's spelling: `1e+21`, at least two digits.
pub fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Go's `%q`: in double quotes, with escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
