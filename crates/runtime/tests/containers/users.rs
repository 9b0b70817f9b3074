//! Users, groups, and user namespaces.

use crate::Case;
use crate::support::Bench;
use barque_runtime::UserSpec;
use barque_types::spec::{self, NamespaceKind};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

pub const CASES: &[Case] = &[
    ("users::names_are_the_containers", names_are_the_containers),
    ("users::numbers_groups_and_umask", numbers_groups_and_umask),
    ("users::unknown_names", unknown_names),
    ("users::home", home),
    ("users::user_namespace", user_namespace),
    (
        "users::idmapped_overlay_on_older_kernels",
        idmapped_overlay_on_older_kernels,
    ),
    (
        "users::upper_layer_has_the_containers_ids",
        upper_layer_has_the_containers_ids,
    ),
    ("users::binds_have_the_hosts_ids_unless_idmapped", binds),
    (
        "users::bind_with_a_map_of_its_own",
        bind_with_a_map_of_its_own,
    ),
    (
        "users::user_namespace_with_the_hosts_network",
        with_the_hosts_network,
    ),
    ("users::user_namespace_needs_a_root", needs_a_root),
];

fn names_are_the_containers() {
    let mut b = Bench::new();
    b.user = UserSpec::Named {
        user: "web".into(),
        groups: vec![],
    };
    let o = b.sh("id; echo $HOME");
    assert_eq!(
        o.out, "uid=33(web) gid=34(www) groups=29(audio),34(www)\n/home/web\n",
        "{o:?}"
    );
    b.user = UserSpec::Named {
        user: "web:audio".into(),
        groups: vec![],
    };
    assert_eq!(b.sh("id -g; id -G").out, "29\n29\n");
    b.user = UserSpec::Named {
        user: String::new(),
        groups: vec!["audio".into(), "77".into()],
    };
    assert_eq!(b.sh("id -u; id -G").out, "0\n0 29 77\n");
}

fn numbers_groups_and_umask() {
    let mut b = Bench::new();
    b.process().user = spec::User {
        uid: 1000,
        gid: 1001,
        umask: Some(0o77),
        additional_gids: vec![7, 8],
    };
    let o = b.sh("id -u; id -g; id -G; umask; grep Cap /proc/self/status");
    assert!(o.out.starts_with("1000\n1001\n1001 7 8\n0077\n"), "{o:?}");
    assert!(o.out.contains("CapEff:\t0000000000000000"), "{o:?}");
    assert!(o.out.contains("CapBnd:\t00000000a80425fb"), "{o:?}");
}

fn unknown_names() {
    let mut b = Bench::new();
    b.user = UserSpec::Named {
        user: "nobody".into(),
        groups: vec![],
    };
    let e = b.run(&["true"]).expect_err("unknown");
    assert_eq!(
        e.to_string(),
        "unable to find user nobody: no matching entries in passwd file"
    );
    assert_eq!(e.exit_code(), 125);
}

fn home() {
    let mut b = Bench::new();
    assert_eq!(b.sh("echo $HOME").out, "/root\n");
    b.process().env.push("HOME=/elsewhere".into());
    assert_eq!(b.sh("echo $HOME").out, "/elsewhere\n");
    b.process().env.retain(|e| !e.starts_with("HOME"));
    b.process().user.uid = 4711;
    assert_eq!(b.sh("echo $HOME").out, "/\n");
}

fn user_namespace() {
    let mut b = Bench::new();
    b.with_user_namespace();
    let o = b.sh(
        "id -u; cat /proc/self/uid_map; hostname; grep CapEff /proc/self/status
         stat -c '%u %t:%T' /dev/null /dev/tty; echo x > /dev/null && echo wrote; cat /proc/mounts",
    );
    assert!(
        o.out
            .starts_with("0\n         0     100000      65536\ninside\n"),
        "{o:?}"
    );
    assert!(o.out.contains("CapEff:\t00000000a80425fb"), "{o:?}");
    assert!(
        o.out.contains(" 1:3\n") && o.out.contains("wrote\n"),
        "{o:?}"
    );
    for mount in [
        "proc /proc",
        "sysfs /sys",
        "mqueue /dev/mqueue",
        "devpts /dev/pts",
    ] {
        assert!(o.out.contains(mount), "{mount}: {o:?}");
    }
    let sleeper = b.sleeper();
    let status = fs::read_to_string(format!("/proc/{}/status", sleeper.0.pid)).expect("status");
    assert!(
        status.contains("Uid:\t100000\t100000\t100000\t100000"),
        "{status}"
    );
}

