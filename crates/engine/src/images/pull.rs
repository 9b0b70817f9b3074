//! Pull: from a reference to an image in the store.
//!
//! ```text
//! reference ─HEAD→ the digest that is here already? → up to date
//!           ─GET→ index → the platform's manifest → configuration (diff ids)
//!                 → for each layer not here, some at a time: blob stream → unpack, hashing both sides of the inflater
//!                 → commit: names appear last, after everything has reached the disk
//! ```
//! Layers are keyed by diff id, so one that another image or another chain has is not fetched. The store lets only one
//! process at a time unpack a layer; the others wait and find it. The first failure breaks off all downloads. Every
//! thread is joined before the function returns, because the caller may fork afterwards.

use super::helpers::NoHelpers;
use super::{Images, view};
use crate::error::{Error, Kind, Result};
use barque_image::{Ingest, NewImage, Slot};
use barque_registry::{Client, Config, CredentialHelper, Document, Fetched};
use barque_types::digest::Digest;
use barque_types::oci::{Descriptor, ImageConfig, Manifest, media_type};
use barque_types::platform::Platform;
use barque_types::reference::Reference;
use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Configurations are small; this is far beyond any that a builder writes.
const CONFIG_MAX: u64 = 16 * 1024 * 1024;
/// An index may lead to an index, in theory without end.
const INDEX_DEPTH: usize = 3;
/// The pause between two progress events of one layer.
const TICK: Duration = Duration::from_millis(100);

/// What to pull, beside the reference.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The platform that the user asked for; without one, the best that this host runs.
    pub platform: Option<Platform>,
    /// Layers fetched and unpacked at the same time, at least 1. Docker's default is 3.
    pub parallel: usize,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: None,
            parallel: 3,
        }
    }
}

/// What happens during a pull, for a progress display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// `<tag>: Pulling from <repository>`.
    Started {
        /// The repository without its registry if that is Docker Hub, else with it: `library/busybox`.
        repository: String,
        /// The tag, or the digest if there is none.
        tag: String,
    },
    /// A layer's state, first once for each in the image's order. Layers are known by their blob's digest.
    Layer {
        /// Digest of the blob.
        blob: Digest,
        /// What happens to it.
        status: LayerStatus,
    },
    /// Something that the user should know and that is no failure.
    Warning(String),
}

/// The state of a layer, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStatus {
    /// `Pulling fs layer`.
    Pending,
    /// `Already exists`.
    Exists,
    /// `Downloading`, in bytes of the blob. It is unpacked as it comes.
    Downloading {
        /// Bytes that came.
        current: u64,
        /// Bytes that will.
        total: u64,
    },
    /// `Extracting`: all has come, the rest is being unpacked and checked.
    Extracting,
    /// `Pull complete`.
    Complete,
}

/// A pull's result.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest that the registry knows it by: of the index, if there is one.
    pub digest: Digest,
    /// Whether anything changed here: "Downloaded newer image" instead of "Image is up to date".
    pub newer: bool,
}

use barque_image::Image;

/// Whom to tell about progress; called from several threads.
type Tell<'a> = &'a (dyn Fn(PullEvent) + Sync);

impl Images<'_> {
    /// Pulls an image. `latest` is pulled if the reference has neither tag nor digest.
    pub fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        tell: Tell<'_>,
    ) -> Result<Pulled> {
        let reference = reference.clone().or_latest();
        let client = Client::new(self.client_config())?;
        Pull {
            images: self,
            client,
            reference,
            options,
            tell,
        }
        .run()
    }

    fn client_config(&self) -> Config {
        let options = &self.engine.options;
        Config {
            insecure: options.insecure_registries.clone(),
            docker_config: options.config_dir.clone(),
            helper: options.config_dir.as_ref().map(|dir| {
                let file = dir.join("config.json");
                Arc::new(NoHelpers::new(file)) as Arc<dyn CredentialHelper>
            }),
            proxies: barque_registry::Proxies {
                http: options.proxies.http.clone(),
                https: options.proxies.https.clone(),
                no_proxy: options.proxies.no_proxy.clone(),
            },
            ..Config::default()
        }
    }
}

/// What a reference led to.
struct Target {
    /// Digest of the first document.
    root: Digest,
    /// The platform's manifest as it came.
    fetched: Fetched,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
}

struct Pull<'a> {
    images: &'a Images<'a>,
    client: Client,
    reference: Reference,
    options: &'a PullOptions,
    tell: Tell<'a>,
}

