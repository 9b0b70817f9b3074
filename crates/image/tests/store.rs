//! Names, removal, import, load and the built-in image.

mod common;

use barque_image::{
    BUILTIN, Base, Error, ImportOptions, InUse, NewImage, RemoveEvent, Removed, Slot, Store,
};
use barque_types::digest::Digest;
use barque_types::oci::media_type;
use common::{Fixture, Tar, config, digest, fixture, gzip, image, name};
use std::os::unix::fs::MetadataExt;

fn layer(n: u32) -> Vec<u8> {
    Tar::new()
        .file(&format!("file{n}"), n.to_string().as_bytes())
        .end()
}

fn lines(removed: &Removed) -> Vec<String> {
    let line = |event: &RemoveEvent| match event {
        RemoveEvent::Untagged(name) => format!("Untagged: {name}"),
        RemoveEvent::Deleted(id) => format!("Deleted: {id}"),
    };
    removed.events.iter().map(line).collect()
}

fn tags(store: &Store, id: &Digest) -> Vec<String> {
    store
        .names(id)
        .unwrap()
        .tags
        .iter()
        .map(|t| t.familiar())
        .collect()
}

fn used(id: &Digest, running: bool) -> InUse {
    InUse {
        image: *id,
        container: "0123456789abcdef".into(),
        running,
    }
}

#[test]
fn images_are_found_by_all_that_users_type() {
    let f = fixture();
    let img = image(
        &f.store,
        &[&layer(1)],
        "a",
        &["busybox", "localhost:5000/deep/path/app:v1"],
    );
    let pinned = name("busybox").with_digest(digest(b"manifest"));
    let ingest = f.store.ingest(&[digest(&layer(1))]).unwrap();
    let again = NewImage {
        config: config(&[digest(&layer(1))], "a"),
        digests: vec![pinned],
        ..NewImage::default()
    };
    ingest.commit(again, &[]).unwrap();
    let hex = img.id.hex();
    for text in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        "localhost:5000/deep/path/app:v1",
        &img.id.to_string(),
        &hex,
        &hex[..12],
        &hex[..2],
        &format!("sha256:{}", &hex[..7]),
        &format!("busybox@{}", digest(b"manifest")),
        &format!("busybox:whatever@{}", digest(b"manifest")),
    ] {
        assert_eq!(f.store.resolve(text).unwrap().id, img.id, "{text}");
    }
    for text in [
        "busybox:other",
        "app:v1",
        "nothing",
        &digest(b"x").to_string(),
        "zzz",
        &format!("busybox@{}", digest(b"x")),
    ] {
        let e = f.store.resolve(text).unwrap_err();
        assert!(e.is_no_such_image(), "{text}: {e}");
        assert_eq!(e.to_string(), format!("No such image: {text}"));
    }
    for text in ["", "UPPER", "a b", "../x", "x:", "-"] {
        assert!(
            matches!(f.store.resolve(text), Err(Error::InvalidName { .. })),
            "{text}"
        );
    }
    assert_eq!(
        tags(&f.store, &img.id),
        ["busybox:latest", "localhost:5000/deep/path/app:v1"]
    );
    let names = f.store.names(&img.id).unwrap();
    assert_eq!(
        names.digests[0].familiar(),
        format!("busybox@{}", digest(b"manifest"))
    );
    let found = f.store.image(&img.id).unwrap();
    assert_eq!(found.created.to_string(), "2024-01-02T03:04:05Z");
    assert_eq!(f.store.config(&found).unwrap().config.cmd.unwrap(), ["/x"]);
    assert_eq!(
        f.store.blob(&img.id).unwrap(),
        config(&[digest(&layer(1))], "a")
    );
    f.assert_clean();
}

