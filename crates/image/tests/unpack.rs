//! What lands on disk when archives are unpacked: honest ones completely, hostile ones inside the layer or not at all.

mod common;

use barque_image::{Error, Limits, Slot};
use common::{Fixture, Tar, apply, digest, fixture, gzip};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

fn diff(f: &Fixture, tar: &[u8]) -> std::path::PathBuf {
    apply(&f.store, tar).unwrap_or_else(|e| panic!("{e}"));
    f.diff_of(&digest(tar))
}

fn error(f: &Fixture, tar: &[u8]) -> String {
    let e = apply(&f.store, tar).unwrap_err();
    assert!(f.layers().is_empty(), "a bad layer stayed");
    f.assert_clean();
    e.to_string()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let n = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(n);
    Some(value)
}

#[test]
fn every_kind_of_entry() {
    let f = fixture();
    let capability = [1, 0, 0, 2, 0, 10, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .custom("./", b'5', 0o1777, "", b"", |h| h.set_mtime(5))
        .custom("d/", b'5', 0o2750, "", b"", |h| {
            h.set_uid(7);
            h.set_gid(8);
            h.set_mtime(1_111_111_111);
        })
        .pax("mtime", b"1234567890.123456789")
        .pax("SCHILY.xattr.user.text", b"a=b\nc")
        .pax("SCHILY.xattr.security.capability", &capability)
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .custom("d/suid", b'0', 0o4755, "", b"data", |h| h.set_uid(1000))
        .hardlink("d/hard", "./d/suid")
        .symlink("d/soft", "/nowhere/at/all")
        .entry("d/fifo", b'6', 0o622, "", b"")
        .custom("d/null", b'3', 0o666, "", b"", |h| {
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
        })
        .custom("d/loop", b'4', 0o660, "", b"", |h| {
            h.set_device_major(7).unwrap();
            h.set_device_minor(300).unwrap();
            h.set_gid(6);
        })
        .pax("uid", b"3000000000")
        .pax("gid", b"4294967294")
        .file("d/big-owner", b"")
        .pax("mtime", b"-1.5")
        .file("implied/parents/file", b"x")
        .end();
    let d = diff(&f, &tar);
    let meta = |p: &str| std::fs::symlink_metadata(d.join(p)).unwrap();
    let top = std::fs::metadata(&d).unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o1777, 5));
    let dir = meta("d");
    assert_eq!(
        (dir.mode() & 0o7777, dir.uid(), dir.gid(), dir.mtime()),
        (0o2750, 7, 8, 1_111_111_111)
    );
    let suid = meta("d/suid");
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.gid(), suid.nlink()),
        (0o4755, 1000, 0, 2)
    );
    assert_eq!(
        (suid.mtime(), suid.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(meta("d/hard").ino(), suid.ino());
    assert_eq!(xattr(&d.join("d/suid"), "user.text").unwrap(), b"a=b\nc");
    assert_eq!(
        xattr(&d.join("d/suid"), "security.capability").unwrap(),
        capability
    );
    assert_eq!(xattr(&d.join("d/suid"), "trusted.overlay.redirect"), None);
    assert_eq!(
        std::fs::read_link(d.join("d/soft")).unwrap(),
        Path::new("/nowhere/at/all")
    );
    assert_eq!(meta("d/soft").mtime(), 1_000_000_000);
    assert!(meta("d/fifo").file_type().is_fifo());
    assert_eq!(meta("d/fifo").mode() & 0o7777, 0o622);
    assert!(meta("d/null").file_type().is_char_device());
    assert_eq!(
        (meta("d/null").rdev(), meta("d/null").mode() & 0o777),
        (rustix::fs::makedev(1, 3), 0o666)
    );
    assert!(meta("d/loop").file_type().is_block_device());
    assert_eq!(
        (meta("d/loop").rdev(), meta("d/loop").gid()),
        (rustix::fs::makedev(7, 300), 6)
    );
    assert_eq!(
        (meta("d/big-owner").uid(), meta("d/big-owner").gid()),
        (3_000_000_000, 4_294_967_294)
    );
    // set-gid on the directory must not have leaked into what was made in it.
    assert_eq!(meta("d/fifo").gid(), 0);
    let old = meta("implied/parents/file");
    assert_eq!((old.mtime(), old.mtime_nsec()), (-2, 500_000_000));
    assert_eq!(meta("implied/parents").mode() & 0o7777, 0o755);
    f.assert_clean();
}

/// A tree with everything `tar` can write, packed by the real program in each of its formats.
#[test]
fn what_gnu_tar_writes_comes_out_the_same() {
    let f = fixture();
    let src = f.root.parent().unwrap().join("src");
    let deep = src.join("a".repeat(150)).join("b".repeat(150));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("c".repeat(200)), b"deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), deep.join("long-link")).unwrap();
    std::fs::write(src.join("ünï\u{7f}"), b"name").unwrap();
    std::fs::write(src.join("empty"), b"").unwrap();
    std::fs::write(src.join("big"), vec![42u8; 3_000_001]).unwrap();
    let holes = std::fs::File::create(src.join("holes")).unwrap();
    use std::os::unix::fs::FileExt;
    for n in [1u64, 7, 40, 41, 90, 200] {
        holes.write_all_at(&[n as u8; 5000], n * 1_000_000).unwrap();
    }
    holes.set_len(300_000_001).unwrap();
    drop(holes);
    for format in [
        "--format=gnu",
        "--format=posix",
        "--sparse-version=1.0",
        "--sparse-version=0.1",
        "--sparse-version=0.0",
    ] {
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(&src).args(["--sparse", "-cf", "-"]);
        if format.starts_with("--sparse") {
            pack.arg("--format=posix");
        }
        let tar = pack.args([format, "."]).output().unwrap();
        assert!(tar.status.success());
        assert!(
            tar.stdout.len() < 5_000_000,
            "{format}: the archive is not sparse"
        );
        let d = diff(&f, &tar.stdout);
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .arg(&src)
            .arg(&d)
            .output()
            .unwrap();
        assert!(
            same.status.success(),
            "{format}: {}",
            String::from_utf8_lossy(&same.stdout)
        );
        let holes = std::fs::metadata(d.join("holes")).unwrap();
        assert!(
            holes.blocks() < 1000,
            "{format}: the holes were filled, {} blocks",
            holes.blocks()
        );
    }
}

#[test]
fn owners_modes_and_times_are_those_that_tar_restores() {
    let f = fixture();
    let src = Path::new("/etc");
    let tar = Command::new("tar")
        .args(["-C"])
        .arg(src)
        .args(["-cf", "-", "."])
        .output()
        .unwrap()
        .stdout;
    let d = diff(&f, &tar);
    let by_tar = f.root.parent().unwrap().join("by-tar");
    std::fs::create_dir(&by_tar).unwrap();
    let mut unpack = Command::new("tar")
        .arg("-C")
        .arg(&by_tar)
        .args(["-xpf", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut unpack.stdin.take().unwrap(), &tar).unwrap();
    assert!(unpack.wait().unwrap().success());
    let facts = |dir: &Path| {
        let mut find = Command::new("find");
        find.current_dir(dir)
            .args([".", "-printf", "%p %y %m %U:%G %T@ %l %s\n"]);
        let out = find.output().unwrap().stdout;
        // A directory's size is the file system's affair.
        let line = |l: &str| {
            if l.contains(" d ") {
                l.rsplit_once(' ').unwrap().0.to_owned()
            } else {
                l.to_owned()
            }
        };
        let mut lines: Vec<_> = String::from_utf8_lossy(&out).lines().map(line).collect();
        lines.sort();
        lines
    };
    let (ours, theirs) = (facts(&d), facts(&by_tar));
    assert!(
        ours.len() > 100,
        "too little to compare in {}",
        src.display()
    );
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a, b);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let f = fixture();
    let tar = Tar::new()
        .file("f", b"one")
        .file("f", b"two")
        .dir("dir-to-file/")
        .file("dir-to-file/x", b"")
        .entry("dir-to-file", b'0', 0o600, "", b"file")
        .file("file-to-dir", b"")
        .dir("file-to-dir/")
        .file("file-to-dir/x", b"in")
        .symlink("link-to-dir", "/etc")
        .dir("link-to-dir/")
        .file("link-to-dir/x", b"in")
        .dir("twice/")
        .file("twice/kept", b"k")
        .entry("twice/", b'5', 0o700, "", b"")
        .file("target", b"t")
        .file("hard", b"h")
        .hardlink("hard", "target")
        .hardlink("target", "target")
        .end();
    let d = diff(&f, &tar);
    let read = |p: &str| std::fs::read_to_string(d.join(p)).unwrap();
    assert_eq!(read("f"), "two");
    assert_eq!(read("dir-to-file"), "file");
    assert_eq!(read("file-to-dir/x"), "in");
    assert_eq!(read("link-to-dir/x"), "in");
    assert!(
        !std::fs::symlink_metadata(d.join("link-to-dir"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(read("twice/kept"), "k");
    assert_eq!(
        std::fs::metadata(d.join("twice")).unwrap().mode() & 0o777,
        0o700
    );
    assert_eq!((read("hard"), read("target")), ("t".into(), "t".into()));
}

#[test]
fn names_that_lead_out_are_refused() {
    for path in ["../escape", "a/../../escape", "/../escape", "..", "a/../.."] {
        let f = fixture();
        let text = error(&f, &Tar::new().file(path, b"x").end());
        assert!(text.contains("outside the layer"), "{path}: {text}");
        assert!(text.contains(&format!("{path:?}")), "{path}: {text}");
    }
    let f = fixture();
    let d = diff(
        &f,
        &Tar::new()
            .file("/abs/./a//b", b"x")
            .file("a/../c", b"y")
            .end(),
    );
    assert!(d.join("abs/a/b").exists() && d.join("c").exists());
}

#[test]
fn links_never_lead_a_write_out() {
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    let out = outside.path().to_str().unwrap();
    std::fs::write(outside.path().join("victim"), b"intact").unwrap();
    let hostile = [
        // Through a link to the outside: its target is looked for in the layer.
        Tar::new()
            .symlink("l", out)
            .file("l/victim", b"owned")
            .end(),
        Tar::new()
            .symlink("l", out)
            .dir("l/")
            .symlink("m", out)
            .file("m/x/victim", b"owned")
            .end(),
        Tar::new()
            .symlink("l", "../../../../../../../../var/tmp")
            .file("l/victim", b"owned")
            .end(),
        // Through a chain of links that climbs.
        Tar::new()
            .symlink("a", "..")
            .symlink("b", "a/..")
            .symlink("c", "b/..")
            .file("c/victim", b"owned")
            .end(),
        // A directory replaced by a link while its fd is open.
        Tar::new()
            .dir("d/")
            .file("d/x", b"")
            .symlink("d", out)
            .file("d/victim", b"owned")
            .end(),
        Tar::new()
            .dir("d/e/")
            .file("d/e/x", b"")
            .symlink("d/e", out)
            .file("d/e/victim", b"owned")
            .end(),
        // The file itself is a link: it is replaced, not written through.
        Tar::new()
            .symlink("f", &format!("{out}/victim"))
            .file("f", b"owned")
            .end(),
        // Hard links to the outside and through links.
        Tar::new()
            .hardlink("h", &format!("{out}/victim"))
            .file("h", b"owned")
            .end(),
        Tar::new().symlink("l", out).hardlink("h", "l/victim").end(),
        // Metadata through a link.
        Tar::new()
            .symlink("l", out)
            .entry("l/", b'5', 0o777, "", b"")
            .end(),
        // Whiteouts and opaque marks through a link.
        Tar::new().symlink("l", out).file("l/.wh.victim", b"").end(),
        Tar::new()
            .symlink("l", out)
            .file("l/.wh..wh..opq", b"")
            .end(),
        Tar::new()
            .symlink("proc", "/proc/self/root")
            .file("proc/victim", b"owned")
            .end(),
    ];
    let before = std::fs::metadata(outside.path()).unwrap();
    for (n, tar) in hostile.iter().enumerate() {
        let f = fixture();
        let done = apply(&f.store, tar);
        if let Err(e) = &done {
            assert!(matches!(e, Error::BadLayer { .. }), "case {n}: {e}");
            f.assert_clean();
        }
        assert_eq!(
            std::fs::read(outside.path().join("victim")).unwrap(),
            b"intact",
            "case {n}"
        );
        let after = std::fs::metadata(outside.path()).unwrap();
        assert_eq!(
            (before.mode(), before.mtime_nsec()),
            (after.mode(), after.mtime_nsec()),
            "case {n}"
        );
        assert_eq!(
            std::fs::metadata(outside.path().join("victim"))
                .unwrap()
                .nlink(),
            1,
            "case {n}"
        );
        assert_eq!(common::list(outside.path()), ["victim"], "case {n}");
    }
}

#[test]
fn links_inside_the_layer_are_followed_as_in_a_chroot() {
    let f = fixture();
    let tar = Tar::new()
        .dir("usr/bin/")
        .symlink("bin", "usr/bin")
        .file("bin/ls", b"ls")
        .symlink("abs", "/usr")
        .file("abs/lib/x", b"x")
        .dir("abs/share/")
        .hardlink("bin/dir", "abs/bin/ls")
        .end();
    let d = diff(&f, &tar);
    assert_eq!(std::fs::read(d.join("usr/bin/ls")).unwrap(), b"ls");
    assert_eq!(std::fs::read(d.join("usr/lib/x")).unwrap(), b"x");
    assert_eq!(
        std::fs::metadata(d.join("usr/share")).unwrap().mtime(),
        1_000_000_000
    );
    assert_eq!(std::fs::metadata(d.join("usr/bin/dir")).unwrap().nlink(), 2);
    assert!(
        std::fs::symlink_metadata(d.join("bin"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn nonsense_has_a_message_that_names_it() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "needs \"f\" to be a directory",
            Tar::new().file("f", b"").file("f/x", b"").end(),
        ),
        (
            "hard link to \"gone\"",
            Tar::new().hardlink("h", "gone").end(),
        ),
        (
            "hard link to \"d\"",
            Tar::new().dir("d/").hardlink("h", "d").end(),
        ),
        (
            "hard link to \"../../etc/passwd\" outside",
            Tar::new().hardlink("h", "../../etc/passwd").end(),
        ),
        (
            "whiteout that names no file",
            Tar::new().file("a/.wh.", b"").end(),
        ),
        (
            "whiteout that names no file",
            Tar::new().file("a/.wh..", b"").end(),
        ),
        (
            "whiteout that names no file",
            Tar::new().file("a/.wh...", b"").end(),
        ),
        (
            "names the layer's top",
            Tar::new()
                .file("./", b"")
                .entry(".", b'2', 0o777, "x", b"")
                .end(),
        ),
        (
            "unknown type 'Q'",
            Tar::new().entry("q", b'Q', 0o644, "", b"").end(),
        ),
        (
            "impossible uid",
            Tar::new().pax("uid", b"4294967295").file("x", b"").end(),
        ),
        (
            "link without a target",
            Tar::new().entry("l", b'2', 0o777, "", b"").end(),
        ),
        (
            "symbolic link that leads nowhere",
            Tar::new().symlink("l", "l").file("l/x", b"").end(),
        ),
        ("wrong checksum", vec![b'x'; 2048]),
        (
            "ends within a header",
            Tar::new().file("x", b"").end()[..700].to_vec(),
        ),
        (
            "ends within an entry",
            Tar::new().file("x", &[1; 5000]).end()[..3000].to_vec(),
        ),
        ("malformed PAX record", {
            let mut t = Tar::new().pax("path", b"x").file("y", b"").end();
            t[512] = b'8';
            t
        }),
        ("invalid sparse map", {
            let t = Tar::new()
                .pax("GNU.sparse.size", b"10")
                .pax("GNU.sparse.map", b"0,5,3,5");
            t.pax("GNU.sparse.numblocks", b"2")
                .file("s", &[0; 10])
                .end()
        }),
        (
            "File name too long",
            Tar::new().pax("path", &[b'n'; 300]).file("x", b"").end(),
        ),
        (
            "too long a name",
            Tar::new()
                .pax("path", &b"nn/".repeat(2000))
                .file("x", b"")
                .end(),
        ),
        (
            "invalid name",
            Tar::new().pax("path", b"a\0b").file("x", b"").end(),
        ),
    ];
    for (want, tar) in cases {
        let f = fixture();
        let text = error(&f, &tar);
        assert!(text.contains(want), "want {want:?}, got {text:?}");
        assert!(
            text.contains(&digest(&tar).to_string()),
            "the layer is not named: {text}"
        );
    }
}

#[test]
fn wrong_damaged_and_short_blobs() {
    let f = fixture();
    let tar = Tar::new().file("x", &vec![3; 600_000]).end();
    let blob = gzip(&tar);
    let descriptor = |digest, size| barque_types::oci::Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        digest,
        size,
        platform: None,
        annotations: Default::default(),
    };
    let try_it = |bytes: &[u8], expected: &barque_types::oci::Descriptor, diff_id| {
        let ingest = f.store.ingest(&[diff_id]).unwrap();
        let Slot::Missing(writer) = ingest.layer(&diff_id).unwrap() else {
            panic!("present")
        };
        writer.apply(bytes, Some(expected)).unwrap_err().to_string()
    };
    let good = descriptor(digest(&blob), blob.len() as u64);
    let text = try_it(&blob, &good, digest(b"other"));
    assert!(
        text.contains("digest mismatch") && text.contains(&digest(b"other").to_string()),
        "{text}"
    );
    assert!(
        text.contains(&digest(&tar).to_string()) && text.contains(&good.digest.to_string()),
        "{text}"
    );
    let text = try_it(
        &blob,
        &descriptor(digest(b"z"), blob.len() as u64),
        digest(&tar),
    );
    assert!(
        text.contains("digest mismatch") && text.contains(&digest(&blob).to_string()),
        "{text}"
    );
    for cut in [0, 5, blob.len() / 2, blob.len() - 1] {
        let text = try_it(&blob[..cut], &good, digest(&tar));
        assert!(text.contains(&good.digest.to_string()), "{cut}: {text}");
    }
    let text = try_it(
        &tar[..2048],
        &descriptor(digest(&tar), tar.len() as u64),
        digest(&tar),
    );
    assert!(text.contains("truncated: 2048 of"), "{text}");
    // A proxy's error page in the layer's place: the digest says so, not the tar parser.
    for (len, want) in [(blob.len(), "digest mismatch"), (300, "truncated: 300 of")] {
        let text = try_it(&b"<html>".repeat(1 << 18)[..len], &good, digest(&tar));
        assert!(text.contains(want), "{text}");
    }
    let long = [&blob[..], b"tail"].concat();
    let text = try_it(&long, &good, digest(&tar));
    assert!(text.contains("longer than"), "{text}");
    let text = try_it(
        &long,
        &descriptor(digest(&long), long.len() as u64),
        digest(&tar),
    );
    assert!(text.contains("cannot read it"), "{text}");
    assert!(f.layers().is_empty());
    f.assert_clean();
    // And then the right one.
    let ingest = f.store.ingest(&[digest(&tar)]).unwrap();
    let Slot::Missing(writer) = ingest.layer(&digest(&tar)).unwrap() else {
        panic!("present")
    };
    let layer = writer.apply(&blob[..], Some(&good)).unwrap();
    assert_eq!((layer.size, layer.blob), (600_000, Some(good)));
}

#[test]
fn bombs_stop_at_the_limits() {
    let f = fixture();
    let tar = Tar::new().file("zeros", &vec![0; 20_000_000]).end();
    let blob = gzip(&tar);
    let ingest = f.store.ingest(&[digest(&tar)]).unwrap();
    let writer = |limits| match ingest.layer(&digest(&tar)).unwrap() {
        Slot::Missing(writer) => writer.with_limits(limits),
        Slot::Present(_) => panic!("present"),
    };
    let e = writer(Limits {
        bytes: 1 << 20,
        ..Limits::default()
    })
    .apply(&blob[..], None)
    .unwrap_err();
    assert!(
        e.to_string()
            .contains("more than the limit of 1048576 bytes"),
        "{e}"
    );
    drop(ingest);
    let many = (0..50)
        .fold(Tar::new(), |t, n| t.file(&format!("f{n}"), b""))
        .end();
    let ingest = f.store.ingest(&[digest(&many)]).unwrap();
    let Slot::Missing(writer) = ingest.layer(&digest(&many)).unwrap() else {
        panic!("present")
    };
    let e = writer
        .with_limits(Limits {
            entries: 20,
            ..Limits::default()
        })
        .apply(&many[..], None)
        .unwrap_err();
    assert!(e.to_string().contains("more than 20 entries"), "{e}");
    drop(ingest);
    f.assert_clean();
}

#[test]
fn a_path_of_two_thousand_directories() {
    let f = fixture();
    let path = format!("{}x", "d/".repeat(2000));
    let tar = Tar::new()
        .pax("path", path.as_bytes())
        .file("x", b"deep")
        .end();
    let d = diff(&f, &tar);
    // The absolute path is longer than the kernel takes in one go.
    let status = Command::new("sh")
        .arg("-c")
        .arg("cd \"$0\" && test \"$(cat \"$1\")\" = deep")
        .arg(&d)
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    f.store.collect().unwrap();
}
