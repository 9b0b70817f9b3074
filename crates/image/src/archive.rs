//! Reading tar streams: ustar, GNU and PAX, one entry after the other, without touching any file.
//!
//! ```text
//! header block 512 │ data │ zeros to 512 │ header … │ two zero blocks │ anything
//!   typeflag L, K: the name or link name of the next header     x: PAX records for the next header
//!   typeflag S and GNU.sparse.* records: the data are the file's segments without its holes
//! ```
//! The `tar` crate supplies the header's layout. Its own iterator is not used, for two reasons: it splits PAX records at
//! newlines, which breaks on binary extended attributes (`security.capability` may hold a newline, and the records after
//! it, `path` among them, would be lost), and it copies the data once more than a pipeline needs.
//! Sources: POSIX pax, GNU tar manual "Sparse Formats", Go's archive/tar for what Docker tolerates.

use std::io::{self, BufRead};

const BLOCK: usize = 512;
/// Longest name, PAX or GNU; the kernel's PATH_MAX is 4096.
const MAX_NAME: u64 = 64 << 10;
/// Longest set of PAX records; one extended attribute may have 64 KiB.
const MAX_PAX: u64 = 4 << 20;
/// Most segments of a sparse file.
const MAX_SEGMENTS: u64 = 1 << 20;

/// Why a stream cannot be read on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source failed.
    Io(io::Error),
    /// It is not a (whole) tar stream.
    Bad(String),
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

fn bad<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Bad(reason.into()))
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub len: u64,
}

/// One entry's header with all its extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    /// Target of a link, as it stands in the archive.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch and nanoseconds (0..10^9).
    pub mtime: (i64, u32),
    /// The file's length (of a sparse file, with its holes).
    pub size: u64,
    /// Where the data belong, for a sparse file.
    pub sparse: Option<Vec<Segment>>,
    /// Extended attributes in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream being read.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Bytes of the present entry's data not yet consumed.
    data: u64,
    /// Zeros after them.
    padding: u64,
    /// Where the next byte stands, for messages.
    offset: u64,
    ended: bool,
}

