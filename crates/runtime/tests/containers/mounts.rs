//! Mounts: what is where, with which flags, and what is hidden.

use crate::Case;
use crate::support::Bench;
use barque_types::spec;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub const CASES: &[Case] = &[
    (
        "mounts::default_mounts_and_their_flags",
        default_mounts_and_their_flags,
    ),
    ("mounts::dev_nodes_and_links", dev_nodes_and_links),
    (
        "mounts::masked_and_read_only_paths",
        masked_and_read_only_paths,
    ),
    ("mounts::privileged_has_neither", privileged_has_neither),
    ("mounts::read_only_root", read_only_root),
    (
        "mounts::bind_of_a_directory_and_a_file",
        bind_of_a_directory_and_a_file,
    ),
    ("mounts::read_only_binds", read_only_binds),
    ("mounts::propagation", propagation),
    ("mounts::tmpfs_options", tmpfs_options),
    ("mounts::read_only_dev_still_has_its_devices", read_only_dev),
    (
        "mounts::many_layers_and_whiteouts",
        many_layers_and_whiteouts,
    ),
    ("mounts::sysctl", sysctl),
    ("mounts::errors_name_the_mount", errors_name_the_mount),
    (
        "mounts::shared_root_reaches_nobody",
        shared_root_reaches_nobody,
    ),
];

/// The line of /proc/mounts for a place: type and options.
fn at<'t>(mounts: &'t str, place: &str) -> (&'t str, &'t str) {
    let mut fields = mounts
        .lines()
        .rev()
        .map(|l| l.split(' ').collect::<Vec<_>>())
        .find(|f| f.len() > 3 && f[1] == place)
        .unwrap_or_else(|| panic!("{place} is no mount in\n{mounts}"))
        .into_iter()
        .skip(2);
    (
        fields.next().expect("type"),
        fields.next().expect("options"),
    )
}

fn default_mounts_and_their_flags() {
    let o = Bench::new().sh("cat /proc/mounts");
    for (place, kind, flags) in [
        ("/", "overlay", "rw,"),
        ("/proc", "proc", "rw,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "rw,nosuid"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
    ] {
        let found = at(&o.out, place);
        assert!(
            found.0 == kind && found.1.starts_with(flags),
            "{place}: {found:?}"
        );
    }
    assert!(
        at(&o.out, "/dev/pts")
            .1
            .contains("gid=5,mode=620,ptmxmode=666"),
        "{}",
        o.out
    );
    assert!(
        at(&o.out, "/dev/shm").1.contains("size=65536k"),
        "{}",
        o.out
    );
    for line in o.out.lines().filter(|l| l.contains(" cgroup")) {
        assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
    }
}

fn dev_nodes_and_links() {
    let o = Bench::new().sh(
        "stat -c '%n %t %T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty
         for l in fd stdin stdout stderr ptmx core; do readlink /dev/$l; done
         echo x > /dev/null && head -c 3 /dev/zero | wc -c; test -e /dev/console || echo none",
    );
    assert_eq!(
        o.out,
        "/dev/null 1 3 666\n/dev/zero 1 5 666\n/dev/full 1 7 666\n/dev/random 1 8 666\n\
         /dev/urandom 1 9 666\n/dev/tty 5 0 666\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n\
         /proc/self/fd/2\npts/ptmx\n/proc/kcore\n3\nnone\n",
        "{o:?}"
    );
}

fn masked_and_read_only_paths() {
    let mut b = Bench::new();
    b.linux().masked_paths.push("/etc".into());
    b.linux().masked_paths.push("/etc/none/such".into());
    let o = b.sh(
        "stat -c %t:%T /proc/timer_list; wc -c < /proc/interrupts; ls /sys/firmware; ls /etc
         echo 1 > /proc/sys/kernel/panic; touch /etc/x; grep -c '^proc /proc/[bfis].* ro,' /proc/mounts",
    );
    assert!(o.out.starts_with("1:3\n0\n"), "{o:?}");
    assert!(
        o.out.trim().ends_with(['3', '4', '5']),
        "those that this kernel has: {o:?}"
    );
    assert_eq!(o.err.matches("Read-only file system").count(), 2, "{o:?}");
}

fn privileged_has_neither() {
    let mut b = Bench::new();
    b.spec.mounts = barque_runtime::defaults::privileged_mounts(64 << 20);
    b.linux().masked_paths.clear();
    b.linux().readonly_paths.clear();
    let caps = barque_runtime::defaults::all_capabilities();
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&caps));
    b.linux().devices = barque_runtime::defaults::privileged_devices();
    let o = b.sh("cat /proc/mounts; grep CapEff /proc/self/status; ls /dev | wc -l");
    assert!(at(&o.out, "/sys").1.starts_with("rw"), "{o:?}");
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let bound = own
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:\t"))
        .expect("CapBnd");
    assert!(
        o.out.contains(&format!("CapEff:\t{bound}")),
        "{o:?}\nwanted {bound}"
    );
    assert!(o.warnings.is_empty(), "{:?}", o.warnings);
}

