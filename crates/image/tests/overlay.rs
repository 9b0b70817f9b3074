//! Layers and snapshots under the kernel's own overlayfs: what Barque writes is what the kernel understands.

mod common;

use barque_image::{Base, ChangeKind, Error};
use common::{Fixture, Mounted, Tar, digest, fixture, image};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn base() -> Vec<u8> {
    Tar::new()
        .dir("etc/")
        .file("etc/passwd", b"root")
        .file("etc/group", b"root")
        .dir("opt/")
        .file("opt/old", b"old")
        .dir("opt/sub/")
        .file("opt/sub/x", b"x")
        .dir("var/")
        .file("var/log", b"log")
        .file("top", b"top")
        .end()
}

fn mount(f: &Fixture, id: &str, layers: &[&[u8]]) -> Mounted {
    let image = image(&f.store, layers, id, &[]);
    Mounted::new(&f.store.prepare_container(id, Base::Image(&image)).unwrap())
}

fn changes(f: &Fixture, id: &str) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    f.store
        .diff(id)
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", letter(c.kind), c.path.display()))
        .collect()
}

#[test]
fn the_kernel_understands_our_whiteouts() {
    let f = fixture();
    let upper = Tar::new()
        .file("etc/.wh.group", b"")
        .file("etc/shadow", b"new")
        .dir("opt/")
        .file("opt/.wh..wh..opq", b"")
        .file("opt/new", b"new")
        .file(".wh.top", b"")
        .file(".wh..wh.plnk", b"aufs")
        .end();
    let m = mount(&f, "c1", &[&base(), &upper]);
    assert_eq!(m.list(""), ["etc", "opt", "var"]);
    assert_eq!(m.list("etc"), ["passwd", "shadow"]);
    assert_eq!(m.list("opt"), ["new"]);
    assert_eq!(m.read("var/log"), "log");
    // A third layer brings back what the second hid, and only that.
    let third = Tar::new().file("top", b"again").dir("opt/sub/").end();
    let m = mount(&f, "c2", &[&base(), &upper, &third]);
    assert_eq!(m.read("top"), "again");
    assert_eq!(m.list("opt"), ["new", "sub"]);
    assert_eq!(m.list("opt/sub"), [""; 0]);
}

/// The specification lets whiteouts come before or after what the same layer brings, and hide only what lies beneath.
#[test]
fn a_whiteout_and_its_replacement_in_any_order() {
    let f = fixture();
    let orders = [
        Tar::new()
            .file(".wh.opt", b"")
            .dir("opt/")
            .file("opt/new", b"")
            .file(".wh.top", b"")
            .file("top", b"mine"),
        Tar::new()
            .dir("opt/")
            .file("opt/new", b"")
            .file(".wh.opt", b"")
            .file("top", b"mine")
            .file(".wh.top", b""),
        Tar::new()
            .file("top", b"mine")
            .file(".wh.top", b"")
            .file(".wh.opt", b"")
            .file("opt/new", b""),
        Tar::new()
            .file("opt/.wh..wh..opq", b"")
            .file("opt/new", b"")
            .file(".wh.top", b"")
            .file("top", b"mine"),
        Tar::new()
            .file("opt/new", b"")
            .file("opt/.wh..wh..opq", b"")
            .file("top", b"mine"),
    ];
    for (n, upper) in orders.into_iter().enumerate() {
        let m = mount(&f, &format!("c{n}"), &[&base(), &upper.end()]);
        assert_eq!(m.list("opt"), ["new"], "order {n}");
        assert_eq!(m.read("top"), "mine", "order {n}");
        assert_eq!(m.list("etc"), ["group", "passwd"], "order {n}");
    }
}

#[test]
fn a_layer_opaque_at_its_top_hides_all_beneath() {
    let f = fixture();
    let fresh = Tar::new().file(".wh..wh..opq", b"").file("only", b"").end();
    let above = Tar::new().file("above", b"").end();
    let m = mount(&f, "c", &[&base(), &fresh, &above]);
    assert_eq!(m.list(""), ["above", "only"]);
    assert_eq!(f.store.snapshot("c").unwrap().lower.len(), 2);
}

