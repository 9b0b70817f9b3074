//! Known escapes from other runtimes, each tried against this one. What a vulnerable runtime would do
//! is said at each test, and which assertion it would fail. Each has been seen to fail with the guard taken out
//! of the code: the place opened by its text, the mask from the container's `/dev/null`, the console by
//! its path, kernel parameters through the container's `/proc`, `/proc` and `/sys` through links.

use crate::Case;
use crate::mountinfo::parse;
use crate::support::{Bench, Streams};
use barque_runtime::{Error, Stdio};
use barque_sys::process::reap;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, mknodat};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    (
        "security::cve_2021_30465_mount_destinations_exchanged_for_links",
        cve_2021_30465,
    ),
    (
        "security::cve_2021_30465_files_exchanged_for_links",
        cve_2021_30465_files,
    ),
    (
        "security::cve_2025_31133_masks_are_the_hosts_null_device",
        cve_2025_31133,
    ),
    (
        "security::cve_2025_52565_console_is_bound_to_no_link",
        cve_2025_52565,
    ),
    (
        "security::cve_2025_52881_writes_go_to_the_real_proc",
        cve_2025_52881,
    ),
    ("security::cve_2019_16884_mounts_over_proc", cve_2019_16884),
    (
        "security::cve_2019_19921_cve_2023_27561_proc_in_a_volume",
        cve_2019_19921,
    ),
    (
        "security::cve_2023_28642_proc_and_sys_through_a_linked_parent",
        cve_2023_28642,
    ),
    (
        "security::nodes_planted_in_dev_are_not_opened",
        planted_nodes,
    ),
    (
        "security::every_standard_destination_is_a_hostile_link",
        hostile_links,
    ),
];

/// The other process of a race: exchanges two names for each other until its parent ends it, or dies.
pub fn exchange(a: &str, b: &str) -> ExitCode {
    let death = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(death).expect("prctl");
    loop {
        rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).expect("exchange");
    }
}

struct Exchange(Child);

impl Exchange {
    fn start(a: &Path, b: &Path) -> Self {
        let own = std::env::current_exe().expect("own path");
        let child = Command::new(own).arg("--exchange").args([a, b]).spawn();
        Self(child.expect("the other process"))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).expect("read").count()
}

/// A volume that is shared with an attacker, who exchanges the directory that is mounted on for a link to a
/// directory of the host, all the time.
///
/// A runtime that resolves the path first and mounts on its text afterwards (runc before 1.0.0-rc95) mounts
/// on the host's directory whenever the exchange falls in between. That mount is gone from the container
/// with the host's root, so that `race` is not among its mounts; and what such a runtime makes on the way
/// is found outside. Seen to fail when `destination::open` opens its place by the text of the path.
fn cve_2021_30465() {
    let outside = tempfile::tempdir().expect("tempdir");
    let mut b = Bench::new();
    let volume = b.path("volume");
    fs::create_dir_all(volume.join("x")).expect("mkdir");
    symlink(outside.path(), volume.join("link")).expect("symlink");
    b.bind(&volume, "/vol", &["rbind"]);
    b.mount("tmpfs", "race", "/vol/x", &[]);
    b.mount("tmpfs", "deeper", "/vol/x/made/on/the/way", &[]);
    let other = Exchange::start(&volume.join("x"), &volume.join("link"));
    let inside = outside.path().display().to_string();
    let (mut by_name, mut by_link) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while by_name < 5 || by_link < 5 {
        assert!(
            Instant::now() < deadline,
            "{by_name} and {by_link}: no race"
        );
        let o = match b.run(&["/bin/cat", "/proc/self/mountinfo"]) {
            Ok(o) => o,
            // It may find what it cannot make anything of, and says so.
            Err(Error::Step { step, .. }) if step.contains("/vol/x") => continue,
            Err(e) => panic!("{e}"),
        };
        let mounts = parse(&o.out);
        for source in ["race", "deeper"] {
            let points: Vec<&str> = mounts
                .iter()
                .filter(|m| m.source == source)
                .map(|m| m.point.as_str())
                .collect();
            let [point] = points[..] else {
                panic!("{source} is mounted elsewhere: {points:?}")
            };
            // The directory has either of its two names by now; or the link was taken from our root.
            let in_volume = point.starts_with("/vol/x") || point.starts_with("/vol/link");
            assert!(in_volume || point.starts_with(&inside), "{point}");
            match (source, in_volume) {
                ("race", true) => by_name += 1,
                ("race", false) => by_link += 1,
                _ => {}
            }
        }
        assert_eq!(entries(outside.path()), 0, "something was made outside");
    }
    drop(other);
}

