//! Files that layers have in common are one inode; nothing else is.

mod common;

use common::{Fixture, Tar, apply, digest, fixture, image, replay};
use std::os::unix::fs::MetadataExt;

fn inode(f: &Fixture, tar: &[u8], path: &str) -> u64 {
    std::fs::symlink_metadata(f.diff_of(&digest(tar)).join(path))
        .unwrap()
        .ino()
}

fn read(f: &Fixture, tar: &[u8], path: &str) -> Vec<u8> {
    std::fs::read(f.diff_of(&digest(tar)).join(path)).unwrap()
}

/// As another snapshot of the same files would have it.
fn snapshot(differs: &[u8], salt: &str) -> Vec<u8> {
    let big = [7u8; 900_000];
    Tar::new()
        .file("usr/lib/big", &big)
        .file("usr/lib/differs", &[&big[..], differs].concat())
        .pax("SCHILY.xattr.user.text", b"same")
        .file("with-attribute", b"x")
        .pax("SCHILY.xattr.user.text", salt.as_bytes())
        .file("other-attribute", b"x")
        .custom(
            "mode",
            b'0',
            if salt == "one" { 0o644 } else { 0o600 },
            "",
            b"m",
            |_| (),
        )
        .custom("owner", b'0', 0o644, "", b"m", |h| {
            h.set_uid(salt.len() as u64)
        })
        .custom("time", b'0', 0o644, "", b"m", |h| {
            h.set_mtime(salt.len() as u64)
        })
        .file(salt, b"the same at another path")
        .file("linked", b"within the layer")
        .hardlink("link", "linked")
        .file("not-linked-there", b"twins")
        .file("empty", b"")
        .end()
}

#[test]
fn the_same_file_at_the_same_path_is_one_inode() {
    let f = fixture();
    let (one, three) = (snapshot(b"a", "one"), snapshot(b"b", "three"));
    for tar in [&one, &three] {
        // Each comes back bit for bit, whatever it shares.
        apply(&f.store, tar).unwrap();
    }
    for path in ["usr/lib/big", "with-attribute", "not-linked-there"] {
        assert_eq!(inode(&f, &one, path), inode(&f, &three, path), "{path}");
    }
    for path in [
        "usr/lib/differs",
        "other-attribute",
        "mode",
        "owner",
        "time",
        "linked",
        "empty",
    ] {
        assert_ne!(inode(&f, &one, path), inode(&f, &three, path), "{path}");
    }
    assert_ne!(inode(&f, &one, "one"), inode(&f, &three, "three"));
    assert!(read(&f, &one, "usr/lib/differs").ends_with(b"a"));
    assert!(read(&f, &three, "usr/lib/differs").ends_with(b"b"));
    assert_eq!(f.store.check(&|_| ()).unwrap().problems, []);
    let shared = f.store.shared().unwrap();
    assert_eq!((shared.files, shared.bytes), (3, 900_000 + 1 + 5));

    // What one of them loses, the other keeps.
    f.store.remove(&id_of(&f, &one), true, &[]).unwrap();
    assert_eq!(f.layers(), [digest(&three).hex()]);
    assert!(replay(&f.store, &digest(&three)).unwrap() == three);
    assert_eq!(f.store.shared().unwrap().files, 0);
    f.assert_clean();
}

fn id_of(f: &Fixture, tar: &[u8]) -> String {
    let images = f.store.images().unwrap().images;
    let found = images
        .iter()
        .find(|(i, _)| i.layers[0].diff_id == digest(tar));
    found.unwrap().0.id.to_string()
}

#[test]
fn what_the_archive_does_to_a_shared_file_stays_in_its_layer() {
    let f = fixture();
    let one = Tar::new()
        .file("d/f", b"content")
        .file("g", b"content")
        .end();
    let two = Tar::new()
        .file("d/f", b"content")
        .file("d/f", b"CONTENT")
        .file("g", b"content")
        .hardlink("h", "g")
        .end();
    // Through a link, to the same place.
    let three = Tar::new()
        .dir("d/")
        .symlink("e", "d")
        .file("e/f", b"content")
        .end();
    for tar in [&one, &two, &three] {
        apply(&f.store, tar).unwrap();
    }
    assert_eq!(read(&f, &one, "d/f"), b"content");
    assert_eq!(read(&f, &two, "d/f"), b"CONTENT");
    assert_eq!(inode(&f, &one, "g"), inode(&f, &two, "h"));
    assert_eq!(inode(&f, &one, "d/f"), inode(&f, &three, "d/f"));
    assert_eq!(f.store.check(&|_| ()).unwrap().problems, []);
}

#[test]
fn a_file_with_links_is_not_offered() {
    let f = fixture();
    // Two names of one inode there, two files here: they must not become links of each other.
    let one = Tar::new().file("a", b"x").hardlink("b", "a").end();
    let two = Tar::new().file("a", b"x").file("b", b"x").end();
    for tar in [&one, &two] {
        apply(&f.store, tar).unwrap();
    }
    assert_ne!(inode(&f, &two, "a"), inode(&f, &two, "b"));
    assert_ne!(inode(&f, &one, "a"), inode(&f, &two, "a"));
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let f = fixture();
    let one = Tar::new().file("a", b"one").file("b", b"same").end();
    image(&f.store, &[&one], "one", &["one:1"]);
    let dir = f.root.join("overlay2").join(digest(&one).hex());
    let whole = std::fs::read(dir.join("files.idx")).unwrap();
    for (n, index) in [
        whole[..11].to_vec(),
        vec![0xff; 800],
        Vec::new(),
        whole.clone(),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(dir.join("files.idx"), index).unwrap();
        if n == 3 {
            std::fs::remove_file(dir.join("diff/b")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", dir.join("diff/b")).unwrap();
        }
        let two = Tar::new()
            .file("a", b"two")
            .file("b", b"same")
            .file("n", &[n as u8])
            .end();
        apply(&f.store, &two).unwrap();
        assert_eq!(read(&f, &two, "b"), b"same");
        assert_eq!(read(&f, &two, "a"), b"two");
    }
}
