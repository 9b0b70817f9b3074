//! Pull, end to end within the library: real and lying registries, a real store on disk.

use barque_engine::images::{LayerStatus, PullEvent, PullOptions, Pulled};
use barque_engine::{Engine, Kind, Options, Proxies, Result};
use barque_testkit::fake::{Answer, FakeRegistry, Request, honest};
use barque_testkit::image::{Image, Layer};
use barque_testkit::registry::{Compression, Dialect, Registry, Wire};
use barque_types::reference::Reference;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// An engine on roots of its own.
struct Bench {
    engine: Engine,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests unpack layers with owners: run them as root"
        );
        let dir = tempfile::Builder::new()
            .prefix("bq-pull-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let engine = open(&dir);
        Self { engine, dir }
    }

    fn pull(&self, name: &str) -> Result<Pulled> {
        self.pull_with(name, &PullOptions::default(), &|_| ())
    }

    fn pull_with(
        &self,
        name: &str,
        options: &PullOptions,
        tell: &(dyn Fn(PullEvent) + Sync),
    ) -> Result<Pulled> {
        let reference = Reference::parse(name).unwrap();
        self.engine.images().pull(&reference, options, tell)
    }

    /// Pulls and returns the last status of each layer, in the image's order.
    fn statuses(&self, name: &str) -> Vec<LayerStatus> {
        let events = Mutex::new(Vec::new());
        self.pull_with(name, &PullOptions::default(), &|event| {
            events.lock().unwrap().push(event)
        })
        .unwrap();
        let mut last: Vec<(_, LayerStatus)> = Vec::new();
        for event in events.into_inner().unwrap() {
            if let PullEvent::Layer { blob, status } = event {
                match last.iter_mut().find(|(known, _)| *known == blob) {
                    Some(entry) => entry.1 = status,
                    None => last.push((blob, status)),
                }
            }
        }
        last.into_iter().map(|(_, status)| status).collect()
    }

    /// Directories under `overlay2/` that hold a layer.
    fn layers(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("data/overlay2")).map_or(0, |entries| {
            entries
                .filter(|e| e.as_ref().unwrap().path().join("diff").is_dir())
                .count()
        })
    }

    fn assert_empty(&self) {
        assert!(
            self.engine.images().list(&[]).unwrap().images.is_empty(),
            "half an image is visible"
        );
        assert_eq!(self.layers(), 0, "layers of a failed pull stay");
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("data/tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "garbage stays: {left:?}");
    }
}

fn open(dir: &TempDir) -> Engine {
    Engine::open(Options {
        data_root: dir.path().join("data"),
        run_root: dir.path().join("run"),
        config_dir: None,
        insecure_registries: Vec::new(),
        proxies: Proxies::default(),
    })
    .unwrap()
}

fn file_layer(name: &str, content: &[u8]) -> Layer {
    Layer::builder().file(name, 0o644, content).build()
}

fn two_layers() -> Image {
    Image::new(vec![file_layer("base", b"base"), file_layer("top", b"top")])
}

fn of_architecture(architecture: &str) -> Image {
    let mut image = Image::new(vec![file_layer("arch", architecture.as_bytes())]);
    image.architecture = architecture.to_owned();
    image
}

fn host() -> &'static str {
    barque_testkit::image::architecture()
}

fn foreign() -> &'static str {
    if host() == "arm64" { "s390x" } else { "arm64" }
}

#[test]
fn every_compression_and_dialect() {
    let registry = Registry::start();
    for (tag, compression, dialect) in [
        ("a", Compression::Gzip, Dialect::Docker),
        ("b", Compression::Gzip, Dialect::Oci),
        ("c", Compression::Zstd, Dialect::Oci),
        ("d", Compression::None, Dialect::Oci),
        ("e", Compression::None, Dialect::Docker),
    ] {
        let bench = Bench::new();
        let image = two_layers();
        let digest = registry.push("app", tag, &image, compression, dialect);
        let name = registry.name(&format!("app:{tag}"));
        let pulled = bench.pull(&name).unwrap();
        assert!(pulled.newer);
        assert_eq!(pulled.image.id.to_string(), image.id());
        assert_eq!(pulled.digest.to_string(), digest);
        let view = bench.engine.images().inspect(&name).unwrap();
        assert_eq!(view.repo_tags, std::slice::from_ref(&name));
        assert_eq!(
            view.repo_digests,
            [format!("{}@{digest}", registry.name("app"))]
        );
        let data = &view.graph_driver.data;
        assert_eq!(
            std::fs::read(format!("{}/top", data["UpperDir"])).unwrap(),
            b"top"
        );
        assert_eq!(
            std::fs::read(format!("{}/base", data["LowerDir"])).unwrap(),
            b"base"
        );
        let again = bench.pull(&name).unwrap();
        assert!(!again.newer);
        assert_eq!(again.digest.to_string(), digest);
    }
}

