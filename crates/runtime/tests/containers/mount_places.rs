//! Where mounts go and what they begin with: destinations that are made, nested, refused; `tmpcopyup`;
//! the container's view of its cgroups; `/dev`.

use crate::Case;
use crate::mountinfo::{at, own_namespace, parse, tmpfs, unmount};
use crate::support::{Bench, Streams};
use barque_runtime::{CreateOptions, create};
use barque_types::spec::{self, NamespaceKind};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::MountFlags;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

pub const CASES: &[Case] = &[
    ("mount_places::tmpcopyup", tmpcopyup),
    (
        "mount_places::tmpcopyup_in_a_user_namespace",
        tmpcopyup_in_a_user_namespace,
    ),
    ("mount_places::tmpcopyup_errors", tmpcopyup_errors),
    (
        "mount_places::relative_sources_and_destinations",
        relative_paths,
    ),
    ("mount_places::mounts_within_mounts", mounts_within_mounts),
    (
        "mount_places::what_is_made_belongs_to_the_containers_root",
        what_is_made,
    ),
    ("mount_places::the_root_is_no_destination", the_root),
    (
        "mount_places::a_missing_place_on_a_read_only_file_system",
        read_only_places,
    ),
    ("mount_places::links_in_destinations", links),
    ("mount_places::sources_of_all_kinds", sources),
    ("mount_places::a_cgroup2_mount", cgroup2),
    ("mount_places::cgroup_mounts", cgroups),
    ("mount_places::default_devices", default_devices),
    ("mount_places::devices_of_the_image", devices_of_the_image),
    (
        "mount_places::devices_of_the_image_in_a_user_namespace",
        devices_in_a_user_namespace,
    ),
    ("mount_places::masks_of_all_kinds", masks),
];

/// Fills a directory with one of each.
fn furnish(dir: &Path, outside: &Path) {
    fs::create_dir_all(dir.join("sub/deep")).expect("mkdir");
    fs::write(dir.join("sub/deep/file"), "content").expect("write");
    fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o3750)).expect("chmod");
    std::os::unix::fs::chown(dir.join("sub"), Some(33), Some(34)).expect("chown");
    fs::write(dir.join("suid"), "x").expect("write");
    std::os::unix::fs::chown(dir.join("suid"), Some(7), Some(8)).expect("chown");
    fs::set_permissions(dir.join("suid"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    fs::hard_link(dir.join("suid"), dir.join("sub/again")).expect("link");
    symlink(outside, dir.join("absolute")).expect("symlink");
    symlink("sub/deep", dir.join("relative")).expect("symlink");
    symlink("none", dir.join("dangling")).expect("symlink");
    mknodat(
        CWD,
        dir.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .expect("fifo");
    let sparse = fs::File::create(dir.join("sparse")).expect("create");
    use std::os::unix::fs::FileExt;
    sparse.write_at(b"begin", 0).expect("write");
    sparse.write_at(b"middle", 40 << 20).expect("write");
    sparse.set_len(100 << 20).expect("truncate");
    let flags = rustix::fs::XattrFlags::empty();
    // VFS_CAP_REVISION_2, cap_net_raw: what setcap(8) writes.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let name = "security.capability";
    rustix::fs::setxattr(dir.join("sub/deep/file"), name, &capability, flags).expect("setxattr");
    rustix::fs::setxattr(dir, "trusted.mark", b"yes", flags).expect("setxattr");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for name in ["sub/deep/file", "sub", "."] {
        let file = fs::File::open(dir.join(name)).expect("open");
        file.set_times(fs::FileTimes::new().set_modified(old))
            .expect("utimes");
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(256);
    rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(value)
}

fn tmpcopyup() {
    let outside = tempfile::tempdir().expect("tempdir");
    fs::write(outside.path().join("secret"), "secret").expect("write");
    for overlay in [true, false] {
        let mut b = Bench::new();
        b.overlay = overlay;
        let from = b.root("data");
        fs::create_dir(&from).expect("mkdir");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o751)).expect("chmod");
        furnish(&from, outside.path());
        std::os::unix::fs::chown(&from, Some(11), Some(12)).expect("chown");
        // Itself reached through a link, and read-only in the end.
        symlink("/data", b.root("link")).expect("symlink");
        b.mount(
            "tmpfs",
            "t",
            "/link",
            &["tmpcopyup", "ro", "size=8m", "nosuid"],
        );
        let sleeper = b.sleeper();
        let mount = at(&sleeper.mounts(), "/data").clone();
        assert!(
            mount.kind == "tmpfs" && mount.options.starts_with("ro,nosuid"),
            "{mount:?}"
        );
        let to = Path::new("/proc")
            .join(sleeper.0.pid.to_string())
            .join("root/data");
        for name in [
            ".",
            "sub",
            "sub/deep",
            "sub/deep/file",
            "suid",
            "sub/again",
            "absolute",
            "relative",
            "dangling",
            "fifo",
            "sparse",
        ] {
            let (was, is) = (from.join(name), to.join(name));
            let meta = |p: &Path| {
                p.symlink_metadata()
                    .unwrap_or_else(|e| panic!("{p:?}: {e}"))
            };
            let (was_meta, is_meta) = (meta(&was), meta(&is));
            let of = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
            assert_eq!(of(&was_meta), of(&is_meta), "{name}");
            if was_meta.is_file() {
                assert_eq!(
                    fs::read(&was).expect("read"),
                    fs::read(&is).expect("read"),
                    "{name}"
                );
            }
            if was_meta.is_symlink() {
                let target = |p: &Path| fs::read_link(p).expect("readlink");
                assert_eq!(target(&was), target(&is));
            }
        }
        let stat = |name: &str| fs::symlink_metadata(to.join(name)).expect("stat");
        assert_eq!(stat("suid").ino(), stat("sub/again").ino());
        assert_eq!(stat("suid").nlink(), 2);
        assert!(stat("sparse").blocks() < 1000, "its holes are holes");
        for (name, attribute) in [
            ("sub/deep/file", "security.capability"),
            (".", "trusted.mark"),
        ] {
            let was = xattr(&from.join(name), attribute);
            assert!(was.is_some());
            assert_eq!(xattr(&to.join(name), attribute), was, "{attribute}");
        }
        assert_eq!(
            fs::read_dir(&to).expect("read").count(),
            fs::read_dir(&from).expect("read").count()
        );
        drop(sleeper);
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 1);
    }
}

