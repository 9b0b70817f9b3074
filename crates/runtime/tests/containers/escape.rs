//! Hostile images: whatever they contain, nothing leaves the root.

use crate::Case;
use crate::support::Bench;
use barque_types::spec;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

pub const CASES: &[Case] = &[
    ("escape::dev_is_a_link_to_etc", dev_is_a_link_to_etc),
    ("escape::proc_and_sys_are_links", proc_and_sys_are_links),
    (
        "escape::bind_destinations_are_links_and_dots",
        bind_destinations,
    ),
    ("escape::masks_and_read_only_paths_are_links", masks),
    ("escape::passwd_is_a_link_or_a_fifo", passwd),
    (
        "escape::working_directory_is_a_descriptor",
        working_directory,
    ),
    (
        "escape::working_directory_is_a_link",
        working_directory_is_a_link,
    ),
    (
        "escape::the_hosts_root_is_not_reachable",
        the_hosts_root_is_not_reachable,
    ),
    ("escape::chroot_does_not_lead_out", chroot_does_not_lead_out),
    (
        "escape::fifos_with_numbers_are_tolerated",
        fifos_with_numbers_are_tolerated,
    ),
];

/// A directory outside the root, and a check that nobody has been there.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("tempdir"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn is_untouched(&self) {
        assert_eq!(fs::read_dir(self.path()).expect("read").count(), 0);
    }
}

fn replace_by_link(b: &Bench, name: &str, target: &Path) {
    fs::remove_dir_all(b.root(name)).expect("rm");
    symlink(target, b.root(name)).expect("symlink");
}

fn dev_is_a_link_to_etc() {
    for overlay in [true, false] {
        let mut b = Bench::new();
        b.overlay = overlay;
        let outside = Outside::new();
        replace_by_link(&b, "dev", outside.path());
        let o = b.sh("echo x > /dev/null; echo done");
        assert_eq!(o.out, "done\n", "{o:?}");
        outside.is_untouched();
    }
}

fn proc_and_sys_are_links() {
    for (name, target) in [
        ("proc", "/etc"),
        ("sys", "../../../../etc"),
        ("proc", "/proc/1/root"),
        ("sys", "/tmp"),
    ] {
        let mut b = Bench::new();
        replace_by_link(&b, name, Path::new(target));
        let e = b.run(&["true"]).expect_err(target).to_string();
        assert!(
            e.contains(&format!("at \"/{name}\"")) && e.contains("must be a directory"),
            "{e}"
        );
    }
}

fn bind_destinations() {
    let mut b = Bench::new();
    let outside = Outside::new();
    fs::create_dir(b.path("src")).expect("mkdir");
    fs::write(b.path("src/here"), "").expect("write");
    let source = b.path("src");
    symlink(outside.path(), b.root("absolute")).expect("symlink");
    let up = format!("../../../../../../..{}", outside.path().display());
    symlink(&up, b.root("relative")).expect("symlink");
    for destination in [
        "/absolute/a",
        "/relative/b",
        &format!("/{up}/c"),
        "/home/../../e",
    ] {
        b.bind(&source, destination, &["rbind"]);
    }
    fs::write(b.path("file"), "").expect("write");
    let file = b.path("file");
    symlink(outside.path().join("file"), b.root("dangling")).expect("symlink");
    b.bind(&file, "/dangling", &["bind"]);
    let o = b.sh("ls /absolute/a /relative/b /e; ls -l /dangling");
    assert_eq!(o.out.matches("here").count(), 3, "{o:?}");
    outside.is_untouched();

    // A magic link is not followed, not even one that would lead to our own root.
    b.bind(&source, "/proc/self/root/tmp/d", &["rbind"]);
    let e = b.run(&["true"]).expect_err("a magic link").to_string();
    assert!(e.contains("/proc/self/root/tmp/d"), "{e}");
}

