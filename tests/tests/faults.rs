//! Bad input and bad luck: one clear error that names the object, Docker's exit code, nothing left.

use barque_testkit::fake::{Answer, FakeRegistry, honest};
use barque_testkit::image::{Image, Layer, digest};
use barque_testkit::registry::Wire;
use barque_testkit::{Barque, Compression, Dialect, Registry, poll};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn wire() -> Wire {
    Wire::new(&Image::busybox(), Compression::Gzip, Dialect::Oci)
}

/// Asserts that no image, no layer and no temporary file is there.
#[track_caller]
fn assert_no_half_image(barque: &Barque) {
    assert_eq!(barque.ok(["images", "-aq"]), "");
    for place in ["overlay2", "tmp"] {
        let dir = barque.seen(&barque.data_root().join(place));
        let left: Vec<PathBuf> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path())
            // `overlay2/l` is the directory of short names.
            .filter(|path| place == "tmp" || path.join("diff").exists())
            .collect();
        assert_eq!(left, [] as [PathBuf; 0], "left in {place}");
    }
}

/// A pull from this registry must fail, in one line that contains each of `needles`, and leave nothing.
#[track_caller]
fn refused(registry: &FakeRegistry, needles: &[&str]) {
    let barque = Barque::new();
    let text = barque.fails(1, ["pull", &registry.name("box")]);
    for needle in needles {
        assert!(
            text.to_lowercase().contains(needle),
            "{needle:?} is not in\n{text}"
        );
    }
    assert!(
        text.contains(&registry.host()),
        "it does not name the image or host\n{text}"
    );
    assert_no_half_image(&barque);
    // `run` of it fails with the engine's own code.
    barque.fails(125, ["run", "--rm", &registry.name("box"), "true"]);
}

#[test]
fn unknown_image_and_tag() {
    let registry = Registry::start();
    registry.push(
        "box",
        "here",
        &Image::busybox(),
        Compression::Gzip,
        Dialect::Oci,
    );
    let barque = Barque::new();
    for name in ["nothing:latest", "box:elsewhere"] {
        let name = registry.name(name);
        let text = barque.fails(1, ["pull", &name]);
        assert!(
            text.contains(&name) || text.contains(name.split_once('/').unwrap().1),
            "{text}"
        );
        barque.fails(125, ["run", "--rm", &name, "true"]);
    }
    let wrong = digest(b"no such manifest");
    let text = barque.fails(1, ["pull", &format!("{}@{wrong}", registry.name("box"))]);
    assert!(text.contains(&wrong), "{text}");
    for bad in [
        "UPPER/case",
        "box:bad tag",
        "box@sha256:short",
        "",
        "http://example/box",
    ] {
        barque.fails(1, ["pull", bad]);
    }
    assert_no_half_image(&barque);
}

