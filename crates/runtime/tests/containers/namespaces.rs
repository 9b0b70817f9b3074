//! Namespaces: new, joined by path, shared with the host, in combinations.

use crate::Case;
use crate::support::{Bench, Sleeper};
use barque_sys::process::{CloneArgs, Cloned, Namespaces, clone_process, reap};
use barque_types::spec::{IdMapping, Namespace, NamespaceKind as Kind, TimeOffset};
use rustix::process::{Signal, pidfd_send_signal};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

pub const CASES: &[Case] = &[
    ("namespaces::a_pod_with_a_user_namespace", a_pod),
    ("namespaces::a_pod_that_repeats_its_maps", repeated_maps),
    ("namespaces::user_alone_by_path", user_alone),
    ("namespaces::mount_by_path", mount_by_path),
    ("namespaces::host_owned_beside_a_joined_user", host_owned),
    ("namespaces::ones_own_by_path", ones_own),
    ("namespaces::an_empty_path_is_a_new_one", empty_path),
    ("namespaces::pid_joined_and_the_hosts", pid),
    ("namespaces::time_offsets", time_offsets),
    ("namespaces::time_with_a_user_namespace", time_with_user),
    ("namespaces::time_by_path", time_by_path),
    ("namespaces::everything_new", everything_new),
    ("namespaces::several_ranges", several_ranges),
    ("namespaces::nonsense_is_refused", nonsense),
    ("namespaces::parameters_of_namespaces", parameters),
    ("namespaces::without_privilege", without_privilege),
];

const ALL: [(Kind, &str); 8] = [
    (Kind::Pid, "pid"),
    (Kind::Network, "net"),
    (Kind::Mount, "mnt"),
    (Kind::Ipc, "ipc"),
    (Kind::Uts, "uts"),
    (Kind::User, "user"),
    (Kind::Cgroup, "cgroup"),
    (Kind::Time, "time"),
];

fn link(pid: i32, file: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("a namespace")
}

fn own(file: &str) -> PathBuf {
    fs::read_link(format!("/proc/self/ns/{file}")).expect("a namespace")
}

/// Makes `b` join namespaces of a process.
fn join(b: &mut Bench, pid: i32, kinds: &[Kind]) {
    for (kind, file) in ALL {
        if kinds.contains(&kind) {
            b.share(kind);
            add(b, kind, Some(&format!("/proc/{pid}/ns/{file}")));
        }
    }
}

fn add(b: &mut Bench, kind: Kind, path: Option<&str>) {
    b.linux().namespaces.push(Namespace {
        kind,
        path: path.map(PathBuf::from),
    });
}

/// That those of `kinds` are the same as the process's, and all others of the container's different
/// from it, for the container and for an exec session.
fn shares_exactly(b: &Bench, container: &Sleeper, pid: i32, kinds: &[Kind]) {
    let script =
        "cd /proc/self/ns; for n in pid net mnt ipc uts user cgroup time; do readlink $n; done";
    let o = b.exec(&container.0, &["sh", "-c", script]).expect("exec");
    for ((kind, file), seen) in ALL.iter().zip(o.out.lines()) {
        let theirs = link(container.0.pid, file);
        assert_eq!(Path::new(seen), theirs, "exec: {file}: {o:?}");
        let listed = b.spec.linux.as_ref().expect("linux").namespaces.iter();
        if listed.clone().any(|n| n.kind == *kind) {
            let shared = kinds.contains(kind);
            assert_eq!(theirs == link(pid, file), shared, "{file}");
        }
    }
    assert_eq!(o.out.lines().count(), 8, "{o:?}");
}

