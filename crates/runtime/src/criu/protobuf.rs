//! As much of protobuf's wire format as CRIU's messages need: varints and length-delimited fields
//! (<https://protobuf.dev/programming-guides/encoding>).

/// A message that is being written, field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// Wire type of integers, booleans and enumerations.
const VARINT: u64 = 0;
/// Wire type of eight bytes.
const FIXED64: u64 = 1;
/// Wire type of strings, bytes and messages.
const DELIMITED: u64 = 2;
/// Wire type of four bytes.
const FIXED32: u64 = 5;

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire: u64) {
        self.varint(u64::from(field) << 3 | wire);
    }

    /// `uint32` and enumerations.
    pub fn number(&mut self, field: u32, value: u32) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(u64::from(value));
        self
    }

    /// `int32`: a negative number takes ten bytes, as if it were one of 64 bits.
    pub fn int(&mut self, field: u32, value: i32) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(i64::from(value) as u64);
        self
    }

    /// `bool`.
    pub fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.number(field, u32::from(value))
    }

    /// `string` (whose encoding nobody checks: paths are bytes) and `bytes`.
    pub fn text(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.tag(field, DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message within.
    pub fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.text(field, &value.0)
    }

    /// The message as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An integer, a boolean or an enumeration.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As `int32`.
    pub fn int(self) -> i32 {
        match self {
            Self::Number(number) => number as i32,
            Self::Bytes(_) => 0,
        }
    }

    /// As bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    /// As text.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of a message: number and value. `None` for bytes that are no message.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let field = u32::try_from(tag >> 3).ok()?;
        let value = match tag & 7 {
            VARINT => Value::Number(take_varint(&mut bytes)?),
            FIXED64 => Value::Bytes(take(&mut bytes, 8)?),
            FIXED32 => Value::Bytes(take(&mut bytes, 4)?),
            DELIMITED => {
                let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, len)?)
            }
            _ => return None,
        };
        found.push((field, value));
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing").int(3, -2);
        let wire = b"\x08\x96\x01\x12\x07testing\x18\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(message.bytes(), wire);
        let read = fields(wire).expect("a message");
        assert_eq!(read[0], (1, Value::Number(150)));
        assert_eq!(read[1], (2, Value::Bytes(b"testing")));
        assert_eq!(read[2].1.int(), -2);
    }

    #[test]
    fn fields_of_other_types_are_stepped_over_and_torn_messages_refused() {
        let read = fields(b"\x09\x01\x02\x03\x04\x05\x06\x07\x08\x15\x01\x02\x03\x04\x18\x01");
        assert_eq!(read.expect("a message")[2], (3, Value::Number(1)));
        assert_eq!(fields(b"\x12\x07test"), None);
        assert_eq!(fields(b"\x0b"), None);
        assert_eq!(fields(&[0xff; 12]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u32, int: i32, text: Vec<u8>) {
            let mut inner = Message::default();
            inner.int(1, int).text(7, &text);
            let mut outer = Message::default();
            outer.number(4, number).message(5, &inner);
            let read = fields(outer.bytes()).expect("a message");
            prop_assert_eq!(read[0], (4, Value::Number(u64::from(number))));
            let inner = fields(read[1].1.bytes()).expect("a message");
            prop_assert_eq!(inner[0].1.int(), int);
            prop_assert_eq!(inner[1].1.bytes(), &text[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = fields(&bytes);
        }
    }
}