#[test]
fn what_is_here_is_not_fetched_again() {
    let image = two_layers();
    let other = image.clone().plus(file_layer("more", b"more"));
    let wires = [image, other].map(|image| Wire::new(&image, Compression::Gzip, Dialect::Oci));
    let registry = FakeRegistry::start(move |request| {
        honest(
            &wires[usize::from(request.path.starts_with("/v2/other/"))],
            request,
        )
    });
    let bench = Bench::new();
    let name = registry.name("app:1");
    assert_eq!(bench.statuses(&name), [LayerStatus::Complete; 2]);
    let before = registry.seen().len();
    bench.pull(&name).unwrap();
    let new = &registry.seen()[before..];
    assert_eq!(
        new.len(),
        1,
        "an image that is up to date costs one request: {new:?}"
    );
    assert_eq!(new[0].method, "HEAD");
    let statuses = bench.statuses(&registry.name("other:1"));
    assert_eq!(
        statuses,
        [
            LayerStatus::Exists,
            LayerStatus::Exists,
            LayerStatus::Complete
        ]
    );
    assert_eq!(bench.layers(), 3);
    // A digest leads nowhere else: no request at all.
    let digest = bench.engine.images().inspect(&name).unwrap().repo_digests[0].clone();
    let before = registry.seen().len();
    assert!(!bench.pull(&digest).unwrap().newer);
    assert_eq!(registry.seen().len(), before);
}

#[test]
fn by_digest_there_is_no_tag() {
    let registry = Registry::start();
    let digest = registry.push(
        "app",
        "1",
        &two_layers(),
        Compression::Gzip,
        Dialect::Docker,
    );
    let bench = Bench::new();
    let name = format!("{}@{digest}", registry.name("app"));
    bench.pull(&name).unwrap();
    let view = bench.engine.images().inspect(&name).unwrap();
    assert!(view.repo_tags.is_empty());
    assert_eq!(view.repo_digests, [name]);
}

#[test]
fn a_tag_that_moved() {
    let registry = Registry::start();
    let bench = Bench::new();
    let name = registry.name("app:1");
    registry.push("app", "1", &two_layers(), Compression::Gzip, Dialect::Oci);
    let old = bench.pull(&name).unwrap().image.id;
    let newer = two_layers().plus(file_layer("new", b"new"));
    registry.push("app", "1", &newer, Compression::Gzip, Dialect::Oci);
    let pulled = bench.pull(&name).unwrap();
    assert!(pulled.newer && pulled.image.id != old);
    let dangling = [("dangling".to_owned(), "true".to_owned())];
    let dangling = bench.engine.images().list(&dangling).unwrap().images;
    assert_eq!(dangling.len(), 1);
    assert_eq!(dangling[0].id, old.to_string());
}

#[test]
fn platforms() {
    let registry = Registry::start();
    let images = [of_architecture(foreign()), of_architecture(host())];
    let digest = registry.push_index("app", "1", &images, Dialect::Oci);
    let bench = Bench::new();
    let name = registry.name("app:1");
    let pulled = bench.pull(&name).unwrap();
    assert_eq!(pulled.image.id.to_string(), images[1].id());
    assert_eq!(
        pulled.digest.to_string(),
        digest,
        "known by the index's digest"
    );
    assert!(!bench.pull(&name).unwrap().newer);
    let with = |platform: &str| PullOptions {
        platform: Some(platform.parse().unwrap()),
        ..PullOptions::default()
    };
    let pulled = bench.pull_with(&name, &with(foreign()), &|_| ()).unwrap();
    assert_eq!(pulled.image.id.to_string(), images[0].id());
    let error = bench
        .pull_with(&name, &with("linux/ppc64le"), &|_| ())
        .unwrap_err();
    let want =
        format!("{name}: no matching manifest for linux/ppc64le in the manifest list entries");
    assert_eq!(error.to_string(), want);

    // A lone manifest for another platform: refused if the user named one, a warning if not.
    registry.push(
        "lone",
        "1",
        &of_architecture(foreign()),
        Compression::Gzip,
        Dialect::Oci,
    );
    let name = registry.name("lone:1");
    let error = bench.pull_with(&name, &with(host()), &|_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not match the specified platform"),
        "{error}"
    );
    let warnings = AtomicUsize::new(0);
    let count = |event| {
        if let PullEvent::Warning(text) = event {
            assert!(text.contains("does not match this host's"), "{text}");
            warnings.fetch_add(1, Ordering::Relaxed);
        }
    };
    bench
        .pull_with(&name, &PullOptions::default(), &count)
        .unwrap();
    assert_eq!(warnings.into_inner(), 1);
}

