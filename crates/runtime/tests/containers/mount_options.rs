//! Every option of mounts that runtime-spec lists (config.md, "Linux mount options"), and what the
//! kernel then says of the mount.

use crate::Case;
use crate::mountinfo::{at, change, own_namespace, parse, tmpfs, unmount};
use crate::support::Bench;
use barque_runtime::seccomp::KernelVersion;
use barque_types::spec;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::fs;

pub const CASES: &[Case] = &[
    (
        "mount_options::attributes_of_new_file_systems",
        attributes_of_new_file_systems,
    ),
    (
        "mount_options::attributes_of_binds_set_and_cleared",
        attributes_of_binds,
    ),
    ("mount_options::recursive_attributes", recursive_attributes),
    ("mount_options::flags_of_the_superblock", superblock),
    (
        "mount_options::words_without_effect_are_accepted",
        words_without_effect,
    ),
    ("mount_options::remount", remount),
    ("mount_options::propagation_of_mounts", propagation),
    (
        "mount_options::propagation_of_the_root",
        propagation_of_the_root,
    ),
    (
        "mount_options::propagation_of_the_root_lets_mounts_have_their_own",
        propagation_of_the_root_and_of_mounts,
    ),
    (
        "mount_options::an_unbindable_root_cannot_be_bound",
        unbindable_root,
    ),
    ("mount_options::idmap_of_binds", idmap_of_binds),
    ("mount_options::idmap_of_a_new_file_system", idmap_of_tmpfs),
    ("mount_options::idmap_errors", idmap_errors),
    (
        "mount_options::locked_flags_stay_in_a_user_namespace",
        locked_flags,
    ),
    (
        "mount_options::locked_against_the_container",
        locked_against_the_container,
    ),
    (
        "mount_options::root_locked_against_the_container",
        root_locked_against_the_container,
    ),
    ("mount_options::mount_label", mount_label),
    (
        "mount_options::parameters_reach_the_file_system",
        parameters,
    ),
    ("mount_options::overlay_of_many_layers", overlay),
];

/// Option, and the options of the mount in mountinfo (`rw` and `relatime` are the kernel's defaults).
const NEW: [(&str, &str); 17] = [
    ("defaults", "rw,relatime"),
    ("ro", "ro,relatime"),
    ("ro,rw", "rw,relatime"),
    ("nosuid", "rw,nosuid,relatime"),
    ("nodev", "rw,nodev,relatime"),
    ("noexec", "rw,noexec,relatime"),
    ("nosymfollow", "rw,relatime,nosymfollow"),
    ("noatime", "rw,noatime"),
    ("nodiratime", "rw,nodiratime,relatime"),
    ("relatime", "rw,relatime"),
    ("strictatime", "rw"),
    ("strictatime,nostrictatime", "rw,relatime"),
    ("noatime,atime", "rw,relatime"),
    ("norelatime", "rw,relatime"),
    ("nodiratime,diratime", "rw,relatime"),
    ("nosuid,nodev,suid,dev,noexec,exec", "rw,relatime"),
    ("rnoatime,rnosuid", "rw,nosuid,noatime"),
];

fn attributes_of_new_file_systems() {
    for user_namespace in [false, true] {
        let mut b = Bench::new();
        if user_namespace {
            b.with_user_namespace();
        }
        for (n, (options, _)) in NEW.iter().enumerate() {
            b.mount("tmpfs", "t", &format!("/m/{n}"), &[options]);
        }
        let mounts = b.seen();
        for (n, (option, expected)) in NEW.iter().enumerate() {
            let found = at(&mounts, &format!("/m/{n}"));
            assert_eq!(found.options, *expected, "{option}");
        }
    }
}