/// The ways of older kernels work on newer ones; the layers are too many for one short string.
fn idmapped_overlay_on_older_kernels() {
    use std::os::fd::AsFd;
    let mut b = Bench::new();
    b.with_user_namespace();
    let sleeper = b.sleeper();
    let pid = sleeper.0.pid;
    let userns = barque_runtime::open_namespace(pid, NamespaceKind::User).expect("namespace");
    let mut lower = Vec::new();
    for n in 0..80 {
        lower.push(b.path(&format!("layer{n}")));
        fs::create_dir(&lower[n]).expect("mkdir");
        fs::write(lower[n].join(format!("f{n}")), "").expect("write");
    }
    let own = barque_runtime::seccomp::KernelVersion::running();
    for (release, version) in [
        ("5.15.0", (5, 15)),
        ("6.1.0-28", (6, 1)),
        ("6.6", (6, 6)),
        ("6.13", (6, 13)),
        ("6.18", (6, 18)),
    ] {
        if (own.major, own.minor) < version {
            break;
        }
        let mapped = barque_runtime::Idmap {
            user_namespace: userns.as_fd(),
            root: (100_000, 100_000),
        };
        for idmap in [None, Some(mapped)] {
            for layers in [&lower[..2], &lower[..]] {
                let (upper, work) = (b.path("u"), b.path("w"));
                for dir in [&upper, &work] {
                    let _ = fs::remove_dir_all(dir);
                    fs::create_dir(dir).expect("mkdir");
                }
                let rootfs = barque_runtime::Rootfs::Overlay {
                    lower: layers.to_vec(),
                    upper,
                    work,
                    volatile: false,
                };
                let root = barque_runtime::mount_as_on(release, &rootfs, idmap)
                    .unwrap_or_else(|e| panic!("{release}: {} layers: {e}", layers.len()));
                let last = format!("f{}", layers.len() - 1);
                let stat = rustix::fs::statat(&root, &*last, rustix::fs::AtFlags::empty())
                    .unwrap_or_else(|e| panic!("{release}: {last}: {e}"));
                let uid = if idmap.is_some() { 100_000 } else { 0 };
                assert_eq!(stat.st_uid, uid, "{release}");
            }
        }
    }
}

fn upper_layer_has_the_containers_ids() {
    let mut b = Bench::new();
    b.with_user_namespace();
    fs::write(b.root("home/lower"), "x").expect("write");
    let o = b.sh(
        "echo mine > /home/new && stat -c %u /home/new /home/lower /bin/busybox
         echo more >> /home/lower && chown 33:34 /home/lower && stat -c %u:%g /home/lower
         rm /etc/group && ls /etc",
    );
    assert_eq!(o.out, "0\n0\n0\n33:34\npasswd\n", "{o:?}");
    let ids = |p: &str| {
        let meta = fs::symlink_metadata(b.path(p)).expect("stat");
        (meta.uid(), meta.gid())
    };
    assert_eq!(
        ids("upper/home/new"),
        (0, 0),
        "on disk the ids are those of the container"
    );
    assert_eq!(ids("upper/home/lower"), (33, 34));
    let whiteout = fs::symlink_metadata(b.path("upper/etc/group")).expect("whiteout");
    assert_eq!(whiteout.rdev(), 0);
}

fn binds() {
    let mut b = Bench::new();
    b.with_user_namespace();
    for name in ["plain", "mapped"] {
        fs::create_dir(b.path(name)).expect("mkdir");
        fs::set_permissions(b.path(name), fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let (plain, mapped) = (b.path("plain"), b.path("mapped"));
    b.bind(&plain, "/plain", &["rbind"]);
    b.bind(&mapped, "/mapped", &["rbind", "idmap"]);
    let o = b.sh("touch /plain/f /mapped/f; stat -c %u /plain /mapped /plain/f /mapped/f");
    assert_eq!(o.out, "65534\n0\n0\n0\n", "{o:?}");
    assert_eq!(
        fs::metadata(b.path("plain/f")).expect("stat").uid(),
        100_000
    );
    assert_eq!(fs::metadata(b.path("mapped/f")).expect("stat").uid(), 0);
}

fn bind_with_a_map_of_its_own() {
    let mut b = Bench::new();
    fs::create_dir(b.path("src")).expect("mkdir");
    fs::write(b.path("src/f"), "").expect("write");
    let src = b.path("src");
    b.bind(&src, "/x", &["rbind"]);
    let map = vec![spec::IdMapping {
        container_id: 0,
        host_id: 5000,
        size: 10,
    }];
    let mount = b.spec.mounts.last_mut().expect("the bind");
    mount.uid_mappings = map.clone();
    mount.gid_mappings = map;
    assert_eq!(b.sh("stat -c %u:%g /x/f").out, "5000:5000\n");
}

fn with_the_hosts_network() {
    let mut b = Bench::new();
    b.with_user_namespace();
    b.share(NamespaceKind::Network);
    let o = b.sh("readlink /proc/self/ns/net; grep ' /sys ' /proc/mounts; ls /sys/class/net");
    let host = fs::read_link("/proc/self/ns/net").expect("readlink");
    assert!(o.out.starts_with(&*host.to_string_lossy()), "{o:?}");
    assert!(o.out.contains(" /sys sysfs ro,"), "{o:?}");
}

fn needs_a_root() {
    let mut b = Bench::new();
    b.with_user_namespace();
    b.linux().uid_mappings[0].container_id = 1;
    let e = b.run(&["true"]).expect_err("no root").to_string();
    assert_eq!(e, "linux.uidMappings: must map id 0 of the container");
    let mut b = Bench::new();
    b.with_user_namespace();
    b.process().user.uid = 70000;
    let e = b.run(&["true"]).expect_err("not mapped").to_string();
    assert!(
        e.contains("the container's user namespace does not map it"),
        "{e}"
    );
}
