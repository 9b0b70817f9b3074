//! The limits that the walk-through does not show at work: what the flags write into the container's cgroup.

use barque_testkit::{Barque, proc};
use rustix::fs::{major, minor, stat};

/// Whether the controller is mounted as v1 here.
fn is_v1(controller: &str) -> bool {
    proc::cgroup_mounts()
        .iter()
        .any(|(name, _)| name == controller)
}

#[test]
fn all_four_rates_of_a_device() {
    let barque = Barque::with_busybox();
    let device = proc::block_device_of(barque.dir());
    let number = stat(&device).expect("stat the device").st_rdev;
    let number = format!("{}:{}", major(number), minor(number));
    let rate = |rate: &str| format!("{}:{rate}", device.display());
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--device-read-bps",
        &rate("1mb"),
        "--device-write-bps",
        &rate("2mb"),
        "--device-read-iops",
        &rate("300"),
        "--device-write-iops",
        &rate("400"),
        "busybox",
        "sleep",
        "100000",
    ]);
    let pid = barque.pid("box");
    if is_v1("blkio") {
        for (file, value) in [
            ("blkio.throttle.read_bps_device", "1048576"),
            ("blkio.throttle.write_bps_device", "2097152"),
            ("blkio.throttle.read_iops_device", "300"),
            ("blkio.throttle.write_iops_device", "400"),
        ] {
            let found = proc::cgroup_file(pid, "blkio", file);
            assert_eq!(found, format!("{number} {value}"), "{file}");
        }
    } else {
        assert_eq!(
            proc::cgroup_file(pid, "io", "io.max"),
            format!("{number} rbps=1048576 wbps=2097152 riops=300 wiops=400")
        );
    }
    let host = barque.look("box", "/HostConfig");
    for (member, value) in [
        ("BlkioDeviceReadBps", 1_048_576_u64),
        ("BlkioDeviceWriteBps", 2_097_152),
        ("BlkioDeviceReadIOps", 300),
        ("BlkioDeviceWriteIOps", 400),
    ] {
        assert_eq!(host[member][0]["Rate"], value, "{member}");
        assert_eq!(host[member][0]["Path"], device.display().to_string());
    }
    // What is no device, or none at all, is named.
    for (path, why) in [
        ("/etc/passwd", "/dev/"),
        ("/dev/null", "block device"),
        ("/dev/none-such", "No such file"),
    ] {
        let flag = format!("--device-read-iops={path}:5");
        let text = barque.fails(125, ["run", "--rm", &flag, "busybox", "true"]);
        assert!(text.contains(path) && text.contains(why), "{text}");
    }
}

#[test]
fn swap_with_memory() {
    let barque = Barque::with_busybox();
    let sleep = ["busybox", "sleep", "100000"];
    let run = |name: &str, flags: &[&str]| {
        let args = ["run", "-d", "--name", name].into_iter();
        barque.ok(args.chain(flags.iter().copied()).chain(sleep));
        barque.pid(name)
    };
    let own = run("own", &["-m", "64m", "--memory-swap", "96m"]);
    let default = run("default", &["-m", "64m"]);
    if is_v1("memory") {
        // v1 counts memory and swap together.
        let swap = |pid| proc::cgroup_file(pid, "memory", "memory.memsw.limit_in_bytes");
        assert_eq!(swap(own), (96_u64 << 20).to_string());
        assert_eq!(swap(default), (128_u64 << 20).to_string(), "as much again");
    } else {
        let swap = |pid| proc::cgroup_file(pid, "memory", "memory.swap.max");
        assert_eq!(swap(own), (32_u64 << 20).to_string());
        assert_eq!(swap(default), (64_u64 << 20).to_string(), "as much again");
    }
}

#[test]
fn the_oom_killer_can_be_switched_off() {
    let barque = Barque::with_busybox();
    let args = [
        "--oom-kill-disable",
        "-m",
        "64m",
        "busybox",
        "sleep",
        "100000",
    ];
    let output = barque
        .output(["run", "-d", "--name", "box"].into_iter().chain(args))
        .ok();
    if is_v1("memory") {
        let control = proc::cgroup_file(barque.pid("box"), "memory", "memory.oom_control");
        assert!(control.contains("oom_kill_disable 1"), "{control}");
        assert_eq!(output.stderr, "", "nothing to warn about");
    } else {
        // v2 has no such switch.
        output.says(&["OOM"]);
    }
    assert_eq!(barque.look("box", "/HostConfig/OomKillDisable"), true);
    barque.ok(["stop", "box"]);
    // Without a limit it is allowed, and unwise.
    let args = ["run", "--rm", "--oom-kill-disable", "busybox", "true"];
    let output = barque.output(args).ok();
    output.says(&["no memory limit is set"]);
}

#[test]
fn a_weight_is_written_or_told_to_be_impossible() {
    let barque = Barque::with_busybox();
    let args = [
        "--name",
        "box",
        "--blkio-weight",
        "300",
        "busybox",
        "sleep",
        "100000",
    ];
    let output = barque.output(["run", "-d"].into_iter().chain(args)).ok();
    let dir = proc::cgroup_dir("blkio", &proc::cgroup_of(barque.pid("box"), "blkio"));
    let files = [
        "blkio.weight",
        "blkio.bfq.weight",
        "io.weight",
        "io.bfq.weight",
    ];
    match files.iter().find(|file| dir.join(file).exists()) {
        Some(file) => {
            let found = std::fs::read_to_string(dir.join(file)).expect("read the weight");
            assert!(!found.trim().is_empty(), "{file}");
        }
        // Once, and the container runs all the same.
        None => assert_eq!(output.stderr.matches("weight").count(), 1, "{output}"),
    }
    assert_eq!(barque.status("box"), "running");
    let text = barque.fails(
        125,
        ["run", "--rm", "--blkio-weight", "5", "busybox", "true"],
    );
    assert!(text.contains("10 to 1000"), "{text}");
}