#[test]
fn registry_down() {
    let mut registry = Registry::start();
    let name = registry.name("box");
    registry.stop();
    let barque = Barque::new();
    let text = barque.fails(1, ["pull", &name]);
    assert!(text.contains(&registry.host()), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
    assert_no_half_image(&barque);
}

#[test]
fn registry_answers_garbage() {
    refused(
        &FakeRegistry::start(|_| Answer::new(200, "text/html", "<html>Hello</html>")),
        &[],
    );
    refused(
        &FakeRegistry::start(|_| Answer::new(500, "text/plain", "out of order")),
        &["500"],
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    refused(
        &FakeRegistry::start(move |_| Answer::new(200, kind, "{\"schemaVersion\":")),
        &[],
    );
    refused(
        &FakeRegistry::start(move |_| Answer::new(200, kind, "{}")),
        &[],
    );
}

#[test]
fn digest_mismatch_of_a_layer() {
    let wire = wire();
    let registry = FakeRegistry::start(move |request| {
        let mut answer = honest(&wire, request);
        if answer.body.len() > 100_000 {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        answer
    });
    refused(&registry, &["sha256:"]);
}

#[test]
fn digest_mismatch_of_the_configuration() {
    let wire = wire();
    let config = wire.blobs.last().expect("the configuration").0.clone();
    let registry = FakeRegistry::start(move |request| {
        let mut answer = honest(&wire, request);
        if request.path.ends_with(&config) {
            answer.body = String::from_utf8_lossy(&answer.body)
                .replace("linux", "xunil")
                .into();
        }
        answer
    });
    refused(&registry, &["sha256:"]);
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says() {
    let wire = wire();
    let registry = FakeRegistry::start(move |request| honest(&wire, request));
    let barque = Barque::new();
    let wrong = digest(b"another manifest");
    let text = barque.fails(1, ["pull", &format!("{}@{wrong}", registry.name("box"))]);
    assert!(text.contains(&wrong), "{text}");
    assert_no_half_image(&barque);
}

#[test]
fn truncated_layers() {
    // The registry itself has only half of it.
    let half = wire();
    let registry = FakeRegistry::start(move |request| {
        let mut answer = honest(&half, request);
        if answer.body.len() > 100_000 {
            answer.body.truncate(50_000);
        }
        answer
    });
    refused(&registry, &[]);

    // The blob is what its digest says, but its compressed stream or its tar is cut off.
    for cut_tar in [false, true] {
        let mut image = Image::busybox();
        let mut tar = image.layers[0].tar.to_vec();
        if cut_tar {
            tar.truncate(tar.len() / 2 - 100);
        }
        image.layers = vec![Layer { tar: tar.into() }];
        let mut wire = Wire::new(&image, Compression::Gzip, Dialect::Oci);
        if !cut_tar {
            let (old, blob) = wire.blobs[0].clone();
            let blob = blob[..blob.len() / 2].to_vec();
            let text = String::from_utf8(wire.manifest).expect("JSON");
            let sizes = text.replace(&old, &digest(&blob));
            let before = format!("\"size\":{}", image.layers[0].gzip().len());
            wire.manifest = sizes
                .replace(&before, &format!("\"size\":{}", blob.len()))
                .into();
            wire.blobs[0] = (digest(&blob), blob);
        }
        let registry = FakeRegistry::start(move |request| honest(&wire, request));
        refused(&registry, &[]);
    }
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says() {
    let mut image = Image::busybox();
    let honest_config = image.configuration();
    image.layers = vec![Layer::builder().file("other", 0o644, "x").build()];
    let mut wire = Wire::new(&image, Compression::Gzip, Dialect::Oci);
    let (old, old_config) = wire.blobs.pop().expect("the configuration");
    let text = String::from_utf8(wire.manifest).expect("JSON");
    let text = text.replace(&old, &digest(&honest_config));
    let (before, after) = (old_config.len(), honest_config.len());
    wire.manifest = text
        .replace(&format!("\"size\":{before}"), &format!("\"size\":{after}"))
        .into();
    wire.blobs.push((digest(&honest_config), honest_config));
    let registry = FakeRegistry::start(move |request| honest(&wire, request));
    refused(&registry, &["sha256:"]);
}

#[test]
fn full_disk_while_pulling() {
    let registry = Registry::start();
    let big = Layer::builder()
        .file("big", 0o644, vec![7; 40_000_000])
        .build();
    let image = Image::busybox().plus(big);
    registry.push("big", "latest", &image, Compression::Gzip, Dialect::Oci);
    registry.push(
        "small",
        "latest",
        &Image::busybox(),
        Compression::Gzip,
        Dialect::Oci,
    );
    let barque = Barque::on_small_disk(16_000_000);
    let text = barque.fails(1, ["pull", &registry.name("big")]);
    assert!(text.to_lowercase().contains("no space left"), "{text}");
    assert_no_half_image(&barque);
    // What fits still fits.
    barque.ok(["pull", &registry.name("small")]);
    assert_eq!(
        barque.ok(["run", "--rm", &registry.name("small"), "echo", "fits"]),
        "fits"
    );
}

#[test]
fn full_disk_while_running() {
    let barque = Barque::on_small_disk(16_000_000);
    barque.load(&Image::busybox(), &["busybox"]);
    barque.sleeper("box");
    barque
        .output(["exec", "box", "dd", "if=/dev/zero", "of=/fill", "bs=64k"])
        .exits(1);
    // Nothing can be made, and the error says why …
    let output = barque.output(["run", "--name", "second", "busybox", "true"]);
    assert!(matches!(output.code, 0 | 125), "{output}");
    if output.code == 125 {
        output.says(&["no space left"]);
    }
    // … but all can be looked at, stopped and removed.
    assert_eq!(barque.status("box"), "running");
    barque.ok(["stop", "box"]);
    barque.ok(["rm", "box"]);
    barque.ok(["run", "--rm", "busybox", "true"]);
}

/// All regular files below a directory, without those of layers and snapshots.
fn records(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() && !path.ends_with("diff") && !path.ends_with("work") {
            found.extend(records(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_corrupt_container_record_hurts_nobody_else() {
    let barque = Barque::with_busybox();
    let bad = barque.ok(["create", "--name", "bad", "busybox"]);
    barque.ok(["create", "--name", "good", "busybox"]);
    let dir = barque.data_root().join("containers").join(&bad);
    let mut damaged = 0;
    for file in records(&dir) {
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            std::fs::write(&file, "{\"version\": 1, \"na").expect("damage it");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no records in {}", dir.display());
    let text = barque.fails(1, ["inspect", &bad]);
    assert!(text.contains(&bad[..12]), "{text}");
    let list = barque.output(["ps", "-a", "--format", "{{.Names}}"]);
    // The others are listed, and scripts that count learn that one is missing.
    let list = list.exits(1).says(&[&bad]);
    assert_eq!(list.text(), "good");
    barque.ok(["start", "good"]);
    // It can be removed all the same.
    barque.ok(["rm", "-f", &bad]);
    assert_eq!(
        barque
            .output(["ps", "-a", "--format", "{{.Names}}"])
            .ok()
            .quiet()
            .text(),
        "good"
    );
    barque.ok(["create", "--name", "bad", "busybox"]);
}

#[test]
fn a_corrupt_image_record_hurts_no_other_image() {
    let barque = Barque::with_busybox();
    let bad = barque.ok(["images", "-q", "--no-trunc"]);
    let record = barque
        .data_root()
        .join("image/images")
        .join(format!("{}.json", bad.trim_start_matches("sha256:")));
    let more = Layer::builder().file("x", 0o644, "x").build();
    barque.load(&Image::busybox().plus(more), &["good:latest"]);
    std::fs::write(&record, "{\"version\": 1, \"na").expect("damage it");
    let named = record.to_string_lossy();
    // The others are listed, and scripts that count learn that one is missing.
    let list = barque.output(["images", "--format", "{{.Repository}}"]);
    assert_eq!(list.exits(1).says(&[&named]).text(), "good");
    assert_eq!(barque.ok(["info", "-f", "{{.Images}}"]), "2");
    barque.ok(["run", "--rm", "good", "cat", "/x"]);
    // Which layers it has nobody knows: a removal is refused, whole.
    let text = barque.fails(1, ["rmi", "good"]);
    assert!(text.contains(&*named), "{text}");
    barque.ok(["inspect", "good"]);
    // The next step that the text names.
    std::fs::remove_file(&record).expect("move it away");
    barque.ok(["rmi", "good"]);
    assert_eq!(barque.output(["images", "-q"]).ok().quiet().text(), "");
}

#[test]
fn no_damaged_file_of_the_data_root_makes_a_command_panic() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "--name", "box", "busybox", "true"]);
    for file in records(&barque.data_root()) {
        let honest = std::fs::read(&file).expect("read a record");
        for garbage in [&b""[..], b"\xff\xfe garbage", b"{}", b"[]", b"null"] {
            std::fs::write(&file, garbage).expect("damage it");
            for args in [
                &["ps", "-a"][..],
                &["images"],
                &["inspect", "box"],
                &["logs", "box"],
            ] {
                let output = barque.output(args);
                let said = format!("{} with {garbage:?}: {output}", file.display());
                assert!(matches!(output.code, 0 | 1), "{said}");
                assert!(!output.stderr.contains("panicked"), "{said}");
                assert!(
                    output.code == 0 || !output.stderr.trim().is_empty(),
                    "{said}"
                );
            }
        }
        // The sweep may have removed what made no sense; what is put back makes sense again.
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).expect("make its directory");
        }
        std::fs::write(&file, honest).expect("mend it");
    }
    barque.ok(["start", "-a", "box"]);
}

#[test]
fn a_data_root_of_something_else_is_refused() {
    let barque = Barque::new();
    let dir = barque.dir().join("thesis");
    std::fs::create_dir(&dir).expect("make a directory");
    std::fs::write(dir.join("chapter-1.tex"), "It was a dark night").expect("write");
    let args = ["--data-root", &dir.to_string_lossy(), "ps"];
    let text = barque.fails(1, args);
    assert!(text.contains("thesis"), "{text}");
    assert_eq!(
        std::fs::read_dir(&dir).expect("list").count(),
        1,
        "nothing was put into it"
    );
    // A future version's, too.
    std::fs::remove_file(dir.join("chapter-1.tex")).expect("remove");
    barque.ok(args);
    std::fs::write(dir.join("version"), "barque-data-root 999\n").expect("write");
    let text = barque.fails(1, args);
    assert!(text.contains("999"), "{text}");
}

#[test]
fn a_killed_pull_leaves_garbage_at_most() {
    let big = Layer::builder()
        .file("big", 0o644, vec![9; 30_000_000])
        .build();
    let image = Image::busybox()
        .plus(big)
        .plus(Layer::builder().file("x", 0o644, "x").build());
    let wire = Wire::new(&image, Compression::None, Dialect::Oci);
    let registry = FakeRegistry::start(move |request| {
        let answer = honest(&wire, request);
        match answer.body.len() > 100_000 {
            true => answer.slowly(Duration::from_micros(400)),
            false => answer,
        }
    });
    let barque = Barque::new();
    let name = registry.name("box");
    for moment in [1, 3, 10, 20, 40, 80, 120, 160, 220, 300] {
        let pull = barque.cmd(["pull", &name]).spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(moment));
        pull.signal(rustix::process::Signal::KILL);
        drop(pull);
        if !barque.ok(["images", "-q"]).is_empty() {
            break; // faster than the killer
        }
        assert_no_half_image(&barque);
    }
    barque.ok(["pull", &name]);
    assert_eq!(
        barque.ok(["run", "--rm", &name, "wc", "-c", "/big"]),
        "30000000 /big"
    );
}

#[test]
fn a_killed_run_leaves_garbage_at_most() {
    let barque = Barque::with_busybox();
    for moment in 0..24_u64 {
        let run = barque
            .cmd(["run", "--rm", "busybox", "sleep", "100000"])
            .spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(moment * 2));
        run.signal(rustix::process::Signal::KILL);
        drop(run);
        // Started, or gone with the next command. (A monitor that was forked before the kill goes on.)
        poll::until("it is decided", || {
            let undecided = ["ps", "-aq", "--filter", "status=created"];
            barque.ok(undecided).is_empty()
        });
        let ids = barque.output(["ps", "-aq", "--no-trunc"]).ok().lines();
        for id in &ids {
            assert_eq!(barque.status(id), "running", "killed after {moment}");
            barque.ok(["rm", "-f", id]);
        }
        // … and what is not listed is not there, nor are files of it.
        poll::until("its directories are swept", || {
            barque.ok(["ps", "-aq"]).is_empty()
                && records(&barque.data_root().join("containers")).is_empty()
        });
        let snapshots = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list");
        let diffs = snapshots.filter(|e| e.as_ref().is_ok_and(|e| e.path().join("diff").is_dir()));
        assert_eq!(diffs.count(), 1, "snapshots are left after {moment}");
    }
    barque.assert_nothing_left();
}

#[test]
fn a_program_that_cannot_start_leaves_nothing() {
    let barque = Barque::with_busybox();
    let text = barque.fails(127, ["run", "--rm", "busybox", "no-such-program"]);
    assert!(
        text.contains("no-such-program") && text.contains("not found"),
        "{text}"
    );
    let text = barque.fails(126, ["run", "--rm", "busybox", "/etc/passwd"]);
    assert!(
        text.contains("/etc/passwd") && text.to_lowercase().contains("permission"),
        "{text}"
    );
    let text = barque.fails(
        127,
        ["run", "-d", "--name", "box", "busybox", "no-such-program"],
    );
    assert!(text.contains("no-such-program"), "{text}");
    // Without --rm the container stays, to be looked at.
    assert_eq!(barque.status("box"), "created");
    assert_eq!(barque.look("box", "/State/ExitCode"), 127);
    let source = barque.dir().join("no-such-directory");
    let mount = format!("type=bind,source={},target=/data", source.display());
    let text = barque.fails(125, ["run", "--rm", "--mount", &mount, "busybox", "true"]);
    assert!(text.contains("no-such-directory"), "{text}");
    assert!(!source.exists());
    barque.ok(["rm", "box"]);
    barque.assert_nothing_left();
}