impl<R: BufRead> TarReader<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            data: 0,
            padding: 0,
            offset: 0,
            ended: false,
        }
    }

    /// What it reads from.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What it read from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what was left of the last one's data is skipped. `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let mut block = [0u8; BLOCK];
            if self.ended || !self.read_block(&mut block)? {
                return extensions.must_be_unused().map(|()| None);
            }
            if block.iter().all(|b| *b == 0) {
                self.ended = true;
                return extensions.must_be_unused().map(|()| None);
            }
            let at = self.offset - BLOCK as u64;
            let header = tar::Header::from_byte_slice(&block);
            if !checksum_fits(header) {
                return bad(format!("not a tar header at offset {at} (wrong checksum)"));
            }
            let size = match numeric(&header.as_old().size) {
                Some(n) if n >= 0 => n as u64,
                _ => return bad(format!("invalid size in the header at offset {at}")),
            };
            let flag = header.as_old().linkflag[0];
            match flag {
                b'x' | b'L' | b'K' | b'g' => self.extension(flag, size, &mut extensions)?,
                // A volume label or a directory listing of an incremental archive: nothing to unpack.
                b'V' | b'M' | b'N' => self.announce(size)?,
                _ => return self.entry(header, size, extensions, at).map(Some),
            }
        }
    }

    fn extension(&mut self, flag: u8, size: u64, into: &mut Extensions) -> Result<(), Fault> {
        if flag == b'g' {
            // Global records (git's commit id) set no attribute that Docker honours.
            return self.announce(size);
        }
        let limit = if flag == b'x' { MAX_PAX } else { MAX_NAME };
        if size > limit {
            return bad(format!(
                "extended header of {size} bytes at offset {}: the limit is {limit}",
                self.offset
            ));
        }
        self.announce(size)?;
        let mut bytes = Vec::with_capacity(size as usize);
        while self.data > 0 {
            let chunk = self.chunk()?;
            bytes.extend_from_slice(chunk);
            let n = chunk.len();
            self.consume(n);
        }
        match flag {
            b'x' => into.pax(&bytes)?,
            b'L' => into.long_name = Some(until_nul(&bytes).to_vec()),
            _ => into.long_link = Some(until_nul(&bytes).to_vec()),
        }
        Ok(())
    }

    /// Builds an entry from its header and the extensions before it, and positions the reader at its data.
    fn entry(
        &mut self,
        header: &tar::Header,
        size: u64,
        ext: Extensions,
        at: u64,
    ) -> Result<Entry, Fault> {
        let old = header.as_old();
        let field = |bytes: &[u8], what: &str| {
            numeric(bytes)
                .ok_or_else(|| Fault::Bad(format!("invalid {what} in the header at offset {at}")))
        };
        let path = ext.name(header);
        if path.is_empty() || path.contains(&0) || path.len() as u64 > MAX_NAME {
            return bad(format!("invalid name in the header at offset {at}"));
        }
        let link = match ext.link.or(ext.long_link) {
            Some(link) => link,
            None => header
                .link_name_bytes()
                .map(|l| l.into_owned())
                .unwrap_or_default(),
        };
        let device = |f: fn(&tar::Header) -> io::Result<Option<u32>>| match f(header) {
            Ok(n) => Ok(n.unwrap_or(0)),
            Err(_) => bad(format!(
                "invalid device number in the header at offset {at}"
            )),
        };
        let kind = match old.linkflag[0] {
            // Before POSIX a directory was a file whose name ends with a slash.
            0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Dir,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char {
                major: device(tar::Header::device_major)?,
                minor: device(tar::Header::device_minor)?,
            },
            b'4' => Kind::Block {
                major: device(tar::Header::device_major)?,
                minor: device(tar::Header::device_minor)?,
            },
            b'5' | b'D' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&path).into_owned();
                return bad(format!(
                    "entry {name:?} has the unknown type {:?}",
                    char::from(other)
                ));
            }
        };
        let stored = ext.size.unwrap_or(size);
        // As in Go's reader, the size in a header without data (some writers repeat a link's) does not count.
        let has_data = kind == Kind::File || old.linkflag[0] == b'D';
        let mut entry = Entry {
            link,
            kind,
            mode: (field(&old.mode, "mode")? & 0o7777) as u32,
            uid: id(ext.uid, field(&old.uid, "uid"), &path, "uid")?,
            gid: id(ext.gid, field(&old.gid, "gid"), &path, "gid")?,
            mtime: match ext.mtime {
                Some(mtime) => mtime,
                None => (field(&old.mtime, "mtime")?, 0),
            },
            size: if kind == Kind::File { stored } else { 0 },
            sparse: None,
            xattrs: ext.xattrs,
            path,
        };
        if matches!(kind, Kind::Symlink | Kind::Hardlink)
            && (entry.link.is_empty() || entry.link.contains(&0))
        {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            return bad(format!("entry {name:?} is a link without a target"));
        }
        let gnu_sparse = old.linkflag[0] == b'S';
        let in_header = if gnu_sparse {
            Some(self.gnu_segments(header)?)
        } else {
            None
        };
        self.announce(if has_data { stored } else { 0 })?;
        if kind == Kind::File {
            self.sparse(&mut entry, in_header, ext.sparse)?;
        }
        Ok(entry)
    }

    /// The segment list of a `typeflag S` header and of the extension blocks that follow it.
    fn gnu_segments(&mut self, header: &tar::Header) -> Result<(u64, Vec<Segment>), Fault> {
        let Some(gnu) = header.as_gnu() else {
            return bad(format!(
                "sparse entry without a GNU header at offset {}",
                self.offset
            ));
        };
        let invalid = || Fault::Bad("invalid sparse map".into());
        let real = numeric(&gnu.realsize)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(invalid)?;
        let mut out = Vec::new();
        let add = |list: &[tar::GnuSparseHeader], out: &mut Vec<Segment>| {
            for s in list.iter().take_while(|s| !s.is_empty()) {
                let (offset, len) = (
                    s.offset().map_err(|_| invalid())?,
                    s.length().map_err(|_| invalid())?,
                );
                out.push(Segment { offset, len });
            }
            Ok::<_, Fault>(())
        };
        add(&gnu.sparse, &mut out)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if !self.read_block(block.as_mut_bytes())? || out.len() as u64 > MAX_SEGMENTS {
                return Err(invalid());
            }
            add(&block.sparse, &mut out)?;
            more = block.is_extended();
        }
        Ok((real, out))
    }

    /// Applies the sparse map, wherever it is written, and checks it.
    fn sparse(
        &mut self,
        entry: &mut Entry,
        in_header: Option<(u64, Vec<Segment>)>,
        pax: PaxSparse,
    ) -> Result<(), Fault> {
        let (real, segments) = if let Some(found) = in_header {
            found
        } else if pax.major == Some(1) {
            (pax.real_size.unwrap_or(0), self.sparse_map_in_data()?)
        } else if pax.listed {
            if !pax.numbers.len().is_multiple_of(2) {
                return bad("invalid sparse map");
            }
            let pairs = pax.numbers.chunks_exact(2);
            let segments = pairs
                .map(|p| Segment {
                    offset: p[0],
                    len: p[1],
                })
                .collect();
            (pax.real_size.unwrap_or(0), segments)
        } else {
            return Ok(());
        };
        let mut end = 0u64;
        let mut total = 0u64;
        for s in &segments {
            let next = s
                .offset
                .checked_add(s.len)
                .filter(|n| s.offset >= end && *n <= real);
            end = match next {
                Some(next) => next,
                None => return bad("invalid sparse map: segments overlap or exceed the file"),
            };
            total += s.len;
        }
        if total != self.data || real > i64::MAX as u64 {
            return bad("invalid sparse map: its segments are not as long as the data");
        }
        entry.size = real;
        entry.sparse = Some(segments);
        Ok(())
    }

    /// GNU PAX format 1.0: decimal numbers, one per line, at the start of the data, padded to a block.
    fn sparse_map_in_data(&mut self) -> Result<Vec<Segment>, Fault> {
        let start = self.data;
        let count = self.decimal_line()?;
        if count > MAX_SEGMENTS {
            return bad("invalid sparse map: too many segments");
        }
        let mut out = Vec::with_capacity(count.min(4096) as usize);
        for _ in 0..count {
            out.push(Segment {
                offset: self.decimal_line()?,
                len: self.decimal_line()?,
            });
        }
        let mut rest = ((start - self.data).next_multiple_of(BLOCK as u64) - (start - self.data))
            .min(self.data);
        while rest > 0 {
            let n = (self.chunk()?.len() as u64).min(rest);
            self.consume(n as usize);
            rest -= n;
        }
        Ok(out)
    }

    fn decimal_line(&mut self) -> Result<u64, Fault> {
        let mut value: Option<u64> = None;
        while self.data > 0 {
            let byte = self.chunk()?[0];
            self.consume(1);
            match byte {
                b'\n' => return value.ok_or_else(|| Fault::Bad("invalid sparse map".into())),
                b'0'..=b'9' => {
                    let next = value
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|v| v.checked_add(u64::from(byte - b'0')));
                    value = Some(next.ok_or_else(|| Fault::Bad("invalid sparse map".into()))?);
                }
                _ => break,
            }
        }
        bad("invalid sparse map")
    }

    /// Some of the present entry's data; empty at their end.
    pub fn chunk(&mut self) -> Result<&[u8], Fault> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let limit = usize::try_from(self.data).unwrap_or(usize::MAX);
        let chunk = self.inner.fill_buf()?;
        if chunk.is_empty() {
            return bad(format!(
                "the archive ends within an entry, at offset {offset}"
            ));
        }
        Ok(&chunk[..chunk.len().min(limit)])
    }

    /// Marks `n` bytes of the last [`TarReader::chunk`] as used.
    pub fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.data -= n as u64;
        self.offset += n as u64;
    }

    /// Reads whatever follows the end-of-archive mark, so that the source sees its end.
    pub fn drain(&mut self) -> Result<(), Fault> {
        loop {
            let n = self.inner.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.inner.consume(n);
            self.offset += n as u64;
        }
    }

    fn announce(&mut self, size: u64) -> Result<(), Fault> {
        if size > i64::MAX as u64 {
            return bad(format!("entry of {size} bytes at offset {}", self.offset));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), Fault> {
        while self.data > 0 {
            let n = self.chunk()?.len();
            self.consume(n);
        }
        while self.padding > 0 {
            let n = self.inner.fill_buf()?.len().min(self.padding as usize);
            if n == 0 {
                return bad(format!(
                    "the archive ends within an entry, at offset {}",
                    self.offset
                ));
            }
            self.inner.consume(n);
            self.offset += n as u64;
            self.padding -= n as u64;
        }
        Ok(())
    }

    /// Reads a whole block; `false` at the stream's end.
    fn read_block(&mut self, block: &mut [u8]) -> Result<bool, Fault> {
        let mut filled = 0;
        while filled < block.len() {
            let chunk = self.inner.fill_buf()?;
            if chunk.is_empty() {
                if filled == 0 {
                    return Ok(false);
                }
                return bad(format!(
                    "the archive ends within a header, at offset {}",
                    self.offset
                ));
            }
            let n = chunk.len().min(block.len() - filled);
            block[filled..filled + n].copy_from_slice(&chunk[..n]);
            self.inner.consume(n);
            filled += n;
            self.offset += n as u64;
        }
        Ok(true)
    }
}

