//! The tape of a layer: what its tar consisted of apart from the files' content, so that the same tar can be written again.
//!
//! A layer's bytes lie on disk once, as files. But a push, a save or a check needs the tar that its diff id was computed
//! from, bit for bit, and of a tar there are as many dialects as writers. So the unpacker records all that it consumes,
//! except for what it writes into files: of that, it records which file it went to.
//!
//! ```text
//! overlay2/<hex>/tape.zst     zstd of: version │ op …
//!     1 len bytes             these bytes: headers, padding, the end mark and whatever follows it
//!     2 path len              the first `len` bytes of this file of diff/
//!     3 path n (offset len)*  these segments of it (a sparse file)
//!     0                       the end
//! overlay2/<hex>/kept/<n>     what a later entry of the same archive replaced, and kept/index:
//!     (at path)*              <n>'s path, and how many files had been recorded when it was replaced
//! ```
//! Numbers are LEB128, paths are prefixed with their length. A path is where the file really is: if the archive led
//! through a symbolic link, that is resolved. Whoever plays the tape checks the digest of what comes out, so it need not be
//! trusted, and it never leads out of the layer's directory.

mod play;
mod record;

pub use play::LayerTar;
pub(crate) use record::{Keep, Taped};

const VERSION: u8 = 1;
const END: u8 = 0;
const RAW: u8 = 1;
const FILE: u8 = 2;
const SPARSE: u8 = 3;

pub(crate) const TAPE: &str = "tape.zst";
pub(crate) const KEPT: &str = "kept";
const INDEX: &str = "index";

/// Appends a number, seven bits a byte, the low ones first.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put`] wrote.
fn get(from: &mut impl std::io::Read) -> std::io::Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0u8];
        from.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number that is too long"))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn get_bytes(from: &mut impl std::io::Read, max: u64) -> std::io::Result<Vec<u8>> {
    let len = get(from)?;
    if len > max {
        return Err(damaged("a path that is too long"));
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(what: &str) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("its tape is damaged: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(get(&mut bytes.as_slice()).unwrap(), value);
        }
        assert!(get(&mut [0xff; 11].as_slice()).is_err());
        assert!(get(&mut [0x80].as_slice()).is_err());
        assert!(get_bytes(&mut [5, b'a', b'b'].as_slice(), 10).is_err());
        assert!(get_bytes(&mut [11].as_slice(), 10).is_err());
    }
}
