//! What Docker gives a container when nothing is asked for, as values of the specification.
//!
//! Sources: moby `oci/defaults.go` and `oci/caps/defaults.go`, and the runtime-spec's
//! "Default Devices" and "Default Filesystems".

use barque_types::spec::{Capabilities, Device, DeviceRule, Mount, Namespace, NamespaceKind};
use std::path::{Path, PathBuf};

/// The fourteen capabilities of an ordinary container.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// `PATH` of a container whose image sets none.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capability sets of an ordinary container for a list of names: bounding, permitted and
/// effective are the list; inheritable and ambient are empty (CVE-2022-24769). For a user who is
/// not root the kernel empties permitted and effective when the program is executed.
pub fn capability_sets(names: &[String]) -> Capabilities {
    Capabilities {
        bounding: names.to_vec(),
        effective: names.to_vec(),
        permitted: names.to_vec(),
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

/// Every capability that the caller can give: its bounding set, by name. This, not a fixed list,
/// is what `--privileged` means.
pub fn all_capabilities() -> Vec<String> {
    crate::caps::names(crate::caps::bounding_set())
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        kind: Some(kind.to_owned()),
        source: Some(PathBuf::from(source)),
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Mount::default()
    }
}

/// The mounts of an ordinary container; `shm_size` in bytes (Docker's default is 64 MiB).
pub fn mounts(shm_size: u64) -> Vec<Mount> {
    let shm = format!("size={shm_size}");
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
    ]
}

/// The same for a privileged container: `/sys` and the cgroups are writable.
pub fn privileged_mounts(shm_size: u64) -> Vec<Mount> {
    let mut mounts = mounts(shm_size);
    for mount in &mut mounts {
        if matches!(mount.kind.as_deref(), Some("sysfs" | "cgroup")) {
            mount.options.retain(|o| o != "ro");
        }
    }
    mounts
}

/// Paths that an ordinary container cannot see; a privileged one has none.
pub fn masked_paths() -> Vec<String> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Paths that an ordinary container cannot write; a privileged one has none.
pub fn readonly_paths() -> Vec<String> {
    [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn device(path: &str, major: i64, minor: i64) -> Device {
    Device {
        kind: "c".into(),
        path: PathBuf::from(path),
        major,
        minor,
        file_mode: Some(0o666),
        uid: Some(0),
        gid: Some(0),
    }
}

/// The device nodes of an ordinary container (the specification's default devices; `/dev/console`
/// and `/dev/ptmx` are made by `create` itself).
pub fn devices() -> Vec<Device> {
    vec![
        device("/dev/null", 1, 3),
        device("/dev/zero", 1, 5),
        device("/dev/full", 1, 7),
        device("/dev/random", 1, 8),
        device("/dev/urandom", 1, 9),
        device("/dev/tty", 5, 0),
    ]
}

/// Every device node below the host's `/dev`, for a privileged container: all but those of
/// `/dev/pts`, `/dev/shm`, `/dev/mqueue`, `/dev/.lxc…` and the console.
///
/// Nodes that cannot be read are left out: devices come and go while we look.
pub fn privileged_devices() -> Vec<Device> {
    let mut found = Vec::new();
    collect_devices(Path::new("/dev"), &mut found, 0);
    found
}

fn collect_devices(dir: &Path, found: &mut Vec<Device>, depth: u32) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    const SKIPPED: [&str; 9] = [
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "ptmx",
    ];
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if SKIPPED.iter().any(|s| name == **s) {
            continue;
        }
        // Of the entry itself: a symbolic link (fd, stdin) is not a node and is not followed.
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        let kind = meta.file_type();
        if kind.is_dir() && depth < 8 {
            collect_devices(&entry.path(), found, depth + 1);
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Device {
                kind: if kind.is_char_device() { "c" } else { "b" }.into(),
                path: entry.path(),
                major: rustix::fs::major(meta.rdev()).into(),
                minor: rustix::fs::minor(meta.rdev()).into(),
                file_mode: Some(meta.mode() & 0o7777),
                uid: Some(meta.uid()),
                gid: Some(meta.gid()),
            });
        }
    }
}

fn rule(allow: bool, kind: &str, numbers: (Option<i64>, Option<i64>), access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some(kind.to_owned()),
        major: numbers.0,
        minor: numbers.1,
        access: Some(access.to_owned()),
    }
}

/// The device access rules of an ordinary container: nothing but [`supplied_device_rules`].
pub fn device_rules() -> Vec<DeviceRule> {
    let mut rules = vec![rule(false, "a", (None, None), "rwm")];
    rules.extend(supplied_device_rules());
    rules
}

/// What every container may do, whatever its configuration denies: make (not open) any node, and use
/// those that the runtime itself supplies, the terminals among them. Callers rely on it (Docker's rules
/// leave `/dev/ptmx` out). `/dev/net/tun` is not among them: whoever wants it names it.
pub(crate) fn supplied_device_rules() -> Vec<DeviceRule> {
    let mut rules = vec![
        rule(true, "c", (None, None), "m"),
        rule(true, "b", (None, None), "m"),
    ];
    for (major, minor) in [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        // /dev/ptmx and the slaves of the container's devpts.
        (5, Some(2)),
        (136, None),
    ] {
        rules.push(rule(true, "c", (Some(major), minor), "rwm"));
    }
    rules
}

/// The device access rules of a privileged container: everything.
pub fn privileged_device_rules() -> Vec<DeviceRule> {
    vec![rule(true, "a", (None, None), "rwm")]
}

/// The namespaces of an ordinary container, all new. The user namespace is not among them: it is
/// made when id mappings are asked for.
pub fn namespaces() -> Vec<Namespace> {
    [
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Uts,
        NamespaceKind::Ipc,
        NamespaceKind::Network,
        NamespaceKind::Cgroup,
    ]
    .map(|kind| Namespace { kind, path: None })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_mounts_are_writable_and_otherwise_the_same() {
        let plain = mounts(1 << 26);
        let privileged = privileged_mounts(1 << 26);
        assert_eq!(plain.len(), privileged.len());
        assert!(
            privileged
                .iter()
                .all(|m| !m.options.iter().any(|o| o == "ro"))
        );
        assert_eq!(
            plain
                .iter()
                .filter(|m| m.options.iter().any(|o| o == "ro"))
                .count(),
            2
        );
    }

    #[test]
    fn privileged_devices_hold_the_real_null_device_and_no_terminals() {
        let devices = privileged_devices();
        let null = devices
            .iter()
            .find(|d| d.path == Path::new("/dev/null"))
            .expect("/dev/null");
        assert_eq!((null.kind.as_str(), null.major, null.minor), ("c", 1, 3));
        assert!(devices.iter().all(|d| !d.path.starts_with("/dev/pts")));
    }
}