/// The same with files: the attacker exchanges a file for a link to one of the host, over which a bind
/// mount goes, or which would be made.
fn cve_2021_30465_files() {
    let outside = tempfile::tempdir().expect("tempdir");
    let mut b = Bench::new();
    let volume = b.path("volume");
    fs::create_dir(&volume).expect("mkdir");
    fs::write(volume.join("f"), "the volume's").expect("write");
    symlink(outside.path().join("made"), volume.join("link")).expect("symlink");
    fs::write(b.path("source"), "ours").expect("write");
    let source = b.path("source");
    b.bind(&volume, "/vol", &["rbind"]);
    b.bind(&source, "/vol/f", &["bind"]);
    b.linux().masked_paths.push("/vol/f".into());
    let other = Exchange::start(&volume.join("f"), &volume.join("link"));
    for _ in 0..60 {
        let o = b
            .run(&["/bin/cat", "/proc/self/mountinfo"])
            .expect("started");
        let count = parse(&o.out)
            .iter()
            .filter(|m| m.root.ends_with("/source"))
            .count();
        assert_eq!(count, 1, "{}", o.out);
        assert_eq!(entries(outside.path()), 0, "something was made outside");
    }
    drop(other);
    assert_eq!(fs::read_to_string(&source).expect("read"), "ours");
}

/// The container's `/dev/null` is a link to a kernel parameter, or a file of the image. A runtime that takes
/// it as the source of its masks (runc before 1.2.8) binds that over the masked path: writable, and not
/// the null device, which the first assertion sees.
fn cve_2025_31133() {
    for bound in [true, false] {
        let mut b = Bench::new();
        let dev = if bound { b.path("dev") } else { b.root("dev") };
        if bound {
            fs::create_dir(&dev).expect("mkdir");
            b.spec.mounts.retain(|m| !m.destination.starts_with("/dev"));
            b.bind(&dev, "/dev", &["rbind"]);
            symlink("/proc/sys/kernel/core_pattern", dev.join("null")).expect("symlink");
        } else {
            // Below the mounts of the container, where it must not matter either.
            fs::write(dev.join("null"), "not the null device").expect("write");
        }
        fs::write(b.root("etc/secret"), "secret").expect("write");
        b.linux().masked_paths = vec!["/etc/secret".into(), "/proc/interrupts".into()];
        let o = b.sh("stat -c %t:%T /etc/secret /proc/interrupts; cat /etc/secret");
        assert_eq!(o.out, "1:3\n1:3\n", "{o:?}");
    }
}

/// `/dev/console` is a link to a kernel parameter. A runtime that binds the terminal by path (runc before
/// 1.2.8) covers `core_pattern` with a writable terminal, and the container starts; ours refuses, as the
/// link is not followed. A FIFO or a device in its place is neither opened nor waited for.
fn cve_2025_52565() {
    type Plant = fn(&Path);
    let plants: [(Plant, bool); 4] = [
        (
            |console| symlink("/proc/sys/kernel/core_pattern", console).expect("symlink"),
            false,
        ),
        (|console| symlink("pts/0", console).expect("symlink"), false),
        (
            |console| mknodat(CWD, console, FileType::Fifo, Mode::RWXU, 0).expect("mkfifo"),
            true,
        ),
        (
            |console| {
                let memory = rustix::fs::makedev(1, 1);
                mknodat(CWD, console, FileType::CharacterDevice, Mode::RWXU, memory)
                    .expect("mknod");
            },
            true,
        ),
    ];
    for (plant, covered) in plants {
        let mut b = Bench::new();
        let dev = b.path("dev");
        for dir in ["pts", "shm", "mqueue"] {
            fs::create_dir_all(dev.join(dir)).expect("mkdir");
        }
        plant(&dev.join("console"));
        b.spec.mounts.retain(|m| m.destination != Path::new("/dev"));
        b.bind(&dev, "/dev", &["rbind"]);
        // The binds come in their order: this one before what is mounted in it.
        b.spec.mounts.rotate_right(1);
        let script =
            "stat -c %t:%T /dev/console /dev/pts/0; stat -c %t:%T /proc/sys/kernel/core_pattern";
        let started = b.start(&["/bin/sh", "-c", script], Stdio::Terminal);
        if covered {
            let running = started.expect("covered");
            let console = running.console.as_ref().expect("a master");
            assert_eq!(read_terminal(console), "88:0\r\n88:0\r\n0:0\r\n");
            assert_eq!(reap(running.pidfd.as_fd()), Ok(0));
        } else {
            let e = started.expect_err("a link").to_string();
            assert!(
                e.starts_with("binding the terminal to /dev/console: "),
                "{e}"
            );
        }
    }
}