fn tmpcopyup_in_a_user_namespace() {
    let mut b = Bench::new();
    b.with_user_namespace();
    furnish(&b.root("home"), Path::new("/tmp"));
    mknodat(
        CWD,
        b.root("home/null"),
        FileType::CharacterDevice,
        Mode::RWXU,
        rustix::fs::makedev(1, 3),
    )
    .expect("mknod");
    b.mount("tmpfs", "t", "/home", &["tmpcopyup", "mode=700"]);
    let o = b.sh("stat -c %a:%u:%g /home /home/sub /home/suid; cat /home/relative/file; echo; ls /home | wc -l; echo x > /home/sub/new");
    // Its devices it could not have used.
    assert_eq!(
        o.out, "700:0:0\n3750:33:34\n4711:7:8\ncontent\n7\n",
        "{o:?}"
    );
    assert!(
        !b.path("upper/home/sub/new").exists(),
        "the image is not written to"
    );
}

fn tmpcopyup_errors() {
    let mut b = Bench::new();
    fs::write(b.root("home/big"), vec![1u8; 1 << 20]).expect("write");
    b.mount("tmpfs", "t", "/home", &["tmpcopyup", "size=64k"]);
    let e = b.run(&["true"]).expect_err("too small").to_string();
    assert_eq!(
        e,
        "mounting \"tmpfs\" at \"/home\": copying \"big\" into it: no space left on device \
         (the size of the tmpfs is too small for its content)"
    );
    let mut b = Bench::new();
    b.mount("ramfs", "r", "/home", &["tmpcopyup"]);
    let e = b.run(&["true"]).expect_err("no tmpfs").to_string();
    assert_eq!(e, "mount at \"/home\": tmpcopyup is for a tmpfs");
}

fn relative_paths() {
    let mut b = Bench::new();
    fs::create_dir(b.path("data")).expect("mkdir");
    fs::write(b.path("data/f"), "here").expect("write");
    b.mount("bind", "data", "in/./here/", &["bind"]);
    b.mount("none", "./data/../data/f", "/one", &["bind"]);
    b.process().args = vec!["/bin/cat".into(), "/in/here/f".into(), "/one".into()];
    let streams = Streams::new();
    let bundle = b.dir.path().to_owned();
    let running = create(CreateOptions {
        bundle: Some(&bundle),
        ..CreateOptions::new("relative", &b.spec, b.rootfs(), streams.stdio())
    })
    .expect("created")
    .start()
    .expect("started");
    assert_eq!(streams.read().0, "herehere");
    assert_eq!(barque_sys::process::reap(running.pidfd.as_fd()), Ok(0));
}

