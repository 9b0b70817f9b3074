//! The functions of templates: Go's built-in ones, and those that Docker's CLI adds.

use super::printf;
use super::value::Value;
use std::cmp::Ordering;

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another number of arguments was wanted.
    Count(usize, usize),
    /// More arguments were wanted.
    AtLeast(usize, usize),
    /// An argument (counted from 0) of the wrong type: the type wanted and the one given.
    Type(usize, &'static str, &'static str),
    /// The function's own message.
    Failed(String),
}

type Outcome = Result<Value, Fault>;

const NAMES: [&str; 26] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "eq", "ne", "lt", "le", "gt", "ge", "json", "split", "join", "title", "lower",
    "upper", "pad", "truncate",
];

/// Whether there is such a function.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether the function, applied to a column's heading, leaves it as it is.
pub fn keeps_headings(name: &str) -> bool {
    matches!(
        name,
        "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate" | "pad"
    )
}

fn failed<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Failed(message.into()))
}

/// Calls a function other than `and` and `or`, which do not evaluate all of their arguments.
pub fn call(name: &str, arguments: Vec<Value>) -> Outcome {
    match name {
        "not" => one(arguments).map(|value| Value::Bool(!value.is_true())),
        "len" => one(arguments).and_then(|value| length(&value)),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(printf::print(&arguments, false).into()),
        "println" => Ok(printf::print(&arguments, true).into()),
        "printf" => format(&arguments),
        "html" => Ok(html(&printf::print(&arguments, false)).into()),
        "js" => Ok(js(&printf::print(&arguments, false)).into()),
        "urlquery" => Ok(urlquery(&printf::print(&arguments, false)).into()),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, &arguments).map(Value::Bool),
        _ => docker(name, arguments),
    }
}

/// What Docker's CLI adds.
fn docker(name: &str, arguments: Vec<Value>) -> Outcome {
    match name {
        "json" => {
            let value = one(arguments)?;
            serde_json::to_string(&value)
                .map(Value::Str)
                .or_else(|e| failed(e.to_string()))
        }
        "lower" => text(0, one(arguments)?).map(|text| text.to_lowercase().into()),
        "upper" => text(0, one(arguments)?).map(|text| text.to_uppercase().into()),
        "title" => text(0, one(arguments)?).map(|text| title(&text).into()),
        "split" => {
            let [subject, separator] = exactly(arguments)?;
            Ok(Value::List(split(&text(0, subject)?, &text(1, separator)?)))
        }
        "join" => {
            let [list, separator] = exactly(arguments)?;
            join(list, &text(1, separator)?)
        }
        "truncate" => {
            let [subject, length] = exactly(arguments)?;
            let (subject, length) = (text(0, subject)?, count(1, &length)?);
            Ok(subject.chars().take(length).collect::<String>().into())
        }
        "pad" => {
            let [subject, before, after] = exactly(arguments)?;
            let (subject, before, after) =
                (text(0, subject)?, count(1, &before)?, count(2, &after)?);
            if subject.is_empty() {
                return Ok(subject.into());
            }
            Ok(format!("{}{subject}{}", " ".repeat(before), " ".repeat(after)).into())
        }
        _ => failed("no such function"),
    }
}

fn exactly<const N: usize>(arguments: Vec<Value>) -> Result<[Value; N], Fault> {
    let got = arguments.len();
    arguments.try_into().map_err(|_| Fault::Count(N, got))
}

fn one(arguments: Vec<Value>) -> Outcome {
    exactly::<1>(arguments).map(|[value]| value)
}

fn text(position: usize, value: Value) -> Result<String, Fault> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(Fault::Type(position, "string", other.type_name())),
    }
}

fn count(position: usize, value: &Value) -> Result<usize, Fault> {
    match value {
        Value::Int(number) => match usize::try_from(*number) {
            Ok(count) if count <= 1_000_000 => Ok(count),
            _ => failed(format!("{number} is out of range")),
        },
        other => Err(Fault::Type(position, "int", other.type_name())),
    }
}

fn length(value: &Value) -> Outcome {
    let length = match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        Value::Nil | Value::Absent => return failed("len of nil pointer"),
        other => return failed(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i128))
}

/// What Go answers for a key that a typed map lacks: the zero value of its elements.
fn zero_like(sample: Option<&Value>) -> Value {
    match sample {
        None | Some(Value::Str(_)) => Value::Str(String::new()),
        Some(Value::Int(_)) => Value::Int(0),
        Some(Value::Bool(_)) => Value::Bool(false),
        Some(Value::List(_)) => Value::List(Vec::new()),
        Some(_) => Value::Nil,
    }
}

