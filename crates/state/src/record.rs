//! Versioned JSON records: one file per object.
//!
//! ```text
//! {"version":N, …the fields of T…}
//! ```
//! The version stands first and beside the fields, so that a reader (and a person) finds it without
//! knowing the rest. A missing file is `None`; a file that cannot be understood is an error that names
//! it and says what to do — never a silent default, which would lose a user's container.

use crate::atomic::{self, Durability};
use crate::error::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A type that is stored as a record of its own.
///
/// It must serialise as a JSON object without a field called `version`.
pub trait Record: Serialize + DeserializeOwned {
    /// The kind of object, for messages: `"container"`.
    const WHAT: &'static str;
    /// The format's version; raised whenever an older Barque would misread the record.
    const VERSION: u32 = 1;
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Reads a record; `None` when the file does not exist.
pub fn load<T: Record>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context("read", path),
    }
}

/// Replaces a record atomically.
pub fn store<T: Record>(path: &Path, value: &T, durability: Durability) -> Result<()> {
    atomic::write(path, &encode(path, value)?, durability)
}

/// Writes a record over the file that is there, for when the disk is too full for [`store`]: the file's
/// own block has room. Not atomic towards a power cut, yet better than the truth not being written at all.
pub fn overwrite<T: Record>(path: &Path, value: &T) -> Result<()> {
    let bytes = encode(path, value)?;
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .context("open", path)?;
    // Readers hold no lock: padded, the record is whole after the first call already.
    let mut padded = bytes.clone();
    let old = file.metadata().context("look at", path)?.len() as usize;
    padded.resize(bytes.len().max(old), b'\n');
    file.write_all_at(&padded, 0).context("write", path)?;
    file.set_len(bytes.len() as u64).context("shorten", path)
}

/// The bytes that [`store`] writes.
fn encode<T: Record>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let corrupt = |reason: String| Error::Corrupt {
        what: T::WHAT,
        path: path.to_owned(),
        reason,
    };
    let body = serde_json::to_vec(value).map_err(|e| corrupt(e.to_string()))?;
    let Some(fields) = body.strip_prefix(b"{") else {
        return Err(corrupt("the value is not a JSON object".into()));
    };
    let mut bytes = format!("{{\"version\":{}", T::VERSION).into_bytes();
    if fields != b"}" {
        bytes.push(b',');
    }
    bytes.extend_from_slice(fields);
    bytes.push(b'\n');
    Ok(bytes)
}

/// Understands a record's bytes; `path` is for messages only.
pub fn parse<T: Record>(path: &Path, bytes: &[u8]) -> Result<T> {
    let corrupt = |e: serde_json::Error| Error::Corrupt {
        what: T::WHAT,
        path: path.to_owned(),
        reason: if bytes.is_empty() {
            "the file is empty".into()
        } else {
            e.to_string()
        },
    };
    let head: Head = serde_json::from_slice(bytes).map_err(corrupt)?;
    if head.version > T::VERSION {
        return Err(Error::TooNew {
            path: path.to_owned(),
            found: head.version,
            known: T::VERSION,
        });
    }
    serde_json::from_slice(bytes).map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
        size: Option<u64>,
    }
    impl Record for Thing {
        const WHAT: &'static str = "thing";
        const VERSION: u32 = 3;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing {}
    impl Record for Nothing {
        const WHAT: &'static str = "nothing";
    }

    #[test]
    fn overwriting_leaves_nothing_of_the_longer_or_shorter_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        let thing = |name: &str| Thing {
            name: name.into(),
            size: None,
        };
        assert!(
            overwrite(&path, &thing("first"))
                .unwrap_err()
                .is_not_found()
        );
        store(&path, &thing("first"), Durability::None).unwrap();
        for name in ["a much longer one", "x", "middling"] {
            overwrite(&path, &thing(name)).unwrap();
            assert_eq!(load::<Thing>(&path).unwrap(), Some(thing(name)));
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.trim_end().len() + 1, text.len());
        }
    }

    #[test]
    fn round_trip_and_shape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        assert_eq!(load::<Thing>(&path).unwrap(), None);
        let thing = Thing {
            name: "a\"b".into(),
            size: Some(7),
        };
        store(&path, &thing, Durability::None).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"version\":3,\"name\":\"a\\\"b\",\"size\":7}\n"
        );
        assert_eq!(load(&path).unwrap(), Some(thing));
        store(&path, &Nothing {}, Durability::Synced).unwrap();
        assert_eq!(load(&path).unwrap(), Some(Nothing {}));
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_naming_the_file() {
        let path = Path::new("/data/containers/x/config.json");
        for bad in [
            "",
            "{",
            "null",
            "[]",
            "{\"version\":3}",
            "{\"name\":\"x\"}",
            "{\"version\":-1}",
            "\0\0\0",
        ] {
            let error = parse::<Thing>(path, bad.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{bad}: {error}");
            let text = error.to_string();
            assert!(
                text.contains("thing record /data/containers/x/config.json"),
                "{text}"
            );
            assert!(text.contains("move it away"), "{text}");
        }
        let newer = parse::<Thing>(path, b"{\"version\":4,\"colour\":1}").unwrap_err();
        assert!(
            matches!(
                newer,
                Error::TooNew {
                    found: 4,
                    known: 3,
                    ..
                }
            ),
            "{newer}"
        );
        assert!(encode(path, &Bare(3)).is_err());
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Bare(u32);
    impl Record for Bare {
        const WHAT: &'static str = "bare";
    }
}