#[test]
fn diff_tells_what_a_container_did() {
    let f = fixture();
    let second = Tar::new().dir("etc/").file("etc/extra", b"").end();
    let m = mount(&f, "c", &[&base(), &second]);
    assert_eq!(changes(&f, "c"), [""; 0]);
    std::fs::create_dir_all(m.path("home/user")).unwrap();
    std::fs::write(m.path("home/1234"), b"x").unwrap();
    std::fs::write(m.path("etc/passwd"), b"changed").unwrap();
    std::fs::remove_file(m.path("etc/extra")).unwrap();
    std::fs::remove_file(m.path("var/log")).unwrap();
    std::fs::write(m.path("var/tmpfile"), b"").unwrap();
    std::fs::remove_file(m.path("var/tmpfile")).unwrap();
    std::fs::remove_dir_all(m.path("opt")).unwrap();
    std::fs::create_dir(m.path("opt")).unwrap();
    std::fs::write(m.path("opt/old"), b"replaced").unwrap();
    std::fs::write(m.path("opt/brand-new"), b"").unwrap();
    std::fs::remove_file(m.path("top")).unwrap();
    std::fs::create_dir(m.path("top")).unwrap();
    std::fs::write(m.path("top/in"), b"").unwrap();
    std::fs::write(m.path("a.txt"), b"").unwrap();
    std::fs::create_dir(m.path("a")).unwrap();
    std::fs::write(m.path("a/b"), b"").unwrap();
    let want = [
        "A /a",
        "A /a/b",
        "A /a.txt",
        "C /etc",
        "D /etc/extra",
        "C /etc/passwd",
        "A /home",
        "A /home/1234",
        "A /home/user",
        "C /opt",
        "A /opt/brand-new",
        "C /opt/old",
        "D /opt/sub",
        "C /top",
        "A /top/in",
        "C /var",
        "D /var/log",
    ];
    assert_eq!(changes(&f, "c"), want);
    assert_eq!(f.store.container_size("c").unwrap(), 1 + 7 + 8);
    // The layers beneath are untouched, and the change is where users look for it.
    assert_eq!(
        std::fs::read(f.diff_of(&digest(&base())).join("etc/passwd")).unwrap(),
        b"root"
    );
    assert!(f.root.join("overlay2/c/diff/home/1234").exists());
}

#[test]
fn a_directory_only_copied_up_is_no_change() {
    let f = fixture();
    let m = mount(&f, "c", &[&base()]);
    // chmod to what it was copies the directory up and changes its ctime only.
    let mode = std::fs::metadata(m.path("var")).unwrap().permissions();
    std::fs::set_permissions(m.path("var"), mode).unwrap();
    assert!(f.root.join("overlay2/c/diff/var").exists());
    assert_eq!(changes(&f, "c"), [""; 0]);
    // A symbolic link in a lower layer is not followed on the way.
    std::fs::create_dir(m.path("new")).unwrap();
    assert_eq!(changes(&f, "c"), ["A /new"]);
}

