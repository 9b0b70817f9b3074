//! 7. Control groups: what is shared can still be limited.

use barque_testkit::{Barque, poll, proc};
use serde_json::Value;
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// A number from a file of the container's cgroup: the v1 name, or the v2 name when that is absent.
fn number(pid: i32, controller: &str, v1: &str, v2: &str) -> u64 {
    let dir = proc::cgroup_dir(controller, &proc::cgroup_of(pid, controller));
    let text = std::fs::read_to_string(dir.join(v1))
        .or_else(|_| std::fs::read_to_string(dir.join(v2)))
        .unwrap_or_else(|e| panic!("{}: neither {v1} nor {v2}: {e}", dir.display()));
    text.trim()
        .parse()
        .unwrap_or_else(|e| panic!("{v1} or {v2}: {text:?}: {e}"))
}

/// A line `name value` of the container's memory.stat.
fn memory_stat(pid: i32, names: [&str; 2]) -> u64 {
    let text = proc::cgroup_file(pid, "memory", "memory.stat");
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| names.contains(name))
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("none of {names:?} in {text}"))
}

#[test]
fn info_lists_the_controllers_as_the_kernel_does() {
    let barque = Barque::new();
    let rows: Vec<Value> = barque
        .output(["info", "--format", "{{json .CgroupControllers}}"])
        .ok()
        .json()
        .as_array()
        .expect("an array")
        .clone();
    // #subsys_name hierarchy num_cgroups enabled
    let kernel = std::fs::read_to_string("/proc/cgroups").expect("read /proc/cgroups");
    for line in kernel.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let row = rows
            .iter()
            .find(|row| row["Subsystem"] == words[0])
            .unwrap_or_else(|| panic!("{} is missing: {rows:?}", words[0]));
        assert_eq!(row["Hierarchy"].to_string(), words[1], "{row}");
        assert_eq!(row["Enabled"], words[3] == "1", "{row}");
        // Other tests make and remove groups all the time: only the order of magnitude is stable.
        assert!(row["NumCgroups"].as_u64().is_some_and(|n| n >= 1), "{row}");
    }
    let text = barque.ok(["info"]);
    for name in ["memory", "pids", "cpuset"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
}

#[test]
fn a_process_that_exceeds_its_memory_limit_is_killed_and_inspect_says_so() {
    let barque = Barque::with_busybox();
    // `tail` keeps the last line, and /dev/zero has no line end.
    let args = [
        "run",
        "--name",
        "box",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "busybox",
    ];
    let killed = barque.output(args.into_iter().chain(["tail", "/dev/zero"]));
    assert_eq!(killed.code, 137, "{killed}");
    assert_eq!(barque.look("box", "/State/OOMKilled"), true);
    assert_eq!(barque.look("box", "/State/ExitCode"), 137);
    // The limit was the group's own: nothing else was harmed.
    barque.ok(["run", "--name", "tame", "-m", "32m", "busybox", "true"]);
    assert_eq!(barque.look("tame", "/State/OOMKilled"), false);
}

#[test]
fn page_cache_is_charged_and_reclaimed_instead_of_killing() {
    let barque = Barque::with_busybox();
    let script = "dd if=/dev/zero of=/big bs=1M count=128 2>/dev/null && cat /big >/dev/null \
                  && echo read it all && sleep 100000";
    barque.ok([
        "run", "-d", "--name", "box", "-m", "32m", "busybox", "sh", "-c", script,
    ]);
    poll::until("128 MiB are written and read within 32 MiB", || {
        barque.ok(["logs", "box"]) == "read it all"
    });
    let pid = barque.pid("box");
    assert_eq!(barque.look("box", "/State/OOMKilled"), false);

    // The cache is the group's memory, it filled the group, and it never went beyond.
    let cache = memory_stat(pid, ["cache", "file"]);
    assert!(cache > 8 * MIB, "only {cache} bytes of cache are charged");
    let usage = number(pid, "memory", "memory.usage_in_bytes", "memory.current");
    let peak = number(pid, "memory", "memory.max_usage_in_bytes", "memory.peak");
    assert!(usage <= 32 * MIB && peak <= 32 * MIB, "{usage} {peak}");
    assert!(peak > 24 * MIB, "the limit was never near: {peak}");
}

