//! What `info` tells.

use barque_cgroup::{Capabilities, Mode, controllers};

use crate::support::*;

#[test]
fn the_kernel_is_asked_and_nothing_is_left() {
    let layout = layout();
    let found = Capabilities::probe(&layout);
    assert!(found.memory_limit && found.pids_limit && found.cpu_cfs_quota && found.cpu_shares);
    assert!(
        found.cpuset && found.freezer && found.devices && found.blkio_read_bps,
        "{found:?}"
    );
    let v1 = matches!(layout.mode(), Mode::V1 | Mode::Hybrid);
    assert_eq!(found.oom_kill_disable, v1);
    assert_eq!(found.memory_swappiness, v1);
    let group = Group::new("{}");
    let weight = [
        "blkio.weight",
        "blkio.bfq.weight",
        "io.weight",
        "io.bfq.weight",
    ]
    .iter()
    .any(|file| group.dir("blkio").join(file).exists());
    assert_eq!(found.blkio_weight, weight);
    let warned = found
        .warnings(layout.mode())
        .iter()
        .any(|line| line.contains("weight"));
    assert_eq!(warned, !weight);
    // What a limit does is what the probe said of it.
    for (there, json) in [
        (found.cpu_burst, r#"{"cpu":{"quota":10000,"burst":1000}}"#),
        (found.cpu_idle, r#"{"cpu":{"idle":1}}"#),
        (
            found.hugetlb,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":2097152}]}"#,
        ),
        (found.net_cls, r#"{"network":{"classID":1048577}}"#),
        (
            found.net_prio,
            r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#,
        ),
        (
            found.unified,
            r#"{"unified":{"cgroup.max.descendants":"9"}}"#,
        ),
    ] {
        let held = group
            .apply(&resources(json))
            .is_ok_and(|warnings| warnings.is_empty());
        assert_eq!(held, there, "{json}");
    }
    let v2 = group.v2_fd().is_some();
    assert_eq!(found.kill, v2 && group.dir("").join("cgroup.kill").exists());
    let stats = group.stats().unwrap();
    assert_eq!(found.pressure, stats.cpu.unwrap().pressure.is_some());
    assert_eq!(
        found.rdma,
        layout.controller("rdma").is_some_and(|hierarchy| group
            .dir(if hierarchy.is_v2() { "" } else { "rdma" })
            .join("rdma.max")
            .exists())
    );
    // Other probes may run at this moment; ours is named after this process.
    let ours = format!("barque-probe-{}-", std::process::id());
    for hierarchy in layout.hierarchies() {
        for entry in std::fs::read_dir(&hierarchy.mounted().mount_point).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_str().unwrap().starts_with(&ours), "{name:?}");
        }
    }
}

#[test]
fn controllers_are_listed_with_their_place() {
    let layout = layout();
    let all = controllers(&layout).unwrap();
    for name in ["memory", "cpu", "cpuset", "blkio", "pids"] {
        let found: Vec<_> = all
            .iter()
            .filter(|controller| controller.name == name)
            .collect();
        assert_eq!(found.len(), 1, "{name}: {all:?}");
        assert!(found[0].enabled && found[0].mount_point.is_some());
        assert_eq!(found[0].version, Some(layout.version()));
        assert_eq!(found[0].hierarchy == 0, layout.version() == 2);
        assert!(found[0].num_cgroups > 0);
    }
    assert_eq!(layout.driver(), "cgroupfs");
}