/// What a mount has from the start, and what an option leaves of it.
const BIND: [(&str, &str); 14] = [
    (
        "defaults",
        "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow",
    ),
    (
        "rw",
        "rw,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow",
    ),
    ("suid", "ro,nodev,noexec,noatime,nodiratime,nosymfollow"),
    ("dev", "ro,nosuid,noexec,noatime,nodiratime,nosymfollow"),
    ("exec", "ro,nosuid,nodev,noatime,nodiratime,nosymfollow"),
    ("symfollow", "ro,nosuid,nodev,noexec,noatime,nodiratime"),
    ("diratime", "ro,nosuid,nodev,noexec,noatime,nosymfollow"),
    (
        "atime",
        "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow",
    ),
    (
        "relatime",
        "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow",
    ),
    (
        "norelatime",
        "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow",
    ),
    (
        "strictatime",
        "ro,nosuid,nodev,noexec,nodiratime,nosymfollow",
    ),
    (
        "nostrictatime",
        "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow",
    ),
    (
        "noatime,nosuid",
        "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow",
    ),
    (
        "sync,size=1m,acl",
        "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow",
    ),
];

fn everything() -> MountFlags {
    // MS_NOSYMFOLLOW (5.10), which rustix does not name.
    MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME
        | MountFlags::from_bits_retain(256)
}

fn attributes_of_binds() {
    own_namespace();
    let mut b = Bench::new();
    let source = b.path("src");
    tmpfs(&source, everything());
    for (n, (options, _)) in BIND.iter().enumerate() {
        b.bind(&source, &format!("/m/{n}"), &["bind", options]);
    }
    let mounts = b.seen();
    for (n, (option, expected)) in BIND.iter().enumerate() {
        let found = at(&mounts, &format!("/m/{n}"));
        assert_eq!(found.options, *expected, "{option}");
    }
    unmount(&source);
}

fn recursive_attributes() {
    own_namespace();
    let mut b = Bench::new();
    let (plain, full) = (b.path("plain"), b.path("full"));
    tmpfs(&plain, MountFlags::empty());
    tmpfs(&plain.join("sub"), MountFlags::empty());
    tmpfs(&full, MountFlags::empty());
    tmpfs(&full.join("sub"), everything());
    rustix::mount::mount_remount(&full, everything() | MountFlags::BIND, "").expect("remount");
    let all = "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
    let without = |what: &str| {
        let kept: Vec<&str> = all.split(',').filter(|o| *o != what).collect();
        kept.join(",")
    };
    let relatime = "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow".to_owned();
    let cases = [
        (&plain, "rro", "ro,relatime".to_owned()),
        (&plain, "rnosuid", "rw,nosuid,relatime".into()),
        (&plain, "rnodev", "rw,nodev,relatime".into()),
        (&plain, "rnoexec", "rw,noexec,relatime".into()),
        (&plain, "rnosymfollow", "rw,relatime,nosymfollow".into()),
        (&plain, "rnoatime", "rw,noatime".into()),
        (&plain, "rnodiratime", "rw,nodiratime,relatime".into()),
        (&plain, "rstrictatime", "rw".into()),
        (&plain, "rstrictatime,rnostrictatime", "rw,relatime".into()),
        (&full, "rrw", format!("rw,{}", without("ro"))),
        (&full, "rsuid", without("nosuid")),
        (&full, "rdev", without("nodev")),
        (&full, "rexec", without("noexec")),
        (&full, "rsymfollow", without("nosymfollow")),
        (&full, "rdiratime", without("nodiratime")),
        (&full, "ratime", relatime.clone()),
        (&full, "rrelatime", relatime.clone()),
        (&full, "rnorelatime", relatime.clone()),
        (&full, "rnostrictatime", relatime),
    ];
    for (n, (source, option, _)) in cases.iter().enumerate() {
        b.bind(source, &format!("/m/{n}"), &["rbind", option]);
    }
    b.bind(&plain, "/m/top", &["rbind", "ro", "rnosuid"]);
    let mounts = b.seen();
    for (n, (_, option, expected)) in cases.iter().enumerate() {
        for place in [format!("/m/{n}"), format!("/m/{n}/sub")] {
            assert_eq!(at(&mounts, &place).options, *expected, "{option} {place}");
        }
    }
    assert_eq!(at(&mounts, "/m/top").options, "ro,nosuid,relatime");
    assert_eq!(at(&mounts, "/m/top/sub").options, "rw,nosuid,relatime");
    unmount(&plain);
    unmount(&full);
}

