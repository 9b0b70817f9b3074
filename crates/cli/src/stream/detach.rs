//! The keys that detach a terminal from its container (`ctrl-p,ctrl-q`).

use std::fmt;

/// Docker's default.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidKeys(String);

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Unknown character: '{}': keys are single characters or ctrl-<a-z, @, ^, [, \\, _>",
            self.0
        )
    }
}

impl std::error::Error for InvalidKeys {}

/// The bytes that a terminal in raw mode sends for the keys, such as `ctrl-p,ctrl-q`; none for an empty text.
pub fn parse(text: &str) -> Result<Vec<u8>, InvalidKeys> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(key).collect()
}

fn key(text: &str) -> Result<u8, InvalidKeys> {
    let invalid = || InvalidKeys(text.to_owned());
    if let Some(control) = text.strip_prefix("ctrl-") {
        return match control.as_bytes() {
            [b'@'] => Ok(0),
            [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
            [letter @ b'A'..=b'Z'] => Ok(letter - b'A' + 1),
            [b'['] => Ok(27),
            [b'\\'] => Ok(28),
            [b']'] => Ok(29),
            [b'^'] => Ok(30),
            [b'_'] => Ok(31),
            _ => Err(invalid()),
        };
    }
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(invalid()),
    }
}

/// Watches what is typed. Keys that may be the beginning of the sequence are held back until it is clear.
#[derive(Debug, Default)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    /// Watches for these keys; for none, nothing ever detaches.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of the typed bytes goes to the container, and whether the keys were among them (what follows is dropped).
    pub fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (through, true);
                }
                continue;
            }
            through.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(&byte) {
                self.matched = 1;
            } else {
                through.push(byte);
            }
        }
        (through, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse(DEFAULT), Ok(vec![16, 17]));
        assert_eq!(parse("ctrl-@,a,ctrl-["), Ok(vec![0, b'a', 27]));
        assert_eq!(parse(""), Ok(vec![]));
        for text in ["ctrl-", "ctrl-1", "ab", "ctrl-p,", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn watching() {
        let mut watch = Watch::new(vec![16, 17]);
        assert_eq!(watch.feed(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(watch.feed(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(watch.feed(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(watch.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.feed(b"\x11rest"), (vec![], true));
        assert_eq!(
            Watch::default().feed(b"\x10\x11"),
            (b"\x10\x11".to_vec(), false)
        );
    }
}
