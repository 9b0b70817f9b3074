//! 8. The file system: image layers below, one writable layer above, found on the host.

use barque_testkit::Barque;
use barque_testkit::image::{Image, Layer};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// Busybox, and above it a layer with a message of the day.
fn with_image() -> Barque {
    let barque = Barque::new();
    let motd = Layer::builder()
        .file("etc/motd", 0o644, "welcome aboard\n")
        .build();
    barque.load(&Image::busybox().plus(motd), &["harbour:latest"]);
    barque
}

/// The lower directories of a container, the topmost first.
fn lower(barque: &Barque, container: &str) -> Vec<PathBuf> {
    let text = barque.look_str(container, "/GraphDriver/Data/LowerDir");
    text.split(':').map(PathBuf::from).collect()
}

/// The image's own copy of a file, in whichever layer has it.
fn in_lower(barque: &Barque, container: &str, path: &str) -> PathBuf {
    lower(barque, container)
        .into_iter()
        .map(|dir| dir.join(path))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("no lower layer has {path}"))
}

#[test]
fn inspect_names_the_four_directories() {
    let barque = with_image();
    barque.ok(["run", "-d", "--name", "box", "harbour", "sleep", "100000"]);
    assert_eq!(barque.look_str("box", "/GraphDriver/Name"), "overlay2");
    let overlay2 = barque.data_root().join("overlay2");
    for member in ["UpperDir", "WorkDir", "MergedDir"] {
        let dir = PathBuf::from(barque.look_str("box", &format!("/GraphDriver/Data/{member}")));
        assert!(
            dir.starts_with(&overlay2) && dir.is_dir(),
            "{}",
            dir.display()
        );
    }
    for dir in lower(&barque, "box") {
        assert!(
            dir.starts_with(&overlay2) && dir.is_dir(),
            "{}",
            dir.display()
        );
    }
}

#[test]
fn a_file_written_inside_lies_in_the_upper_directory_and_stays() {
    let barque = with_image();
    barque.ok(["run", "-d", "--name", "box", "harbour", "sleep", "100000"]);
    barque.ok(["run", "-d", "--name", "other", "harbour", "sleep", "100000"]);

    barque.inside("box", "echo 1234 > /home/1234");
    let on_host = barque.upper("box").join("home/1234");
    let overlay2 = barque.data_root().join("overlay2");
    assert!(on_host.starts_with(&overlay2), "{}", on_host.display());
    assert!(on_host.ends_with("diff/home/1234"), "{}", on_host.display());
    assert_eq!(
        std::fs::read_to_string(&on_host).expect("it is there"),
        "1234\n"
    );

    // The image's other containers do not see it, running or to come.
    barque.fails(1, ["exec", "other", "cat", "/home/1234"]);
    barque.fails(1, ["run", "--rm", "harbour", "cat", "/home/1234"]);

    // It outlives the container's processes.
    barque.ok(["stop", "box"]);
    assert!(on_host.exists());
    barque.ok(["start", "box"]);
    assert_eq!(barque.inside("box", "cat /home/1234"), "1234");
}

#[test]
fn deleting_an_images_file_leaves_a_whiteout_above_and_the_file_below() {
    let barque = with_image();
    barque.ok(["run", "-d", "--name", "box", "harbour", "sleep", "100000"]);
    barque.inside(
        "box",
        "echo 1234 > /home/1234 && rm /etc/motd && echo ahoy >> /etc/group",
    );

    // The whiteout is a character device 0/0 in place of the file.
    let whiteout = barque.upper("box").join("etc/motd");
    let meta = std::fs::symlink_metadata(&whiteout).expect("the whiteout is there");
    assert!(
        meta.file_type().is_char_device() && meta.rdev() == 0,
        "{meta:?}"
    );

    // The layer below has not changed.
    let below = in_lower(&barque, "box", "etc/motd");
    assert_eq!(
        std::fs::read_to_string(below).expect("read it"),
        "welcome aboard\n"
    );
    let group = in_lower(&barque, "box", "etc/group");
    assert!(
        !std::fs::read_to_string(group)
            .expect("read it")
            .contains("ahoy")
    );
    assert_eq!(
        barque.ok(["run", "--rm", "harbour", "cat", "/etc/motd"]),
        "welcome aboard"
    );

    // `diff` tells all three kinds apart.
    let mut changes: Vec<String> = barque.output(["diff", "box"]).ok().lines();
    changes.sort();
    assert_eq!(
        changes,
        [
            "A /home/1234",
            "C /etc",
            "C /etc/group",
            "C /home",
            "D /etc/motd"
        ]
    );
}

#[test]
fn a_file_removed_behind_the_containers_back_is_gone_and_nothing_else_is_harmed() {
    let barque = with_image();
    barque.ok(["run", "-d", "--name", "box", "harbour", "sleep", "100000"]);
    barque.inside(
        "box",
        "echo 1 > /home/1234; echo 2 > /home/5678; rm /etc/motd",
    );
    barque.ok(["stop", "box"]);

    std::fs::remove_file(barque.upper("box").join("home/1234")).expect("remove it on the host");

    barque.ok(["start", "box"]);
    assert_eq!(barque.inside("box", "ls /home"), "5678");
    assert_eq!(barque.inside("box", "cat /home/5678"), "2");
    barque.fails(1, ["exec", "box", "cat", "/etc/motd"]);
    assert_eq!(
        barque.ok(["run", "--rm", "harbour", "cat", "/etc/motd"]),
        "welcome aboard"
    );
}