/// All that is written to a terminal, until its other end is closed (`EIO`).
fn read_terminal(master: impl AsFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What lies at `/proc` in the container is the image's, and looks like the real one to a program that
/// writes there. A runtime that writes to its own `/proc/self/…` and `/proc/sys/…` by path after it
/// has mounted (runc before 1.2.8) leaves the container unconfined and the image's files changed:
/// each of the values would be missing where the kernel keeps it.
fn cve_2025_52881() {
    let mut b = Bench::new();
    b.spec
        .mounts
        .retain(|m| m.destination != Path::new("/proc"));
    b.linux().masked_paths.clear();
    b.linux().readonly_paths.clear();
    let gadgets = [
        "sys/net/ipv4/ip_unprivileged_port_start",
        "sys/kernel/shm_rmid_forced",
        "self/oom_score_adj",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/attr/keycreate",
        "self/uid_map",
        "self/gid_map",
        "self/setgroups",
        "self/timens_offsets",
        "self/loginuid",
        "1/oom_score_adj",
        "1/uid_map",
        "thread-self/attr/exec",
    ];
    let planted: Vec<PathBuf> = gadgets.iter().map(|g| b.root("proc").join(g)).collect();
    for path in &planted {
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, "planted").expect("write");
    }
    b.overlay = false;
    b.mount("proc", "proc", "/real", &[]);
    b.process().oom_score_adj = Some(555);
    let sysctl = &mut b.linux().sysctl;
    sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
    sysctl.insert("kernel.shm_rmid_forced".into(), "1".into());
    let o = b.sh(
        "cat /real/sys/net/ipv4/ip_unprivileged_port_start /real/sys/kernel/shm_rmid_forced
         cat /real/self/oom_score_adj",
    );
    assert_eq!(o.out, "77\n1\n555\n", "{o:?}");
    // And with a map, which is written while the container is made. The root is then an overlay, whose
    // upper layer would show what was written.
    b.overlay = true;
    b.with_user_namespace();
    let o = b.sh("cat /real/self/uid_map; cat /real/self/oom_score_adj");
    assert_eq!(o.out, "         0     100000      65536\n555\n", "{o:?}");
    for path in &planted {
        assert_eq!(
            fs::read_to_string(path).expect("read"),
            "planted",
            "{path:?}"
        );
    }
    assert!(!b.path("upper/proc").exists());
    // A label cannot be observed on a kernel without a module for it; it is asked for and refused, which
    // a write to the image's attr/exec would not have been.
    b.process().selinux_label = Some("system_u:system_r:container_t:s0".into());
    let e = b.run(&["true"]).expect_err("no SELinux").to_string();
    assert!(e.starts_with("process.selinuxLabel: "), "{e}");
}

