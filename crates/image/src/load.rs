//! `load`: image archives, as `docker save` writes them (manifest.json, v1.2) and as an OCI image layout.
//!
//! ```text
//! docker  manifest.json [{"Config":PATH,"RepoTags":[…],"Layers":[PATH…]}], the files it names
//! OCI     oci-layout, index.json → manifests (by platform) → blobs/sha256/<hex>
//! ```
//! The archive may come from a pipe and has its table of contents anywhere, so it is spooled first: to a file without a
//! name (O_TMPFILE), which the kernel removes whatever happens to us. Then layers are unpacked in parallel straight out of
//! it. Archives of newer Dockers are both kinds at once; manifest.json, which has the names, then wins.
//! Sources: moby image/spec/spec.md, OCI image-spec image-layout.md.

use crate::archive::{Entry, Fault, Kind, TarReader};
use crate::error::{Context, Error, Result, io_error};
use crate::image::{Image, NewImage};
use crate::ingest::{Ingest, Slot};
use crate::pipeline::{decompress, digest_of};
use crate::store::Store;
use barque_types::digest::Digest;
use barque_types::oci::{Descriptor, ImageConfig, Index, Manifest, media_type};
use barque_types::platform::Platform;
use barque_types::reference::Reference;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest JSON document that is read into memory.
const MAX_DOCUMENT: u64 = 16 << 20;
/// Links followed for one path, and indexes for one image.
const MAX_HOPS: usize = 8;

/// An image that came with an archive.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that the archive gives it; none: `Loaded image ID: …`.
    pub names: Vec<Reference>,
}

impl Store {
    /// Brings in all images of an archive (gzip, zstd or plain). An error leaves those that came before it.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>> {
        let spool = Spool::read(&self.paths.tmp(), archive)?;
        let wanted = match (spool.find("manifest.json"), spool.find("index.json")) {
            (Some(_), _) => docker_images(&spool)?,
            (None, Some(_)) => oci_images(&spool)?,
            (None, None) => {
                let reason = "it has neither manifest.json nor index.json: not an image archive (for a root file system use import)";
                return Err(bad("archive", reason));
            }
        };
        if wanted.is_empty() {
            return Err(bad("archive", "it holds no image for this platform"));
        }
        wanted
            .into_iter()
            .map(|wanted| self.load_one(&spool, wanted))
            .collect()
    }

    fn load_one(&self, spool: &Spool, wanted: Wanted) -> Result<Loaded> {
        let id = digest_of(&wanted.new.config);
        let config: ImageConfig = parse(&format!("image configuration {id}"), &wanted.new.config)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != wanted.layers.len() {
            let reason = format!(
                "it lists {} layers, its configuration {}",
                wanted.layers.len(),
                diff_ids.len()
            );
            return Err(bad(&format!("image {id}"), reason));
        }
        let ingest = self.ingest(diff_ids)?;
        let jobs: Vec<_> = diff_ids.iter().zip(&wanted.layers).collect();
        unpack_all(spool, &ingest, &jobs)?;
        let blobs: Vec<_> = wanted.layers.into_iter().filter_map(|l| l.blob).collect();
        let names = wanted.new.tags.clone();
        let image = ingest.commit(wanted.new, &blobs)?;
        Ok(Loaded { image, names })
    }
}