#[test]
fn what_does_not_exist() {
    let registry = Registry::start();
    let bench = Bench::new();
    let name = registry.name("nope:1");
    let error = bench.pull(&name).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSuchImage);
    assert!(
        error
            .to_string()
            .starts_with(&format!("manifest for {name} not found: manifest unknown")),
        "{error}"
    );
    bench.assert_empty();
}

/// A registry that serves `image`, except for what `spoil` answers; the answer for the rest is the honest one.
fn spoiled(
    image: &Image,
    spoil: impl Fn(&Wire, &Request) -> Option<Answer> + Send + Sync + 'static,
) -> FakeRegistry {
    let wire = Wire::new(image, Compression::Gzip, Dialect::Oci);
    FakeRegistry::start(move |request| {
        spoil(&wire, request).unwrap_or_else(|| honest(&wire, request))
    })
}

fn is_layer(wire: &Wire, request: &Request, n: usize) -> bool {
    request.path.ends_with(&wire.blobs[n].0)
}

#[test]
fn damaged_layers_leave_nothing() {
    let bench = Bench::new();
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let table: [(Spoil, &str); 3] = [
        // The same length, other bytes in the checksum at the end: inflates, but is not what was announced.
        (
            |mut blob| {
                blob[4] ^= 0xff; // gzip's MTIME, which no one checks but the digest
                blob
            },
            "digest mismatch",
        ),
        (
            |mut blob| {
                let middle = blob.len() / 2;
                blob[middle] ^= 0xff;
                blob
            },
            "",
        ),
        (
            |blob| blob[..blob.len() - 1].to_vec(),
            "bytes long but the manifest says",
        ),
    ];
    for (damage, want) in table {
        let registry = spoiled(&two_layers(), move |wire, request| {
            let hit = is_layer(wire, request, 1);
            hit.then(|| {
                Answer::new(
                    200,
                    "application/octet-stream",
                    damage(wire.blobs[1].1.clone()),
                )
            })
        });
        let error = bench.pull(&registry.name("app:1")).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        bench.assert_empty();
    }
}

#[test]
fn a_lying_diff_id_is_noticed() {
    let mut image = two_layers();
    let wire = Wire::new(&image, Compression::Gzip, Dialect::Oci);
    // The configuration of another image: the same number of layers, other diff ids.
    image.layers[1] = file_layer("top", b"evil");
    let lie = image.configuration();
    let text = String::from_utf8(wire.manifest.clone()).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut manifest = manifest;
    manifest["config"]["digest"] = barque_testkit::image::digest(&lie).into();
    manifest["config"]["size"] = lie.len().into();
    let mut wire = wire;
    wire.manifest = manifest.to_string().into_bytes();
    wire.blobs.push((barque_testkit::image::digest(&lie), lie));
    let registry = FakeRegistry::start(move |request| honest(&wire, request));
    let bench = Bench::new();
    let error = bench.pull(&registry.name("app:1")).unwrap_err();
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    bench.assert_empty();
}

#[test]
fn one_failure_ends_the_others() {
    // One layer does not exist, the other would take minutes.
    let image = Image::new(vec![
        file_layer("small", b"x"),
        file_layer("large", &incompressible(8 << 20)),
    ]);
    let registry = spoiled(&image, |wire, request| {
        if is_layer(wire, request, 0) {
            return Some(Answer::not_found("BLOB_UNKNOWN"));
        }
        let slow = is_layer(wire, request, 1);
        slow.then(|| honest(wire, request).slowly(Duration::from_secs(10)))
    });
    let bench = Bench::new();
    let error = bench.pull(&registry.name("app:1")).unwrap_err();
    assert!(error.to_string().contains("blob unknown"), "{error}");
    bench.assert_empty();
}

