//! D-Bus values and their marshalling (D-Bus specification, "Type System" and "Message Protocol").
//!
//! Only what systemd's manager needs is here: no file descriptors, and dictionaries only in so far
//! as an array of structures is one on the wire (`a{sv}` is read as `a(sv)` would be).

use std::fmt::Write as _;

/// A D-Bus value with its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a` with the signature of its elements, which an empty one does not tell.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn str(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// An array of strings, `as`.
    pub fn strings(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Array("s".into(), texts.into_iter().map(Self::str).collect())
    }

    /// Bytes, `ay`.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().map(|&b| Self::Byte(b)).collect())
    }

    /// The value's signature.
    #[must_use]
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int32(_) => "i".into(),
            Self::Uint32(_) => "u".into(),
            Self::Int64(_) => "x".into(),
            Self::Uint64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Str(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => {
                let mut signature = String::from("(");
                for field in fields {
                    let _ = write!(signature, "{}", field.signature());
                }
                signature.push(')');
                signature
            }
            Self::Variant(_) => "v".into(),
        }
    }

    /// The text of a string, object path or signature, also inside of a variant.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }
}

/// Appends values; offsets count from the beginning of `bytes`, which stands at a multiple of 8 in
/// the message. Little-endian, which every receiver has to understand.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.pad(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    fn short_text(&mut self, text: &str) {
        self.bytes
            .push(u8::try_from(text.len()).expect("a signature is below 256 bytes"));
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(value) => self.u32(u32::from(*value)),
            Value::Int32(value) => self.u32(value.cast_unsigned()),
            Value::Uint32(value) => self.u32(*value),
            Value::Int64(value) => self.u64(value.cast_unsigned()),
            Value::Uint64(value) => self.u64(*value),
            Value::Double(value) => self.u64(value.to_bits()),
            Value::Str(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.short_text(text),
            Value::Array(element, values) => self.array(element, values),
            Value::Struct(fields) => {
                self.pad(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Variant(inner) => {
                self.short_text(&inner.signature());
                self.value(inner);
            }
        }
    }

    fn u64(&mut self, value: u64) {
        self.pad(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// The length counts from the first element, without the padding before it.
    fn array(&mut self, element: &str, values: &[Value]) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.pad(alignment(
            element.as_bytes().first().copied().unwrap_or(b'y'),
        ));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.value(value));
        let size = length(self.bytes.len() - start);
        self.bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a message is far below 4 GiB")
}

fn alignment(code: u8) -> usize {
    match code {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Reads values back. `None` is a message that breaks the rules.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) big: bool,
}

/// How deep containers may be nested; the specification allows 64 in all.
const DEPTH: u32 = 64;

impl Reader<'_> {
    pub(super) fn pad(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.pad(4)?;
        let big = self.big;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn u64(&mut self) -> Option<u64> {
        self.pad(8)?;
        let big = self.big;
        let bytes = self.take(8)?.try_into().ok()?;
        Some(if big {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        })
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.u8()? == 0).then_some(text)
    }

    /// The values of a signature.
    pub(super) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (one, after) = split(rest)?;
            values.push(self.value(one, DEPTH)?);
            rest = after;
        }
        Some(values)
    }

    fn value(&mut self, signature: &[u8], depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        Some(match signature.first()? {
            b'y' => Value::Byte(self.u8()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'i' => Value::Int32(self.u32()?.cast_signed()),
            b'u' | b'h' => Value::Uint32(self.u32()?),
            b'x' => Value::Int64(self.u64()?.cast_signed()),
            b't' => Value::Uint64(self.u64()?),
            b'd' => Value::Double(f64::from_bits(self.u64()?)),
            b's' => {
                let length = self.u32()? as usize;
                Value::Str(self.text(length)?)
            }
            b'o' => {
                let length = self.u32()? as usize;
                Value::Path(self.text(length)?)
            }
            b'g' => {
                let length = usize::from(self.u8()?);
                Value::Signature(self.text(length)?)
            }
            b'v' => {
                let length = usize::from(self.u8()?);
                let inner = self.text(length)?;
                let (one, rest) = split(inner.as_bytes())?;
                let value = self.value(one, depth)?;
                rest.is_empty().then(|| Value::Variant(Box::new(value)))?
            }
            b'a' => self.array(&signature[1..], depth)?,
            b'(' | b'{' => {
                self.pad(8)?;
                let mut rest = &signature[1..signature.len() - 1];
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (one, after) = split(rest)?;
                    fields.push(self.value(one, depth)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }

    fn array(&mut self, element: &[u8], depth: u32) -> Option<Value> {
        let size = self.u32()? as usize;
        self.pad(alignment(*element.first()?))?;
        let end = self.at.checked_add(size)?;
        if end > self.bytes.len() {
            return None;
        }
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value(element, depth)?);
        }
        let element = String::from_utf8(element.to_vec()).ok()?;
        (self.at == end).then_some(Value::Array(element, values))
    }
}

/// The first complete type of a signature, and what follows.
fn split(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut open = 0u32;
    for (at, code) in signature.iter().enumerate() {
        match code {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            // An array is not complete without what it is an array of.
            b'a' => continue,
            _ => {}
        }
        if open == 0 {
            return Some(signature.split_at(at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.value(value);
        writer.bytes
    }

    fn again(value: &Value) -> Option<Value> {
        let bytes = written(value);
        let mut reader = Reader {
            bytes: &bytes,
            at: 0,
            big: false,
        };
        let read = reader.values(&value.signature())?.pop();
        assert_eq!(reader.at, bytes.len());
        read
    }

    #[test]
    fn bytes_as_the_specification_has_them() {
        assert_eq!(written(&Value::str("foo")), b"\x03\0\0\0foo\0");
        assert_eq!(written(&Value::Bool(true)), [1, 0, 0, 0]);
        assert_eq!(written(&Value::Signature("as".into())), b"\x02as\0");
        // One 64-bit integer: the length is 8, and 4 bytes of padding stand between.
        let array = Value::Array("t".into(), vec![Value::Uint64(5)]);
        assert_eq!(
            written(&array),
            [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
        );
        // An empty array is padded all the same.
        assert_eq!(written(&Value::Array("(sv)".into(), vec![])), [0; 8]);
        let property = Value::Struct(vec![
            Value::str("PIDs"),
            Value::Variant(Box::new(Value::Array("u".into(), vec![Value::Uint32(7)]))),
        ]);
        assert_eq!(
            written(&property),
            b"\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x07\0\0\0"
        );
        assert_eq!(property.signature(), "(sv)");
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [
            Value::Byte(9),
            Value::Int32(-1),
            Value::Int64(-5),
            Value::Double(0.5),
            Value::Path("/a".into()),
            Value::strings(["a", "bc"]),
            Value::bytes(&[1, 2, 3]),
            Value::Array(
                "(sv)".into(),
                vec![Value::Struct(vec![
                    Value::str("x"),
                    Value::Variant(Box::new(Value::Array(
                        "(st)".into(),
                        vec![Value::Struct(vec![Value::str("d"), Value::Uint64(3)])],
                    ))),
                ])],
            ),
        ] {
            assert_eq!(again(&value).as_ref(), Some(&value));
        }
    }

    #[test]
    fn dictionaries_and_the_other_byte_order() {
        let bytes = [
            0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 1, b'k', 0, 1, b'y', 0, 0, 0, 0, 0, 0, 0,
        ];
        // a{sv} with one entry "k" => byte: 4 + 2 + 3 + 1 bytes.
        let mut bytes = bytes.to_vec();
        bytes[3] = 10;
        bytes[17] = 7;
        bytes.truncate(18);
        let mut reader = Reader {
            bytes: &bytes,
            at: 0,
            big: true,
        };
        let entry = Value::Struct(vec![
            Value::str("k"),
            Value::Variant(Box::new(Value::Byte(7))),
        ]);
        assert_eq!(
            reader.values("a{sv}"),
            Some(vec![Value::Array("{sv}".into(), vec![entry])])
        );
    }

    #[test]
    fn broken_messages_are_refused_not_believed() {
        let read = |bytes: &[u8], signature: &str| {
            Reader {
                bytes,
                at: 0,
                big: false,
            }
            .values(signature)
        };
        assert_eq!(read(b"\xff\xff\xff\xffab", "s"), None);
        assert_eq!(read(b"\x01\0\0\0ab", "s"), None, "no zero at the end");
        assert_eq!(read(b"\x03\0\0\0\0\0\0\0", "au"), None, "half an element");
        assert_eq!(read(b"\xff\0\0\0", "au"), None);
        assert_eq!(read(b"", "(s"), None);
        assert_eq!(read(b"", "a"), None);
        let deep = "a".repeat(70) + "y";
        let mut nested = Vec::new();
        for left in (0..70u32).rev() {
            nested.extend((left * 4).to_le_bytes());
        }
        assert_eq!(read(&nested, &deep), None, "too deep");
    }
}