fn mounts_within_mounts() {
    let mut b = Bench::new();
    fs::create_dir_all(b.path("src/there")).expect("mkdir");
    fs::write(b.path("file"), "file").expect("write");
    let (source, file) = (b.path("src"), b.path("file"));
    // The read-only tmpfs gets its directories first.
    b.mount("tmpfs", "a", "/a", &["ro"]);
    b.mount("tmpfs", "b", "/a/made/b", &["mode=700"]);
    b.bind(&source, "/a/made/b/c", &["bind", "ro"]);
    b.mount("tmpfs", "d", "/a/made/b/c/there", &[]);
    b.bind(&file, "/a/made/b/file", &["bind"]);
    b.mount("tmpfs", "over", "/a/made/b/c", &[]);
    let o =
        b.sh("cat /a/made/b/file; touch /a/x; touch /a/made/b/y && echo y; ls /a/made/b/c | wc -l");
    assert_eq!(o.out, "filey\n0\n", "{o:?}");
    assert_eq!(o.err.matches("Read-only").count(), 1, "{o:?}");
    let mounts = b.seen();
    for (place, source) in [("/a", "a"), ("/a/made/b", "b"), ("/a/made/b/c", "over")] {
        assert_eq!(at(&mounts, place).source, source, "{place}");
    }
}

fn what_is_made() {
    for user_namespace in [false, true] {
        let mut b = Bench::new();
        if user_namespace {
            b.with_user_namespace();
        }
        fs::write(b.path("f"), "").expect("write");
        let (dir, file) = (b.path("rootfs"), b.path("f"));
        b.bind(&dir, "/made/dir", &["rbind"]);
        b.bind(&file, "/made/file", &["bind"]);
        b.mount("tmpfs", "t", "/made/tmp", &[]);
        assert_eq!(b.sh("stat -c %u:%g:%a /made").out, "0:0:755\n");
        for (name, mode) in [("dir", 0o40755), ("file", 0o100_644), ("tmp", 0o41777)] {
            let meta = fs::metadata(b.path("upper/made").join(name)).expect("made");
            assert_eq!(
                (meta.uid(), meta.gid(), meta.mode()),
                (0, 0, mode),
                "{name}"
            );
        }
    }
}

fn the_root() {
    for place in ["/", "/.", "/home/..", "/link", "/up", "/../..", ""] {
        for kind in ["tmpfs", "bind", "cgroup"] {
            let mut b = Bench::new();
            symlink("/", b.root("link")).expect("symlink");
            symlink("../../..", b.root("up")).expect("symlink");
            let source = b.path("rootfs").display().to_string();
            b.mount(kind, &source, place, &[]);
            let e = b.run(&["true"]).expect_err(place).to_string();
            assert!(e.ends_with("the destination is the root"), "{place}: {e}");
        }
    }
}

fn read_only_places() {
    own_namespace();
    let mut b = Bench::new();
    let source = b.path("ro");
    tmpfs(&source, MountFlags::RDONLY);
    b.bind(&source, "/vol", &["rbind"]);
    b.mount("tmpfs", "t", "/vol/none", &[]);
    let e = b.run(&["true"]).expect_err("read-only").to_string();
    assert_eq!(
        e,
        "making \"/vol/none\" in the root file system: read-only file system \
         (the destination does not exist, and cannot be made on a read-only file system)"
    );
    unmount(&source);
}

fn links() {
    let mut b = Bench::new();
    symlink("one", b.root("two")).expect("symlink");
    symlink("/home", b.root("one")).expect("symlink");
    symlink("new/place", b.root("dangling")).expect("symlink");
    symlink("loop", b.root("loop")).expect("symlink");
    b.mount("tmpfs", "a", "/two/in", &[]);
    b.mount("tmpfs", "b", "/dangling", &[]);
    let mounts = b.seen();
    assert_eq!(at(&mounts, "/home/in").source, "a");
    assert_eq!(at(&mounts, "/new/place").source, "b");
    b.mount("tmpfs", "c", "/loop/x", &[]);
    let e = b.run(&["true"]).expect_err("a loop").to_string();
    assert!(
        e.contains("\"/loop/x\"") && e.contains("symbolic links"),
        "{e}"
    );
}