#[test]
fn a_snapshot_is_what_docker_users_look_for() {
    let f = fixture();
    let top = Tar::new()
        .custom("./", b'5', 0o1770, "", b"", |h| h.set_gid(12))
        .end();
    let img = image(&f.store, &[&base(), &top], "s", &[]);
    let made = f
        .store
        .prepare_container("abc123", Base::Image(&img))
        .unwrap();
    assert_eq!(made, f.store.snapshot("abc123").unwrap());
    assert_eq!(
        made.lower,
        [f.diff_of(&digest(&top)), f.diff_of(&digest(&base()))]
    );
    let dir = f.root.join("overlay2/abc123");
    assert_eq!(
        (made.upper, made.work, made.merged),
        (dir.join("diff"), dir.join("work"), dir.join("merged"))
    );
    let link = std::fs::read_to_string(dir.join("link")).unwrap();
    assert_eq!(
        f.root
            .join("overlay2/l")
            .join(&link)
            .canonicalize()
            .unwrap(),
        dir.join("diff").canonicalize().unwrap()
    );
    let lower = std::fs::read_to_string(dir.join("lower")).unwrap();
    assert_eq!(lower.split(':').count(), 2);
    for short in lower.split(':') {
        assert!(
            f.root.join("overlay2").join(short).join(".").exists(),
            "{short}"
        );
    }
    // The container's / is the image's.
    let root = std::fs::metadata(dir.join("diff")).unwrap();
    assert_eq!((root.mode() & 0o7777, root.gid()), (0o1770, 12));
    assert_eq!(f.store.snapshots().unwrap(), ["abc123"]);
    let twice = f
        .store
        .prepare_container("abc123", Base::Image(&img))
        .unwrap_err();
    assert!(twice.to_string().contains("abc123"), "{twice}");
    f.store.remove_container("abc123").unwrap();
    f.store.remove_container("abc123").unwrap();
    assert!(matches!(
        f.store.snapshot("abc123"),
        Err(Error::NoSuchSnapshot { .. })
    ));
    assert_eq!(f.store.snapshots().unwrap(), [""; 0]);
    f.assert_clean();
    for id in ["", "..", "l", "a/b", "../x", "a b"] {
        assert!(
            f.store.prepare_container(id, Base::Image(&img)).is_err(),
            "{id:?}"
        );
        assert!(f.store.remove_container(id).is_err(), "{id:?}");
    }
    // A layer is not a container.
    assert!(f.store.remove_container(&digest(&top).hex()).is_err());
    assert!(f.diff_of(&digest(&top)).exists());
}

#[test]
fn a_directory_of_the_host_and_an_image_without_layers() {
    let f = fixture();
    let host = f.root.parent().unwrap().join("ho:st,x");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), b"host").unwrap();
    let made = f
        .store
        .prepare_container("h", Base::Directory(&host))
        .unwrap();
    assert_eq!(made, f.store.snapshot("h").unwrap());
    assert_eq!(made.lower, std::slice::from_ref(&host));
    let empty = image(&f.store, &[], "scratch", &[]);
    assert_eq!(f.store.graph(&empty), None);
    let made = f.store.prepare_container("e", Base::Image(&empty)).unwrap();
    assert_eq!(made, f.store.snapshot("e").unwrap());
    let m = Mounted::new(&made);
    std::fs::write(m.path("x"), b"").unwrap();
    assert_eq!(changes(&f, "e"), ["A /x"]);
}

#[test]
fn a_missing_layer_is_named_and_can_be_pulled_again() {
    let f = fixture();
    let img = image(&f.store, &[&base()], "m", &[]);
    f.store
        .prepare_container("before", Base::Image(&img))
        .unwrap();
    std::fs::remove_dir_all(f.diff_of(&digest(&base()))).unwrap();
    for e in [
        f.store
            .prepare_container("c", Base::Image(&img))
            .unwrap_err(),
        f.store.snapshot("before").unwrap_err(),
    ] {
        assert!(matches!(e, Error::MissingLayer { .. }), "{e}");
        assert!(e.to_string().contains(&digest(&base()).to_string()), "{e}");
    }
    assert!(!f.root.join("overlay2/c").exists());
    image(&f.store, &[&base()], "m", &[]);
    f.store.prepare_container("c", Base::Image(&img)).unwrap();
}

#[test]
fn two_images_over_one_base_share_its_directory_at_any_depth() {
    let f = fixture();
    let a = Tar::new().file("a", b"a").end();
    let one = image(&f.store, &[&base(), &a], "1", &[]);
    let two = image(&f.store, &[&a, &base()], "2", &[]);
    let (one, two) = (f.store.graph(&one).unwrap(), f.store.graph(&two).unwrap());
    assert_eq!(one.lower[0], two.upper);
    assert_eq!(one.upper, two.lower[0]);
    for dir in [&one.upper, &one.work, &one.merged, &one.lower[0]] {
        assert!(dir.is_dir(), "{}", dir.display());
    }
    assert_eq!(f.layers().len(), 2);
    let shared = Path::new("overlay2")
        .join(digest(&base()).hex())
        .join("diff");
    assert!(two.upper.ends_with(shared));
}