impl Pull<'_> {
    fn run(self) -> Result<Pulled> {
        (self.tell)(PullEvent::Started {
            repository: match self.reference.domain() {
                barque_types::reference::DEFAULT_DOMAIN => self.reference.path().to_owned(),
                _ => self.reference.name(),
            },
            tag: match (self.reference.digest(), self.reference.tag()) {
                (Some(digest), _) => digest.to_string(),
                (None, tag) => tag.unwrap_or_default().to_owned(),
            },
        });
        if let Some(done) = self.up_to_date()? {
            return Ok(done);
        }
        let target = self.target()?;
        self.warn_about_platform(&target.config)?;
        let before = self.images.find(&self.reference.familiar()).ok();
        let image = self
            .fetch(&target)
            .map_err(|e| e.about(&self.reference.familiar()))?;
        Ok(Pulled {
            newer: before.is_none_or(|before| before.id != image.id),
            image,
            digest: target.root,
        })
    }

    /// The image here, if it is what the reference leads to. A digest never leads elsewhere; for a tag the registry
    /// is asked, with a request that does not count against its pull limits.
    fn up_to_date(&self) -> Result<Option<Pulled>> {
        let Ok(image) = self.images.find(&self.reference.familiar()) else {
            return Ok(None);
        };
        if let Some(wanted) = &self.options.platform {
            let config = self.images.engine.store.config(&image)?;
            if view::platform(&config) != *wanted {
                return Ok(None);
            }
        }
        let digest = match self.reference.digest() {
            Some(digest) => Some(digest),
            None => match self.client.resolve(&self.reference) {
                Ok(digest) => digest,
                // A registry that cannot answer HEAD may well answer GET, and one that is gone will say so again.
                Err(e @ barque_registry::Error::Unreachable { .. }) => return Err(e.into()),
                Err(_) => None,
            },
        };
        let Some(digest) = digest else {
            return Ok(None);
        };
        let known = self.images.names(&image)?.digests;
        let here = known.contains(&self.reference.with_digest(digest));
        Ok(here.then_some(Pulled {
            image,
            digest,
            newer: false,
        }))
    }

    /// Manifest and configuration for the platform.
    fn target(&self) -> Result<Target> {
        let mut fetched = self.client.manifest(&self.reference)?;
        let root = fetched.digest;
        let mut depth = 0;
        let manifest = loop {
            match &fetched.document {
                Document::Manifest(manifest) => break (**manifest).clone(),
                Document::Index(index) => {
                    let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
                    let chosen = wanted.choose(index, self.options.platform.is_some());
                    let chosen = chosen.filter(|_| depth < INDEX_DEPTH).ok_or_else(|| {
                        let message = format!(
                            "{}: no matching manifest for {wanted} in the manifest list entries",
                            self.reference.familiar()
                        );
                        Error::new(Kind::NoSuchImage, message)
                    })?;
                    depth += 1;
                    fetched = self
                        .client
                        .manifest(&self.reference.with_digest(chosen.digest))?;
                }
            }
        };
        self.check_media_types(&manifest)?;
        let config_bytes = self
            .client
            .blob_bytes(&self.reference, &manifest.config, CONFIG_MAX)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(|e| {
            self.bad(format!(
                "its configuration is malformed ({e}); push it again"
            ))
        })?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(self.bad(format!(
                "its configuration lists {} layers but its manifest {}; push it again",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        Ok(Target {
            root,
            fetched,
            manifest,
            config_bytes,
            config,
        })
    }

    /// Refuses what is stored in registries but is no image: charts, signatures, attestations.
    fn check_media_types(&self, manifest: &Manifest) -> Result<()> {
        let config = manifest.config.media_type.as_str();
        if !matches!(
            config,
            "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Err(self.bad(format!(
                "unsupported media type {config}: not a container image"
            )));
        }
        let is_layer = |kind: &str| {
            let kind = kind
                .replace(".nondistributable", "")
                .replace(".foreign", "");
            matches!(
                kind.as_str(),
                "" | media_type::OCI_LAYER
                    | media_type::OCI_LAYER_GZIP
                    | media_type::OCI_LAYER_ZSTD
                    | media_type::DOCKER_LAYER_GZIP
                    | "application/vnd.docker.image.rootfs.diff.tar"
                    | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            )
        };
        match manifest
            .layers
            .iter()
            .find(|layer| !is_layer(&layer.media_type))
        {
            Some(layer) => {
                Err(self.bad(format!("unsupported layer media type {}", layer.media_type)))
            }
            None => Ok(()),
        }
    }

    /// An index was searched for the right platform; a lone manifest is what it is.
    fn warn_about_platform(&self, config: &ImageConfig) -> Result<()> {
        let own = view::platform(config);
        match &self.options.platform {
            Some(wanted) if own != *wanted => {
                self.images
                    .check_platform(&self.reference.familiar(), config, wanted)
            }
            _ if own.os != "linux" => Err(self.bad(format!(
                "image operating system {:?} cannot be used on this platform",
                own.os
            ))),
            None if !Platform::host().candidates().contains(&own) => {
                let host = Platform::host();
                (self.tell)(PullEvent::Warning(format!(
                    "the image's platform ({own}) does not match this host's ({host})"
                )));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bad(&self, what: String) -> Error {
        Error::new(
            Kind::Invalid,
            format!("cannot pull {}: {what}", self.reference.familiar()),
        )
    }

    /// Brings the layers and commits the image.
    fn fetch(&self, target: &Target) -> Result<Image> {
        let layers = &target.manifest.layers;
        for layer in layers {
            self.tell_layer(layer, LayerStatus::Pending);
        }
        let diff_ids = &target.config.rootfs.diff_ids;
        let ingest = self.images.engine.store.ingest(diff_ids)?;
        // One diff id may stand at several places; it is one piece of work. The largest first, so that the last
        // one to be ready is not a large one that began late.
        let mut seen = HashSet::new();
        let mut work: Vec<Work<'_>> = diff_ids
            .iter()
            .zip(layers)
            .filter(|(diff_id, _)| seen.insert(**diff_id))
            .map(|(diff_id, blob)| Work { diff_id, blob })
            .collect();
        work.sort_by_key(|work| std::cmp::Reverse(work.blob.size));
        self.fetch_all(&ingest, &work)?;
        let by_tag = self.reference.digest().is_none();
        let new = NewImage {
            config: target.config_bytes.clone(),
            config_media_type: target.manifest.config.media_type.clone(),
            manifest: Some((
                target.fetched.bytes.clone(),
                target.fetched.media_type.clone(),
            )),
            tags: by_tag.then(|| self.reference.clone()).into_iter().collect(),
            digests: vec![self.reference.with_digest(target.root)],
        };
        Ok(ingest.commit(new, layers)?)
    }

    /// Works through the list with some threads, this one included; the first error wins and stops the others.
    fn fetch_all(&self, ingest: &Ingest, work: &[Work<'_>]) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let worker = || {
            while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(e) = self.fetch_layer(ingest, item) {
                    // Whoever is second failed because the first one cancelled it.
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(e);
                    drop(first);
                    next.store(work.len(), Ordering::Relaxed);
                    self.client.cancel();
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.options.parallel.min(work.len()) {
                let thread = std::thread::Builder::new().name("pull".to_owned());
                if let Err(e) = thread.spawn_scoped(scope, worker) {
                    // At the limit of threads, fewer do.
                    tracing::debug!("pulling with fewer threads: {e}");
                    break;
                }
            }
            worker();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn fetch_layer(&self, ingest: &Ingest, work: &Work<'_>) -> Result<()> {
        let writer = match ingest.layer(work.diff_id)? {
            Slot::Present(_) => {
                self.tell_layer(work.blob, LayerStatus::Exists);
                return Ok(());
            }
            Slot::Missing(writer) => writer,
        };
        let failure = Mutex::new(None);
        let stream = Download {
            blob: self.client.blob(&self.reference, work.blob)?,
            pull: self,
            layer: work.blob,
            told: Instant::now(),
            failure: &failure,
        };
        let applied = writer.apply(stream, Some(work.blob));
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (applied, failure) {
            // What broke the stream says more than what its end did to the unpacking.
            (Err(_), Some(cause)) => Err(Error::from(cause)),
            (Err(e), None) => Err(e.into()),
            (Ok(_), _) => {
                self.tell_layer(work.blob, LayerStatus::Complete);
                Ok(())
            }
        }
    }

    fn tell_layer(&self, layer: &Descriptor, status: LayerStatus) {
        let blob = layer.digest;
        (self.tell)(PullEvent::Layer { blob, status });
    }
}

/// One layer to bring.
struct Work<'a> {
    diff_id: &'a Digest,
    blob: &'a Descriptor,
}

/// A blob's bytes on their way to the unpacking: reports progress, and keeps the registry's error, which an
/// `io::Error` passing through an inflater would lose.
struct Download<'a> {
    blob: barque_registry::BlobReader,
    pull: &'a Pull<'a>,
    layer: &'a Descriptor,
    told: Instant,
    failure: &'a Mutex<Option<barque_registry::Error>>,
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = match self.blob.read(buf) {
            Ok(length) => length,
            Err(e) => {
                let cause = barque_registry::Error::from_io(&e).cloned();
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = cause;
                return Err(e);
            }
        };
        let (current, total) = (self.blob.offset(), self.layer.size);
        if length > 0 && current == total {
            self.pull
                .tell_layer(self.layer, LayerStatus::Downloading { current, total });
            self.pull.tell_layer(self.layer, LayerStatus::Extracting);
        } else if self.told.elapsed() >= TICK {
            self.told = Instant::now();
            self.pull
                .tell_layer(self.layer, LayerStatus::Downloading { current, total });
        }
        Ok(length)
    }
}
