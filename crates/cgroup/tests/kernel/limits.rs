//! Limits that hold, and what the files say.

use std::os::unix::process::ExitStatusExt;

use barque_cgroup::Error;

use crate::support::*;

const MIB: u64 = 1 << 20;

#[test]
fn who_exceeds_the_memory_limit_is_killed_and_counted() {
    let group = Group::new(r#"{"memory":{"limit":33554432}}"#);
    assert_eq!(group.oom_kills().unwrap(), 0);
    // Swap would only delay it.
    group
        .apply(&resources(
            r#"{"memory":{"limit":33554432,"swap":33554432}}"#,
        ))
        .unwrap();
    let member = group.shell("exec dd if=/dev/zero of=/dev/null bs=128M count=1");
    let (status, _, stderr) = member.finish();
    assert_eq!(status.signal(), Some(9), "{status} {stderr}");
    assert_eq!(group.oom_kills().unwrap(), 1);
    let memory = group.stats().unwrap().memory.unwrap();
    assert_eq!(memory.limit, Some(32 * MIB));
    if !group.on_v1("memory") {
        // v1 does not count it on every kernel: here the limit of memory plus swap is hit.
        assert!(memory.failures > 0);
    }
}

#[test]
fn memory_limits_are_raised_and_lowered_in_any_order() {
    let group =
        Group::new(r#"{"memory":{"limit":33554432,"swap":67108864,"reservation":16777216}}"#);
    let limits = || {
        let memory = group.file("memory", "memory.limit_in_bytes", "memory.max");
        let swap = group.file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        let swap = if group.on_v1("memory") || swap == "max" {
            swap
        } else {
            // v2 counts swap alone.
            (swap.parse::<u64>().unwrap() + memory.parse::<u64>().unwrap()).to_string()
        };
        (memory, swap)
    };
    let set = |json: &str| group.apply(&resources(json)).unwrap();
    assert_eq!(limits(), ("33554432".into(), "67108864".into()));
    assert_eq!(
        group.file("memory", "memory.soft_limit_in_bytes", "memory.low"),
        "16777216"
    );
    for (json, expected) in [
        // Both above what memory plus swap was; both below; memory plus swap alone.
        (
            r#"{"memory":{"limit":134217728,"swap":268435456}}"#,
            ("134217728", "268435456"),
        ),
        (
            r#"{"memory":{"limit":16777216,"swap":16777216}}"#,
            ("16777216", "16777216"),
        ),
        (r#"{"memory":{"swap":33554432}}"#, ("16777216", "33554432")),
    ] {
        set(json);
        assert_eq!(limits(), (expected.0.into(), expected.1.into()), "{json}");
    }
    set(r#"{"memory":{"limit":-1}}"#);
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, None);
    if !group.on_v1("memory") {
        assert_eq!(limits(), ("max".into(), "max".into()));
    }
}

#[test]
fn what_v2_does_not_have_is_discarded_with_dockers_words() {
    let (group, warnings) = Group::with_warnings(
        r#"{"memory":{"swappiness":10,"disableOOMKiller":true,"kernel":1048576}}"#,
    );
    let kernel = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
    if group.on_v1("memory") {
        assert_eq!(warnings, [kernel]);
        assert_eq!(group.file("memory", "memory.swappiness", ""), "10");
        assert!(
            group
                .file("memory", "memory.oom_control", "")
                .contains("oom_kill_disable 1")
        );
        group
            .apply(&resources(r#"{"memory":{"disableOOMKiller":false}}"#))
            .unwrap();
        assert!(
            group
                .file("memory", "memory.oom_control", "")
                .contains("oom_kill_disable 0")
        );
    } else {
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].ends_with("Memory swappiness discarded."));
        assert_eq!(
            warnings[1],
            "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        );
        assert_eq!(warnings[2], kernel);
    }
}

#[test]
fn the_pids_limit_stops_forks() {
    let group = Group::new(r#"{"pids":{"limit":5}}"#);
    let (status, out, stderr) = group
        .shell(
            "i=0; while [ $i -lt 20 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); echo $i; done",
        )
        .finish();
    assert!(!status.success(), "{out} {stderr}");
    assert!(out.lines().count() <= 4, "{out}");
    let pids = group.stats().unwrap().pids.unwrap();
    assert_eq!(pids.limit, Some(5));
    assert!(pids.current <= 5);
    group.apply(&resources(r#"{"pids":{"limit":-1}}"#)).unwrap();
    assert_eq!(group.stats().unwrap().pids.unwrap().limit, None);
}

#[test]
fn the_cpu_quota_throttles() {
    let group = Group::new(r#"{"cpu":{"quota":5000,"period":100000,"shares":512}}"#);
    let mut member = group.shell("while :; do :; done");
    member.go();
    // The time is added when a throttled group is let go, after the count.
    until("throttling", || {
        let cpu = group.stats().unwrap().cpu.unwrap();
        cpu.throttled_periods > 2 && cpu.throttled > 0
    });
    let cpu = group.stats().unwrap().cpu.unwrap();
    assert!(cpu.usage > 0 && cpu.periods > 2, "{cpu:?}");

    let show = || {
        if group.on_v1("cpu") {
            format!(
                "{} {}",
                group.file("cpu", "cpu.cfs_quota_us", ""),
                group.file("cpu", "cpu.cfs_period_us", "")
            )
        } else {
            group.file("cpu", "", "cpu.max")
        }
    };
    assert_eq!(show(), "5000 100000");
    // A quota alone keeps the period, a period alone the quota.
    group
        .apply(&resources(r#"{"cpu":{"quota":20000}}"#))
        .unwrap();
    assert_eq!(show(), "20000 100000");
    group
        .apply(&resources(r#"{"cpu":{"period":50000}}"#))
        .unwrap();
    assert_eq!(show(), "20000 50000");
    group
        .apply(&resources(r#"{"cpu":{"quota":10000,"burst":5000}}"#))
        .unwrap();
    assert_eq!(
        group.file("cpu", "cpu.cfs_burst_us", "cpu.max.burst"),
        "5000"
    );
    // The burst cannot be above the quota: lowered together, in whatever order it takes.
    group
        .apply(&resources(r#"{"cpu":{"quota":2000,"burst":1000}}"#))
        .unwrap();
    assert_eq!(
        group.file("cpu", "cpu.cfs_burst_us", "cpu.max.burst"),
        "1000"
    );
    group.apply(&resources(r#"{"cpu":{"idle":1}}"#)).unwrap();
    assert_eq!(group.file("cpu", "cpu.idle", "cpu.idle"), "1");
}

#[test]
fn shares_and_weights() {
    let group = Group::new(r#"{"cpu":{"shares":1024}}"#);
    let expected = if group.on_v1("cpu") { "1024" } else { "100" };
    assert_eq!(group.file("cpu", "cpu.shares", "cpu.weight"), expected);
}

#[test]
fn the_cpuset_is_held() {
    let group = Group::new(r#"{"cpu":{"cpus":"0","mems":"0"}}"#);
    let (status, out, stderr) = group
        .shell("grep Cpus_allowed_list /proc/self/status")
        .finish();
    assert!(status.success(), "{stderr}");
    assert_eq!(out.split_ascii_whitespace().last(), Some("0"), "{out}");
    let error = group
        .apply(&resources(r#"{"cpu":{"cpus":"no"}}"#))
        .unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
}

#[test]
fn block_io_is_throttled_by_device() {
    let number = disk();
    let (major, minor) = number.split_once(':').unwrap();
    let rates = |rate: u32| {
        let device = format!(r#"[{{"major":{major},"minor":{minor},"rate":{rate}}}]"#);
        resources(&format!(
            r#"{{"blockIO":{{"throttleReadBpsDevice":{device},"throttleWriteIOPSDevice":{device}}}}}"#
        ))
    };
    let group = Group::new("{}");
    assert_eq!(
        group.apply(&rates(1_048_576)).unwrap(),
        Vec::<String>::new()
    );
    if group.on_v1("blkio") {
        let expected = format!("{number} 1048576");
        assert_eq!(
            group.file("blkio", "blkio.throttle.read_bps_device", ""),
            expected
        );
        assert_eq!(
            group.file("blkio", "blkio.throttle.write_iops_device", ""),
            expected
        );
    } else {
        let expected = format!("{number} rbps=1048576 wbps=max riops=max wiops=1048576");
        assert_eq!(group.file("blkio", "", "io.max"), expected);
    }
    group.apply(&rates(0)).unwrap();
    let file = group.file("blkio", "blkio.throttle.read_bps_device", "io.max");
    assert_eq!(file, "", "0 takes the limit away");
    assert!(group.stats().unwrap().block_io.is_some());

    let nowhere = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":4000,"minor":9,"rate":1}]}}"#;
    let error = group.apply(&resources(nowhere)).unwrap_err().to_string();
    assert!(
        error.contains("4000:9") && error.contains("no such block device"),
        "{error}"
    );
}

#[test]
fn a_block_io_weight_is_set_or_discarded() {
    let (group, warnings) = Group::with_warnings(r#"{"blockIO":{"weight":300}}"#);
    let directory = group.dir("blkio");
    let expected = [
        ("blkio.weight", "300"),
        ("blkio.bfq.weight", "300"),
        ("io.bfq.weight", "default 300"),
        ("io.weight", "default 2930"),
    ];
    let found = expected
        .iter()
        .find(|(file, _)| directory.join(file).exists());
    match found {
        Some((file, value)) => {
            let text = std::fs::read_to_string(directory.join(file)).unwrap();
            assert_eq!(
                text.lines().next(),
                Some(*value).map(|v| if text.starts_with("default") {
                    v
                } else {
                    v.trim_start_matches("default ")
                })
            );
            assert_eq!(warnings, Vec::<String>::new());
        }
        None => assert_eq!(
            warnings,
            [
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
            ]
        ),
    }
}

#[test]
fn huge_pages_are_limited_where_the_controller_is() {
    let limit = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
    let group = Group::new(limit);
    assert_eq!(
        group.file("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
        "4194304"
    );
    let odd = group.apply(&resources(
        r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#,
    ));
    assert!(odd.unwrap_err().to_string().contains("3MB"));
}

#[test]
fn a_class_id_is_set_where_net_cls_is_mounted_wherever_that_is() {
    let (group, warnings) = Group::with_warnings(r#"{"network":{"classID":1048577}}"#);
    if group.on_v1("net_cls") {
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(group.file("net_cls", "net_cls.classid", ""), "1048577");
    } else {
        assert_eq!(
            warnings,
            [
                "Your kernel does not support net_cls or the cgroup is not mounted. Class id discarded."
            ]
        );
    }
}

#[test]
fn unified_files_are_written_as_they_are() {
    let group = Group::new("{}");
    if group.v2_fd().is_none() {
        let error = group
            .apply(&resources(r#"{"unified":{"memory.high":"1"}}"#))
            .unwrap_err();
        assert!(error.to_string().contains("no cgroup v2"), "{error}");
        return;
    }
    // Files that v2 has for whatever controller, also on a hybrid machine.
    let descendants = r#"{"unified":{"cgroup.max.descendants":"7"}}"#;
    group.apply(&resources(descendants)).unwrap();
    assert_eq!(
        std::fs::read_to_string(group.dir("").join("cgroup.max.descendants")).unwrap(),
        "7\n"
    );
    let huge = r#"{"unified":{"hugetlb.2MB.max":"2097152"}}"#;
    let result = group.apply(&resources(huge));
    assert_eq!(result.is_err(), group.on_v1("hugetlb"), "{result:?}");
    for bad in ["cgroup.procs", "../x.y", "nonsense.max", "memory/max.x"] {
        let json = format!(r#"{{"unified":{{"{bad}":"1"}}}}"#);
        let error = group.apply(&resources(&json)).unwrap_err();
        assert!(error.to_string().contains(bad), "{bad}: {error}");
    }
    if !group.on_v1("memory") {
        group
            .apply(&resources(r#"{"unified":{"memory.high":"16777216"}}"#))
            .unwrap();
        assert_eq!(group.file("memory", "", "memory.high"), "16777216");
    }
}

#[test]
fn real_time_is_an_error_where_it_cannot_be_had() {
    let group = Group::new("{}");
    let error = group
        .apply(&resources(r#"{"cpu":{"realtimeRuntime":2000000}}"#))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("rt_runtime_us") || text.contains("real-time"),
        "{text}"
    );
}
