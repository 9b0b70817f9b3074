//! Playing: the tar of a layer, bit for bit, from its tape and its files.

use super::{END, FILE, INDEX, KEPT, RAW, SPARSE, TAPE, VERSION, damaged, get, get_bytes};
use crate::archive::Segment;
use crate::dirs::OpenDirs;
use crate::error::{Context, Error, Result};
use crate::layer;
use crate::path::split;
use crate::store::Store;
use barque_types::digest::Digest;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The kernel's PATH_MAX is 4096, but the parts of a path beneath a directory have no such limit together.
const MAX_PATH: u64 = 1 << 20;
const MAX_SEGMENTS: u64 = 1 << 20;

/// The uncompressed tar of a layer.
///
/// Its last read fails if the whole does not have the layer's diff id: whoever passes the bytes on must not take them for
/// good before the end is reached.
pub struct LayerTar {
    diff_id: Digest,
    len: u64,
    tape: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    files: Files,
    now: Now,
    hash: Sha256,
}

/// What the next bytes come from.
enum Now {
    Raw(u64),
    File {
        file: File,
        at: u64,
        left: u64,
        /// The last one first.
        then: Vec<Segment>,
    },
    Ended,
}

impl Store {
    /// The tar that a layer was unpacked from. [`Error::NoTape`] for a layer of an earlier version's.
    pub fn layer_tar(&self, diff_id: &Digest) -> Result<LayerTar> {
        let dir = self.paths.layer(diff_id);
        let record = layer::load(&self.paths, diff_id)?.ok_or_else(|| Error::MissingLayer {
            layer: *diff_id,
            path: dir.clone(),
        })?;
        let path = dir.join(TAPE);
        let no_tape = || Error::NoTape { layer: *diff_id };
        let len = record.tar.ok_or_else(no_tape)?;
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(no_tape()),
            file => file.context("open", &path)?,
        };
        let mut tape = BufReader::new(
            zstd::stream::read::Decoder::with_buffer(BufReader::new(file))
                .context("read", &path)?,
        );
        let mut version = [0u8];
        tape.read_exact(&mut version).context("read", &path)?;
        if version[0] != VERSION {
            let what = format!("version {} is unknown to this program", version[0]);
            return Err(damaged(&what)).context("read", &path);
        }
        Ok(LayerTar {
            diff_id: *diff_id,
            len,
            tape,
            files: Files::open(&dir)?,
            now: Now::Raw(0),
            hash: Sha256::new(),
        })
    }
}

impl LayerTar {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The next operation of the tape.
    fn next(&mut self) -> io::Result<()> {
        let mut op = [0u8];
        self.tape.read_exact(&mut op)?;
        self.now = match op[0] {
            RAW => Now::Raw(get(&mut self.tape)?),
            FILE => {
                let path = get_bytes(&mut self.tape, MAX_PATH)?;
                let left = get(&mut self.tape)?;
                let file = self.files.next(&path)?;
                Now::File {
                    file,
                    at: 0,
                    left,
                    then: Vec::new(),
                }
            }
            SPARSE => {
                let path = get_bytes(&mut self.tape, MAX_PATH)?;
                let count = get(&mut self.tape)?;
                if count > MAX_SEGMENTS {
                    return Err(damaged("too many segments"));
                }
                let mut then = Vec::new();
                for _ in 0..count {
                    let (offset, len) = (get(&mut self.tape)?, get(&mut self.tape)?);
                    then.push(Segment { offset, len });
                }
                then.reverse();
                let file = self.files.next(&path)?;
                Now::File {
                    file,
                    at: 0,
                    left: 0,
                    then,
                }
            }
            END => {
                let hash = std::mem::take(&mut self.hash);
                let got = Digest::from_sha256(hash.finalize().into());
                if got != self.diff_id {
                    return Err(self.changed(&format!("its tar has the digest {got} now")));
                }
                Now::Ended
            }
            other => return Err(damaged(&format!("unknown operation {other}"))),
        };
        Ok(())
    }