fn masks() {
    let mut b = Bench::new();
    let outside = Outside::new();
    fs::write(outside.path().join("secret"), "x").expect("write");
    symlink(outside.path(), b.root("link")).expect("symlink");
    b.linux().masked_paths.push("/link/secret".into());
    b.linux().masked_paths.push("/../../../../link".into());
    b.linux().readonly_paths.push("/link".into());
    assert_eq!(b.sh("echo fine").out, "fine\n");
    assert_eq!(
        fs::read_to_string(outside.path().join("secret")).expect("read"),
        "x"
    );
}

fn passwd() {
    let mut b = Bench::new();
    b.user = barque_runtime::UserSpec::Named {
        user: "daemon".into(),
        groups: vec![],
    };
    fs::remove_file(b.root("etc/passwd")).expect("rm");
    symlink("/../../../../etc/passwd", b.root("etc/passwd")).expect("symlink");
    // The host's file has a daemon, the container's has not (it is a link to itself).
    assert!(b.run(&["true"]).is_err());
    fs::remove_file(b.root("etc/passwd")).expect("rm");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        b.root("etc/passwd"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("mkfifo");
    let e = b.run(&["true"]).expect_err("no entries").to_string();
    assert!(e.contains("no matching entries"), "{e}");
}

fn working_directory() {
    // CVE-2024-21626: a descriptor of the host that leaked, as the working directory.
    let leaked =
        rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("open");
    use std::os::fd::AsRawFd;
    for fd in 3..=leaked.as_raw_fd().max(40) {
        let mut b = Bench::new();
        b.process().cwd = format!("/proc/self/fd/{fd}");
        let outcome = b.run(&["/bin/sh", "-c", "ls ../../../../../../work"]);
        if let Ok(o) = outcome {
            assert_ne!(o.code, 0, "fd {fd}: {o:?}");
        }
    }
}

fn working_directory_is_a_link() {
    let mut b = Bench::new();
    let outside = Outside::new();
    symlink(outside.path(), b.root("link")).expect("symlink");
    b.process().cwd = "/link/made/below".into();
    let o = b.sh("pwd -P");
    assert_eq!(
        o.out,
        format!("{}/made/below\n", outside.path().display()),
        "{o:?}"
    );
    outside.is_untouched();
}

fn the_hosts_root_is_not_reachable() {
    let o = Bench::new().sh(
        "ls /../../../../; cat /proc/self/mountinfo | wc -l; ls /proc/1/root/; ls /proc/1/cwd/",
    );
    assert!(!o.out.contains("work\n"), "{o:?}");
    assert!(o.out.matches("rootfs").count() == 0, "{o:?}");
}

/// The classic: a working directory that a second chroot leaves outside, and up from there. Says
/// with its exit code whether a path of the host was found.
pub fn break_out(path: &str) -> ExitCode {
    let _ = fs::create_dir("/jail");
    rustix::process::chroot("/jail").expect("CAP_SYS_CHROOT");
    for _ in 0..100 {
        rustix::process::chdir("..").expect("chdir");
    }
    rustix::process::chroot(".").expect("chroot");
    ExitCode::from(if fs::metadata(path).is_ok() { 77 } else { 3 })
}

fn chroot_does_not_lead_out() {
    for overlay in [true, false] {
        let mut b = Bench::new();
        b.overlay = overlay;
        fs::copy(
            std::env::current_exe().expect("own path"),
            b.root("bin/break"),
        )
        .expect("copy");
        let host = b.path("rootfs").to_string_lossy().into_owned();
        let o = b
            .run(&["/bin/break", "--break-out", &host])
            .expect("started");
        assert_eq!(o.code, 3, "{o:?}");
    }
}

fn fifos_with_numbers_are_tolerated() {
    let mut b = Bench::new();
    b.linux().devices.push(spec::Device {
        kind: "p".into(),
        path: "/dev/fifo".into(),
        major: 7,
        ..spec::Device::default()
    });
    assert_eq!(b.sh("test -p /dev/fifo").code, 0);
}
