//! Go's `printf`, and the joining rules of `print` and `println`.

use super::print::{exponent, float, quoted, to_string};
use super::value::Value;

/// Operands printed in a row: `print` puts a blank between two that are both no strings, `println` between any two.
pub fn print(arguments: &[Value], line: bool) -> String {
    let mut out = String::new();
    for (position, argument) in arguments.iter().enumerate() {
        let is_string = |value: &Value| matches!(value, Value::Str(_));
        if position > 0 && (line || !is_string(argument) && !is_string(&arguments[position - 1])) {
            out.push(' ');
        }
        // An absent value passed to a function arrives as a nil there.
        out.push_str(&shown(argument));
    }
    if line {
        out.push('\n');
    }
    out
}

fn shown(value: &Value) -> String {
    if matches!(value, Value::Absent) {
        "<nil>".to_owned()
    } else {
        to_string(value)
    }
}

/// The flags between `%` and the verb.
#[derive(Default, Clone, Copy)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    blank: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats by Go's verbs; faults show in the text as Go shows them (`%!d(string=x)`, `%!s(MISSING)`).
pub fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut rest = format;
    let mut arguments_left = arguments.iter();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (spec, verb, behind) = directive(&rest[at + 1..], &mut arguments_left);
        rest = behind;
        match verb {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments_left.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(argument) => out.push_str(&one(spec, verb, argument)),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = arguments_left
        .map(|value| format!("{}={}", value.type_name(), shown(value)))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// Flags, width, precision and verb at the head of the text, and what is behind them.
fn directive<'f>(
    text: &'f str,
    arguments: &mut std::slice::Iter<'_, Value>,
) -> (Spec, Option<char>, &'f str) {
    let mut spec = Spec::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| "-+# 0".contains(*c)) {
        match flag {
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            '#' => spec.sharp = true,
            ' ' => spec.blank = true,
            _ => spec.zero = true,
        }
        rest = &rest[1..];
    }
    let (width, behind) = count(rest, arguments);
    spec.width = width;
    rest = behind;
    if let Some(behind) = rest.strip_prefix('.') {
        let (precision, behind) = count(behind, arguments);
        spec.precision = Some(precision.unwrap_or(0));
        rest = behind;
    }
    let verb = rest.chars().next();
    (
        spec,
        verb,
        verb.map_or(rest, |verb| &rest[verb.len_utf8()..]),
    )
}

/// A number, or `*` for the next argument's.
fn count<'f>(
    text: &'f str,
    arguments: &mut std::slice::Iter<'_, Value>,
) -> (Option<usize>, &'f str) {
    if let Some(behind) = text.strip_prefix('*') {
        let value = match arguments.next() {
            Some(Value::Int(number)) => usize::try_from(*number).ok(),
            _ => None,
        };
        return (value.map(bounded), behind);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (text[..end].parse().ok().map(bounded), &text[end..])
}

/// A width that a template can ask for without filling the memory (Go's own bound).
fn bounded(count: usize) -> usize {
    count.min(1_000_000)
}

fn one(spec: Spec, verb: char, argument: &Value) -> String {
    let text = match (verb, argument) {
        ('v', Value::Str(text)) if spec.sharp => quoted(text),
        ('v', Value::Int(_)) => integer(spec, 'd', argument),
        ('v', _) => shown(argument),
        ('T', _) => argument.type_name().to_owned(),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('s' | 'q' | 'x' | 'X', Value::Str(text)) => string(spec, verb, text),
        ('s' | 'd' | 'q', Value::List(items)) => {
            let inner: Vec<String> = items
                .iter()
                .map(|item| {
                    one(
                        Spec {
                            width: None,
                            ..spec
                        },
                        verb,
                        item,
                    )
                })
                .collect();
            format!("[{}]", inner.join(" "))
        }
        ('d' | 'b' | 'o' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Int(_)) => {
            integer(spec, verb, argument)
        }
        ('f' | 'F' | 'e' | 'g', Value::Float(number)) => real(spec, verb, *number),
        (_, Value::Nil | Value::Absent) => format!("%!{verb}(<nil>)"),
        _ => format!("%!{verb}({}={})", argument.type_name(), shown(argument)),
    };
    pad(
        spec,
        matches!(argument, Value::Int(_) | Value::Float(_)),
        text,
    )
}

fn pad(spec: Spec, number: bool, text: String) -> String {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        text + &" ".repeat(missing)
    } else if spec.zero && number {
        let digits = text.trim_start_matches(['-', '+']);
        format!(
            "{}{}{digits}",
            &text[..text.len() - digits.len()],
            "0".repeat(missing)
        )
    } else {
        " ".repeat(missing) + &text
    }
}

fn string(spec: Spec, verb: char, text: &str) -> String {
    let cut: String = text
        .chars()
        .take(spec.precision.unwrap_or(usize::MAX))
        .collect();
    let hex = |upper: bool| -> String {
        let byte = |b: u8| {
            if upper {
                format!("{b:02X}")
            } else {
                format!("{b:02x}")
            }
        };
        cut.bytes().map(byte).collect()
    };
    match verb {
        'q' => quoted(&cut),
        'x' => hex(false),
        'X' => hex(true),
        _ => cut,
    }
}

fn integer(spec: Spec, verb: char, argument: &Value) -> String {
    let Value::Int(number) = argument else {
        return String::new();
    };
    let magnitude = number.unsigned_abs();
    let as_char = || {
        u32::try_from(*number)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    let digits = match (verb, spec.sharp) {
        ('b', _) => format!("{magnitude:b}"),
        ('o', false) => format!("{magnitude:o}"),
        ('o', true) => format!("0{magnitude:o}"),
        ('x', false) => format!("{magnitude:x}"),
        ('x', true) => format!("{magnitude:#x}"),
        ('X', false) => format!("{magnitude:X}"),
        ('X', true) => format!("0X{magnitude:X}"),
        ('c', _) => return as_char().to_string(),
        ('q', _) => return format!("'{}'", as_char()),
        ('U', _) => return format!("U+{magnitude:04X}"),
        _ => magnitude.to_string(),
    };
    let digits = format!("{digits:0>width$}", width = spec.precision.unwrap_or(0));
    match (*number < 0, spec.plus, spec.blank) {
        (true, ..) => format!("-{digits}"),
        (false, true, _) => format!("+{digits}"),
        (false, false, true) => format!(" {digits}"),
        _ => digits,
    }
}

fn real(spec: Spec, verb: char, number: f64) -> String {
    let text = match verb {
        'e' => exponent(&format!("{number:.*e}", spec.precision.unwrap_or(6))),
        'g' => float(number),
        _ => format!("{number:.*}", spec.precision.unwrap_or(6)),
    };
    if spec.plus && number >= 0.0 {
        format!("+{text}")
    } else {
        text
    }
}
