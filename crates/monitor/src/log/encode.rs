//! One log entry as one line of JSON, byte for byte as Docker writes it.
//!
//! Docker escapes as Go's encoding/json does for HTML: control characters, the quote, the backslash,
//! `<`, `>`, `&`, U+2028 and U+2029; each byte that is not UTF-8 becomes `\ufffd`. Written by hand,
//! because it is the monitor's whole work for a chatty container.

use super::Stream;

/// Appends one entry. `time` is RFC 3339; `newline`: the line was complete.
pub(super) fn entry(out: &mut Vec<u8>, line: &[u8], newline: bool, stream: Stream, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line);
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn escape(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match std::str::from_utf8(bytes) {
            Ok(text) => return escape_str(out, text),
            Err(error) => {
                let (good, rest) = bytes.split_at(error.valid_up_to());
                // The prefix was just validated; an empty string stands for the impossible.
                escape_str(out, std::str::from_utf8(good).unwrap_or_default());
                let bad = error.error_len().unwrap_or(rest.len());
                for _ in 0..bad {
                    out.extend_from_slice(b"\\ufffd");
                }
                bytes = &rest[bad..];
            }
        }
    }
}

fn escape_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        if !SPECIAL[byte as usize] {
            continue;
        }
        let (len, escaped): (usize, &[u8]) = match byte {
            b'\n' => (1, b"\\n"),
            b'\r' => (1, b"\\r"),
            b'"' => (1, b"\\\""),
            b'\\' => (1, b"\\\\"),
            0xe2 => match bytes.get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => (3, b"\\u2028"),
                Some([0x80, 0xa9]) => (3, b"\\u2029"),
                _ => continue,
            },
            _ => (1, b""),
        };
        out.extend_from_slice(&bytes[plain..at]);
        if escaped.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digits = [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
        } else {
            out.extend_from_slice(escaped);
        }
        plain = at + len;
    }
    out.extend_from_slice(&bytes[plain..]);
}

/// Bytes that need a look; 0xe2 begins U+2028 and U+2029.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xe2] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_dockers() {
        for (bytes, want) in [
            (&b"plain"[..], "plain"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\t\r\x00\x1b\x7f", "\\u0009\\r\\u0000\\u001b\x7f"),
            (b"<a&b>", r"\u003ca\u0026b\u003e"),
            ("ü€😀".as_bytes(), "ü€😀"),
            (
                "\u{2028}x\u{2029}\u{2027}".as_bytes(),
                "\\u2028x\\u2029\u{2027}",
            ),
            (b"\xff", r"\ufffd"),
            (b"a\xe2\x82A", r"a\ufffd\ufffdA"),
            (b"\xe2\x82", r"\ufffd\ufffd"),
            (b"\xe2\x80", r"\ufffd\ufffd"),
        ] {
            assert_eq!(escaped(bytes), want);
        }
    }

    #[test]
    fn any_bytes_give_json_of_the_lossy_text() {
        for seed in 0..=255u8 {
            let bytes: Vec<u8> = (0..=255u8)
                .map(|n| n.wrapping_mul(seed | 1) ^ seed)
                .collect();
            let json = format!("\"{}\"", escaped(&bytes));
            let text: String = serde_json::from_str(&json).unwrap();
            assert_eq!(
                text.replace('\u{fffd}', ""),
                String::from_utf8_lossy(&bytes).replace('\u{fffd}', "")
            );
        }
    }

    #[test]
    fn a_whole_entry() {
        let mut out = Vec::new();
        entry(
            &mut out,
            b"hi",
            true,
            Stream::Stderr,
            "2026-01-02T03:04:05.6Z",
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"log\":\"hi\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.6Z\"}\n"
        );
    }
}