/// What the headers before an entry's own say about it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
    any: bool,
}

#[derive(Default)]
struct PaxSparse {
    major: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    /// Formats 0.0 and 0.1: offset, length, offset, length, …
    numbers: Vec<u64>,
    listed: bool,
}

impl Extensions {
    /// The entry's name, the most specific source first.
    fn name(&self, header: &tar::Header) -> Vec<u8> {
        let name = self
            .sparse
            .name
            .as_ref()
            .or(self.path.as_ref())
            .or(self.long_name.as_ref());
        name.cloned()
            .unwrap_or_else(|| header.path_bytes().into_owned())
    }

    fn must_be_unused(&self) -> Result<(), Fault> {
        if self.any || self.long_name.is_some() || self.long_link.is_some() {
            return bad("the archive ends after an extended header");
        }
        Ok(())
    }

    /// `"%d %s=%s\n", length, key, value`: the length counts itself, so a value may hold anything.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        self.any = true;
        while !bytes.is_empty() && bytes[0] != 0 {
            let invalid = || Fault::Bad("malformed PAX record".into());
            let space = bytes
                .iter()
                .take(20)
                .position(|b| *b == b' ')
                .ok_or_else(invalid)?;
            let len = decimal(&bytes[..space])
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(invalid)?;
            if len <= space + 1 || len > bytes.len() || bytes[len - 1] != b'\n' {
                return Err(invalid());
            }
            let record = &bytes[space + 1..len - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(invalid)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let key_text = String::from_utf8_lossy(key);
        let invalid = || Fault::Bad(format!("invalid PAX record {key_text:?}"));
        let number = || decimal(value).ok_or_else(invalid);
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err(invalid());
            }
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        // POSIX: an empty value deletes the record.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            _ if value.is_empty() => {}
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()? as i64),
            b"gid" => self.gid = Some(number()? as i64),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(invalid)?),
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.numblocks" => self.sparse.listed = true,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.numbers.push(number()?),
            b"GNU.sparse.map" => {
                self.sparse.listed = true;
                for part in value.split(|b| *b == b',') {
                    self.sparse.numbers.push(decimal(part).ok_or_else(invalid)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn id(pax: Option<i64>, header: Result<i64, Fault>, path: &[u8], what: &str) -> Result<u32, Fault> {
    let value = match pax {
        Some(value) => value,
        None => header?,
    };
    // -1 means "leave alone" to chown(2), so it cannot be an owner.
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bad(format!(
            "entry {:?} has the impossible {what} {value}",
            String::from_utf8_lossy(path)
        )),
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
}

fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 20 {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// A PAX time: decimal seconds, perhaps negative, with a fraction of any length.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let dot = value.iter().position(|b| *b == b'.').unwrap_or(value.len());
    let secs = i64::try_from(decimal(&value[..dot])?).ok()?;
    let fraction = value.get(dot + 1..).unwrap_or_default();
    let mut nanos = 0u32;
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        nanos = nanos * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match (negative, nanos) {
        (false, _) => Some((secs, nanos)),
        (true, 0) => Some((-secs, 0)),
        (true, _) => Some((-secs - 1, 1_000_000_000 - nanos)),
    }
}

/// A header's number: octal text, or big-endian two's complement when the top bit is set (GNU, star).
fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign; it fills all the bits above the value.
        let start = if first & 0x40 != 0 { -1i64 } else { 0 };
        let mut value = i128::from(start) << 6 | i128::from(first & 0x3f);
        for b in &field[1..] {
            value = value.checked_mul(256)? | i128::from(*b);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let text = until_nul(field).trim_ascii();
    let mut value = 0i64;
    for b in text {
        match b {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(b - b'0'))?,
            _ => return None,
        }
    }
    Some(value)
}

/// The sum of all bytes with the checksum field taken as spaces; old tars summed signed bytes.
fn checksum_fits(header: &tar::Header) -> bool {
    let Some(stored) = numeric(&header.as_old().cksum) else {
        return false;
    };
    let (mut unsigned, mut signed) = (8 * 32i64, 8 * 32i64);
    for (at, b) in header.as_bytes().iter().enumerate() {
        if !(148..156).contains(&at) {
            unsigned += i64::from(*b);
            signed += i64::from(*b as i8);
        }
    }
    stored == unsigned || stored == signed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All entries with their data, or the fault.
    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Fault> {
        let mut tar = TarReader::new(bytes);
        let mut out = Vec::new();
        while let Some(entry) = tar.next_entry()? {
            let mut data = Vec::new();
            loop {
                let chunk = tar.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                data.extend_from_slice(chunk);
                let n = chunk.len();
                tar.consume(n);
            }
            out.push((entry, data));
        }
        tar.drain()?;
        Ok(out)
    }

    #[test]
    fn numbers_in_headers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"12x", None),
            (b"\x80\0\0\0\xb2\xd0\x5e\0", Some(3_000_000_000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(numeric(field), value, "{field:?}");
        }
    }

    #[test]
    fn pax_times() {
        for (text, value) in [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
    }

    /// What the `tar` crate writes: names of any length as GNU long names.
    fn written(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(77);
            builder
                .append_data(&mut header, path, data.as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            files in proptest::collection::vec(("[a-z]{1,60}(/[a-z]{1,60}){0,5}", proptest::collection::vec(any::<u8>(), 0..2000)), 0..6)
        ) {
            let back = read(&written(&files)).unwrap();
            prop_assert_eq!(back.len(), files.len());
            for ((entry, data), (path, wanted)) in back.iter().zip(&files) {
                prop_assert_eq!(&entry.path, path.as_bytes());
                prop_assert_eq!(data, wanted);
                prop_assert_eq!((entry.mode, entry.mtime, entry.size), (0o640, (77, 0), wanted.len() as u64));
            }
        }

        /// Damage anywhere is an error or another archive, never a panic, an endless loop or a huge allocation.
        #[test]
        fn damage_never_panics(at in 0usize..4096, with in any::<u8>(), cut in 0usize..5000, flag in "[0-9LKxgSDVM]") {
            let path = "long/".repeat(40) + "name";
            let mut bytes = written(&[(path, vec![1; 600]), ("b".into(), vec![2; 10])]);
            let at = at % bytes.len();
            bytes[at] = with;
            bytes[156] = flag.as_bytes()[0];
            // With a right checksum the damage gets past the door.
            for block in [0, 1024] {
                if let Some(slice) = bytes.get_mut(block..block + 512) {
                    let mut header = tar::Header::new_old();
                    header.as_mut_bytes().copy_from_slice(slice);
                    header.set_cksum();
                    slice.copy_from_slice(header.as_bytes());
                }
            }
            bytes.truncate(cut.max(1));
            let _ = read(&bytes);
        }

        #[test]
        fn pax_records_of_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Extensions::default().pax(&bytes);
        }
    }
}