/// As podman and containerd make a pod's containers.
fn a_pod() {
    let mut infra = Bench::new();
    infra.with_user_namespace();
    let pod = infra.sleeper();
    let mut b = Bench::new();
    let shared = [Kind::User, Kind::Network, Kind::Ipc, Kind::Uts];
    b.spec.hostname = None;
    join(&mut b, pod.0.pid, &shared);
    let o = b.sh("id -u; cat /proc/self/uid_map; hostname; touch /home/x; stat -c %u /home/x; ip link | head -n 1");
    assert!(
        o.out
            .starts_with("0\n         0     100000      65536\ninside\n0\n1: lo: <LOOPBACK,UP"),
        "{o:?}"
    );
    let container = b.sleeper();
    shares_exactly(&b, &container, pod.0.pid, &shared);
    let status = fs::read_to_string(format!("/proc/{}/status", container.0.pid)).expect("status");
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");
    assert!(
        status.contains(&format!("PPid:\t{}\n", std::process::id())),
        "{status}"
    );
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{own}/children")).expect("children");
    assert_eq!(
        children.split_whitespace().count(),
        2,
        "no midwife is left: {children}"
    );
}

fn repeated_maps() {
    let mut infra = Bench::new();
    infra.with_user_namespace();
    let pod = infra.sleeper();
    let mut b = Bench::new();
    join(&mut b, pod.0.pid, &[Kind::User]);
    let piece = |container_id, host_id, size| IdMapping {
        container_id,
        host_id,
        size,
    };
    let pieces = vec![piece(1000, 101_000, 64536), piece(0, 100_000, 1000)];
    b.linux().uid_mappings = pieces.clone();
    b.linux().gid_mappings = pieces;
    assert_eq!(b.sh("echo fine").out, "fine\n");
    b.linux().uid_mappings[0].host_id = 200_000;
    let e = b.run(&["true"]).expect_err("other maps").to_string();
    assert_eq!(
        e,
        "linux.uidMappings: differ from those of the user namespace that is joined"
    );
}

/// All others new: they belong to the joined one, whose root may set them up.
fn user_alone() {
    let all = barque_runtime::caps::names(barque_runtime::caps::bounding_set());
    let mut infra = Bench::new();
    infra.with_user_namespace();
    let pod = infra.sleeper();
    for overlay in [true, false] {
        let mut b = Bench::new();
        b.overlay = overlay;
        b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&all));
        join(&mut b, pod.0.pid, &[Kind::User]);
        let o =
            b.sh("hostname; ip link set lo down; ip link | grep -c UP; hostname other; hostname");
        assert_eq!(o.out, "inside\n0\nother\n", "{o:?}");
        let container = b.sleeper();
        shares_exactly(&b, &container, pod.0.pid, &[Kind::User]);
    }
}

/// A process that does nothing in namespaces of its own.
struct Idle(Cloned);

impl Idle {
    fn new(namespaces: Namespaces, first: impl FnOnce()) -> Self {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let args = CloneArgs {
            namespaces,
            ..CloneArgs::default()
        };
        let child = clone_process(args, &[write.as_fd()], || {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            first();
            let _ = rustix::io::write(&write, b"x");
            loop {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            }
        })
        .expect("a child");
        drop(write);
        assert_eq!(rustix::io::read(&read, &mut [0u8; 1]), Ok(1), "it is ready");
        Self(child)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0.pidfd, Signal::KILL);
        let _ = reap(self.0.pidfd.as_fd());
    }
}

/// The root file system, and the sources of mounts, are those that the joined namespace shows.
fn mount_by_path() {
    let mut b = Bench::new();
    b.overlay = false;
    // Only in there is something mounted over the source.
    let only = b.path("only-inside");
    fs::create_dir(&only).expect("mkdir");
    let idle = Idle::new(Namespaces::MOUNT, || {
        use rustix::mount::*;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .expect("private");
        mount("tmpfs", &only, "tmpfs", MountFlags::empty(), None).expect("tmpfs");
        fs::write(only.join("here"), "x").expect("write");
    });
    b.bind(&only, "/source", &["rbind"]);
    join(&mut b, idle.0.pid, &[Kind::Mount]);
    let container = b.sleeper();
    shares_exactly(&b, &container, idle.0.pid, &[Kind::Mount]);
    let o = b.exec(&container.0, &["ls", "/source"]).expect("exec");
    assert_eq!(o.out, "here\n");
    drop(container);
    assert!(b.root("source").is_dir());
    assert_ne!(own("mnt"), link(idle.0.pid, "mnt"), "we are where we were");
}