/// What goes over `/proc` and into it. A runtime that lets a tmpfs or a directory over `/proc` or a part
/// of it (runc before 1.0.0-rc9) believes what it then reads there, and confines nothing.
fn cve_2019_16884() {
    let refused: [(&str, &str, &str); 16] = [
        ("tmpfs", "tmpfs", "/proc"),
        ("tmpfs", "tmpfs", "/proc/"),
        ("tmpfs", "tmpfs", "proc"),
        ("tmpfs", "tmpfs", "/home/../proc"),
        ("tmpfs", "tmpfs", "/proc/self"),
        ("tmpfs", "tmpfs", "/proc/sys"),
        ("tmpfs", "tmpfs", "/proc/self/attr"),
        ("tmpfs", "tmpfs", "/link"),
        ("tmpfs", "tmpfs", "/link/sys/kernel"),
        ("bind", "dir", "/proc"),
        ("bind", "dir", "/proc/scsi"),
        ("bind", "file", "/proc/sysrq-trigger"),
        ("bind", "file", "/link/self/oom_score_adj"),
        ("bind", "file", "/proc/cpuinfo/../version"),
        ("bind", "/proc/sys", "/proc"),
        ("cgroup", "cgroup", "/proc/tty"),
    ];
    let with = |kind: &str, source: &str, place: &str, first: bool| {
        let mut b = Bench::new();
        symlink("/proc", b.root("link")).expect("symlink");
        fs::create_dir(b.path("dir")).expect("mkdir");
        fs::write(b.path("file"), "emulated").expect("write");
        let source = match source {
            "dir" | "file" => b.path(source).display().to_string(),
            other => other.to_owned(),
        };
        b.mount(kind, &source, place, &[]);
        if first {
            b.spec.mounts.rotate_right(1);
        }
        b
    };
    for (kind, source, place) in refused {
        let e = with(kind, source, place, false)
            .run(&["true"])
            .expect_err(place);
        let e = e.to_string();
        assert!(
            e.contains("inside /proc") || e.ends_with("only a procfs can be mounted over /proc"),
            "{place}: {e}"
        );
    }
    // Before /proc is there, by its name; through a link it is hidden by /proc afterwards.
    for place in ["/proc", "/proc/sys"] {
        with("tmpfs", "t", place, true)
            .run(&["true"])
            .expect_err(place);
    }
    let o = with("tmpfs", "t", "/link", true).sh("cat /proc/self/comm");
    assert_eq!(o.out, "cat\n", "{o:?}");
    // lxcfs, another procfs, and that of the host.
    for place in [
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/uptime",
        "/proc/stat",
        "/proc/loadavg",
    ] {
        let o = with("bind", "file", place, false).sh(&format!("cat {place}"));
        assert_eq!(o.out, "emulated", "{o:?}");
    }
    let o = with("proc", "proc", "/proc", false).sh("readlink /proc/self");
    assert!(o.out.trim().parse::<u32>().is_ok(), "{o:?}");
    let o = with("bind", "/proc", "/proc", false).sh("readlink /proc/self");
    assert_ne!(o.out, "1\n", "by the host's numbers: {o:?}");
}

/// `/proc` of the image is a link into a volume, which another container shares. A runtime that follows it
/// mounts proc in the volume; it then reads and writes at `/proc` what the other container puts there,
/// and masks what nobody looks at. The container would start.
fn cve_2019_19921() {
    for target in ["/vol/proc", "vol/proc", "/vol/none"] {
        let mut b = Bench::new();
        let volume = b.path("volume");
        fs::create_dir_all(volume.join("proc/self")).expect("mkdir");
        b.bind(&volume, "/vol", &["rbind"]);
        b.spec.mounts.rotate_right(1);
        fs::remove_dir(b.root("proc")).expect("rmdir");
        symlink(target, b.root("proc")).expect("symlink");
        let e = b.run(&["true"]).expect_err(target).to_string();
        assert_eq!(
            e,
            "mounting \"proc\" at \"/proc\": the root file system has a link or a file there; \
             it must be a directory"
        );
        assert_eq!(entries(&volume), 1, "nothing was made in the volume");
    }
}

/// The same with a link above the place, which a check of the last component alone does not see; a
/// sysfs that lands elsewhere leaves `/sys` to the image, and a profile by path confines nothing.
fn cve_2023_28642() {
    for (kind, place) in [("proc", "/a/proc"), ("sysfs", "/a/sys"), ("proc", "/a/b/c")] {
        for target in ["/home", "home", "/none"] {
            let mut b = Bench::new();
            symlink(target, b.root("a")).expect("symlink");
            b.mount(kind, kind, place, &[]);
            let e = b.run(&["true"]).expect_err(place).to_string();
            assert!(
                e.ends_with("has a link or a file there; it must be a directory"),
                "{e}"
            );
        }
    }
    for (kind, name) in [("proc", "proc"), ("sysfs", "sys")] {
        let mut b = Bench::new();
        fs::remove_dir(b.root(name)).expect("rmdir");
        fs::write(b.root(name), "").expect("write");
        let e = b.run(&["true"]).expect_err(name).to_string();
        assert!(
            e.starts_with(&format!("mounting {kind:?} at \"/{name}\"")),
            "{e}"
        );
    }
}