#[test]
fn a_broken_connection_is_resumed() {
    let content = incompressible(2 << 20);
    let image = Image::new(vec![file_layer("large", &content)]);
    let broken = AtomicUsize::new(0);
    let registry = spoiled(&image, move |wire, request| {
        let first = is_layer(wire, request, 0) && broken.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| honest(wire, request).cut_after(1 << 20))
    });
    let bench = Bench::new();
    let name = registry.name("app:1");
    bench.pull(&name).unwrap();
    let view = bench.engine.images().inspect(&name).unwrap();
    let file = format!("{}/large", view.graph_driver.data["UpperDir"]);
    assert!(std::fs::read(file).unwrap() == content);
}

#[test]
fn two_engines_fetch_a_layer_once() {
    let layers = (0..4)
        .map(|n| file_layer(&format!("f{n}"), &incompressible(1 << 20)))
        .collect();
    let image = Image::new(layers);
    let registry = spoiled(&image, |wire, request| {
        request
            .path
            .contains("/blobs/")
            .then(|| honest(wire, request).slowly(Duration::from_millis(5)))
    });
    let bench = Bench::new();
    let name = registry.name("app:1");
    let reference = Reference::parse(&name).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let engine = open(&bench.dir);
                engine
                    .images()
                    .pull(&reference, &PullOptions::default(), &|_| ())
                    .unwrap();
            });
        }
    });
    let wire = Wire::new(&image, Compression::Gzip, Dialect::Oci);
    for (digest, _) in &wire.blobs[..4] {
        let fetched = registry
            .seen()
            .iter()
            .filter(|request| request.path.ends_with(digest))
            .count();
        assert_eq!(fetched, 1, "{digest}");
    }
    assert_eq!(bench.engine.images().list(&[]).unwrap().images.len(), 1);
}

#[test]
fn a_layer_that_stands_twice() {
    let layer = file_layer("x", b"x");
    let image = Image::new(vec![layer.clone(), file_layer("y", b"y"), layer]);
    let registry = Registry::start();
    registry.push("app", "1", &image, Compression::Gzip, Dialect::Oci);
    let bench = Bench::new();
    bench.pull(&registry.name("app:1")).unwrap();
    assert_eq!(bench.layers(), 2);
}

#[test]
fn what_is_no_image() {
    let table = [
        (
            "\"application/vnd.oci.image.config.v1+json\"",
            "\"application/vnd.cncf.helm.config.v1+json\"",
            "not a container image",
        ),
        (
            "\"application/vnd.oci.image.layer.v1.tar+gzip\"",
            "\"application/vnd.in-toto+json\"",
            "unsupported layer media type",
        ),
    ];
    for (from, to, want) in table {
        let mut wire = Wire::new(&two_layers(), Compression::Gzip, Dialect::Oci);
        wire.manifest = String::from_utf8(wire.manifest)
            .unwrap()
            .replace(from, to)
            .into_bytes();
        let registry = FakeRegistry::start(move |request| honest(&wire, request));
        let bench = Bench::new();
        let error = bench.pull(&registry.name("app:1")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(want), "{error}");
        bench.assert_empty();
    }
}

#[test]
fn tag_list_history_and_remove() {
    let registry = Registry::start();
    let image = two_layers();
    registry.push("app", "1", &image, Compression::Gzip, Dialect::Oci);
    let bench = Bench::new();
    let images = bench.engine.images();
    let name = registry.name("app:1");
    bench.pull(&name).unwrap();
    images.tag(&name, "mine:2").unwrap();
    images
        .tag(&image.id()["sha256:".len()..][..12], "mine")
        .unwrap();
    assert_eq!(images.inspect("mine").unwrap().id, image.id());
    let list = |key: &str, value: &str| {
        images
            .list(&[(key.to_owned(), value.to_owned())])
            .unwrap()
            .images
    };
    let shown = list("reference", "mine");
    assert_eq!(shown[0].repo_tags, ["mine:2", "mine:latest"]);
    assert!(shown[0].repo_digests.is_empty());
    assert!(list("reference", "yours").is_empty());
    let history = images.history("mine").unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].size, history[1].size), (3, 4));
    assert_eq!(images.tag("mine", "Bad").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(
        images.tag("yours", "x").unwrap_err().kind(),
        Kind::NoSuchImage
    );
    for name in [name.as_str(), "mine:2", "mine"] {
        images.remove(name, false).unwrap();
    }
    bench.assert_empty();
}

/// Bytes that gzip cannot shorten, different at each call.
fn incompressible(length: usize) -> Vec<u8> {
    static SEED: AtomicUsize = AtomicUsize::new(1);
    let seed = SEED.fetch_add(1, Ordering::Relaxed) as u64;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}