/// A network of the host's beside a user namespace that has no right to enter it.
fn host_owned() {
    let mut infra = Bench::new();
    infra.with_user_namespace();
    let pod = infra.sleeper();
    let idle = Idle::new(Namespaces::NETWORK, || {});
    let mut b = Bench::new();
    join(&mut b, pod.0.pid, &[Kind::User]);
    join(&mut b, idle.0.pid, &[Kind::Network]);
    let container = b.sleeper();
    assert_eq!(link(container.0.pid, "net"), link(idle.0.pid, "net"));
    assert_eq!(link(container.0.pid, "user"), link(pod.0.pid, "user"));
}

fn ones_own() {
    let mut b = Bench::new();
    add(&mut b, Kind::User, Some("/proc/self/ns/user"));
    assert_eq!(b.sh("echo fine").out, "fine\n");
    let mut b = Bench::new();
    b.share(Kind::Uts);
    add(&mut b, Kind::Uts, Some("/proc/self/ns/uts"));
    let e = b.run(&["true"]).expect_err("the host's name").to_string();
    assert!(
        e.starts_with("hostname: cannot be set in the host's"),
        "{e}"
    );
    let mut b = Bench::new();
    b.share(Kind::Network);
    add(&mut b, Kind::Network, Some("/proc/self/ns/net"));
    b.linux()
        .sysctl
        .insert("net.ipv4.ip_forward".into(), "1".into());
    let e = b
        .run(&["true"])
        .expect_err("the host's parameter")
        .to_string();
    assert!(e.contains("would change the host"), "{e}");
    let mut b = Bench::new();
    b.share(Kind::Mount);
    add(&mut b, Kind::Mount, Some("/proc/self/ns/mnt"));
    let e = b.run(&["true"]).expect_err("the host's mounts").to_string();
    assert!(
        e.contains("a mount namespace that is not the host's"),
        "{e}"
    );
}

fn empty_path() {
    let mut b = Bench::new();
    b.linux()
        .namespaces
        .iter_mut()
        .for_each(|n| n.path = Some(PathBuf::new()));
    let container = b.sleeper();
    for file in ["pid", "net", "mnt", "ipc", "uts"] {
        assert_ne!(link(container.0.pid, file), own(file), "{file}");
    }
}

fn pid() {
    let mut first = Bench::new();
    let one = first.sleeper();
    let mut b = Bench::new();
    join(&mut b, one.0.pid, &[Kind::Pid]);
    let o = b.sh("cat /proc/1/cmdline; test $$ != 1 && echo second");
    assert_eq!(o.out, "/bin/sleep\u{0}1000\u{0}second\n", "{o:?}");
    let mut b = Bench::new();
    b.share(Kind::Pid);
    let container = b.sleeper();
    assert_eq!(link(container.0.pid, "pid"), own("pid"));
    let o = b
        .exec(&container.0, &["sh", "-c", "echo $$"])
        .expect("exec");
    let pid: i32 = o.out.trim().parse().expect("a pid");
    assert!(pid > container.0.pid, "a pid of the host's: {pid}");
}

fn offsets(b: &mut Bench) {
    add(b, Kind::Time, None);
    for (clock, secs, nanosecs) in [("monotonic", 172_800, 5), ("boottime", 604_800, 0)] {
        let offset = TimeOffset { secs, nanosecs };
        b.linux().time_offsets.insert(clock.into(), offset);
    }
}

const OFFSETS: &str = "monotonic      172800         5\nboottime       604800         0\n";

fn uptime(text: &str) -> f64 {
    text.split(' ')
        .next()
        .expect("seconds")
        .parse()
        .expect("a number")
}

