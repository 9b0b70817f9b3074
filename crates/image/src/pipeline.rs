//! From a compressed blob to tar bytes: read, inflate and hash on one thread, unpack on another.
//!
//! ```text
//! caller's thread:  reader → sha256 (blob) → gzip | zstd | nothing → sha256 (diff id) ─┐ 256 KiB buffers, a few in
//! unpacking thread:                                              files ← tar ←──────────┘ flight, recycled
//! ```
//! Making files costs as much as inflating and both hashes together (ext4), so two threads share the work about evenly, and
//! what was just inflated is hashed while it is in the cache. The bound on the channel makes a slow disk hold back the
//! download instead of filling memory.

use barque_types::digest::Digest;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const BUFFER: usize = 256 << 10;
const IN_FLIGHT: usize = 6;
const INPUT_BUFFER: usize = 64 << 10;

/// How a blob is compressed, told by its first bytes: media types are wrong too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the magic numbers of RFC 1952 and RFC 8878 (frame, or the skippable frames that zstd:chunked begins with).
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A reader that knows how much it gave and what that hashes to.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    pub count: u64,
    /// Whether the source itself failed, not the bytes that it gave.
    pub failed: bool,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            count: 0,
            failed: false,
        }
    }

    pub fn digest(self) -> Digest {
        Digest::from_sha256(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf).inspect_err(|e| {
            self.failed |= e.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hash.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// The first bytes of `input`, as many as tell the compression, however small the reads are.
fn peek(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(4);
    input.take(4).read_to_end(&mut head)?;
    Ok(head)
}

/// Undoes the compression of `input`.
pub(crate) fn decompress<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = peek(&mut input)?;
    let compression = Compression::of(&head);
    let input = io::Cursor::new(head).chain(input);
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => {
            let input = BufReader::with_capacity(INPUT_BUFFER, input);
            Box::new(MultiGzDecoder::new(input))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(input)?;
            // The format's own limit for what a decoder must expect is 8 MiB; `zstd --long` and --ultra go to 2 GiB,
            // which would be memory for the asking. 128 MiB is what the zstd program accepts.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

/// Why the reading side stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The unpacking side has gone; it knows why.
    Abandoned,
    /// The source failed, or the compressed data are damaged.
    Source(io::Error),
}

/// The two ends between the threads.
pub(crate) fn connect(max: u64) -> (Feeder, Chunks) {
    let (full, chunks) = sync_channel(IN_FLIGHT);
    let (empty, recycled) = channel();
    let chunks = Chunks {
        chunks,
        empty,
        current: Vec::new(),
        at: 0,
        count: 0,
        max,
        ended: false,
    };
    (Feeder { full, recycled }, chunks)
}

enum Message {
    Data(Vec<u8>),
    /// Nothing more comes, and all came.
    End,
}

/// The reading side.
pub(crate) struct Feeder {
    full: SyncSender<Message>,
    recycled: Receiver<Vec<u8>>,
}

impl Feeder {
    /// Pumps the whole blob through; returns the digest of what came out, the diff id. On a failure the other side is
    /// told by the channel closing without an end.
    pub fn run(self, source: &mut impl Read) -> Result<Digest, Stop> {
        let diff_id = self.pump(source)?;
        // What the decoder left unread belongs to the blob's digest too.
        io::copy(source, &mut io::sink()).map_err(Stop::Source)?;
        self.full.send(Message::End).map_err(|_| Stop::Abandoned)?;
        Ok(diff_id)
    }

    fn pump(&self, source: &mut impl Read) -> Result<Digest, Stop> {
        let mut hash = Sha256::new();
        let mut tar = decompress(source).map_err(Stop::Source)?;
        loop {
            let mut buffer = self.recycled.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let mut filled = 0;
            while filled < BUFFER {
                match tar.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Stop::Source(e)),
                }
            }
            hash.update(&buffer[..filled]);
            let last = filled < BUFFER;
            buffer.truncate(filled);
            if filled > 0 {
                self.full
                    .send(Message::Data(buffer))
                    .map_err(|_| Stop::Abandoned)?;
            }
            if last {
                return Ok(Digest::from_sha256(hash.finalize().into()));
            }
        }
    }
}

/// The unpacking side: the tar bytes as they arrive.
pub(crate) struct Chunks {
    chunks: Receiver<Message>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    count: u64,
    max: u64,
    ended: bool,
}

impl Chunks {
    fn refill(&mut self) -> io::Result<()> {
        // The other side may have gone already; then nobody needs the buffer.
        let _ = self.empty.send(std::mem::take(&mut self.current));
        self.at = 0;
        match self.chunks.recv() {
            Ok(Message::Data(data)) => {
                self.count += data.len() as u64;
                if self.count > self.max {
                    return Err(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        format!("it unpacks to more than the limit of {} bytes", self.max),
                    ));
                }
                self.current = data;
            }
            Ok(Message::End) => self.ended = true,
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(())
    }
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let n = chunk.len().min(buf.len());
        buf[..n].copy_from_slice(&chunk[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() && !self.ended {
            self.refill()?;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    struct Through {
        diff_id: Result<Digest, Stop>,
        blob: Digest,
        tar: io::Result<Vec<u8>>,
    }

    fn through(blob: &[u8], max: u64) -> Through {
        let (feeder, mut chunks) = connect(max);
        let mut source = Hashing::new(blob);
        std::thread::scope(|s| {
            let unpack = s.spawn(move || {
                let mut out = Vec::new();
                chunks.read_to_end(&mut out).map(|_| out)
            });
            let diff_id = feeder.run(&mut source);
            let tar = unpack.join().unwrap();
            Through {
                diff_id,
                blob: source.digest(),
                tar,
            }
        })
    }

    #[test]
    fn every_compression_comes_through() {
        let plain: Vec<u8> = (0..2_000_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let two_members = [gzip(&plain[..777_777]), gzip(&plain[777_777..])].concat();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for blob in [plain.clone(), gzip(&plain), two_members, zstd] {
            let seen = through(&blob, u64::MAX);
            assert!(seen.tar.unwrap() == plain);
            assert_eq!(
                (seen.blob, seen.diff_id.unwrap()),
                (digest_of(&blob), digest_of(&plain))
            );
        }
    }

    #[test]
    fn damage_is_noticed() {
        let plain = vec![7u8; 1_000_000];
        let blob = gzip(&plain);
        let mut trailing = blob.clone();
        trailing.extend_from_slice(b"garbage");
        let mut flipped = blob.clone();
        let middle = flipped.len() - 6;
        flipped[middle] ^= 1;
        for bad in [&blob[..blob.len() - 9], &blob[..3], &trailing, &flipped] {
            let seen = through(bad, u64::MAX);
            assert!(
                matches!(seen.diff_id, Err(Stop::Source(_))),
                "{:?}",
                seen.diff_id
            );
            assert_eq!(seen.tar.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let blob = gzip(&vec![0u8; 50_000_000]);
        assert!(blob.len() < 500_000);
        let seen = through(&blob, 1_000_000);
        assert_eq!(seen.tar.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(
            matches!(seen.diff_id, Err(Stop::Abandoned)),
            "{:?}",
            seen.diff_id
        );
    }
}