#[test]
fn a_cpu_limit_holds() {
    let barque = Barque::with_busybox();
    let spin = "while :; do :; done";
    barque.ok([
        "run", "-d", "--name", "box", "--cpus", "0.25", "busybox", "sh", "-c", spin,
    ]);
    let pid = barque.pid("box");
    let used = || cpu_nanoseconds(pid);
    let (began, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(4));
    let share = (used() - before) as f64 / began.elapsed().as_nanos() as f64;
    // One period (100 ms) of 25 ms may be half seen at either end.
    assert!(share < 0.29, "used {share:.3} of a CPU instead of 0.25");
    assert!(
        share > 0.02,
        "used {share:.3} of a CPU: it does not run at all"
    );
    let throttled = proc::cgroup_file(pid, "cpu", "cpu.stat");
    let periods: u64 = throttled
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok())
        .expect("nr_throttled");
    assert!(periods > 0, "{throttled}");
}

/// CPU time of the container so far.
fn cpu_nanoseconds(pid: i32) -> u64 {
    let v1 = proc::cgroup_dir("cpuacct", &proc::cgroup_of(pid, "cpuacct")).join("cpuacct.usage");
    match std::fs::read_to_string(v1) {
        Ok(text) => text.trim().parse().expect("a number"),
        Err(_) => {
            let text = proc::cgroup_file(pid, "cpu", "cpu.stat");
            let micros: u64 = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
                .expect("usage_usec");
            micros * 1000
        }
    }
}

#[test]
fn a_pids_limit_stops_a_fork_bomb() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--pids-limit",
        "24",
        "busybox",
        "sleep",
        "100000",
    ]);
    let pid = barque.pid("box");
    barque.ok([
        "exec",
        "-d",
        "box",
        "sh",
        "-c",
        "bomb() { bomb | bomb & }; bomb; bomb; bomb",
    ]);
    poll::until("the bomb hits the limit", || {
        let now = number(pid, "pids", "pids.current", "pids.current");
        assert!(now <= 24, "{now} processes");
        // "max N": how often fork was refused.
        let events = proc::cgroup_file(pid, "pids", "pids.events");
        let refused = events
            .strip_prefix("max ")
            .and_then(|n| n.parse::<u64>().ok());
        refused.is_some_and(|n| n > 0)
    });
    // PID 1 and the host are well, and the whole mess goes with one command.
    assert_eq!(barque.status("box"), "running");
    barque.ok(["rm", "-f", "box"]);
    assert_eq!(proc::in_cgroup(&barque.cgroup_parent()), [] as [i32; 0]);
}

#[test]
fn an_io_limit_slows_a_direct_write() {
    let barque = Barque::new();
    let shared = barque.dir().join("shared");
    std::fs::create_dir(&shared).expect("make a directory");
    let volume = format!("{}:/shared", shared.display());
    let device = proc::block_device_of(&shared);
    let limit = format!("{}:4mb", device.display());
    // Direct: past the page cache, so that the writer itself waits for the device.
    let write = "dd if=/dev/zero of=/shared/file bs=1M count=12 oflag=direct 2>&1";
    let time = |limits: &[&str]| {
        let args = ["run", "--rm", "-v", &volume]
            .into_iter()
            .chain(limits.iter().copied());
        let args = args.chain(["--rootfs", "/", "sh", "-c", write]);
        barque.output(args).ok().took
    };
    let free = time(&[]);
    let slow = time(&["--device-write-bps", &limit]);
    // 12 MiB at 4 MiB/s take 3 s; the first slice may be free.
    assert!(
        slow >= Duration::from_millis(2200),
        "{slow:?} for 12 MiB at 4 MiB/s"
    );
    assert!(slow > free * 2, "{slow:?} with a limit, {free:?} without");
}

#[test]
fn a_group_of_processes_is_frozen_and_thawed() {
    let barque = Barque::with_busybox();
    let count = "i=0; while :; do i=$((i+1)); echo $i > /count.new; mv /count.new /count; done";
    barque.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", count]);
    let file = barque.upper("box").join("count");
    let counted = || std::fs::read_to_string(&file).unwrap_or_default();
    let moves = || {
        let before = counted();
        poll::within(Duration::from_secs(20), || {
            (counted() != before).then_some(())
        })
    };
    assert!(moves().is_some(), "it does not count");

    barque.ok(["pause", "box"]);
    assert_eq!(barque.status("box"), "paused");
    assert_eq!(barque.look("box", "/State/Paused"), true);
    let before = counted();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(counted(), before, "it counts although frozen");

    barque.ok(["unpause", "box"]);
    assert_eq!(barque.status("box"), "running");
    assert!(moves().is_some(), "it does not count again");
}
