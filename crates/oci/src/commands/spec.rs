//! `spec`: an example configuration.

use super::*;
use crate::args::switch;
use barque_types::spec::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, Process,
    Resources, Rlimit, Root, SPEC_VERSION, Spec,
};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

pub(super) const COMMAND: Command = Command {
    name: "spec",
    usage: "",
    about: "create a new specification file",
    details: "Writes config.json into the bundle: a shell on a terminal, with a read-only root and few rights.
It is there to be edited. With a root file system in rootfs/, `run` can do the rest:

    mkdir -p demo/rootfs && cd demo
    tar -C rootfs -xf the-root-file-system.tar
    barque oci spec
    barque oci run demo",
    flags: &[
        value(
            "bundle",
            "b",
            "DIR",
            "path to the root of the bundle directory",
        ),
        switch(
            "rootless",
            "",
            "generate a configuration for a rootless container",
        ),
    ],
    order: Order::Mixed,
    words: (0, 0),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let mut spec = example(unified());
    if call.args.has("rootless") {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rootless(&mut spec, uid.as_raw(), gid.as_raw());
    }
    let dir = call.args.last("bundle").filter(|dir| !dir.is_empty());
    let path = Path::new(dir.unwrap_or(".")).join("config.json");
    let mut file = OpenOptions::new()
        .write(true)
        // What somebody has edited is never overwritten.
        .create_new(true)
        .mode(0o666)
        .open(&path)
        .map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Failure::usage(format!("File {} exists. Remove it first", path.display()))
            }
            _ => Failure::usage(format!("making {}: {e}", path.display())),
        })?;
    file.write_all(rendered(&spec)?.as_bytes())
        .while_(|| format!("writing {}", path.display()))?;
    Ok(0)
}

/// With tabs, as Go's runtimes write it.
fn rendered(spec: &Spec) -> Result<String, Failure> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
    serde::Serialize::serialize(spec, &mut serializer)
        .map_err(|e| Failure::usage(format!("rendering the configuration: {e}")))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether the host has the unified cgroup tree alone, where runc adds a cgroup namespace: what a container sees of
/// its cgroups is the same on v1 without one.
fn unified() -> bool {
    /// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
    const CGROUP2: u64 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type as u64 == CGROUP2)
}

/// The example of runc's `specconv`, member by member.
fn example(unified: bool) -> Spec {
    use NamespaceKind as N;
    let mut kinds = vec![N::Pid, N::Network, N::Ipc, N::Uts, N::Mount];
    if unified {
        kinds.push(N::Cgroup);
    }
    Spec {
        oci_version: SPEC_VERSION.to_owned(),
        process: Some(process()),
        root: Some(Root {
            path: PathBuf::from("rootfs"),
            readonly: true,
        }),
        hostname: Some("barque".to_owned()),
        mounts: mounts(),
        linux: Some(Linux {
            namespaces: kinds.into_iter().map(namespace).collect(),
            resources: Some(Resources {
                devices: vec![DeviceRule {
                    allow: false,
                    access: Some("rwm".to_owned()),
                    kind: None,
                    major: None,
                    minor: None,
                }],
                ..Resources::default()
            }),
            masked_paths: owned(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ]),
            readonly_paths: owned(&[
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn process() -> Process {
    let caps = owned(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        args: owned(&["sh"]),
        env: owned(&[
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: caps.clone(),
            effective: caps.clone(),
            permitted: caps,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            hard: 1024,
            soft: 1024,
        }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount> {
    let safe = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &[]),
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
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
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
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

/// What a user without rights can have of it: a user namespace with his own id, the host's network and /sys (a new
/// sysfs needs a network namespace of one's own), no limits, no group for terminals.
fn rootless(spec: &mut Spec, uid: u32, gid: u32) {
    for mount in &mut spec.mounts {
        mount
            .options
            .retain(|o| !o.starts_with("uid=") && !o.starts_with("gid="));
        if mount.destination == Path::new("/sys") {
            mount.kind = Some("none".to_owned());
            mount.source = Some(PathBuf::from("/sys"));
            mount.options = owned(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
    }
    let linux = spec.linux.get_or_insert_default();
    linux.resources = None;
    linux
        .namespaces
        .retain(|n| n.kind != NamespaceKind::Network);
    linux.namespaces.push(namespace(NamespaceKind::User));
    let own = |host_id| {
        vec![IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        }]
    };
    linux.uid_mappings = own(uid);
    linux.gid_mappings = own(gid);
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn namespace(kind: NamespaceKind) -> Namespace {
    Namespace { kind, path: None }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        kind: Some(kind.to_owned()),
        source: Some(PathBuf::from(source)),
        options: owned(options),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_as_what_it_was() {
        for unified in [false, true] {
            let mut spec = example(unified);
            rootless(&mut spec, 1000, 100);
            let text = rendered(&spec).expect("JSON");
            assert!(text.contains("\n\t\"process\": {\n\t\t\"terminal\": true"));
            assert_eq!(serde_json::from_str::<Spec>(&text).expect("parses"), spec);
        }
    }
}
