//! D-Bus messages: header and body (D-Bus specification, "Message Format").

use super::value::{Reader, Value, Writer};

const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A method to be called.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// What came.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Of a return or an error: the call that it answers.
    pub(super) reply_serial: u32,
    /// Of an error.
    pub(super) error_name: String,
    /// Of a signal.
    pub(super) member: String,
    pub(super) body: Vec<Value>,
}

/// The bytes of a call.
pub(super) fn call(serial: u32, call: &Call<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|value| body.value(value));
    let signature: String = arguments.iter().map(Value::signature).collect();
    let field = |code: u8, value: Value| {
        Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
    };
    let mut fields = vec![
        field(PATH, Value::Path(call.path.into())),
        field(INTERFACE, Value::str(call.interface)),
        field(MEMBER, Value::str(call.member)),
        field(DESTINATION, Value::str(call.destination)),
    ];
    if !signature.is_empty() {
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let mut message = Writer::default();
    // Little-endian, no flags, protocol version 1.
    message.bytes.extend([b'l', METHOD_CALL, 0, 1]);
    message.u32(u32::try_from(body.bytes.len()).expect("a call is far below 4 GiB"));
    message.u32(serial);
    message.value(&Value::Array("(yv)".into(), fields));
    message.pad(8);
    message.bytes.extend(body.bytes);
    message.bytes
}

/// The length of the fixed part, which tells the rest's.
pub(super) const FIXED: usize = 16;
/// The specification's limit is 128 MiB; what systemd sends us is a few hundred bytes.
const LONGEST: usize = 16 << 20;

/// How long the message is whose first [`FIXED`] bytes these are; `None` when they are none.
pub(super) fn total(fixed: &[u8]) -> Option<usize> {
    let mut reader = header_reader(fixed)?;
    let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let header = FIXED
        .checked_add(fields as usize)?
        .checked_next_multiple_of(8)?;
    let total = header.checked_add(body as usize)?;
    (total <= LONGEST).then_some(total)
}

fn header_reader(bytes: &[u8]) -> Option<Reader<'_>> {
    let big = match bytes.first()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    (bytes.get(3) == Some(&1)).then_some(Reader { bytes, at: 4, big })
}

/// Reads a whole message.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let mut reader = header_reader(bytes)?;
    let (body_size, _serial) = (reader.u32()?, reader.u32()?);
    let fields = reader.values("a(yv)")?.pop()?;
    reader.pad(8)?;
    let mut message = Message {
        kind: bytes[1],
        ..Message::default()
    };
    let mut signature = String::new();
    let Value::Array(_, fields) = fields else {
        return None;
    };
    for field in fields {
        let Value::Struct(field) = field else {
            return None;
        };
        let [Value::Byte(code), Value::Variant(value)] = &field[..] else {
            return None;
        };
        let text = || value.as_str().map(str::to_owned);
        match (*code, &**value) {
            (MEMBER, _) => message.member = text()?,
            (ERROR_NAME, _) => message.error_name = text()?,
            (REPLY_SERIAL, Value::Uint32(serial)) => message.reply_serial = *serial,
            (SIGNATURE, _) => signature = text()?,
            _ => {}
        }
    }
    let body = bytes.get(reader.at..reader.at.checked_add(body_size as usize)?)?;
    message.body = Reader {
        bytes: body,
        at: 0,
        big: reader.big,
    }
    .values(&signature)?;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"l\x01\0\x01\0\0\0\0\x01\0\0\0m\0\0\0\
        \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
        \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
        \x03\x01s\0\x05\0\0\0Hello\0\0\0\
        \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";

    #[test]
    fn hello_byte_by_byte() {
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
        };
        let bytes = call(1, &hello, &[]);
        assert_eq!(bytes, HELLO, "{:?}", bytes.escape_ascii().to_string());
        assert_eq!(total(&bytes[..FIXED]), Some(bytes.len()));
    }

    #[test]
    fn answers_are_read() {
        // What dbus-daemon answers to Hello: serial 1, with sender and destination.
        let bytes = b"l\x02\x01\x01\x0a\0\0\0\x01\0\0\0\x3d\0\0\0\
            \x06\x01s\0\x05\0\0\0:1.42\0\0\0\
            \x05\x01u\0\x01\0\0\0\
            \x08\x01g\0\x01s\0\0\
            \x07\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x05\0\0\0:1.42\0";
        assert_eq!(total(&bytes[..FIXED]), Some(bytes.len()));
        let message = parse(bytes).unwrap();
        assert_eq!((message.kind, message.reply_serial), (METHOD_RETURN, 1));
        assert_eq!(message.body, [Value::str(":1.42")]);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn calls_carry_their_arguments() {
        let stop = Call {
            destination: "d.d",
            path: "/",
            interface: "i.i",
            member: "StopUnit",
        };
        let arguments = [Value::str("a.scope"), Value::str("replace")];
        let mut bytes = call(7, &stop, &arguments);
        assert!(bytes.windows(5).any(|w| w == b"g\0\x02ss"));
        // As if it had come: the parser does not ask who sent it.
        bytes[1] = SIGNAL;
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, &*message.member), (SIGNAL, "StopUnit"));
        assert_eq!(message.body, arguments);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(total(b"HTTP/1.1 400 Bad"), None);
        assert_eq!(total(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), None);
        assert_eq!(total(b"l\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0\0"), None);
    }
}
