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