#[test]
fn an_ambiguous_prefix_is_an_error_that_lists_the_images() {
    let f = fixture();
    // Seventeen ids: two begin with the same digit.
    let ids: Vec<_> = (0..17)
        .map(|n| image(&f.store, &[&layer(1)], &n.to_string(), &[]).id.hex())
        .collect();
    let twice = ids
        .iter()
        .enumerate()
        .find(|(n, id)| ids[..*n].iter().any(|other| other[..1] == id[..1]))
        .unwrap()
        .1;
    match f.store.resolve(&twice[..1]) {
        Err(e @ Error::Ambiguous { .. }) => assert!(e.to_string().contains(&twice[..12]), "{e}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(f.store.images().unwrap().images.len(), 17);
}

#[test]
fn tags_move_and_the_image_that_lost_one_stays() {
    let f = fixture();
    let one = image(&f.store, &[&layer(1)], "1", &["app"]);
    let two = image(&f.store, &[&layer(2)], "2", &["app"]);
    assert_eq!(f.store.resolve("app").unwrap().id, two.id);
    assert_eq!(tags(&f.store, &one.id), [""; 0]);
    f.store.tag(&one.id, &name("app:old")).unwrap();
    f.store.tag(&one.id, &name("other/repo")).unwrap();
    assert_eq!(tags(&f.store, &one.id), ["app:old", "other/repo:latest"]);
    assert!(
        f.store
            .tag(&digest(b"none"), &name("x"))
            .unwrap_err()
            .is_no_such_image()
    );
    // A repository whose path is a prefix of another's.
    f.store.tag(&one.id, &name("other/repo/sub")).unwrap();
    f.store.remove("other/repo", false, &[]).unwrap();
    assert_eq!(f.store.resolve("other/repo/sub").unwrap().id, one.id);
}

#[test]
fn removal_follows_dockers_rules() {
    let f = fixture();
    let base = layer(0);
    let one = image(&f.store, &[&base, &layer(1)], "1", &["app:1", "app:2"]);
    let two = image(&f.store, &[&base, &layer(2)], "2", &["web"]);
    // A name of several: only that.
    let removed = f
        .store
        .remove("app:1", false, &[used(&one.id, true)])
        .unwrap();
    assert_eq!(lines(&removed), ["Untagged: app:1"]);
    // The last name of an image in use.
    let e = f
        .store
        .remove("app:2", false, &[used(&one.id, false)])
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        format!(
            "conflict: unable to remove repository reference \"app:2\" (must be forced) - container 0123456789ab is using its referenced image {}",
            one.id.short()
        )
    );
    // By id, used by a running container: not even by force.
    let e = f
        .store
        .remove(&one.id.hex()[..12], true, &[used(&one.id, true)])
        .unwrap_err();
    assert!(
        e.is_conflict()
            && e.to_string()
                .contains("cannot be forced) - image is being used by running"),
        "{e}"
    );
    let e = f
        .store
        .remove(&one.id.hex(), false, &[used(&one.id, false)])
        .unwrap_err();
    assert!(
        e.to_string()
            .contains("must be forced) - image is being used by stopped container 0123456789ab"),
        "{e}"
    );
    // By force although a stopped container uses it: its layers stay for the container.
    f.store.prepare_container("c", Base::Image(&one)).unwrap();
    let removed = f
        .store
        .remove("app:2", true, &[used(&one.id, false)])
        .unwrap();
    assert_eq!(
        lines(&removed),
        ["Untagged: app:2".to_owned(), format!("Deleted: {}", one.id)]
    );
    assert_eq!(f.layers().len(), 4);
    assert!(f.store.snapshot("c").is_ok());
    f.store.remove_container("c").unwrap();
    assert_eq!(f.store.collect().unwrap(), 1);
    assert_eq!(
        f.layers().len(),
        2,
        "the shared base and the other image's layer stay"
    );
    // By id with names in two repositories.
    f.store.tag(&two.id, &name("again")).unwrap();
    let e = f.store.remove(&two.id.hex(), false, &[]).unwrap_err();
    assert!(
        e.to_string()
            .contains("must be forced) - image is referenced in multiple repositories"),
        "{e}"
    );
    let removed = f.store.remove(&two.id.hex(), true, &[]).unwrap();
    let mut layers = [digest(&base), digest(&layer(2))];
    layers.sort_by_key(|d| {
        lines(&removed)
            .iter()
            .position(|l| l.ends_with(&d.to_string()))
    });
    let want = [
        "Untagged: again:latest".to_owned(),
        "Untagged: web:latest".to_owned(),
    ];
    assert_eq!(lines(&removed)[..2], want);
    assert_eq!(lines(&removed)[2], format!("Deleted: {}", two.id));
    assert_eq!(lines(&removed).len(), 5);
    assert_eq!(removed.freed, 2);
    assert_eq!(f.layers(), [""; 0]);
    f.assert_clean();
    // What is left of an emptied store is next to nothing.
    assert_eq!(
        f.list("image/blobs").len() + f.list("image/images").len() + f.list("image/names").len(),
        0
    );
}

#[test]
fn digests_of_a_repository_go_with_its_last_tag() {
    let f = fixture();
    let ids = [digest(&layer(1))];
    let ingest = f.store.ingest(&ids).unwrap();
    if let Slot::Missing(writer) = ingest.layer(&ids[0]).unwrap() {
        writer.apply(&layer(1)[..], None).unwrap();
    }
    let manifest = b"{\"a manifest\":1}".to_vec();
    let pinned = name("app").with_digest(digest(&manifest));
    let new = NewImage {
        config: config(&ids, "p"),
        config_media_type: media_type::DOCKER_CONFIG.into(),
        manifest: Some((manifest.clone(), media_type::DOCKER_MANIFEST.into())),
        tags: vec![name("app")],
        digests: vec![pinned.clone()],
    };
    let img = ingest.commit(new, &[]).unwrap();
    assert_eq!(
        f.store
            .blob(&img.manifest.as_ref().unwrap().digest)
            .unwrap(),
        manifest
    );
    assert_eq!(img.config.media_type, media_type::DOCKER_CONFIG);
    let removed = f.store.remove("app", false, &[]).unwrap();
    assert_eq!(
        lines(&removed),
        [
            "Untagged: app:latest".to_owned(),
            format!("Untagged: {}", pinned.familiar()),
            format!("Deleted: {}", img.id),
            format!("Deleted: {}", ids[0]),
        ]
    );
}

#[test]
fn import_makes_an_image_of_a_root_file_system() {
    let f = fixture();
    let tar = Tar::new()
        .dir("bin/")
        .entry("bin/sh", b'0', 0o755, "", b"#!")
        .end();
    for blob in [
        tar.clone(),
        gzip(&tar),
        zstd::encode_all(&tar[..], 1).unwrap(),
    ] {
        let options = ImportOptions {
            source: "root.tar".into(),
            message: "from a test".into(),
            changes: vec!["CMD [\"/bin/sh\"]".into(), "ENV A=b".into()],
            tags: vec![name("imported:1")],
            platform: None,
        };
        let img = f.store.import(&blob[..], &options).unwrap();
        assert_eq!(f.store.resolve("imported:1").unwrap().id, img.id);
        let config = f.store.config(&img).unwrap();
        assert_eq!(config.config.cmd.unwrap(), ["/bin/sh"]);
        assert_eq!(config.config.env, ["A=b"]);
        assert_eq!(config.history[0].comment.as_deref(), Some("from a test"));
        assert_eq!(config.rootfs.diff_ids, [digest(&tar)]);
    }
    assert_eq!(f.layers().len(), 1, "the same content is one layer");
    let before = f.store.images().unwrap().images.len();
    for (what, changes, blob) in [
        ("text", vec![], b"this is no tar archive at all".to_vec()),
        ("change", vec!["RUN ls".to_owned()], tar),
    ] {
        let options = ImportOptions {
            changes,
            ..ImportOptions::default()
        };
        assert!(f.store.import(&blob[..], &options).is_err(), "{what}");
    }
    assert_eq!(f.store.images().unwrap().images.len(), before);
    f.assert_clean();
}

/// A `docker save` of two images that share a layer, the second of which links it as older Dockers did.
fn docker_archive(f: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (base, one, two) = (layer(0), layer(1), layer(2));
    let configs = [
        config(&[digest(&base), digest(&one)], "1"),
        config(&[digest(&base), digest(&two)], "2"),
    ];
    let manifest = format!(
        "[{{\"Config\":\"{0}.json\",\"RepoTags\":[\"one:1\",\"also/one:latest\"],\"Layers\":[\"b/layer.tar\",\"1/layer.tar\"]}},\
          {{\"Config\":\"{1}.json\",\"RepoTags\":null,\"Layers\":[\"c/layer.tar\",\"2/layer.tar\"]}}]",
        digest(&configs[0]).hex(),
        digest(&configs[1]).hex()
    );
    Tar::new()
        .dir("b/")
        .file("b/layer.tar", &f(&base))
        .file("1/layer.tar", &f(&one))
        .symlink("c/layer.tar", "../b/layer.tar")
        .file("./2/layer.tar", &f(&two))
        .file(&format!("{}.json", digest(&configs[0]).hex()), &configs[0])
        .file(&format!("{}.json", digest(&configs[1]).hex()), &configs[1])
        .file("manifest.json", manifest.as_bytes())
        .file("repositories", b"{}")
        .end()
}

#[test]
fn load_takes_docker_archives() {
    let plain = docker_archive(&|l| l.to_vec());
    for archive in [
        gzip(&plain),
        zstd::encode_all(&plain[..], 1).unwrap(),
        docker_archive(&gzip),
        plain.clone(),
    ] {
        let f = fixture();
        let loaded = f.store.load(&archive[..]).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0].names, [name("one:1"), name("also/one")]);
        assert!(loaded[1].names.is_empty());
        assert_eq!(f.store.resolve("also/one").unwrap().id, loaded[0].image.id);
        assert_eq!(f.layers().len(), 3);
        f.assert_clean();
    }
}

