//! The GVariant text form in which annotations give properties of the unit:
//! `org.systemd.property.TimeoutStopUSec: "uint64 123456789"`
//! (GLib's "GVariant Text Format"; runc's docs/systemd-properties.md).
//!
//! Strings, booleans, integers with or without a type, doubles, and arrays of one of these.

use super::value::Value;
use crate::error::{Error, Result};

/// A property of a unit, as `StartTransientUnit` takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// `TimeoutStopUSec`, …
    pub name: String,
    /// Its value, of the type that systemd expects.
    pub value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    /// Reads what follows `org.systemd.property.` in an annotation's name, and its value.
    ///
    /// systemd knows times in microseconds, by names that end in `USec`; a name that ends in `Sec`
    /// is taken for seconds and converted, as runc does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a name that is none, and for text that is not one value of the
    /// types above.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::unsupported(format!("systemd property {name:?} with {text:?}: {why}"))
        };
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(bad("the name is made of at least three letters".into()));
        }
        let value = parse(text).map_err(|why| bad(why.into()))?;
        let seconds = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U'));
        match seconds {
            Some(stem) => Ok(Self {
                name: format!("{stem}USec"),
                value: micros(&value).ok_or_else(|| bad("it is not a time in seconds".into()))?,
            }),
            None => Ok(Self::new(name, value)),
        }
    }
}

/// Seconds as microseconds.
fn micros(value: &Value) -> Option<Value> {
    const MICROS: u64 = 1_000_000;
    let micros = match value {
        Value::Int32(s) => u64::try_from(*s).ok()?.checked_mul(MICROS)?,
        Value::Uint32(s) => u64::from(*s).checked_mul(MICROS)?,
        Value::Int64(s) => u64::try_from(*s).ok()?.checked_mul(MICROS)?,
        Value::Uint64(s) => s.checked_mul(MICROS)?,
        Value::Double(s) if *s >= 0.0 && *s < 1e12 => (s * 1e6) as u64,
        _ => return None,
    };
    Some(Value::Uint64(micros))
}

/// One value, and nothing behind it.
fn parse(text: &str) -> Result<Value, &'static str> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None)?;
    if parser.rest.is_empty() {
        Ok(value)
    } else {
        Err("there is more behind the value")
    }
}

struct Parser<'a> {
    rest: &'a str,
}

/// The keywords that give a value its type, and `@as` and the like.
const KEYWORDS: [(&str, &str); 9] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
];

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, what: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || ",]".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value; `kind` is its signature where something has told it already.
    fn value(&mut self, kind: Option<&str>) -> Result<Value, &'static str> {
        self.skip();
        match self.rest.chars().next() {
            None => Err("there is no value"),
            Some('\'' | '"') => {
                let text = self.string()?;
                match kind {
                    None | Some("s") => Ok(Value::Str(text)),
                    Some("o") => Ok(Value::Path(text)),
                    Some(_) => Err("a string stands where another type is announced"),
                }
            }
            Some('[') => self.array(kind),
            Some('@') => {
                self.rest = &self.rest[1..];
                let kind = self.word();
                self.value(Some(kind))
            }
            Some(_) => {
                let word = self.word();
                match KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
                    Some((_, kind)) => self.value(Some(kind)),
                    None => scalar(word, kind),
                }
            }
        }
    }

    fn array(&mut self, kind: Option<&str>) -> Result<Value, &'static str> {
        let mut element = match kind {
            Some(kind) => Some(
                kind.strip_prefix('a')
                    .ok_or("an array stands where another type is announced")?
                    .to_owned(),
            ),
            None => None,
        };
        self.eat('[');
        let mut values = Vec::new();
        while !self.eat(']') {
            if !values.is_empty() && !self.eat(',') {
                return Err("the array is not closed");
            }
            let value = self.value(element.as_deref())?;
            // The first tells what the others are.
            element.get_or_insert_with(|| value.signature());
            values.push(value);
        }
        let element = element.ok_or("an empty array needs its type: @as []")?;
        Ok(Value::Array(element, values))
    }

    /// A quoted string with the escapes of C.
    fn string(&mut self) -> Result<String, &'static str> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next().expect("called at a quote");
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err("the string is not closed")
    }
}

fn scalar(word: &str, kind: Option<&str>) -> Result<Value, &'static str> {
    match (word, kind) {
        ("true", None | Some("b")) => return Ok(Value::Bool(true)),
        ("false", None | Some("b")) => return Ok(Value::Bool(false)),
        _ => {}
    }
    let number = || {
        let (digits, sign) = match word.strip_prefix('-') {
            Some(digits) => (digits, -1),
            None => (word.strip_prefix('+').unwrap_or(word), 1),
        };
        let value = match digits.strip_prefix("0x") {
            Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
            None => i128::from(digits.parse::<u64>().ok()?),
        };
        Some(value * sign)
    };
    let integer = |value: Option<Value>| value.ok_or("a number does not fit its type");
    let read = number();
    match kind {
        Some("y") => integer(read.and_then(|n| n.try_into().ok()).map(Value::Byte)),
        Some("u") => integer(read.and_then(|n| n.try_into().ok()).map(Value::Uint32)),
        Some("x") => integer(read.and_then(|n| n.try_into().ok()).map(Value::Int64)),
        Some("t") => integer(read.and_then(|n| n.try_into().ok()).map(Value::Uint64)),
        Some("i") => integer(read.and_then(|n| n.try_into().ok()).map(Value::Int32)),
        // What has no type is an int32, a double when it has a point.
        None if read.is_some() => integer(read.and_then(|n| n.try_into().ok()).map(Value::Int32)),
        None | Some("d") => word
            .parse()
            .ok()
            .filter(|_| word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
            .map(Value::Double)
            .ok_or("it is neither a number, a boolean nor a quoted string"),
        Some(_) => Err("it is not of the type announced"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_values() {
        for (text, value) in [
            ("uint64 123456789", Value::Uint64(123_456_789)),
            ("'inactive-or-failed'", Value::str("inactive-or-failed")),
            ("\"it's\"", Value::str("it's")),
            (r"'it\'s'", Value::str("it's")),
            ("true", Value::Bool(true)),
            ("boolean false", Value::Bool(false)),
            ("-5", Value::Int32(-5)),
            ("0x10", Value::Int32(16)),
            ("@t 7", Value::Uint64(7)),
            ("1.5", Value::Double(1.5)),
            ("byte 0xff", Value::Byte(255)),
            ("['a.service', \"b\"]", Value::strings(["a.service", "b"])),
            ("@as []", Value::strings(Vec::<String>::new())),
            (
                "[uint32 1, 2]",
                Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)]),
            ),
            ("@at [7]", Value::Array("t".into(), vec![Value::Uint64(7)])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "abc",
            "'a",
            "['a'",
            "[]",
            "['a' 'b']",
            "['a', 1]",
            "uint64 -1",
            "byte 256",
            "1 2",
            "uint64 'a'",
            "true x",
            "@",
            "nan",
            "3000000000",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn properties_by_name() {
        let parse = |name: &str, text: &str| Property::parse(name, text).map(|p| (p.name, p.value));
        assert_eq!(
            parse("TimeoutStopSec", "uint64 5").unwrap(),
            ("TimeoutStopUSec".into(), Value::Uint64(5_000_000))
        );
        assert_eq!(
            parse("TimeoutStopUSec", "uint64 5").unwrap(),
            ("TimeoutStopUSec".into(), Value::Uint64(5))
        );
        for (name, text) in [("X", "1"), ("Bad-Name", "1"), ("TimeoutStopSec", "'a'")] {
            let error = Property::parse(name, text).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