fn superblock() {
    let mut b = Bench::new();
    b.mount(
        "tmpfs",
        "t",
        "/m/sync",
        &["sync", "dirsync", "lazytime", "mand"],
    );
    b.mount(
        "tmpfs",
        "t",
        "/m/async",
        &["sync", "async", "lazytime", "nolazytime", "mand", "nomand"],
    );
    b.mount("ramfs", "r", "/m/ro", &["ro"]);
    let mounts = b.seen();
    let sync = at(&mounts, "/m/sync");
    for flag in ["rw", "sync", "dirsync", "lazytime"] {
        assert!(sync.superblock_has(flag), "{flag}: {sync:?}");
    }
    let plain = at(&mounts, "/m/async");
    for flag in ["sync", "lazytime", "mand"] {
        assert!(!plain.superblock_has(flag), "{flag}: {plain:?}");
    }
    // As mount(2) with MS_RDONLY: both.
    let ro = at(&mounts, "/m/ro");
    assert!(ro.has("ro") && ro.superblock_has("ro"), "{ro:?}");
    // The host has the same sysfs, when the network is the host's: the mount is read-only, it is not.
    let mut b = Bench::new();
    b.share(spec::NamespaceKind::Network);
    let mounts = b.seen();
    assert!(at(&mounts, "/sys").has("ro"));
    assert!(at(&mounts, "/sys").superblock_has("rw"));
}

fn words_without_effect() {
    let mut b = Bench::new();
    let words = "async,silent,loud,iversion,noiversion,acl,noacl,auto,noauto,nofail,_netdev";
    b.mount("tmpfs", "t", "/m/t", &[words]);
    let source = b.path("rootfs");
    b.bind(&source, "/m/b", &["bind", words]);
    let mounts = b.seen();
    assert_eq!(at(&mounts, "/m/t").options, "rw,relatime");
    assert!(at(&mounts, "/m/b").has("rw"));
}

fn remount() {
    let mut b = Bench::new();
    b.mount("tmpfs", "t", "/m/whole", &["noexec"]);
    b.mount("tmpfs", "t", "/m/whole", &["remount", "ro", "size=1m"]);
    b.mount("tmpfs", "t", "/m/mount", &["noexec"]);
    b.mount(
        "none",
        "",
        "/m/mount",
        &["remount", "bind", "ro", "exec", "unbindable"],
    );
    b.mount("proc", "proc", "/proc", &["remount", "bind", "noatime"]);
    let mounts = b.seen();
    let whole = at(&mounts, "/m/whole");
    assert_eq!(whole.options, "ro,noexec,relatime");
    assert!(
        whole.superblock_has("ro") && whole.superblock_has("size=1024k"),
        "{whole:?}"
    );
    let mount = at(&mounts, "/m/mount");
    assert_eq!(mount.options, "ro,relatime");
    assert!(mount.superblock_has("rw"), "{mount:?}");
    assert_eq!(mount.propagation, ["unbindable"]);
    assert!(at(&mounts, "/proc").has("noatime"));

    let mut b = Bench::new();
    b.mount("none", "", "/home", &["remount", "bind", "ro"]);
    let e = b.run(&["true"]).expect_err("no mount").to_string();
    assert_eq!(
        e,
        "remounting \"/home\": invalid argument (nothing is mounted there)"
    );
    let mut b = Bench::new();
    b.mount("none", "", "/none", &["remount", "ro"]);
    let e = b.run(&["true"]).expect_err("no such place").to_string();
    assert_eq!(e, "remounting \"/none\": no such file or directory");
}

