//! Images without a registry: load, import, tag, rmi, the table, layers in all their odd forms.

use barque_testkit::Barque;
use barque_testkit::image::{Image, Layer, digest};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

fn top(barque: &Barque, image: &str) -> PathBuf {
    PathBuf::from(barque.look_str(image, "/GraphDriver/Data/UpperDir"))
}

#[test]
fn load_from_stdin_and_file_compressed_or_not() {
    let barque = Barque::new();
    let image = Image::busybox();
    let archive = image.docker_archive(&["a:1", "b:2"]);
    let said = barque
        .cmd(["load"])
        .stdin(archive.clone())
        .output()
        .ok()
        .text();
    assert!(
        said.contains("Loaded image: a:1") && said.contains("Loaded image: b:2"),
        "{said}"
    );
    let file = barque.dir().join("image.tar.gz");
    let mut encoder = flate2_writer(&file);
    encoder.write_all(&archive).expect("compress");
    drop(encoder);
    barque.ok(["load", "-i", &file.to_string_lossy()]);
    assert_eq!(barque.look_str("a:1", "/Id"), image.id());
    assert_eq!(barque.look("a:1", "/RepoTags"), json!(["a:1", "b:2"]));

    barque
        .cmd(["load"])
        .stdin("not a tar at all")
        .output()
        .exits(1);
    let cut = archive[..archive.len() / 2].to_vec();
    barque.cmd(["load"]).stdin(cut).output().exits(1);
    barque.fails(1, ["load", "-i", "/no/such/file"]);
    assert_eq!(
        barque.ok(["images", "-q"]).lines().count(),
        2,
        "two names of one image"
    );
}

fn flate2_writer(path: &std::path::Path) -> impl Write {
    // `gzip` of the host: what a user would have.
    struct Gzip(std::process::Child);
    impl Write for Gzip {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.stdin.as_mut().expect("a pipe").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Gzip {
        fn drop(&mut self) {
            self.0.stdin = None;
            self.0.wait().expect("gzip ends");
        }
    }
    let file = std::fs::File::create(path).expect("create a file");
    let child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(file)
        .spawn();
    Gzip(child.expect("start gzip"))
}

#[test]
fn the_table_of_images() {
    let barque = Barque::new();
    barque.load(&Image::busybox(), &["harbour/box:1", "harbour/box:2"]);
    let table = barque.ok(["images"]);
    let header: Vec<&str> = table
        .lines()
        .next()
        .unwrap_or("")
        .split("  ")
        .map(str::trim)
        .collect();
    let header: Vec<&str> = header.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    let id = Image::busybox().id();
    let short = &id["sha256:".len()..][..12];
    assert!(
        table.lines().nth(1).is_some_and(|row| row.contains(short)),
        "{table}"
    );
    assert_eq!(
        barque.ok(["images", "-q", "--no-trunc", "harbour/box:1"]),
        id
    );
    let format = [
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}}",
        "harbour/box",
    ];
    let mut names = barque.output(format).ok().lines();
    names.sort();
    assert_eq!(names, ["harbour/box:1", "harbour/box:2"]);
    assert_eq!(barque.ok(["images", "-q", "nothing"]), "");
}

#[test]
fn tag_and_rmi() {
    let barque = Barque::with_busybox();
    barque.ok(["tag", "busybox", "box:mine"]);
    assert_eq!(barque.look_str("box:mine", "/Id"), Image::busybox().id());
    let said = barque.ok(["rmi", "busybox"]);
    assert_eq!(said, "Untagged: busybox:latest");
    assert_eq!(barque.ok(["run", "--rm", "box:mine", "echo", "ok"]), "ok");
    barque.fails(1, ["tag", "busybox", "other"]);
    barque.fails(1, ["tag", "box:mine", "Not/Valid:Tag"]);

    barque.ok(["create", "--name", "user", "box:mine"]);
    let text = barque.fails(1, ["rmi", "box:mine"]);
    assert!(
        text.contains("user") || text.contains(&barque.look_str("user", "/Id")[..12]),
        "{text}"
    );
    assert!(
        text.contains("forced") || text.contains("rm"),
        "says what to do next: {text}"
    );
    barque.ok(["rm", "user"]);
    let said = barque.ok(["rmi", "box:mine"]);
    assert!(said.contains("Deleted: sha256:"), "{said}");
    assert_eq!(barque.ok(["images", "-q"]), "");
    let left = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list");
    let diffs = left.filter(|e| e.as_ref().is_ok_and(|e| e.path().join("diff").exists()));
    assert_eq!(diffs.count(), 0, "the layers are gone with the last image");
}

