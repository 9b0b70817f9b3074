//! A layer's tar comes back bit for bit, or not at all. (`common::apply` plays every archive of the other tests too.)

mod common;

use barque_image::Slot;
use common::{Fixture, Tar, apply, digest, fixture, gzip, replay};
use proptest::prelude::*;
use std::path::PathBuf;

fn layer(f: &Fixture, tar: &[u8]) -> PathBuf {
    f.root.join("overlay2").join(digest(tar).hex())
}

#[test]
fn what_the_archive_replaces_is_still_a_part_of_it() {
    let f = fixture();
    let tar = Tar::new()
        .file("f", b"first")
        .file("f", b"second")
        .dir("d/")
        .file("d/x", b"in a directory")
        .file("d/e/y", b"deep in it")
        .file("d/x", b"again")
        .symlink("d", "e")
        .dir("e/")
        .file("d/x", b"through the link")
        .file("e/x", b"and over it")
        .file("h", b"linked")
        .hardlink("i", "h")
        .file("h", b"no longer")
        .file("empty", b"")
        .file("empty", b"not any more")
        .end();
    apply(&f.store, &tar).unwrap();
    let diff = layer(&f, &tar).join("diff");
    for (file, want) in [
        ("f", "second"),
        ("e/x", "and over it"),
        ("i", "linked"),
        ("h", "no longer"),
    ] {
        assert_eq!(
            std::fs::read_to_string(diff.join(file)).unwrap(),
            want,
            "{file}"
        );
    }
    // Only what has content is kept, and each once.
    let kept = common::list(&layer(&f, &tar).join("kept"));
    assert_eq!(kept, ["0", "1", "2", "3", "4", "index"], "{kept:?}");
}

#[test]
fn what_follows_the_end_belongs_to_it() {
    let f = fixture();
    let mut tar = Tar::new().file("a", &[7; 700_000]).end();
    tar.extend_from_slice(&[0; 10_240]);
    tar.extend_from_slice(b"whatever");
    apply(&f.store, &tar).unwrap();
    // A compressed blob gives the same.
    let g = fixture();
    let ingest = g.store.ingest(&[digest(&tar)]).unwrap();
    let Slot::Missing(writer) = ingest.layer(&digest(&tar)).unwrap() else {
        panic!("it is there already");
    };
    writer.apply(&gzip(&tar)[..], None).unwrap();
    assert!(replay(&g.store, &digest(&tar)).unwrap() == tar);
}

#[test]
fn a_changed_layer_is_noticed() {
    let f = fixture();
    let tar = Tar::new().file("d/f", b"content").file("g", b"other").end();
    apply(&f.store, &tar).unwrap();
    let dir = layer(&f, &tar);
    let file = dir.join("diff/d/f");
    let broken = |want: &str| {
        let error = replay(&f.store, &digest(&tar)).unwrap_err();
        assert!(error.contains(want), "{error}");
    };
    std::fs::write(&file, b"Content").unwrap();
    broken("system check");
    std::fs::write(&file, b"short").unwrap();
    broken("shorter");
    std::fs::remove_file(&file).unwrap();
    broken("\"d/f\"");
    // Nobody is led out of the layer, or made to wait.
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    broken("\"d/f\"");
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    broken("\"d/f\"");
    std::fs::remove_dir_all(dir.join("diff/d")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("diff/d")).unwrap();
    broken("\"d/f\"");
    std::fs::write(dir.join("tape.zst"), b"").unwrap();
    broken("tape.zst");
    std::fs::remove_file(dir.join("tape.zst")).unwrap();
    broken("pull it again");
}

#[test]
fn the_tape_is_small() {
    let f = fixture();
    let mut tar = Tar::new();
    for n in 0..5_000 {
        tar = tar.file(
            &format!("usr/lib/some/library/part-{n:05}.o"),
            format!("{n}").as_bytes(),
        );
    }
    let tar = tar.end();
    apply(&f.store, &tar).unwrap();
    let tape = std::fs::metadata(layer(&f, &tar).join("tape.zst"))
        .unwrap()
        .len();
    assert!(tape < 5_000 * 40, "{tape} bytes for 5000 files");
}

/// Names that collide, lead through links and replace each other.
fn step() -> impl Strategy<Value = (u8, String, String, u16)> {
    let name = "[abc](/[abc]){0,3}";
    (0..6u8, name, name, 0..3_000u16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_archive_that_unpacks_comes_back(steps in proptest::collection::vec(step(), 1..25)) {
        let f = fixture();
        let mut tar = Tar::new();
        for (kind, path, other, size) in steps {
            tar = match kind {
                0 | 1 => tar.file(&path, &vec![size as u8; size.into()]),
                2 => tar.dir(&format!("{path}/")),
                3 => tar.symlink(&path, &format!("/{other}")),
                4 => tar.hardlink(&path, &other),
                _ => {
                    let (dir, name) = path.rsplit_once('/').unwrap_or((".", &path));
                    tar.file(&format!("{dir}/.wh.{name}"), b"")
                }
            };
        }
        let tar = tar.end();
        let id = digest(&tar);
        let ingest = f.store.ingest(&[id]).unwrap();
        let Slot::Missing(writer) = ingest.layer(&id).unwrap() else { panic!("already there") };
        // Contradictions are refused; what is taken has to come back.
        if writer.apply(&tar[..], None).is_ok() {
            prop_assert!(replay(&f.store, &id).unwrap() == tar);
            // And the check's idea of it is the unpacker's.
            prop_assert_eq!(f.store.check(&|_| ()).unwrap().problems, []);
        }
    }
}
