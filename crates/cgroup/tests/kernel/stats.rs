//! Statistics against what the kernel's files say at that moment, and against work that was done.

use barque_cgroup::Pressure;

use crate::support::*;

#[test]
fn memory_is_told_with_swap_kernel_and_sockets() {
    let group = Group::new(r#"{"memory":{"limit":67108864,"swap":134217728}}"#);
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = directory.path().join("file");
    let script = format!("dd if=/dev/zero of={} bs=1M count=8", file.display());
    let (status, _, stderr) = group.shell(&script).finish();
    assert!(status.success(), "{stderr}");

    let memory = group.stats().unwrap().memory.unwrap();
    assert!(
        memory.usage >= 8 << 20 && memory.cache >= 8 << 20,
        "{memory:?}"
    );
    assert_eq!(memory.limit, Some(67_108_864));
    if let Some(max) = memory.max_usage {
        assert!(max >= memory.usage, "{memory:?}");
    }
    let v1 = group.on_v1("memory");
    let with_swap = memory.with_swap.expect("swap is accounted");
    assert_eq!(with_swap.limit, Some(134_217_728));
    assert!(with_swap.usage >= 8 << 20, "{memory:?}");
    assert_eq!(
        memory.kernel.is_some(),
        v1 || memory.detail.contains_key("kernel")
    );
    assert!(memory.kernel_tcp.is_some(), "{memory:?}");
    if v1 {
        assert_eq!(memory.kernel_tcp.unwrap().limit, None);
    }
    assert!(memory.detail.len() > 10, "{memory:?}");
}

#[test]
fn processor_time_is_told_by_mode_and_processor() {
    let group = Group::new(r#"{"cpu":{"cpus":"0","mems":"0"}}"#);
    let (status, _, stderr) = group
        .shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
        .finish();
    assert!(status.success(), "{stderr}");
    let stats = group.stats().unwrap();
    let cpu = stats.cpu.unwrap();
    assert!(cpu.usage > 0 && cpu.user > 0, "{cpu:?}");
    // v1 counts the modes in clock ticks (of USER_HZ), the whole in nanoseconds.
    let tick = 10_000_000;
    assert!(
        cpu.user + cpu.system <= cpu.usage + cpu.usage / 10 + tick,
        "{cpu:?}"
    );
    if group.on_v1("cpuacct") {
        assert_eq!(cpu.per_cpu.iter().sum::<u64>(), cpu.usage);
        assert_eq!(cpu.per_cpu_user.len(), cpu.per_cpu.len());
        assert!(cpu.per_cpu_user[0] > 0);
        assert_eq!(cpu.per_cpu_system.len(), cpu.per_cpu.len());
    } else {
        assert!(cpu.per_cpu.is_empty());
    }
    let cpuset = stats.cpuset.unwrap();
    assert_eq!((cpuset.cpus, cpuset.mems), (vec![0], vec![0]));
    assert_eq!(
        cpuset.flags.get("sched_load_balance"),
        group.on_v1("cpuset").then_some(&1)
    );
}

#[test]
fn a_cpuset_without_a_limit_tells_the_parents() {
    let cpuset = Group::new("{}").stats().unwrap().cpuset.unwrap();
    assert!(
        cpuset.cpus.contains(&0) && cpuset.mems.contains(&0),
        "{cpuset:?}"
    );
}

/// The file's own numbers, or that there are none: a hybrid machine has the files in its v2 tree.
#[test]
fn pressure_is_told_where_the_kernel_measures_it() {
    let group = Group::new("{}");
    let (status, _, stderr) = group
        .shell("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done")
        .finish();
    assert!(status.success(), "{stderr}");
    let stats = group.stats().unwrap();
    let told = [
        ("cpu.pressure", stats.cpu.unwrap().pressure),
        ("memory.pressure", stats.memory.unwrap().pressure),
        ("io.pressure", stats.io_pressure),
    ];
    for (file, told) in told {
        let text = group
            .v2_fd()
            .and_then(|_| std::fs::read_to_string(group.dir("").join(file)).ok());
        assert_eq!(told.is_some(), text.is_some(), "{file}: {text:?}");
        let (Some(text), Some(told)) = (text, told) else {
            continue;
        };
        // Nobody is left in the group: the sums stand still.
        let total = |Pressure { some, full }: Pressure| (some.total, full.total);
        let of = |line: &str| {
            let line = text.lines().find(|l| l.starts_with(line)).unwrap_or("");
            let total = line.rsplit_once("total=").map_or("0", |(_, total)| total);
            total.parse::<u64>().unwrap()
        };
        assert_eq!(total(told), (of("some"), of("full")), "{file}");
    }
}

#[test]
fn huge_pages_are_told_by_size() {
    let stats = Group::new("{}").stats().unwrap();
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .unwrap()
        .count();
    assert_eq!(stats.hugetlb.len(), sizes, "{:?}", stats.hugetlb);
    for (size, pages) in &stats.hugetlb {
        assert!(size.ends_with('B'), "{size}");
        assert_eq!((pages.usage, pages.failures), (0, 0));
    }
}

#[test]
fn block_io_is_told_twice_the_same() {
    let number = disk();
    // v1 counts (on some kernels; seen: 6.1) only what passes a rule.
    let (major, minor) = number.split_once(':').unwrap();
    let group = Group::new(&format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":[{{"major":{major},"minor":{minor},"rate":1099511627776}}]}}}}"#
    ));
    let node = tempfile::tempdir().unwrap().keep();
    let path = node.join("disk");
    // The page cache is passed over, so that the disk does get something to do.
    let script = format!(
        "mknod {0} b {1} && dd if={0} of=/dev/null bs=4096 count=4 iflag=direct && echo read; rm {0}",
        path.display(),
        number.replace(':', " ")
    );
    let (status, out, stderr) = group.shell(&script).finish();
    std::fs::remove_dir_all(&node).unwrap();
    assert!(status.success(), "{stderr}");
    let stats = group.stats().unwrap();
    let (devices, tables) = (stats.block_io.unwrap(), stats.block_tables.unwrap());
    let of = |major: u32, minor: u32| format!("{major}:{minor}") == number;
    let device = devices.iter().find(|d| of(d.major, d.minor));
    // Where this machine's own device rules forbid its disk (a container), nothing was read. The
    // virtual machines allow theirs.
    let Some(device) = device.filter(|_| !out.is_empty()) else {
        assert!(
            out.is_empty() && stderr.contains("not permitted"),
            "{number}: {devices:?} {stderr}"
        );
        return;
    };
    assert!(
        device.read_bytes >= 4 * 4096 && device.read_ops >= 1,
        "{device:?}"
    );
    let entry = |entries: &[barque_cgroup::BlockEntry]| {
        let entry = entries
            .iter()
            .find(|e| of(e.major, e.minor) && e.op == "Read");
        entry.unwrap().value
    };
    assert_eq!(entry(&tables.service_bytes), device.read_bytes);
    assert_eq!(entry(&tables.serviced), device.read_ops);
}
