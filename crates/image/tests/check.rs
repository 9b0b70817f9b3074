//! `system check` believes an intact store and names what is wrong with another.

mod common;

use common::{Fixture, Tar, apply, digest, fixture, image};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A layer of every kind of entry.
fn rich() -> Vec<u8> {
    Tar::new()
        .custom("./", b'5', 0o755, "", b"", |h| h.set_mtime(5))
        .dir("d/")
        .pax("mtime", b"1234567890.123456789")
        .pax("SCHILY.xattr.user.text", b"a=b\nc")
        .file("d/f", b"content")
        .hardlink("d/hard", "d/f")
        .symlink("d/soft", "f")
        .symlink("e", "/d")
        .file("e/through", b"the link")
        .file("implied/g", b"")
        .file("d/.wh.gone", b"")
        .file("implied/.wh..wh..opq", b"")
        .entry("fifo", b'6', 0o622, "", b"")
        .custom("null", b'3', 0o666, "", b"", |h| {
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
        })
        .file("twice", b"first")
        .file("twice", b"second")
        .end()
}

fn problems(f: &Fixture) -> Vec<String> {
    let report = f.store.check(&|_| ()).unwrap();
    let lines = report.problems.iter();
    lines
        .map(|p| format!("{}: {}", p.subject, p.what))
        .collect()
}

#[test]
fn an_intact_store_has_no_problems() {
    let f = fixture();
    let (a, b) = (rich(), Tar::new().file("x", b"y").end());
    image(&f.store, &[&a, &b], "one", &["one:1", "two:2"]);
    apply(&f.store, &b).unwrap();
    let told = std::sync::Mutex::new(0);
    let report = f.store.check(&|_| *told.lock().unwrap() += 1).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!((report.images, report.layers), (2, 2));
    assert_eq!(report.bytes, (a.len() + b.len()) as u64);
    assert_eq!(*told.lock().unwrap(), 2);
}

/// What is done to the layer's directory, and what is said of it.
type Damage = (fn(PathBuf), &'static [&'static str]);

#[test]
fn every_difference_is_found() {
    let cases: &[Damage] = &[
        (
            |d| std::fs::write(d.join("diff/d/f"), b"Content").unwrap(),
            &["system check", "another time"],
        ),
        (
            |d| std::fs::remove_file(d.join("diff/fifo")).unwrap(),
            &["\"fifo\" is missing"],
        ),
        (
            |d| std::fs::write(d.join("diff/more"), b"").unwrap(),
            &["\"more\" is not part of it"],
        ),
        (
            |d| {
                std::fs::set_permissions(d.join("diff/null"), PermissionsExt::from_mode(0o644))
                    .unwrap()
            },
            &["\"null\" has the mode 644 instead of 666"],
        ),
        (
            |d| std::os::unix::fs::lchown(d.join("diff/d/soft"), Some(7), None).unwrap(),
            &["\"d/soft\" belongs to 7:0 instead of 0:0"],
        ),
        (
            |d| rustix::fs::removexattr(d.join("diff/d/f"), "user.text").unwrap(),
            &["has lost or changed its attribute \"user.text\""],
        ),
        (
            |d| rustix::fs::removexattr(d.join("diff/implied"), "trusted.overlay.opaque").unwrap(),
            &["\"implied\" hides nothing any more"],
        ),
        (
            |d| {
                std::fs::remove_file(d.join("diff/d/gone")).unwrap();
                std::fs::write(d.join("diff/d/gone"), b"").unwrap();
            },
            &["\"d/gone\" is no whiteout"],
        ),
        (
            |d| {
                std::fs::remove_file(d.join("diff/d/hard")).unwrap();
                std::fs::copy(d.join("diff/d/f"), d.join("diff/d/hard")).unwrap();
            },
            &["\"d/hard\"", "no hard link"],
        ),
        (
            |d| {
                std::fs::remove_file(d.join("diff/e")).unwrap();
                std::fs::create_dir(d.join("diff/e")).unwrap();
            },
            &["\"e\" is something else"],
        ),
        (
            |d| std::fs::remove_file(d.join("tape.zst")).unwrap(),
            &["pull it again"],
        ),
        (
            |d| std::fs::write(d.join("kept/0"), b"FIRST").unwrap(),
            &["system check"],
        ),
        (
            |d| std::fs::remove_file(d.join("link")).unwrap(),
            &["short name"],
        ),
    ];
    for (n, (damage, want)) in cases.iter().enumerate() {
        let f = fixture();
        let tar = rich();
        apply(&f.store, &tar).unwrap();
        damage(f.root.join("overlay2").join(digest(&tar).hex()));
        let found = problems(&f).join("\n");
        for want in *want {
            assert!(found.contains(want), "case {n}: {want:?} in {found:?}");
        }
        assert!(
            found.contains(&format!("layer {}", digest(&tar))),
            "case {n}: {found}"
        );
    }
}

#[test]
fn images_and_names_are_checked_too() {
    let f = fixture();
    let tar = rich();
    let made = image(&f.store, &[&tar], "salt", &["one:1"]);
    let id = made.id;
    let config = f.root.join("image/blobs").join(id.hex());
    let whole = std::fs::read(&config).unwrap();
    std::fs::write(&config, [&whole[..], b"\n"].concat()).unwrap();
    assert!(
        problems(&f)[0].contains("its configuration has the digest"),
        "{:?}",
        problems(&f)
    );
    std::fs::write(&config, &whole).unwrap();
    assert_eq!(problems(&f), [""; 0]);
    std::fs::remove_dir_all(f.root.join("overlay2").join(digest(&tar).hex())).unwrap();
    let found = problems(&f);
    assert!(
        found[0].contains("is missing: remove the image"),
        "{found:?}"
    );
    std::fs::remove_file(
        f.root
            .join("image/images")
            .join(format!("{}.json", id.hex())),
    )
    .unwrap();
    let found = problems(&f);
    assert!(
        found[0].starts_with("name one:1: it names the image"),
        "{found:?}"
    );
}