/// All bytes of files below a directory.
fn bytes_below(dir: &std::path::Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("stat");
        sum += if meta.is_dir() {
            bytes_below(&entry.path())
        } else {
            meta.blocks() * 512
        };
    }
    sum
}

#[test]
fn an_emptied_engine_is_small() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "--name",
        "box",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/x",
        "bs=1M",
        "count=4",
    ]);
    barque.ok(["rm", "box"]);
    barque.ok(["rmi", "busybox"]);
    let bytes = bytes_below(&barque.data_root());
    assert!(bytes < 1_000_000, "{bytes} bytes are left");
}

#[test]
fn import_makes_an_image_of_a_tree() {
    let barque = Barque::new();
    let file = barque.dir().join("tree.tar");
    std::fs::write(&file, &Layer::busybox().tar[..]).expect("write");
    let id = barque.ok([
        "import",
        "-c",
        "CMD [\"echo\", \"imported\"]",
        "-c",
        "ENV A=1",
        "-m",
        "from a tree",
        &file.to_string_lossy(),
        "tree:1",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(barque.ok(["run", "--rm", "tree:1"]), "imported");
    assert_eq!(
        barque.ok(["run", "--rm", "tree:1", "sh", "-c", "echo $A"]),
        "1"
    );
    let id = barque
        .cmd(["import", "-", "tree:2"])
        .stdin(Layer::busybox().tar.to_vec())
        .output()
        .ok();
    assert_eq!(barque.look_str("tree:2", "/Id"), id.text());
    assert_eq!(
        barque.look_str("tree:1", "/GraphDriver/Data/UpperDir"),
        barque.look_str("tree:2", "/GraphDriver/Data/UpperDir"),
        "one tree, one layer"
    );
    let comment = |image: &str| barque.ok(["history", "--format", "{{.Comment}}", image]);
    assert_eq!(comment("tree:1"), "from a tree");
    assert_eq!(comment("tree:2"), "Imported from -");
}

#[test]
fn what_is_imported_is_named_when_it_is_no_tar() {
    let barque = Barque::new();
    let file = barque.dir().join("notes.txt");
    std::fs::write(&file, "x".repeat(2000)).expect("write");
    let file = file.to_string_lossy().into_owned();
    let from_file = barque.output(["import", &file, "x"]);
    let from_stdin = barque.cmd(["import", "-", "x"]).stdin("x".repeat(2000));
    for (output, name) in [
        (from_file, file.as_str()),
        (from_stdin.output(), "standard input"),
    ] {
        let wanted = format!("barque: {name}: not a tar header at offset 0");
        let output = output.exits(1).says(&[&wanted, "import takes"]);
        assert!(!output.stderr.contains("layer"), "{output}");
    }
    assert_eq!(barque.ok(["images", "-q"]), "");
}

#[test]
fn every_kind_of_entry_is_unpacked_as_it_was_packed() {
    let barque = Barque::new();
    let layer = Layer::builder()
        .dir("d", 0o2755)
        .owner(1000, 50)
        .file("d/set-uid", 0o4755, "x")
        .symlink("d/link", "../bin/busybox")
        .symlink("d/dangling", "/no/where")
        .hardlink("d/hard", "d/set-uid")
        .fifo("d/fifo", 0o640)
        .file("d/empty", 0o000, "")
        .file("./dotted", 0o644, "dot")
        .file("/absolute", 0o644, "abs")
        .build();
    barque.load(&Image::busybox().plus(layer), &["odd"]);
    let dir = top(&barque, "odd");
    let stat = |name: &str| {
        std::fs::symlink_metadata(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    assert_eq!(stat("d").mode() & 0o7777, 0o2755);
    let file = stat("d/set-uid");
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o4755, 1000, 50)
    );
    assert_eq!(file.mtime(), 1_700_000_000);
    assert_eq!((stat("d/hard").ino(), file.nlink()), (file.ino(), 2));
    assert_eq!(
        std::fs::read_link(dir.join("d/link")).expect("a link"),
        PathBuf::from("../bin/busybox")
    );
    assert!(stat("d/fifo").file_type().is_fifo());
    assert_eq!(stat("d/empty").mode() & 0o7777, 0);
    assert!(dir.join("dotted").exists() && dir.join("absolute").exists());
}

#[test]
fn whiteouts_and_opaque_directories() {
    let barque = Barque::new();
    let base = Layer::builder()
        .dir("a", 0o755)
        .file("a/1", 0o644, "1")
        .file("a/2", 0o644, "2")
        .dir("b", 0o755)
        .file("b/1", 0o644, "1")
        .dir("b/deep", 0o755)
        .file("b/deep/x", 0o644, "x")
        .file("gone", 0o644, "")
        .dir("tree", 0o755)
        .file("tree/leaf", 0o644, "")
        .build();
    let upper = Layer::builder()
        .whiteout("a", "1")
        .file(".wh.gone", 0o600, "")
        .file(".wh.tree", 0o600, "")
        .dir("b", 0o755)
        .opaque("b")
        .file("b/new", 0o644, "new")
        .build();
    barque.load(&Image::busybox().plus(base).plus(upper), &["cut"]);
    let seen = barque.ok([
        "run",
        "--rm",
        "cut",
        "sh",
        "-c",
        "find /a /b /gone /tree 2>/dev/null | sort",
    ]);
    assert_eq!(seen, "/a\n/a/2\n/b\n/b/new");
    assert_eq!(
        barque.ok([
            "run",
            "--rm",
            "cut",
            "sh",
            "-c",
            "find / -name '.wh*' 2>/dev/null"
        ]),
        ""
    );
}

#[test]
fn a_layer_cannot_write_outside_of_its_directory() {
    for (what, layer) in [
        (
            "dots",
            Layer::builder().file("../../../../../../escaped", 0o644, "x"),
        ),
        (
            "inner dots",
            Layer::builder()
                .dir("a", 0o755)
                .file("a/../../../escaped", 0o644, "x"),
        ),
        (
            "symlink",
            Layer::builder()
                .symlink("out", "/")
                .file("out/escaped", 0o644, "x"),
        ),
        (
            "relative symlink",
            Layer::builder()
                .symlink("out", "../../..")
                .file("out/escaped", 0o644, "x"),
        ),
        (
            "hard link",
            Layer::builder().hardlink("escaped", "../../../../../etc/passwd"),
        ),
        (
            "whiteout",
            Layer::builder()
                .symlink("out", "/etc")
                .file("out/.wh.passwd", 0o600, ""),
        ),
        (
            "whiteout of dots",
            Layer::builder()
                .file(".wh...", 0o600, "")
                .file(".wh..", 0o600, ""),
        ),
    ] {
        let barque = Barque::new();
        let archive = Image::busybox()
            .plus(layer.build())
            .docker_archive(&["evil"]);
        // Refused or kept inside: both are right.
        let output = barque.cmd(["load"]).stdin(archive).output();
        assert!(matches!(output.code, 0 | 1), "{what}: {output}");
        let mut dir = barque.data_root().join("overlay2");
        while dir.parent().is_some() {
            assert!(!dir.join("escaped").exists(), "{what}: {}", dir.display());
            dir = dir.parent().expect("a parent").to_owned();
        }
        assert!(std::path::Path::new("/etc/passwd").is_file(), "{what}");
        if output.code == 0 {
            let hard = top(&barque, "evil").join("escaped");
            let leaked = std::fs::symlink_metadata(&hard).is_ok_and(|m| m.nlink() > 1);
            assert!(!leaked, "{what}: linked to a file of the host");
        }
    }
}

#[test]
fn a_wrong_layer_digest_in_an_archive_is_refused() {
    let barque = Barque::new();
    let image = Image::busybox();
    let archive = image.docker_archive(&["box"]);
    let text = digest(b"something else");
    let (wrong, right) = (text.as_bytes(), image.layers[0].diff_id());
    let at = archive
        .windows(right.len())
        .position(|window| window == right.as_bytes())
        .expect("the config names the layer");
    let mut broken = archive.clone();
    broken[at..at + right.len()].copy_from_slice(wrong);
    barque.cmd(["load"]).stdin(broken).output().exits(1);
    assert_eq!(barque.ok(["images", "-q"]), "");
    // The honest one loads afterwards.
    barque.cmd(["load"]).stdin(archive).output().ok();
}

#[test]
fn system_check_reads_everything_again() {
    let barque = Barque::new();
    barque.load(&Image::busybox(), &["harbour/box:1"]);
    let good = barque.ok(["system", "check"]);
    assert!(good.ends_with("read: no problems"), "{good}");
    assert!(
        good.starts_with("1 image, 1 layer, 0 containers, "),
        "{good}"
    );

    // A file is made one byte longer: the digest of the layer's tar, the size, the time.
    let file = top(&barque, "harbour/box:1").join("bin/busybox");
    let mut open = std::fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .expect("open");
    open.write_all(b"x").expect("append");
    drop(open);
    let bad = barque.output(["system", "check"]).exits(1).text();
    assert!(
        bad.contains("\"bin/busybox\" has ") && bad.contains("layer sha256:"),
        "{bad}"
    );
    let json = barque
        .output(["system", "check", "--format", "{{json .Problems}}"])
        .exits(1)
        .text();
    assert!(json.contains("\"Subject\":\"layer sha256:"), "{json}");
}