fn time_offsets() {
    let mut b = Bench::new();
    offsets(&mut b);
    let ours = uptime(&fs::read_to_string("/proc/uptime").expect("uptime"));
    let container = b.sleeper();
    let o = b
        .exec(
            &container.0,
            &["cat", "/proc/uptime", "/proc/self/timens_offsets"],
        )
        .expect("exec");
    let (theirs, rest) = o.out.split_once('\n').expect("a line");
    assert!(uptime(theirs) >= ours + 604_800.0, "{o:?}");
    assert_eq!(rest, OFFSETS, "{o:?}");
    assert_ne!(link(container.0.pid, "time"), own("time"));
    assert_eq!(
        own("time"),
        own("time_for_children"),
        "we are where we were"
    );
    b.linux()
        .time_offsets
        .insert("realtime".into(), TimeOffset::default());
    let e = b.run(&["true"]).expect_err("no such clock").to_string();
    assert!(e.contains("linux.timeOffsets of realtime"), "{e}");
    assert_eq!(own("time"), own("time_for_children"), "after a failure too");
    b.share(Kind::Time);
    let e = b.run(&["true"]).expect_err("no namespace").to_string();
    assert_eq!(e, "linux.timeOffsets: need a new time namespace");
}

fn time_with_user() {
    let mut b = Bench::new();
    b.with_user_namespace();
    offsets(&mut b);
    let o = b.sh("cat /proc/self/timens_offsets");
    assert_eq!(o.out, OFFSETS, "{o:?}");
    let container = b.sleeper();
    let o = b
        .exec(&container.0, &["cat", "/proc/self/timens_offsets"])
        .expect("exec");
    assert_eq!(o.out, OFFSETS, "{o:?}");
    // And with a user namespace that is joined.
    let mut second = Bench::new();
    join(&mut second, container.0.pid, &[Kind::User]);
    offsets(&mut second);
    assert_eq!(second.sh("cat /proc/self/timens_offsets").out, OFFSETS);
}

fn time_by_path() {
    let mut first = Bench::new();
    offsets(&mut first);
    let one = first.sleeper();
    let mut b = Bench::new();
    join(&mut b, one.0.pid, &[Kind::Time]);
    let container = b.sleeper();
    shares_exactly(&b, &container, one.0.pid, &[Kind::Time]);
}

fn everything_new() {
    let mut b = Bench::new();
    b.with_user_namespace();
    add(&mut b, Kind::Time, None);
    b.spec.domainname = Some("example.org".into());
    let container = b.sleeper();
    for (kind, file) in ALL {
        let listed = b.linux().namespaces.iter().any(|n| n.kind == kind);
        assert!(listed, "{file}");
        assert_ne!(link(container.0.pid, file), own(file), "{file}");
    }
    let o = b
        .exec(&container.0, &["cat", "/proc/sys/kernel/domainname"])
        .expect("exec");
    assert_eq!(o.out, "example.org\n");
}

fn several_ranges() {
    let mut b = Bench::new();
    b.with_user_namespace();
    let map = |container_id, host_id, size| IdMapping {
        container_id,
        host_id,
        size,
    };
    let maps = vec![
        map(0, 200_000, 1),
        map(1000, 300_000, 10),
        map(5000, 100_000, 1),
    ];
    b.linux().uid_mappings = maps.clone();
    b.linux().gid_mappings = maps;
    b.process().user.uid = 1003;
    b.process().user.gid = 1004;
    let container = b.sleeper();
    let status = fs::read_to_string(format!("/proc/{}/status", container.0.pid)).expect("status");
    assert!(status.contains("Uid:\t300003\t"), "{status}");
    assert!(status.contains("Gid:\t300004\t"), "{status}");
    let map = fs::read_to_string(format!("/proc/{}/uid_map", container.0.pid)).expect("map");
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(
        map,
        [
            "0", "200000", "1", "1000", "300000", "10", "5000", "100000", "1"
        ]
    );
    b.process().user.uid = 5000;
    b.process().user.gid = 0;
    let o = b.exec(&container.0, &["id"]).expect("exec");
    assert!(o.out.starts_with("uid=5000 gid=0"), "{o:?}");
    b.process().user.uid = 4999;
    let e = b
        .exec(&container.0, &["id"])
        .expect_err("unmapped")
        .to_string();
    assert!(e.contains("does not map it"), "{e}");
    b.process().user.uid = 0;
    b.linux().uid_mappings[2].container_id = 1005;
    let e = b.run(&["true"]).expect_err("overlap").to_string();
    assert!(e.contains("must not overlap"), "{e}");
}