fn blob(json: &[u8]) -> (String, String) {
    let d = digest(json);
    (
        format!("blobs/sha256/{}", d.hex()),
        format!("\"digest\":\"{d}\",\"size\":{}", json.len()),
    )
}

#[test]
fn load_takes_oci_layouts_and_chooses_the_platform() {
    let f = fixture();
    let mine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let tar = layer(7);
    let zst = zstd::encode_all(&tar[..], 3).unwrap();
    let cfg = config(&[digest(&tar)], "oci");
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{}\",{}}},\"layers\":[{{\"mediaType\":\"{}\",{}}}]}}",
        media_type::OCI_CONFIG,
        blob(&cfg).1,
        media_type::OCI_LAYER_ZSTD,
        blob(&zst).1
    );
    let other = b"{\"not\":\"for this machine\"}".to_vec();
    let nested = format!(
        "{{\"schemaVersion\":2,\"manifests\":[\
          {{\"mediaType\":\"{0}\",{1},\"platform\":{{\"architecture\":\"s390x\",\"os\":\"linux\"}}}},\
          {{\"mediaType\":\"{0}\",{2},\"platform\":{{\"architecture\":\"{mine}\",\"os\":\"linux\"}}}}]}}",
        media_type::OCI_MANIFEST,
        blob(&other).1,
        blob(manifest.as_bytes()).1,
    );
    let index = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{}\",{},\"annotations\":{{\"org.opencontainers.image.ref.name\":\"example.com/a/b:c\"}}}}]}}",
        media_type::OCI_INDEX,
        blob(nested.as_bytes()).1
    );
    let archive = |layer: &[u8]| {
        Tar::new()
            .file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")
            .pax("path", blob(&zst).0.as_bytes())
            .file("l", layer)
            .pax("path", blob(&cfg).0.as_bytes())
            .file("c", &cfg)
            .pax("path", blob(manifest.as_bytes()).0.as_bytes())
            .file("m", manifest.as_bytes())
            .pax("path", blob(nested.as_bytes()).0.as_bytes())
            .file("n", nested.as_bytes())
            .file("index.json", index.as_bytes())
            .end()
    };
    let e = f.store.load(&archive(b"garbage")[..]).unwrap_err();
    assert!(e.to_string().contains(&digest(&zst).to_string()), "{e}");
    assert!(f.layers().is_empty() && f.store.images().unwrap().images.is_empty());
    let loaded = f.store.load(&archive(&zst)[..]).unwrap();
    assert_eq!(loaded[0].names, [name("example.com/a/b:c")]);
    let img = &loaded[0].image;
    assert_eq!(img.id, digest(&cfg));
    assert_eq!(
        f.store
            .blob(&img.manifest.as_ref().unwrap().digest)
            .unwrap(),
        manifest.as_bytes()
    );
    assert_eq!(img.layers[0].blob.as_ref().unwrap().digest, digest(&zst));
    f.assert_clean();
}