    fn changed(&self, why: &str) -> io::Error {
        let text = format!(
            "layer {} is not on disk as it was unpacked: {why}; see `barque system check`",
            self.diff_id
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Read for LayerTar {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len();
        let room = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(most);
        let n = loop {
            match &mut self.now {
                Now::Ended => return Ok(0),
                _ if buf.is_empty() => return Ok(0),
                Now::Raw(0) => self.next()?,
                Now::Raw(left) => {
                    let n = room(*left);
                    self.tape.read_exact(&mut buf[..n])?;
                    *left -= n as u64;
                    break n;
                }
                Now::File {
                    at,
                    left: left @ 0,
                    then,
                    ..
                } => match then.pop() {
                    Some(segment) => (*at, *left) = (segment.offset, segment.len),
                    None => self.next()?,
                },
                Now::File { file, at, left, .. } => {
                    let n = room(*left);
                    match file.read_at(&mut buf[..n], *at) {
                        Ok(0) => return Err(self.changed("a file has become shorter")),
                        Ok(n) => {
                            *at += n as u64;
                            *left -= n as u64;
                            break n;
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        };
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

/// By path, what was replaced there: how many files had been recorded then, and its number in kept/.
type Replaced = HashMap<Vec<u8>, Vec<(u64, u64)>>;

/// The files of a layer, as the tape names them.
struct Files {
    diff: OpenDirs,
    kept: Option<OpenDirs>,
    replaced: Replaced,
    count: u64,
}

impl Files {
    fn open(dir: &Path) -> Result<Self> {
        let top = |name: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, dir.join(name), flags, Mode::empty())
        };
        let diff = OpenDirs::new(top("diff").context("open", &dir.join("diff"))?);
        let (kept, replaced) = match top(KEPT) {
            Ok(kept) => {
                let index = dir.join(KEPT).join(INDEX);
                let bytes = std::fs::read(&index).context("read", &index)?;
                let replaced = read_index(&bytes).context("read", &index)?;
                (Some(OpenDirs::new(kept)), replaced)
            }
            Err(Errno::NOENT) => (None, HashMap::new()),
            Err(e) => return Err(e).context("open", &dir.join(KEPT)),
        };
        Ok(Self {
            diff,
            kept,
            replaced,
            count: 0,
        })
    }

    /// Opens the next file that the tape names.
    fn next(&mut self, path: &[u8]) -> io::Result<File> {
        self.count += 1;
        let place = self.replaced_after(path);
        let opened = match (&mut self.kept, place) {
            (Some(kept), Some(place)) => open(kept, &place),
            _ => open(&mut self.diff, path),
        };
        opened.map_err(|errno| {
            let name = crate::path::show(path);
            let e = io::Error::from(errno);
            io::Error::new(
                e.kind(),
                format!("cannot open the layer's file {name}: {e}"),
            )
        })
    }

    /// Where in kept/ the file is that has just been counted, if it or a directory above it was replaced later.
    fn replaced_after(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.replaced.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        ends.map(|(at, _)| at)
            .chain([path.len()])
            .filter_map(|end| {
                let moments = self.replaced.get(&path[..end])?;
                let (_, number) = moments.iter().find(|(at, _)| *at >= self.count)?;
                Some((*number, &path[end..]))
            })
            // They are numbered in the order in which it happened.
            .min_by_key(|(number, _)| *number)
            .map(|(number, rest)| [number.to_string().as_bytes(), rest].concat())
    }
}

fn read_index(mut bytes: &[u8]) -> io::Result<Replaced> {
    let mut replaced = Replaced::new();
    let mut number = 0;
    while !bytes.is_empty() {
        let at = get(&mut bytes)?;
        let path = get_bytes(&mut bytes, MAX_PATH)?;
        replaced.entry(path).or_default().push((at, number));
        number += 1;
    }
    Ok(replaced)
}

fn open(dirs: &mut OpenDirs, path: &[u8]) -> Result<File, Errno> {
    let (dir, name) = split(path);
    let (parent, plain) = dirs.resolve_plain(dir)?;
    if plain {
        dirs.remember(dir, &parent);
    }
    // Not to hang on a fifo that somebody put there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::openat(&*parent, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(File::from(fd)),
        _ => Err(Errno::INVAL),
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    // A push reads layers in threads.
    is_send::<LayerTar>();
};