fn read_only_root() {
    let mut b = Bench::new();
    b.spec.root = Some(spec::Root {
        readonly: true,
        ..spec::Root::default()
    });
    let o = b.sh("touch /x; touch /dev/shm/y && echo shm");
    assert!(o.err.contains("Read-only file system"), "{o:?}");
    assert_eq!(o.out, "shm\n");
}

fn bind_of_a_directory_and_a_file() {
    let mut b = Bench::new();
    fs::create_dir_all(b.path("src/sub")).expect("mkdir");
    fs::write(b.path("file"), "content").expect("write");
    let (dir, file) = (b.path("src"), b.path("file"));
    b.bind(&dir, "/new/deep/dir", &["rbind"]);
    b.bind(&file, "/new/conf", &["bind"]);
    let o = b.sh("ls /new/deep/dir; cat /new/conf; echo made > /new/deep/dir/made");
    assert_eq!(o.out, "sub\ncontent", "{o:?}");
    assert_eq!(
        fs::read_to_string(b.path("src/made")).expect("read"),
        "made\n"
    );
    // What was missing was made in the upper layer, as an empty file and as directories.
    assert!(b.path("upper/new/deep/dir").is_dir());
    assert_eq!(
        fs::metadata(b.path("upper/new/conf")).expect("stat").len(),
        0
    );
}