fn propagation() {
    own_namespace();
    let mut b = Bench::new();
    let source = b.path("src");
    tmpfs(&source, MountFlags::empty());
    tmpfs(&source.join("sub"), MountFlags::empty());
    change(&source, MountPropagationFlags::SHARED);
    // Options; then what the top has, and what is below it.
    let cases: [(&[&str], &[&str], &[&str]); 12] = [
        (&[], &[], &[]),
        (&["private"], &[], &["shared"]),
        (&["rprivate"], &[], &[]),
        (&["slave"], &["master"], &["shared"]),
        (&["rslave"], &["master"], &["master"]),
        (&["shared"], &["shared"], &["shared"]),
        (&["rshared"], &["shared"], &["shared"]),
        (&["unbindable"], &["unbindable"], &["shared"]),
        (&["runbindable"], &["unbindable"], &["unbindable"]),
        (
            &["rslave", "rshared"],
            &["shared", "master"],
            &["shared", "master"],
        ),
        (&["rslave", "shared"], &["shared", "master"], &["master"]),
        (&["rprivate", "unbindable"], &["unbindable"], &[]),
    ];
    for (n, (options, ..)) in cases.iter().enumerate() {
        let options = [&["rbind"], *options].concat();
        b.bind(&source, &format!("/m/{n}"), &options);
    }
    b.mount("tmpfs", "t", "/shared", &["shared"]);
    b.mount("tmpfs", "t", "/shared/private", &["private"]);
    b.mount("tmpfs", "t", "/shared/plain", &[]);
    let mounts = b.seen();
    for (n, (options, top, below)) in cases.iter().enumerate() {
        let found = at(&mounts, &format!("/m/{n}"));
        assert_eq!(found.propagation, *top, "{options:?}");
        let found = at(&mounts, &format!("/m/{n}/sub"));
        assert_eq!(found.propagation, *below, "{options:?} below");
    }
    assert_eq!(at(&mounts, "/shared").propagation, ["shared"]);
    assert!(at(&mounts, "/shared/private").propagation.is_empty());
    assert_eq!(at(&mounts, "/shared/plain").propagation, ["shared"]);
    unmount(&source);
}

/// Value; propagation of the root; of a mount that asks for none. The host's directory is shared.
const ROOTS: [(&str, &[&str], &[&str]); 9] = [
    ("", &[], &[]),
    ("private", &[], &[]),
    ("rprivate", &[], &[]),
    ("slave", &["master"], &[]),
    ("rslave", &["master"], &[]),
    ("shared", &["shared", "master"], &["shared"]),
    ("rshared", &["shared", "master"], &["shared"]),
    ("unbindable", &["unbindable"], &[]),
    ("runbindable", &["unbindable"], &["unbindable"]),
];

fn propagation_of_the_root() {
    own_namespace();
    let mut b = Bench::new();
    b.overlay = false;
    let root = b.path("rootfs");
    rustix::mount::mount_bind(&root, &root).expect("bind");
    change(&root, MountPropagationFlags::SHARED);
    for (value, expected, of_proc) in ROOTS {
        b.linux().rootfs_propagation = Some(value.into());
        // A shared root makes shared what is mounted on it, but only what comes after it.
        let of_proc = if value == "shared" { &[][..] } else { of_proc };
        let mounts = b.seen();
        assert_eq!(at(&mounts, "/").propagation, expected, "{value}");
        assert_eq!(at(&mounts, "/proc").propagation, of_proc, "{value}");
        let host = parse(&fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"));
        let below = format!("{}/", root.display());
        assert!(
            !host.iter().any(|m| m.point.starts_with(&below)),
            "{value}: it came to us"
        );
    }
    unmount(&root);
    b.linux().rootfs_propagation = Some("sideways".into());
    let e = b.run(&["true"]).expect_err("unknown").to_string();
    assert_eq!(
        e,
        "linux.rootfsPropagation: \"sideways\" is not a propagation type"
    );
}

fn propagation_of_the_root_and_of_mounts() {
    own_namespace();
    let mut b = Bench::new();
    let source = b.path("src");
    tmpfs(&source, MountFlags::empty());
    change(&source, MountPropagationFlags::SHARED);
    for (name, option) in [("p", "rprivate"), ("s", "rslave"), ("h", "rshared")] {
        b.bind(&source, &format!("/m/{name}"), &["rbind", option]);
    }
    b.bind(&source, "/m/unasked", &["rbind"]);
    let cases: [(&str, &[&str]); 5] = [
        ("rprivate", &[]),
        ("rslave", &["master"]),
        ("rshared", &["shared"]),
        ("runbindable", &["unbindable"]),
        ("slave", &[]),
    ];
    for (value, unasked) in cases {
        b.linux().rootfs_propagation = Some(value.into());
        let mounts = b.seen();
        assert!(at(&mounts, "/m/p").propagation.is_empty(), "{value}");
        assert_eq!(at(&mounts, "/m/s").propagation, ["master"], "{value}");
        assert_eq!(at(&mounts, "/m/h").propagation, ["shared"], "{value}");
        assert_eq!(at(&mounts, "/m/unasked").propagation, unasked, "{value}");
    }
    // Shared among what the container makes, and not with the host.
    b.linux().rootfs_propagation = Some("rshared".into());
    let sleeper = b.sleeper();
    tmpfs(&source.join("later"), MountFlags::empty());
    let mounts = sleeper.mounts();
    assert!(mounts.iter().any(|m| m.point == "/m/h/later"));
    assert!(!mounts.iter().any(|m| m.point == "/m/unasked/later"));
    drop(sleeper);
    unmount(&source);
}

fn unbindable_root() {
    let mut b = Bench::new();
    b.linux().rootfs_propagation = Some("unbindable".into());
    let caps = barque_runtime::defaults::all_capabilities();
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&caps));
    let o = b.sh("mount -o bind / /home || echo refused; mount -o bind /proc /home && echo bound");
    assert_eq!(o.out, "refused\nbound\n", "{o:?}");
}