fn nonsense() {
    let cases: [(Kind, &str, &str); 6] = [
        (
            Kind::Network,
            "/proc/self/ns/uts",
            "is a namespace of another kind",
        ),
        (Kind::Network, "/bin/busybox", "is not a namespace"),
        (Kind::Network, "/proc", "is not a namespace"),
        (
            Kind::Network,
            "/no/such",
            "opening the net namespace \"/no/such\": no such file",
        ),
        (Kind::Ipc, "proc/self/ns/ipc", "is not an absolute path"),
        (
            Kind::User,
            "/proc/self/ns/net",
            "user namespace \"/proc/self/ns/net\": is a namespace of another kind",
        ),
    ];
    for (kind, path, text) in cases {
        let mut b = Bench::new();
        b.share(kind);
        add(&mut b, kind, Some(path));
        let e = b.run(&["true"]).expect_err(path).to_string();
        assert!(e.contains(text), "{e}");
    }
    let mut b = Bench::new();
    add(&mut b, Kind::Network, None);
    let e = b.run(&["true"]).expect_err("twice").to_string();
    assert_eq!(e, "linux.namespaces: network: is listed twice");
    let mut b = Bench::new();
    b.share(Kind::Mount);
    let e = b.run(&["true"]).expect_err("none").to_string();
    assert!(
        e.contains("a mount namespace that is not the host's"),
        "{e}"
    );
}

fn parameters() {
    let mut b = Bench::new();
    b.with_user_namespace();
    for (name, value) in [
        ("user.max_net_namespaces", "7"),
        ("kernel.domainname", "by.parameter"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "12"),
        ("net.ipv4.ip_unprivileged_port_start", "80"),
    ] {
        b.linux().sysctl.insert(name.into(), value.into());
    }
    let o = b.sh(
        "cd /proc/sys; cat user/max_net_namespaces kernel/domainname kernel/shm_rmid_forced \
         fs/mqueue/msg_max net/ipv4/ip_unprivileged_port_start",
    );
    assert_eq!(o.out, "7\nby.parameter\n1\n12\n80\n", "{o:?}");
}

/// By another user than root: a root file system of its own, itself as the container's root.
fn without_privilege() {
    let mut b = Bench::new();
    b.overlay = false;
    for entry in walk(b.dir.path()) {
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(4321),
            rustix::fs::Gid::from_raw(4321),
        );
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(rustix::fs::CWD, &entry, Some(uid), Some(gid), flags).expect("chown");
    }
    b.with_user_namespace();
    let one = vec![IdMapping {
        container_id: 0,
        host_id: 4321,
        size: 1,
    }];
    b.linux().uid_mappings = one.clone();
    b.linux().gid_mappings = one;
    rustix::thread::set_thread_groups(&[]).expect("groups");
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(4321),
        rustix::fs::Gid::from_raw(4321),
    );
    rustix::thread::set_thread_res_gid(gid, gid, gid).expect("gid");
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("uid");
    // What execve of an unprivileged program would do.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .expect("dumpable");
    let o = b.sh(
        "id -u; cat /proc/self/uid_map /proc/self/setgroups; hostname; touch /home/mine; echo $$",
    );
    let words: Vec<&str> = o.out.split_whitespace().collect();
    assert_eq!(
        words,
        ["0", "0", "4321", "1", "deny", "inside", "1"],
        "{o:?}"
    );
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(b.root("home/mine")).expect("stat").uid(), 4321);
    let container = b.sleeper();
    let o = b
        .exec(&container.0, &["sh", "-c", "id -u; hostname"])
        .expect("exec");
    assert_eq!(o.out, "0\ninside\n", "{o:?}");
    drop(container);
    b.linux().uid_mappings[0].size = 2;
    let e = b.run(&["true"]).expect_err("more than itself").to_string();
    assert!(e.contains("newuidmap(1)"), "{e}");
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a directory") {
            all.extend(walk(&entry.expect("an entry").path()));
        }
    }
    all
}