fn read_only_binds() {
    // A tree with a mount below it: in a mount namespace of our own, which ends with us.
    barque_sys::process::unshare(barque_sys::process::Namespaces::MOUNT).expect("unshare");
    let mut b = Bench::new();
    fs::create_dir_all(b.path("src/sub")).expect("mkdir");
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .expect("private");
    rustix::mount::mount(
        "none",
        b.path("src/sub"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )
    .expect("mount");
    let dir = b.path("src");
    b.bind(&dir, "/ro", &["rbind", "ro"]);
    b.bind(&dir, "/rro", &["rbind", "rro", "nosuid"]);
    let o = b.sh("touch /ro/a; touch /ro/sub/b && echo b; touch /rro/c; touch /rro/sub/d");
    assert_eq!(o.out, "b\n", "{o:?}");
    assert_eq!(o.err.matches("Read-only file system").count(), 3, "{o:?}");
    rustix::mount::unmount(b.path("src/sub"), rustix::mount::UnmountFlags::DETACH).expect("umount");
}

fn propagation() {
    barque_sys::process::unshare(barque_sys::process::Namespaces::MOUNT).expect("unshare");
    let mut b = Bench::new();
    let flags =
        |f: rustix::mount::MountPropagationFlags| f | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags(rustix::mount::MountPropagationFlags::PRIVATE))
        .expect("private");
    fs::create_dir_all(b.path("src/sub")).expect("mkdir");
    rustix::mount::mount_bind(b.path("src"), b.path("src")).expect("bind");
    rustix::mount::mount_change(
        b.path("src"),
        flags(rustix::mount::MountPropagationFlags::SHARED),
    )
    .expect("shared");
    let dir = b.path("src");
    b.bind(&dir, "/slave", &["rbind", "rslave"]);
    b.bind(&dir, "/private", &["rbind"]);
    b.bind(&dir, "/shared", &["rbind", "rshared"]);
    let sleeper = b.sleeper();
    rustix::mount::mount(
        "from-host",
        b.path("src/sub"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )
    .expect("mount");
    let o = b.exec(&sleeper.0, &["cat", "/proc/mounts"]).expect("exec");
    for (place, there) in [
        ("/slave/sub", true),
        ("/shared/sub", true),
        ("/private/sub", false),
    ] {
        assert_eq!(
            o.out.contains(&format!("from-host {place} ")),
            there,
            "{place}: {}",
            o.out
        );
    }
    drop(sleeper);
    rustix::mount::unmount(b.path("src/sub"), rustix::mount::UnmountFlags::DETACH).expect("umount");
    rustix::mount::unmount(b.path("src"), rustix::mount::UnmountFlags::DETACH).expect("umount");
}

fn tmpfs_options() {
    let mut b = Bench::new();
    for (place, options) in [
        ("/tmp", vec!["size=1m", "mode=1777", "noexec"]),
        ("/home", vec![]),
        ("/run", vec!["ro"]),
        // Not in the image: the kernel's default permissions, at the second start too.
        ("/new/place", vec![]),
    ] {
        b.spec.mounts.push(spec::Mount {
            destination: place.into(),
            kind: Some("tmpfs".into()),
            source: Some("tmpfs".into()),
            options: options.into_iter().map(str::to_owned).collect(),
            ..spec::Mount::default()
        });
    }
    fs::set_permissions(b.root("home"), fs::Permissions::from_mode(0o751)).expect("chmod");
    let script = "stat -c %a /tmp /home /new/place /new; touch /run/x; cat /proc/mounts";
    let first = b.sh(script);
    assert!(first.out.starts_with("1777\n751\n1777\n755\n"), "{first:?}");
    let o = b.sh(script);
    assert!(o.out.starts_with("1777\n751\n1777\n755\n"), "{o:?}");
    assert!(o.err.contains("Read-only"), "{o:?}");
    let tmp = at(&o.out, "/tmp").1;
    assert!(
        tmp.starts_with("rw,noexec,") && tmp.contains("size=1024k"),
        "{tmp}"
    );
}

fn read_only_dev() {
    let mut b = Bench::new();
    let dev = b
        .spec
        .mounts
        .iter_mut()
        .find(|m| m.destination.ends_with("dev"))
        .expect("/dev");
    dev.options.push("ro".into());
    let o = b.sh("touch /dev/x; echo y > /dev/null && echo ok");
    assert!(o.err.contains("Read-only") && o.out == "ok\n", "{o:?}");
}

fn many_layers_and_whiteouts() {
    let b = Bench::new();
    let mut lower = Vec::new();
    for n in (0..120).rev() {
        let layer = b.path(&format!("layer{n}"));
        fs::create_dir(&layer).expect("mkdir");
        fs::write(layer.join(format!("f{n}")), "").expect("write");
        fs::write(layer.join("top"), n.to_string()).expect("write");
        lower.push(layer);
    }
    // The topmost layer hides a file of the lowest one: a character device 0:0.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        b.path("layer119/f0"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .expect("mknod");
    lower.push(b.path("rootfs"));
    let streams = crate::support::Streams::new();
    let mut spec = b.spec.clone();
    spec.process.as_mut().expect("process").args = vec![
        "/bin/sh".into(),
        "-c".into(),
        "cat /top; echo; ls / | grep -c '^f'; test -e /f0".into(),
    ];
    let running = barque_runtime::create(barque_runtime::CreateOptions::new(
        "layers",
        &spec,
        barque_runtime::Rootfs::Overlay {
            lower,
            upper: b.path("upper"),
            work: b.path("work"),
            volatile: true,
        },
        streams.stdio(),
    ))
    .expect("created")
    .start()
    .expect("started");
    let (out, err) = streams.read();
    assert_eq!(out, "119\n119\n", "{err}");
    use std::os::fd::AsFd;
    assert_eq!(barque_sys::process::reap(running.pidfd.as_fd()), Ok(1));
}

fn sysctl() {
    let mut b = Bench::new();
    b.linux()
        .sysctl
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    b.linux()
        .sysctl
        .insert("kernel.shm_rmid_forced".into(), "1".into());
    let o =
        b.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced");
    assert_eq!(o.out, "0\n1\n", "{o:?}");
    b.linux()
        .sysctl
        .insert("net.ipv4.none_such".into(), "1".into());
    let e = b.run(&["true"]).expect_err("unknown").to_string();
    assert_eq!(
        e,
        "setting the kernel parameter net/ipv4/none_such to \"1\": no such file or directory"
    );
}

fn errors_name_the_mount() {
    let mut b = Bench::new();
    let none = b.path("none");
    b.bind(&none, "/x", &["bind"]);
    let e = b.run(&["true"]).expect_err("no source").to_string();
    assert_eq!(
        e,
        format!(
            "mounting {none:?} at \"/x\": no such file or directory (the source does not exist on the host)"
        )
    );
    let mut b = Bench::new();
    b.spec.mounts.push(spec::Mount {
        destination: "/x".into(),
        kind: Some("tmpfs".into()),
        options: vec!["frobnicate=1".into()],
        ..spec::Mount::default()
    });
    let e = b.run(&["true"]).expect_err("bad option").to_string();
    assert!(
        e.starts_with("mounting \"tmpfs\" at \"/x\": invalid argument ("),
        "{e}"
    );
    assert!(e.contains("frobnicate"), "the kernel's own words: {e}");
    let mut b = Bench::new();
    b.spec.mounts.push(spec::Mount {
        destination: "/x".into(),
        kind: Some("nonesuchfs".into()),
        ..spec::Mount::default()
    });
    let e = b.run(&["true"]).expect_err("no such type").to_string();
    assert!(
        e.ends_with("(this kernel has no file system \"nonesuchfs\")"),
        "{e}"
    );
    let mut b = Bench::new();
    fs::write(b.path("file"), "").expect("write");
    let file = b.path("file");
    b.bind(&file, "/etc", &["bind"]);
    let e = b.run(&["true"]).expect_err("file on directory").to_string();
    assert!(e.contains("not a directory"), "{e}");
}

fn shared_root_reaches_nobody() {
    barque_sys::process::unshare(barque_sys::process::Namespaces::MOUNT).expect("unshare");
    let mut b = Bench::new();
    b.overlay = false;
    rustix::mount::mount_bind(b.path("rootfs"), b.path("rootfs")).expect("bind");
    rustix::mount::mount_change(
        b.path("rootfs"),
        rustix::mount::MountPropagationFlags::SHARED,
    )
    .expect("shared");
    b.linux().rootfs_propagation = Some("shared".into());
    let before = fs::read_to_string("/proc/self/mountinfo")
        .expect("mountinfo")
        .lines()
        .count();
    let o = b.sh("grep -c ' / / .*shared:' /proc/self/mountinfo");
    assert_eq!(
        o.code, 1,
        "the root is the bind mount, not the whole disk: {o:?}"
    );
    let o = b.sh("grep ' / rw.* shared:' /proc/self/mountinfo");
    assert_eq!(o.out.lines().count(), 1, "{o:?}");
    let after = fs::read_to_string("/proc/self/mountinfo")
        .expect("mountinfo")
        .lines()
        .count();
    assert_eq!(before, after, "the container's mounts did not come to us");
    rustix::mount::unmount(b.path("rootfs"), rustix::mount::UnmountFlags::DETACH).expect("umount");
}