fn maps(id: u32) -> Vec<spec::IdMapping> {
    vec![spec::IdMapping {
        container_id: 0,
        host_id: id,
        size: 10,
    }]
}

fn idmap_of_binds() {
    own_namespace();
    let mut b = Bench::new();
    let (source, below) = (b.path("src"), b.path("below"));
    fs::create_dir_all(source.join("sub")).expect("mkdir");
    fs::create_dir(&below).expect("mkdir");
    fs::write(source.join("f"), "").expect("write");
    fs::write(below.join("g"), "").expect("write");
    // Of the same file system, which has idmapped mounts where these tests run.
    rustix::mount::mount_bind(&below, source.join("sub")).expect("bind");
    for (place, option) in [("/top", "idmap"), ("/all", "ridmap"), ("/unsaid", "rw")] {
        let source = source.display().to_string();
        let mount = b.mount("bind", &source, place, &["rbind", option]);
        mount.uid_mappings = maps(5000);
        mount.gid_mappings = maps(6000);
    }
    let script = "stat -c %u:%g /top/f /top/sub/g /all/f /all/sub/g /unsaid/f /unsaid/sub/g";
    let own = "5000:6000\n0:0\n5000:6000\n5000:6000\n5000:6000\n0:0\n";
    assert_eq!(b.sh(script).out, own);

    // With the container's own map, on everything; a map of the mount's own is one of host ids, and
    // what the container sees are its ids for them.
    let mut b2 = Bench::new();
    b2.with_user_namespace();
    b2.bind(&source, "/all", &["rbind", "ridmap"]);
    b2.bind(&source, "/top", &["rbind", "idmap"]);
    let mount = b2.mount(
        "bind",
        &source.display().to_string(),
        "/own",
        &["rbind", "ridmap"],
    );
    mount.uid_mappings = maps(100_007);
    mount.gid_mappings = maps(100_008);
    let o = b2.sh(
        "stat -c %u:%g /all/f /all/sub/g /top/f /top/sub/g /own/f /own/sub/g; touch /all/sub/new",
    );
    let expected = "0:0\n0:0\n0:0\n65534:65534\n7:8\n7:8\n";
    assert_eq!(o.out, expected, "{o:?}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(below.join("new")).expect("made").uid(), 0);
    let sleeper = b2.sleeper();
    assert!(at(&sleeper.mounts(), "/all/sub").has("idmapped"));
    assert!(!at(&sleeper.mounts(), "/top/sub").has("idmapped"));
    drop(sleeper);
    unmount(&source.join("sub"));
}

fn idmap_of_tmpfs() {
    let mut b = Bench::new();
    let mount = b.mount("tmpfs", "t", "/mapped", &["idmap", "mode=755"]);
    mount.uid_mappings = maps(5000);
    mount.gid_mappings = maps(6000);
    let outcome = b.run(&["/bin/stat", "-c", "%u:%g", "/mapped"]);
    let version = KernelVersion::running();
    if (version.major, version.minor) >= (6, 3) {
        assert_eq!(outcome.expect("started").out, "5000:6000\n");
    } else {
        let e = outcome.expect_err("tmpfs has none before 6.3").to_string();
        assert!(e.contains("no idmapped mounts on this kernel"), "{e}");
    }
    // In a user namespace, what is new has the container's ids by itself.
    let mut b = Bench::new();
    b.with_user_namespace();
    b.mount("tmpfs", "t", "/mapped", &["idmap", "mode=755"]);
    assert_eq!(b.sh("stat -c %u:%g /mapped").out, "0:0\n");
}

fn idmap_errors() {
    let mut b = Bench::new();
    let source = b.path("rootfs");
    b.bind(&source, "/x", &["bind", "idmap"]);
    let e = b.run(&["true"]).expect_err("no map").to_string();
    assert!(
        e.ends_with("idmap without mappings needs a container with a user namespace"),
        "{e}"
    );
    // A file system that has no idmapped mounts.
    let mut b = Bench::new();
    let mount = b.mount("bind", "/proc", "/x", &["bind", "idmap"]);
    mount.uid_mappings = maps(5000);
    mount.gid_mappings = maps(6000);
    let e = b.run(&["true"]).expect_err("procfs").to_string();
    assert_eq!(
        e,
        "mapping the ids of \"/proc\": invalid argument \
         (its file system has no idmapped mounts on this kernel)"
    );
}

/// Within a user namespace (a rootless engine) the host's flags of a mount cannot be taken away; a bind
/// mount that does not ask for that works and keeps them.
fn locked_flags() {
    own_namespace();
    let mut b = Bench::new();
    b.overlay = false;
    let source = b.path("src");
    tmpfs(
        &source,
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
    );
    barque_sys::process::unshare(
        barque_sys::process::Namespaces::USER | barque_sys::process::Namespaces::MOUNT,
    )
    .expect("unshare");
    fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    fs::write("/proc/self/uid_map", "0 0 1").expect("uid_map");
    fs::write("/proc/self/gid_map", "0 0 1").expect("gid_map");
    for mount in &mut b.spec.mounts {
        // The only group is root's.
        mount.options.retain(|o| o != "gid=5");
    }
    b.spec
        .mounts
        .retain(|m| m.kind.as_deref() != Some("cgroup"));
    b.bind(&source, "/plain", &["rbind"]);
    b.bind(&source, "/more", &["rbind", "ro", "noexec", "nosuid"]);
    let mounts = b.seen();
    assert_eq!(at(&mounts, "/plain").options, "ro,nosuid,nodev,relatime");
    assert_eq!(
        at(&mounts, "/more").options,
        "ro,nosuid,nodev,noexec,relatime"
    );
    for option in ["suid", "rw", "dev", "noatime", "rsuid"] {
        b.bind(&source, "/less", &["rbind", option]);
        let e = b.run(&["true"]).expect_err(option).to_string();
        assert!(
            e.contains("at \"/less\"") && e.contains("locked"),
            "{option}: {e}"
        );
        b.spec.mounts.pop();
    }
}

fn mount_label() {
    let mut b = Bench::new();
    b.linux().mount_label = Some(String::new());
    assert_eq!(b.sh("true").code, 0);
    b.linux().mount_label = Some("system_u:object_r:container_file_t:s0:c1,c2".into());
    // Neither this kernel nor that of the machines has SELinux.
    let e = b.run(&["true"]).expect_err("no SELinux").to_string();
    assert_eq!(
        e,
        "linux.mountLabel: the label \"system_u:object_r:container_file_t:s0:c1,c2\" \
         cannot be set: SELinux is not enabled on this host"
    );
}

fn parameters() {
    let mut b = Bench::new();
    b.mount(
        "tmpfs",
        "named",
        "/m/t",
        &["size=2m,mode=0700,uid=3,gid=4", "nr_inodes=77"],
    );
    b.mount(
        "devpts",
        "devpts",
        "/m/pts",
        &["newinstance", "ptmxmode=0600", "mode=0600", "max=9"],
    );
    b.mount(
        "proc",
        "proc",
        "/m/proc",
        &["hidepid=2", "subset=pid", "ro"],
    );
    b.mount("mqueue", "mqueue", "/m/mqueue", &["nosuid"]);
    let mounts = b.seen();
    let t = at(&mounts, "/m/t");
    assert_eq!(t.source, "named");
    for parameter in ["size=2048k", "nr_inodes=77", "mode=700", "uid=3", "gid=4"] {
        assert!(t.superblock_has(parameter), "{parameter}: {t:?}");
    }
    let pts = at(&mounts, "/m/pts");
    assert!(
        pts.superblock_has("ptmxmode=600") && pts.superblock_has("max=9"),
        "{pts:?}"
    );
    let proc = at(&mounts, "/m/proc");
    assert!(
        proc.superblock_has("subset=pid") && proc.superblock_has("hidepid=invisible"),
        "{proc:?}"
    );
    assert!(proc.has("ro"));
    assert_eq!(at(&mounts, "/m/mqueue").kind, "mqueue");
    let o = b.sh("ls /m/proc; ls /m/pts");
    assert!(
        !o.out.contains("sys\n") && o.out.contains("ptmx\n"),
        "{o:?}"
    );
}

fn overlay() {
    let mut b = Bench::new();
    let mut layers = Vec::new();
    for n in 0..40 {
        let layer = b.path(&format!("a-layer-of-an-overlay-{n}"));
        fs::create_dir(&layer).expect("mkdir");
        fs::write(layer.join(format!("f{n}")), "").expect("write");
        layers.push(layer.display().to_string());
    }
    let lower = |n: usize| format!("lowerdir={}", layers[..n].join(":"));
    b.mount("overlay", "overlay", "/few", &[&lower(2)]);
    assert_eq!(b.sh("ls /few").out, "f0\nf1\n");
    b.mount("overlay", "overlay", "/many", &[&lower(40)]);
    let outcome = b.run(&["/bin/ls", "/many"]);
    let version = KernelVersion::running();
    if (version.major, version.minor) >= (6, 5) {
        assert_eq!(outcome.expect("started").out.lines().count(), 40);
    } else {
        let e = outcome.expect_err("one string is too short").to_string();
        assert!(
            e.ends_with("a lowerdir of more than 255 bytes needs Linux 6.5"),
            "{e}"
        );
    }
}

/// What the host's mount has, and what the configuration adds, the root of a user namespace cannot take
/// away, even with every capability in it; nor bare what lies beneath a mount of the host's tree.
fn locked_against_the_container() {
    own_namespace();
    let mut b = Bench::new();
    b.with_user_namespace();
    let caps = barque_runtime::defaults::all_capabilities();
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&caps));
    let (source, plain, file) = (b.path("src"), b.path("plain"), b.path("file"));
    tmpfs(
        &source,
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
    );
    tmpfs(&plain, MountFlags::empty());
    tmpfs(&plain.join("sub"), MountFlags::empty());
    fs::write(&file, "file").expect("write");
    b.bind(&source, "/hosts", &["rbind"]);
    b.bind(&plain, "/asked", &["rbind", "ro", "rslave"]);
    b.bind(&file, "/file", &["bind", "ro", "noexec", "idmap"]);
    b.bind(&plain, "/free", &["rbind"]);
    let o = b.sh(
        "for m in /hosts /asked; do mount -o remount,bind,rw $m && echo $m opened; done
         mount -o remount,bind,rw,exec /file && echo /file opened
         mount -o remount,bind,ro,exec,suid,dev /hosts && echo /hosts changed
         umount /free/sub && echo bared
         touch /asked/x; echo y > /file; cat /file; touch /free/sub/z && echo writable",
    );
    assert_eq!(o.out, "filewritable\n", "{o:?}");
    unmount(&source);
    unmount(&plain);
}

/// The same for a root that is a directory of the host.
fn root_locked_against_the_container() {
    own_namespace();
    let mut b = Bench::new();
    b.overlay = false;
    b.with_user_namespace();
    let caps = barque_runtime::defaults::all_capabilities();
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&caps));
    let root = b.path("rootfs");
    tmpfs(&root, MountFlags::NOSUID | MountFlags::NODEV);
    crate::support::busybox(&root);
    tmpfs(&root.join("home"), MountFlags::RDONLY);
    rustix::fs::chmod(&root, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
    for dir in ["dev", "sys/fs/cgroup"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    let o = b.sh("mount -o remount,bind,suid / && echo suid
         mount -o remount,bind,rw /home && echo rw; umount /home && echo bared
         grep -c ' / rw,nosuid,nodev' /proc/self/mountinfo");
    assert_eq!(o.out, "1\n", "{o:?}");
    unmount(&root);
}
