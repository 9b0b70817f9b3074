//! Requests lowered into specifications, compared member by member.

use super::*;
use crate::containers::record::ResolvedProcess;
use barque_types::container::{BindMount, CreateContainer, MountRequest, TmpfsMount};
use barque_types::id::ContainerId;
use barque_types::spec::IdMapping;
use barque_types::time::Timestamp;

fn config(change: impl FnOnce(&mut CreateContainer)) -> Config {
    let mut request = CreateContainer::default();
    change(&mut request);
    Config {
        id: ContainerId::from_random([0xab; 32]),
        name: "able_oar".into(),
        created: Timestamp::default(),
        request,
        image: None,
        process: ResolvedProcess {
            cmd: vec!["sleep".into(), "9".into()],
            hostname: "box".into(),
            env: vec!["A=1".into()],
            ..ResolvedProcess::default()
        },
        ids: None,
    }
}

fn facts() -> Facts {
    Facts {
        capabilities: ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_ADMIN"]
            .map(str::to_owned)
            .to_vec(),
        kernel: KernelVersion {
            major: 6,
            minor: 18,
        },
        hostname: "thehost".into(),
        dir: "/c/own".into(),
        network_dir: "/c/net".into(),
        ..Facts::default()
    }
}

fn lowered(change: impl FnOnce(&mut CreateContainer)) -> Spec {
    spec(&config(change), &facts()).unwrap()
}

fn kinds(spec: &Spec) -> Vec<NamespaceKind> {
    spec.linux
        .as_ref()
        .unwrap()
        .namespaces
        .iter()
        .map(|n| n.kind)
        .collect()
}

#[test]
fn an_ordinary_container() {
    let spec = lowered(|_| {});
    let process = spec.process.as_ref().unwrap();
    assert_eq!(process.args, ["sleep", "9"]);
    assert_eq!(process.cwd, "/");
    assert_eq!(process.env[1..], ["HOSTNAME=box", "A=1"]);
    assert_eq!(process.capabilities.as_ref().unwrap().bounding.len(), 14);
    assert_eq!(spec.hostname.as_deref(), Some("box"));
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    assert_eq!(kinds(&spec), [Mount, Network, Pid, Ipc, Uts, Cgroup]);
    let linux = spec.linux.unwrap();
    assert!(linux.seccomp.is_some());
    assert!(linux.masked_paths.contains(&"/proc/kcore".to_owned()));
    let hosts = spec
        .mounts
        .iter()
        .find(|m| m.destination.ends_with("hosts"))
        .unwrap();
    assert_eq!(hosts.source.as_deref(), Some("/c/net/hosts".as_ref()));
}

#[test]
fn shared_namespaces_are_not_new() {
    let spec = lowered(|r| {
        r.network = NetworkMode::Host;
        r.pid = NamespaceMode::Host;
        r.ipc = NamespaceMode::Container("other".into());
        r.uts = NamespaceMode::Host;
    });
    assert_eq!(kinds(&spec), [NamespaceKind::Mount, NamespaceKind::Cgroup]);
    assert_eq!(spec.hostname, None);
    let joined = config(|r| r.ipc = NamespaceMode::Container("other".into()));
    assert_eq!(super::joined(&joined), [(NamespaceKind::Ipc, "other")]);
}

#[test]
fn a_user_namespace_carries_its_maps() {
    let mut config = config(|_| {});
    let map = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65536,
    }];
    config.ids = Some((map.clone(), map.clone()));
    let spec = spec(&config, &facts()).unwrap();
    assert!(kinds(&spec).contains(&NamespaceKind::User));
    assert_eq!(spec.linux.unwrap().uid_mappings, map);
}

#[test]
fn capability_lists() {
    let of = |add: &[&str], drop: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|c| (*c).to_owned()).collect();
        let request = CreateContainer {
            cap_add: own(add),
            cap_drop: own(drop),
            ..CreateContainer::default()
        };
        capabilities(&request, &facts().capabilities)
    };
    assert_eq!(of(&[], &["ALL"]), Vec::<String>::new());
    assert_eq!(of(&["CAP_CHOWN"], &["ALL"]), ["CAP_CHOWN"]);
    assert_eq!(
        of(&["ALL"], &["CAP_SYS_ADMIN"]),
        ["CAP_CHOWN", "CAP_NET_ADMIN"]
    );
    assert!(of(&["CAP_NET_ADMIN"], &["CAP_CHOWN"]).contains(&"CAP_NET_ADMIN".to_owned()));
    assert!(!of(&[], &["CAP_CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
    let privileged = CreateContainer {
        privileged: true,
        ..CreateContainer::default()
    };
    assert_eq!(
        capabilities(&privileged, &facts().capabilities),
        facts().capabilities
    );
}

#[test]
fn privileged_has_no_fences() {
    let spec = lowered(|r| r.privileged = true);
    let linux = spec.linux.unwrap();
    assert!(
        linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()
    );
    let sys = spec
        .mounts
        .iter()
        .find(|m| m.destination.ends_with("sys"))
        .unwrap();
    assert!(!sys.options.contains(&"ro".to_owned()));
}

#[test]
fn a_read_only_root_has_read_only_files_of_ours() {
    for read_only in [false, true] {
        let spec = lowered(|r| r.read_only = read_only);
        for name in ["resolv.conf", "hosts", "hostname"] {
            let path = std::path::Path::new("/etc").join(name);
            let mount = spec.mounts.iter().find(|m| m.destination == path).unwrap();
            assert_eq!(mount.options.contains(&"ro".to_owned()), read_only);
        }
    }
}

#[test]
fn mounts_by_depth_and_by_the_users_will() {
    let bind = |target: &str| {
        MountRequest::Bind(BindMount {
            source: "/src".into(),
            target: target.into(),
            read_only: true,
            ..BindMount::default()
        })
    };
    let tmpfs = MountRequest::Tmpfs(TmpfsMount {
        target: "/a".into(),
        options: vec!["exec".into(), "size=1m".into()],
    });
    let spec = lowered(|r| r.mounts = vec![bind("/a/b/c"), bind("/dev/shm"), tmpfs]);
    let own: Vec<_> = spec.mounts.iter().rev().take(3).rev().collect();
    assert_eq!(own[0].destination, std::path::Path::new("/a"));
    assert_eq!(own[0].options, ["nosuid", "nodev", "exec", "size=1m"]);
    assert_eq!(own[2].destination, std::path::Path::new("/a/b/c"));
    assert_eq!(own[2].options, ["rbind", "rprivate", "rro"]);
    assert_eq!(
        spec.mounts
            .iter()
            .filter(|m| m.destination.ends_with("shm"))
            .count(),
        1
    );
}