#[test]
fn bad_archives_have_clear_errors_and_leave_nothing() {
    let f = fixture();
    let good = docker_archive(&|l| l.to_vec());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("neither manifest.json nor index.json", layer(1)),
        ("wrong checksum", b"hello, I am a text".repeat(100)),
        ("ends within", good[..good.len() / 2 - 100].to_vec()),
        ("cannot read it", gzip(&good)[..500].to_vec()),
        (
            "manifest.json",
            Tar::new().file("manifest.json", b"{").end(),
        ),
        (
            "lacks the file x.json",
            Tar::new()
                .file("manifest.json", b"[{\"Config\":\"x.json\",\"Layers\":[]}]")
                .end(),
        ),
        (
            "no image for this platform",
            Tar::new().file("manifest.json", b"[]").end(),
        ),
        ("invalid reference", {
            let c = config(&[], "x");
            Tar::new()
                .file("c", &c)
                .file(
                    "manifest.json",
                    b"[{\"Config\":\"c\",\"RepoTags\":[\"BAD\"],\"Layers\":[]}]",
                )
                .end()
        }),
        ("it lists 1 layers, its configuration 0", {
            let c = config(&[], "x");
            Tar::new()
                .file("c", &c)
                .file("manifest.json", b"[{\"Config\":\"c\",\"Layers\":[\"c\"]}]")
                .end()
        }),
        ("digest mismatch", {
            let c = config(&[digest(b"promised")], "x");
            Tar::new()
                .file("c", &c)
                .file("l", &layer(1))
                .file("manifest.json", b"[{\"Config\":\"c\",\"Layers\":[\"l\"]}]")
                .end()
        }),
        (
            "lacks the file a",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("manifest.json", b"[{\"Config\":\"a\",\"Layers\":[]}]")
                .end(),
        ),
    ];
    for (want, archive) in cases {
        let e = f.store.load(&archive[..]).unwrap_err().to_string();
        assert!(e.contains(want), "want {want:?}, got {e:?}");
    }
    assert!(f.store.images().unwrap().images.is_empty() && f.layers().is_empty());
    f.assert_clean();
}