/// Nodes of the host's memory and disks in the image's `/dev`: below the container's own `/dev` they cannot
/// be named, and under the name of a default device they are refused. (Elsewhere in the image they are for
/// the device cgroup to refuse, and in a user namespace for `nodev`.)
fn planted_nodes() {
    let node = |path: PathBuf, numbers: (u32, u32)| {
        let device = rustix::fs::makedev(numbers.0, numbers.1);
        mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .expect("mknod");
    };
    let mut b = Bench::new();
    node(b.root("dev/mem"), (1, 1));
    node(b.root("dev/null"), (1, 1));
    let o = b.sh("test -e /dev/mem || echo hidden; stat -c %t:%T /dev/null");
    assert_eq!(o.out, "hidden\n1:3\n", "{o:?}");
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let mut b = Bench::new();
        b.spec.mounts.retain(|m| !m.destination.starts_with("/dev"));
        node(b.root("dev").join(name), (1, 1));
        let e = b.run(&["true"]).expect_err(name).to_string();
        assert!(
            e.ends_with(&format!(
                "\"/dev/{name}\": the root file system has something else there"
            )),
            "{e}"
        );
    }
    // The multiplexer is always the container's own.
    let mut b = Bench::new();
    b.spec.mounts.retain(|m| m.destination != Path::new("/dev"));
    node(b.root("dev/ptmx"), (1, 1));
    assert_eq!(
        b.sh("readlink /dev/ptmx; stat -L -c %t:%T /dev/ptmx").out,
        "pts/ptmx\n5:2\n"
    );
}

/// Every place that a container's mounts and devices go to is a link: to a directory of the host, with an
/// absolute and a relative text, to itself, and to nothing. Whatever the runtime makes of it, it starts, or
/// names the place; outside nothing is made, nothing is changed, and nothing is mounted.
fn hostile_links() {
    let outside = tempfile::tempdir().expect("tempdir");
    fs::write(outside.path().join("file"), "theirs").expect("write");
    let before = fs::metadata(outside.path()).expect("stat");
    let absolute = outside.path().to_owned();
    let relative = PathBuf::from(format!("../../../../../../..{}", absolute.display()));
    let places = [
        "proc",
        "sys",
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/mqueue",
        "dev/null",
        "dev/console",
        "dev/ptmx",
        "dev/fd",
        "sys/fs/cgroup",
        "etc",
        "etc/passwd",
        "etc/group",
        "etc/hosts",
        "root",
        "work",
        "masked",
        "readonly",
    ];
    let (mut started, mut refused) = (0, 0);
    for place in places {
        for target in [
            absolute.clone(),
            relative.clone(),
            absolute.join("none"),
            "loop".into(),
            absolute.join("file"),
        ] {
            let mut b = Bench::new();
            b.overlay = false;
            let path = b.root(place);
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            if fs::remove_file(&path).is_err() {
                let _ = fs::remove_dir_all(&path);
            }
            // A loop is a link to itself.
            let own_name = path.file_name().map(PathBuf::from).expect("a name");
            let target = if target == Path::new("loop") {
                own_name
            } else {
                target
            };
            symlink(&target, &path).expect("symlink");
            if place.starts_with("dev/") {
                // Without a tmpfs over it.
                b.spec.mounts.retain(|m| m.destination != Path::new("/dev"));
            }
            let hosts = b.path("hosts");
            fs::write(&hosts, "").expect("write");
            b.bind(&hosts, "/etc/hosts", &["bind"]);
            b.linux().masked_paths.push("/masked".into());
            b.linux().readonly_paths.push("/readonly".into());
            b.process().cwd = "/work/below".into();
            let streams = Streams::new();
            match b.start(&["/bin/true"], streams.stdio()) {
                Ok(running) => {
                    assert_eq!(reap(running.pidfd.as_fd()), Ok(0), "{place} {target:?}");
                    started += 1;
                }
                Err(e) => {
                    let e = e.to_string();
                    // The place, or what is made at it or in it.
                    let name = format!("/{}", place.split('/').next().expect("a name"));
                    assert!(e.contains(&name), "{place} {target:?}: {e}");
                    refused += 1;
                }
            }
            assert_eq!(entries(outside.path()), 1, "{place} {target:?}");
        }
    }
    assert!(
        started > 20 && refused > 10,
        "{started} started, {refused} were refused"
    );
    let after = fs::metadata(outside.path()).expect("stat");
    let of = |m: &fs::Metadata| (m.mode(), m.uid(), m.mtime(), m.mtime_nsec(), m.ctime_nsec());
    assert_eq!(of(&before), of(&after));
    assert_eq!(
        fs::read_to_string(outside.path().join("file")).expect("read"),
        "theirs"
    );
    let host = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(
        !parse(&host)
            .iter()
            .any(|m| Path::new(&m.point).starts_with(outside.path()))
    );
    let null = rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).expect("open");
    assert_eq!(
        rustix::fs::fstat(null).expect("stat").st_rdev,
        rustix::fs::makedev(1, 3)
    );
}
