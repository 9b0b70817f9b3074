//! An ordinary container, namespace by namespace.

use crate::Case;
use crate::support::Bench;
use barque_types::spec::{self, NamespaceKind};
use std::fs;

pub const CASES: &[Case] = &[
    ("basics::exit_codes_and_streams", exit_codes_and_streams),
    ("basics::hostname_and_domainname", hostname_and_domainname),
    ("basics::pid_namespace", pid_namespace),
    (
        "basics::network_has_only_loopback_up",
        network_has_only_loopback_up,
    ),
    ("basics::network_of_the_host", network_of_the_host),
    (
        "basics::network_of_another_container",
        network_of_another_container,
    ),
    (
        "basics::pid_namespace_of_another_container",
        pid_namespace_of_another_container,
    ),
    ("basics::time_namespace", time_namespace),
    (
        "basics::cgroup_namespace_and_mount",
        cgroup_namespace_and_mount,
    ),
    (
        "basics::nothing_is_left_on_the_host",
        nothing_is_left_on_the_host,
    ),
    (
        "basics::dropping_an_unstarted_container_kills_it",
        dropping_kills,
    ),
    ("basics::directory_rootfs", directory_rootfs),
    (
        "basics::the_container_dies_with_its_parent",
        dies_with_its_parent,
    ),
];

