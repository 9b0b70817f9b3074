//! What a group costs on the path of a container's start and end, on this machine:
//! `cargo run --release -p barque-cgroup --example cost [rounds]`. Needs root.

use std::time::{Duration, Instant};

use barque_cgroup::{Cgroup, Layout};
use barque_types::spec::{DeviceRule, MemoryLimits, PidsLimit, Resources};

/// Docker's default rules: nothing but mknod, and the devices of every container.
fn docker_devices() -> Vec<DeviceRule> {
    let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
        allow,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules = vec![
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules
}

fn main() {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(200, |text| text.parse().expect("rounds"));
    let plain = Resources::default();
    let devices = Resources {
        devices: docker_devices(),
        ..Resources::default()
    };
    let limited = Resources {
        memory: Some(MemoryLimits {
            limit: Some(64 << 20),
            swap: Some(128 << 20),
            ..MemoryLimits::default()
        }),
        pids: Some(PidsLimit { limit: 100 }),
        ..devices.clone()
    };
    let mut detect = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        Layout::detect().expect("detect");
        detect.push(start.elapsed());
    }
    println!("{:<32} {:>8.3} ms", "detect", median(detect));
    let layout = Layout::detect().expect("detect");
    println!(
        "layout {:?}, {} hierarchies",
        layout.mode(),
        layout.hierarchies().len()
    );
    for (name, resources) in [
        ("no limits", plain),
        ("docker's devices", devices),
        ("+ memory, pids", limited),
    ] {
        let (mut create, mut fds, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let path = format!("/barque-cost/{round}-{}", std::process::id());
            let start = Instant::now();
            let (cgroup, _) = Cgroup::create(&layout, &path, &resources).expect("create");
            create.push(start.elapsed());
            let start = Instant::now();
            cgroup.join_fds().expect("join_fds");
            fds.push(start.elapsed());
            let start = Instant::now();
            cgroup.remove().expect("remove");
            remove.push(start.elapsed());
        }
        println!(
            "{name:<20} create {:>7.3} ms   join_fds {:>7.3} ms   remove {:>7.3} ms",
            median(create),
            median(fds),
            median(remove)
        );
    }
    joining(&layout, rounds.min(50));
    Cgroup::open(&layout, "/barque-cost")
        .expect("open")
        .remove()
        .expect("remove the parent");
}

/// A new thread (as good as a new process) that writes `0` to each `tasks`, against a process that
/// is moved from outside.
fn joining(layout: &Layout, rounds: usize) {
    let (mut itself, mut attached) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let path = format!("/barque-cost/join-{round}");
        let (cgroup, _) = Cgroup::create(layout, &path, &Resources::default()).expect("create");
        let fds = cgroup.join_fds().expect("join_fds");
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for fd in &fds {
                rustix::io::write(fd, b"0").expect("join");
            }
            start.elapsed()
        });
        itself.push(thread.join().expect("the thread"));
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("sleep");
        // What the kernel has once waited for stays good for a moment: a start comes after a pause.
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        cgroup.attach(child.id() as i32).expect("attach");
        attached.push(start.elapsed());
        child.kill().expect("kill");
        child.wait().expect("wait");
        cgroup.remove().expect("remove");
    }
    println!(
        "join by itself (v1) {:.3} ms, attach from outside {:.3} ms",
        median(itself),
        median(attached)
    );
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