fn sources() {
    let mut b = Bench::new();
    let listener = std::os::unix::net::UnixListener::bind(b.path("socket")).expect("bind");
    mknodat(CWD, b.path("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    fs::write(b.path("file"), "linked").expect("write");
    symlink(b.path("file"), b.path("link")).expect("symlink");
    for name in ["socket", "fifo", "link"] {
        let source = b.path(name);
        b.bind(&source, &format!("/s/{name}"), &["bind"]);
    }
    b.bind(Path::new("/dev/full"), "/s/full", &["bind"]);
    let o = b.sh("test -S /s/socket && test -p /s/fifo && stat -c %t:%T /s/full; cat /s/link");
    assert_eq!(o.out, "1:7\nlinked", "{o:?}");
    drop(listener);
    let mut b = Bench::new();
    let (dir, file) = (b.path("upper"), b.path("f"));
    fs::write(&file, "").expect("write");
    for (source, place) in [(&dir, "/etc/passwd"), (&file, "/etc")] {
        b.bind(source, place, &["bind"]);
        let e = b.run(&["true"]).expect_err(place).to_string();
        assert!(
            e.ends_with("(a directory goes on a directory, a file on a file)"),
            "{e}"
        );
        b.spec.mounts.pop();
    }
}

/// Whether v2 is all that this machine has.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn cgroup2() {
    for own_cgroup_namespace in [true, false] {
        for option in ["ro", "rw"] {
            let mut b = Bench::new();
            if !own_cgroup_namespace {
                b.share(NamespaceKind::Cgroup);
            }
            b.mount("cgroup2", "cgroup", "/cg2", &[option, "nosuid"]);
            let sleeper = b.sleeper();
            let mounts = sleeper.mounts();
            let found = at(&mounts, "/cg2");
            assert_eq!(found.kind, "cgroup2");
            assert!(found.has(option) && found.has("nosuid"), "{found:?}");
            let o = b
                .exec(&sleeper.0, &["/bin/cat", "/cg2/cgroup.procs"])
                .expect("exec");
            assert_eq!(o.code, 0, "{o:?}");
        }
    }
}

fn cgroups() {
    for (own_namespace, option) in [(true, "ro"), (true, "rw"), (false, "ro"), (false, "rw")] {
        let mut b = Bench::new();
        if !own_namespace {
            b.share(NamespaceKind::Cgroup);
        }
        b.spec
            .mounts
            .retain(|m| m.kind.as_deref() != Some("cgroup"));
        b.mount("cgroup", "cgroup", "/sys/fs/cgroup", &[option, "noexec"]);
        let sleeper = b.sleeper();
        let mounts = sleeper.mounts();
        let host = parse(&fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"));
        let kinds =
            |m: &[crate::mountinfo::Info], kind: &str| m.iter().filter(|m| m.kind == kind).count();
        for kind in ["cgroup", "cgroup2"] {
            assert_eq!(
                kinds(&mounts, kind),
                kinds(&host, kind),
                "{kind} {own_namespace} {option}"
            );
        }
        for mount in mounts
            .iter()
            .filter(|m| m.point.starts_with("/sys/fs/cgroup"))
        {
            assert!(mount.has(option) && mount.has("noexec"), "{mount:?}");
        }
        let top = at(&mounts, "/sys/fs/cgroup");
        assert_eq!(top.kind, if unified() { "cgroup2" } else { "tmpfs" });
    }
}

fn default_devices() {
    let mut b = Bench::new();
    b.linux().devices.clear();
    b.linux().devices.push(spec::Device {
        kind: "c".into(),
        path: "/dev/null".into(),
        major: 1,
        minor: 3,
        file_mode: Some(0o600),
        uid: Some(7),
        gid: Some(8),
    });
    let script = "stat -c '%n %t:%T %a %u:%g' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty
        for l in ptmx fd stdin stdout stderr; do readlink /dev/$l; done";
    let expected = "/dev/null 1:3 600 7:8\n/dev/zero 1:5 666 0:0\n/dev/full 1:7 666 0:0\n\
        /dev/random 1:8 666 0:0\n/dev/urandom 1:9 666 0:0\n/dev/tty 5:0 666 0:0\npts/ptmx\n\
        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n";
    assert_eq!(b.sh(script).out, expected);
    // Without a tmpfs at /dev they are made in the root, and are there at the second start.
    b.spec.mounts.retain(|m| !m.destination.starts_with("/dev"));
    for _ in 0..2 {
        let o = b.sh(script);
        assert_eq!(o.out, expected, "{o:?}");
    }
}

fn mknod(path: &Path, numbers: (u32, u32), mode: u32) {
    let device = rustix::fs::makedev(numbers.0, numbers.1);
    let made = mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(mode),
        device,
    );
    made.expect("mknod");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn without_dev(b: &mut Bench) {
    b.spec.mounts.retain(|m| !m.destination.starts_with("/dev"));
}

fn devices_of_the_image() {
    // The right node: it gets the permissions that were asked for.
    let mut b = Bench::new();
    without_dev(&mut b);
    mknod(&b.root("dev/null"), (1, 3), 0o600);
    mknod(&b.root("dev/ptmx"), (1, 5), 0o666);
    // A file in the place of a device is covered by the real one.
    fs::write(b.root("dev/zero"), "not zero").expect("write");
    let o = b.sh("stat -c '%t:%T %a' /dev/null /dev/zero; readlink /dev/ptmx");
    assert_eq!(o.out, "1:3 666\n1:5 666\npts/ptmx\n", "{o:?}");
    // Anything else is refused, and named.
    let plants: [fn(&Path); 4] = [
        |path| mknod(path, (1, 1), 0o666),
        |path| symlink("/etc/passwd", path).expect("symlink"),
        |path| fs::create_dir(path).expect("mkdir"),
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("mkfifo"),
    ];
    for plant in plants {
        let mut b = Bench::new();
        without_dev(&mut b);
        plant(&b.root("dev/null"));
        let e = b.run(&["true"]).expect_err("planted").to_string();
        assert_eq!(
            e,
            "making the device \"/dev/null\": the root file system has something else there"
        );
    }
}

fn devices_in_a_user_namespace() {
    let mut b = Bench::new();
    b.with_user_namespace();
    without_dev(&mut b);
    for _ in 0..2 {
        let o = b.sh("stat -c %t:%T /dev/null /dev/full; echo x > /dev/null && echo ok");
        assert_eq!(o.out, "1:3\n1:7\nok\n", "{o:?}");
    }
    // Made as places for the host's, not as devices.
    let meta = fs::symlink_metadata(b.path("upper/dev/null")).expect("made");
    assert!(meta.is_file() && meta.len() == 0);
    assert!(
        fs::metadata("/dev/null")
            .expect("the host's")
            .file_type()
            .is_char_device()
    );
}

fn masks() {
    let mut b = Bench::new();
    fs::write(b.root("etc/secret"), "secret").expect("write");
    fs::create_dir(b.root("private")).expect("mkdir");
    fs::write(b.root("private/key"), "key").expect("write");
    symlink("/etc/secret", b.root("link-to-file")).expect("symlink");
    symlink("private", b.root("link-to-dir")).expect("symlink");
    symlink("nowhere", b.root("dangling")).expect("symlink");
    b.linux().masked_paths = [
        "/link-to-file",
        "/link-to-dir/",
        "/none/such",
        "/dangling",
        "/etc/passwd/x",
    ]
    .map(str::to_owned)
    .to_vec();
    fs::create_dir_all(b.root("cfg/sub")).expect("mkdir");
    symlink("cfg", b.root("cfg-link")).expect("symlink");
    b.mount("tmpfs", "t", "/cfg/sub", &[]);
    b.linux().readonly_paths = ["/cfg-link", "/etc/group", "/none", "/dangling"]
        .map(str::to_owned)
        .to_vec();
    let o = b.sh(
        "stat -c %t:%T /etc/secret; ls -A /private | wc -l; touch /private/x
         touch /cfg/y; touch /cfg/sub/z; echo >> /etc/group; test -e /nowhere || echo nothing made",
    );
    assert_eq!(o.out, "1:3\n0\nnothing made\n", "{o:?}");
    assert_eq!(o.err.matches("Read-only file system").count(), 4, "{o:?}");
}