fn index(arguments: Vec<Value>) -> Outcome {
    let mut arguments = arguments.into_iter();
    let mut value = arguments.next().ok_or(Fault::AtLeast(1, 0))?;
    for key in arguments {
        value = match (value, key) {
            (Value::Map(mut map), Value::Str(key)) => {
                let zero = zero_like(map.values().next());
                map.remove(&key).unwrap_or(zero)
            }
            (Value::List(mut items), Value::Int(at)) => match usize::try_from(at) {
                Ok(at) if at < items.len() => items.swap_remove(at),
                _ => return failed(format!("reflect: slice index out of range: {at}")),
            },
            (Value::Str(text), Value::Int(at)) => {
                match usize::try_from(at)
                    .ok()
                    .and_then(|at| text.as_bytes().get(at).copied())
                {
                    Some(byte) => Value::Int(byte.into()),
                    None => return failed(format!("index out of range: {at}")),
                }
            }
            (Value::Nil | Value::Absent, _) => return failed("index of untyped nil"),
            (Value::Map(_), key) => {
                return failed(format!(
                    "value has type {}; should be string",
                    key.type_name()
                ));
            }
            (Value::List(_) | Value::Str(_), key) => {
                return failed(format!(
                    "cannot index slice/array with type {}",
                    key.type_name()
                ));
            }
            (other, _) => return failed(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(arguments: Vec<Value>) -> Outcome {
    let mut arguments = arguments.into_iter();
    let subject = arguments.next().ok_or(Fault::AtLeast(1, 0))?;
    let bounds = arguments
        .enumerate()
        .map(|(i, bound)| count(i + 1, &bound))
        .collect::<Result<Vec<_>, _>>()?;
    let length = match &subject {
        Value::Str(text) => text.len(),
        Value::List(items) => items.len(),
        other => return failed(format!("can't slice item of type {}", other.type_name())),
    };
    let (from, to) = match bounds[..] {
        [] => (0, length),
        [from] => (from, length),
        [from, to] => (from, to),
        _ => return failed(format!("too many slice indexes: {}", bounds.len())),
    };
    if from > to || to > length {
        return failed(format!("index out of range: {}", from.max(to)));
    }
    match subject {
        Value::Str(text) => match text.get(from..to) {
            Some(part) => Ok(part.into()),
            None => failed("the cut is inside of a character"),
        },
        Value::List(items) => Ok(Value::List(items[from..to].to_vec())),
        _ => unreachable!("checked above"),
    }
}

fn format(arguments: &[Value]) -> Outcome {
    match arguments.split_first() {
        Some((Value::Str(format), rest)) => Ok(printf::printf(format, rest).into()),
        Some((other, _)) => Err(Fault::Type(0, "string", other.type_name())),
        None => Err(Fault::AtLeast(1, 0)),
    }
}

fn split(subject: &str, separator: &str) -> Vec<Value> {
    if separator.is_empty() {
        return subject.chars().map(|c| c.to_string().into()).collect();
    }
    subject.split(separator).map(Value::from).collect()
}

fn join(list: Value, separator: &str) -> Outcome {
    match list {
        Value::List(items) => {
            let texts: Vec<String> = items
                .into_iter()
                .map(|item| text(0, item))
                .collect::<Result<_, _>>()?;
            Ok(texts.join(separator).into())
        }
        Value::Nil | Value::Absent => Ok(String::new().into()),
        other => Err(Fault::Type(0, "[]string", other.type_name())),
    }
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            let starts = !inside;
            inside = c.is_alphanumeric() || c == '_' || c == '\'';
            if starts {
                c.to_uppercase().next().unwrap_or(c)
            } else {
                c
            }
        })
        .collect()
}

/// How two values of one basic kind stand to each other; `None`: they cannot be compared.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn is_nil(value: &Value) -> bool {
    matches!(value, Value::Nil | Value::Absent)
}

/// `eq` is true if the first argument equals any of the others; the rest compare two.
fn compare(name: &str, arguments: &[Value]) -> Result<bool, Fault> {
    let (left, others) = match arguments {
        [left, others @ ..] if !others.is_empty() && (name == "eq" || others.len() == 1) => {
            (left, others)
        }
        _ if name == "eq" => return failed("missing argument for comparison"),
        _ => return Err(Fault::Count(2, arguments.len())),
    };
    for right in others {
        if matches!(name, "eq" | "ne") && (is_nil(left) || is_nil(right)) {
            let equal = is_nil(left) && is_nil(right);
            match name {
                "ne" => return Ok(!equal),
                _ if equal => return Ok(true),
                _ => continue,
            }
        }
        let Some(order) = order(left, right) else {
            return failed(if basic(left) && basic(right) {
                "incompatible types for comparison"
            } else {
                "non-comparable type"
            });
        };
        let holds = match name {
            "eq" => order.is_eq(),
            "ne" => order.is_ne(),
            "lt" => order.is_lt(),
            "le" => order.is_le(),
            "gt" => order.is_gt(),
            _ => order.is_ge(),
        };
        if holds || name != "eq" {
            return Ok(holds);
        }
    }
    Ok(false)
}

fn basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_)
    )
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