/// Unpacks the layers that are missing, as many at a time as there are processors.
fn unpack_all(spool: &Spool, ingest: &Ingest, jobs: &[(&Digest, &WantedLayer)]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        while let Some((diff_id, layer)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = ingest.layer(diff_id).and_then(|slot| match slot {
                Slot::Present(_) => Ok(()),
                Slot::Missing(writer) => writer
                    .apply(spool.open(layer.range), layer.blob.as_ref())
                    .map(|_| ()),
            });
            if let Err(e) = done {
                next.store(jobs.len(), Ordering::Relaxed);
                failed
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .get_or_insert(e);
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

/// An image found in an archive.
struct Wanted {
    new: NewImage,
    layers: Vec<WantedLayer>,
}

struct WantedLayer {
    range: Range,
    blob: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_images(spool: &Spool) -> Result<Vec<Wanted>> {
    let images: Vec<DockerImage> = parse("manifest.json", &spool.document("manifest.json")?)?;
    images
        .into_iter()
        .map(|image| {
            let tags = image.repo_tags.unwrap_or_default();
            let tags = tags.iter().map(|tag| {
                Reference::parse(tag)
                    .map(Reference::or_latest)
                    .map_err(|e| bad("manifest.json", format!("{tag:?}: {e}")))
            });
            let layers = image.layers.iter().map(|path| {
                Ok(WantedLayer {
                    range: spool.range(path)?,
                    blob: None,
                })
            });
            let new = NewImage {
                config: spool.document(&image.config)?,
                config_media_type: media_type::DOCKER_CONFIG.to_owned(),
                tags: tags.collect::<Result<_>>()?,
                ..NewImage::default()
            };
            Ok(Wanted {
                new,
                layers: layers.collect::<Result<_>>()?,
            })
        })
        .collect()
}

fn oci_images(spool: &Spool) -> Result<Vec<Wanted>> {
    let index: Index = parse("index.json", &spool.document("index.json")?)?;
    // One image per name; of several manifests without a name or with the same one, the platform's.
    let mut groups: Vec<(Option<Reference>, Index)> = Vec::new();
    for descriptor in index.manifests {
        let name = name_of(&descriptor);
        match groups.iter_mut().find(|(n, _)| *n == name) {
            Some((_, group)) => group.manifests.push(descriptor),
            None => {
                let group = Index {
                    schema_version: 2,
                    media_type: None,
                    manifests: vec![descriptor],
                };
                groups.push((name, group));
            }
        }
    }
    let mut out = Vec::new();
    for (name, group) in groups {
        if let Some((bytes, kind)) = choose(spool, group)? {
            out.push(oci_image(spool, name, bytes, kind)?);
        }
    }
    Ok(out)
}

/// The name that containerd, or skopeo and buildah, wrote. A bare tag names nothing outside its registry.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    let short = descriptor
        .annotations
        .get("org.opencontainers.image.ref.name");
    let text = full.or(short.filter(|name| name.contains([':', '/'])))?;
    Reference::parse(text).ok().map(Reference::or_latest)
}

/// Descends to the manifest for this host: its bytes and media type.
fn choose(spool: &Spool, mut index: Index) -> Result<Option<(Vec<u8>, String)>> {
    for _ in 0..MAX_HOPS {
        let Some(descriptor) = Platform::host().choose(&index, false) else {
            return Ok(None);
        };
        let bytes = spool.blob(descriptor)?;
        match descriptor.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_LIST => {
                index = parse("image index", &bytes)?
            }
            kind => return Ok(Some((bytes, kind.to_owned()))),
        }
    }
    Err(bad("index.json", "its indexes are nested too deeply"))
}

fn oci_image(
    spool: &Spool,
    name: Option<Reference>,
    bytes: Vec<u8>,
    kind: String,
) -> Result<Wanted> {
    let manifest: Manifest = parse("image manifest", &bytes)?;
    let layers = manifest.layers.iter().map(|layer| {
        Ok(WantedLayer {
            range: spool.range(&blob_path(&layer.digest))?,
            blob: Some(layer.clone()),
        })
    });
    let new = NewImage {
        config: spool.blob(&manifest.config)?,
        config_media_type: manifest.config.media_type.clone(),
        tags: name.into_iter().collect(),
        manifest: Some((bytes.clone(), kind)),
        digests: Vec::new(),
    };
    Ok(Wanted {
        new,
        layers: layers.collect::<Result<_>>()?,
    })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn parse<T: for<'a> Deserialize<'a>>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| bad(what, e.to_string()))
}

fn bad(what: &str, reason: impl Into<String>) -> Error {
    Error::BadImage {
        what: what.to_owned(),
        reason: reason.into(),
    }
}

/// Where a file's content lies in the spool.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

enum Stored {
    File(Range),
    /// Older `docker save`s link equal layers.
    Link(String),
}

/// The archive's files, one behind the other in a file without a name.
struct Spool {
    file: File,
    path: PathBuf,
    files: HashMap<String, Stored>,
}

impl Spool {
    fn read(tmp: &Path, archive: impl Read) -> Result<Self> {
        let source = |e: std::io::Error| bad("archive", format!("cannot read it: {e}"));
        let tar = decompress(archive).map_err(source)?;
        let mut tar = TarReader::new(BufReader::with_capacity(256 << 10, tar));
        let mut spool = Self {
            file: nameless(tmp)?,
            path: tmp.to_owned(),
            files: HashMap::new(),
        };
        let mut end = 0;
        let fault = |fault| match fault {
            Fault::Io(e) => source(e),
            Fault::Bad(reason) => bad("archive", reason),
        };
        while let Some(entry) = tar.next_entry().map_err(fault)? {
            spool.entry(entry, &mut tar, &mut end)?;
        }
        Ok(spool)
    }

    fn entry<R: std::io::BufRead>(
        &mut self,
        entry: Entry,
        tar: &mut TarReader<R>,
        end: &mut u64,
    ) -> Result<()> {
        let path = normal(&entry.path);
        let stored = match entry.kind {
            Kind::File if entry.sparse.is_none() => {
                let range = Range {
                    start: *end,
                    len: entry.size,
                };
                loop {
                    let chunk = tar.chunk().map_err(|fault| match fault {
                        Fault::Io(e) => bad("archive", format!("cannot read it: {e}")),
                        Fault::Bad(reason) => bad("archive", reason),
                    })?;
                    if chunk.is_empty() {
                        break;
                    }
                    self.file
                        .write_all(chunk)
                        .context("spool the archive in", &self.path)?;
                    let n = chunk.len();
                    tar.consume(n);
                    *end += n as u64;
                }
                Stored::File(range)
            }
            Kind::Symlink => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                Stored::Link(normal(&[dir.as_bytes(), b"/", &entry.link].concat()))
            }
            Kind::Hardlink => Stored::Link(normal(&entry.link)),
            _ => return Ok(()),
        };
        self.files.insert(path, stored);
        Ok(())
    }

    fn find(&self, path: &str) -> Option<Range> {
        let mut path = normal(path.as_bytes());
        for _ in 0..MAX_HOPS {
            match self.files.get(&path)? {
                Stored::File(range) => return Some(*range),
                Stored::Link(target) => path = target.clone(),
            }
        }
        None
    }

    fn range(&self, path: &str) -> Result<Range> {
        self.find(path).ok_or_else(|| {
            bad(
                "archive",
                format!("it lacks the file {path}, which its manifest names"),
            )
        })
    }

    fn open(&self, range: Range) -> Part<'_> {
        Part {
            file: &self.file,
            range,
        }
    }

    fn document(&self, path: &str) -> Result<Vec<u8>> {
        let range = self.range(path)?;
        if range.len > MAX_DOCUMENT {
            return Err(bad(
                path,
                format!("{} bytes are too many for such a document", range.len),
            ));
        }
        let mut out = Vec::with_capacity(range.len as usize);
        self.open(range)
            .read_to_end(&mut out)
            .context("read the spooled archive in", &self.path)?;
        Ok(out)
    }

    /// A document by its digest, verified.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = blob_path(&descriptor.digest);
        let bytes = self.document(&path)?;
        let actual = digest_of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::DigestMismatch {
                what: path,
                expected: descriptor.digest,
                actual,
            });
        }
        Ok(bytes)
    }
}

/// Reads a range with pread(2), so that threads share one file.
struct Part<'a> {
    file: &'a File,
    range: Range,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.range.len)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let n = self.file.read_at(&mut buf[..want], self.range.start)?;
        self.range.start += n as u64;
        self.range.len -= n as u64;
        Ok(n)
    }
}

/// A path within the archive without `.`, `..` and extra slashes.
fn normal(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file without a name. Where the file system cannot make one (old overlayfs), a named one unlinked at once.
fn nameless(dir: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, flags | OFlags::TMPFILE, mode) {
        Ok(fd) => Ok(fd.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let path = dir.join(format!("image-spool-{}", crate::layout::unique()));
            let fd = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)
                .context("create", &path)?;
            rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).context("unlink", &path)?;
            Ok(fd.into())
        }
        Err(e) => Err(io_error("create a temporary file in", dir, e.into())),
    }
}