fn exit_codes_and_streams() {
    let mut b = Bench::new();
    let o = b.sh("echo out; echo err >&2; exit 7");
    assert_eq!(
        (o.code, o.out.as_str(), o.err.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(
        b.sh("kill -9 $$; sleep 1; exit 3").code,
        3,
        "PID 1 cannot kill itself"
    );
    assert!(o.warnings.is_empty(), "{:?}", o.warnings);
}

fn hostname_and_domainname() {
    let before = rustix::system::uname();
    let mut b = Bench::new();
    b.spec.domainname = Some("example".into());
    let o = b.sh("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(o.out, "inside\nexample\n", "{o:?}");
    assert_eq!(before.nodename(), rustix::system::uname().nodename());
}

fn pid_namespace() {
    let o = Bench::new().sh("echo $$; ps -o pid,args; true");
    assert!(o.out.starts_with("1\n"), "{o:?}");
    assert_eq!(
        o.out.lines().count(),
        4,
        "the number, ps's header, the shell, ps: {o:?}"
    );
}

fn network_has_only_loopback_up() {
    let o = Bench::new().sh("ls /sys/class/net; ifconfig lo");
    assert!(o.out.starts_with("lo\n"), "{o:?}");
    assert!(
        o.out.contains("UP LOOPBACK RUNNING") && o.out.contains("127.0.0.1"),
        "{o:?}"
    );
    assert_eq!(o.out.matches("Link encap").count(), 1, "{o:?}");
}

fn network_of_the_host() {
    let mut b = Bench::new();
    b.share(NamespaceKind::Network);
    let o = b.sh("readlink /proc/self/ns/net");
    let host = fs::read_link("/proc/self/ns/net").expect("readlink");
    assert_eq!(o.out.trim(), host.to_string_lossy());
}

fn network_of_another_container() {
    let sleeper = Bench::new().sleeper();
    let mut b = Bench::new();
    let before = fs::read_link("/proc/self/ns/net").expect("readlink");
    let fd = barque_runtime::open_namespace(sleeper.0.pid, NamespaceKind::Network).expect("ns");
    b.join = vec![(NamespaceKind::Network, fd)];
    let o = b.sh("readlink /proc/self/ns/net");
    let theirs = fs::read_link(format!("/proc/{}/ns/net", sleeper.0.pid)).expect("readlink");
    assert_eq!(o.out.trim(), theirs.to_string_lossy());
    assert_eq!(
        before,
        fs::read_link("/proc/self/ns/net").expect("readlink"),
        "we are back home"
    );
}

fn pid_namespace_of_another_container() {
    let sleeper = Bench::new().sleeper();
    // By path this time, as an OCI configuration has it.
    let mut b = Bench::new();
    for namespace in &mut b.linux().namespaces {
        if namespace.kind == NamespaceKind::Pid {
            namespace.path = Some(format!("/proc/{}/ns/pid", sleeper.0.pid).into());
        }
    }
    let o = b.sh("echo $$; ps -o pid,args");
    assert!(!o.out.starts_with("1\n"), "{o:?}");
    assert!(o.out.contains("sleep 1000"), "{o:?}");
    let own = fs::read_link("/proc/self/ns/pid").expect("readlink");
    assert_eq!(
        own,
        fs::read_link("/proc/self/ns/pid_for_children").expect("readlink")
    );
}

fn time_namespace() {
    let mut b = Bench::new();
    b.linux().namespaces.push(spec::Namespace {
        kind: NamespaceKind::Time,
        path: None,
    });
    let offset = spec::TimeOffset {
        secs: 1_000_000,
        nanosecs: 0,
    };
    b.linux().time_offsets.insert("boottime".into(), offset);
    let o = b.sh("cat /proc/uptime");
    let uptime: f64 = o
        .out
        .split('.')
        .next()
        .expect("number")
        .parse()
        .expect("seconds");
    assert!(uptime >= 1_000_000.0, "{o:?}");
    let own = fs::read_link("/proc/self/ns/time").expect("readlink");
    assert_eq!(
        own,
        fs::read_link("/proc/self/ns/time_for_children").expect("readlink")
    );
}

fn cgroup_namespace_and_mount() {
    let o = Bench::new().sh("cat /proc/self/cgroup; ls /sys/fs/cgroup; mount | grep -c cgroup");
    let paths: Vec<&str> = o
        .out
        .lines()
        .filter(|l| l.contains(':'))
        .filter_map(|l| l.rsplit(':').next())
        .collect();
    assert!(
        !paths.is_empty() && paths.iter().all(|p| *p == "/"),
        "{o:?}"
    );
    // Whatever the host has is there: v2's own files, or a directory for each hierarchy.
    let host_v1 = fs::read_dir("/sys/fs/cgroup/memory").is_ok();
    assert!(
        o.out.contains(if host_v1 {
            "\nmemory\n"
        } else {
            "cgroup.procs"
        }),
        "{o:?}"
    );
}

fn nothing_is_left_on_the_host() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut b = Bench::new();
    let o = b.sh("touch /home/1234; mkdir -p /tmp/x && mount -t tmpfs none /tmp/x; ls /home");
    assert_eq!(o.out, "1234\n", "{o:?}");
    let dir = b.dir.path().to_string_lossy().into_owned();
    assert!(
        !mounts().contains(&dir),
        "a mount of the container is visible on the host"
    );
    assert!(b.path("upper/home/1234").exists());
    assert!(!b.root("home/1234").exists());
}

fn dropping_kills() {
    use std::os::fd::AsFd;
    let mut b = Bench::new();
    b.process().args = vec!["/bin/true".into()];
    let null = crate::support::null();
    let created = barque_runtime::create(barque_runtime::CreateOptions::new(
        "test",
        &b.spec,
        b.rootfs(),
        barque_runtime::Stdio::Fds {
            stdin: null.as_fd(),
            stdout: null.as_fd(),
            stderr: null.as_fd(),
        },
    ))
    .expect("created");
    let proc = format!("/proc/{}", created.pid);
    assert!(fs::metadata(&proc).is_ok());
    drop(created);
    assert!(
        fs::metadata(&proc).is_err(),
        "the process is gone and reaped"
    );
}

fn directory_rootfs() {
    let mut b = Bench::new();
    b.overlay = false;
    let o = b.sh("touch /home/direct; pwd; ls /");
    assert!(o.out.starts_with("/\nbin\n"), "{o:?}");
    assert!(b.root("home/direct").exists());
}

fn dies_with_its_parent() {
    use barque_sys::process::{CloneArgs, clone_process, reap};
    use std::os::fd::AsFd;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    // A parent that starts a container and ends without waiting for it. The container holds the
    // pipe: its end of file is the container's end.
    let parent = clone_process(CloneArgs::default(), &[write.as_fd()], || {
        let mut b = Bench::new();
        let stdio = barque_runtime::Stdio::Fds {
            stdin: write.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        };
        let running = b.start(&["/bin/sleep", "1000"], stdio);
        drop(b);
        let code = u8::from(running.is_err());
        std::mem::forget(running);
        code
    })
    .expect("fork");
    drop(write);
    assert_eq!(reap(parent.pidfd.as_fd()), Ok(0));
    let mut rest = [0; 16];
    assert_eq!(rustix::io::read(&read, &mut rest), Ok(0));
}