#[test]
fn the_image_inside_the_binary_says_hello() {
    let f = fixture();
    for other in [
        "hello",
        "barque/hello:1",
        "busybox",
        "example.com/barque/hello",
        "UPPER",
    ] {
        assert_eq!(f.store.ensure_builtin(other).unwrap(), None, "{other}");
    }
    let img = f.store.ensure_builtin("barque/hello").unwrap().unwrap();
    assert_eq!(f.store.ensure_builtin(BUILTIN).unwrap().unwrap().id, img.id);
    assert_eq!(f.store.resolve(BUILTIN).unwrap().id, img.id);
    let hello = f.store.graph(&img).unwrap().upper.join("hello");
    assert_eq!(std::fs::metadata(&hello).unwrap().mode() & 0o7777, 0o755);
    let said = std::process::Command::new(&hello).output().unwrap();
    assert!(said.status.success());
    assert!(
        String::from_utf8(said.stdout)
            .unwrap()
            .starts_with("Hello!")
    );
    assert_eq!(
        f.store.config(&img).unwrap().config.cmd.unwrap(),
        ["/hello"]
    );
    // Its id is a fact that other machines agree on.
    let elsewhere = fixture().store.ensure_builtin(BUILTIN).unwrap().unwrap();
    assert_eq!(elsewhere.id, img.id);
    f.assert_clean();
}

#[test]
fn a_corrupt_record_is_named_and_nothing_is_collected_because_of_it() {
    let f: Fixture = fixture();
    let img = image(&f.store, &[&layer(1)], "c", &["app"]);
    let record = f
        .root
        .join("image/images")
        .join(format!("{}.json", img.id.hex()));
    std::fs::write(&record, b"{\"version\":1,").unwrap();
    for e in [
        f.store.resolve("app").map(|_| ()).unwrap_err(),
        f.store.images().unwrap().unreadable.remove(0),
        f.store.collect().map(|_| ()).unwrap_err(),
    ] {
        assert!(e.to_string().contains(record.to_str().unwrap()), "{e}");
    }
    assert_eq!(f.layers().len(), 1);
}
