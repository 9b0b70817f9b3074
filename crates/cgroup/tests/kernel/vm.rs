//! All of these tests again, in virtual machines with the layouts that this machine does not have.

use std::time::Duration;

use barque_testkit::vm::{Cgroups, Outcome, Vm};

const HERE: &str = "in_a_virtual_machine";

/// Runs this very program, without the tests of this module, and checks that it ran them all.
fn run(cgroups: Cgroups, before: &str) -> Outcome {
    let outcome = Vm::new(cgroups)
        .program("/bin/kernel-tests", std::env::current_exe().unwrap())
        // A disk whose I/O can be limited.
        .module("null_blk")
        .timeout(Duration::from_secs(400))
        .run(&format!(
            "{before}\nkernel-tests --test-threads 2 --skip {HERE}"
        ));
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(outcome.output.contains(" 0 failed;"), "{outcome}");
    let passed = outcome.output.matches(" ... ok").count();
    assert!(passed >= 55, "{passed} tests ran: {outcome}");
    outcome
}

#[test]
fn pure_v2_in_a_virtual_machine() {
    run(
        Cgroups::V2,
        "test -f /sys/fs/cgroup/cgroup.controllers && test ! -d /sys/fs/cgroup/memory || exit 99",
    );
}

/// Docker's statistics go empty on such a machine: one v1 hierarchy at an odd place beside v2.
#[test]
fn v2_with_a_stray_v1_hierarchy_in_a_virtual_machine() {
    let mount = "mkdir -p '/odd place' && mount -t cgroup -o net_cls odd '/odd place' || exit 99";
    run(Cgroups::V2, mount);
}

#[test]
fn pure_v1_with_co_mounted_controllers_in_a_virtual_machine() {
    run(
        Cgroups::V1,
        "test -d /sys/fs/cgroup/cpu,cpuacct && test ! -d /sys/fs/cgroup/unified || exit 99",
    );
}

/// What systemd made of v1 for years: every controller on v1, and a v2 tree with none but
/// those that v1 never had.
#[test]
fn hybrid_with_everything_on_v1_in_a_virtual_machine() {
    run(
        Cgroups::Hybrid,
        "grep -E 'memory|cpu|hugetlb' /sys/fs/cgroup/unified/cgroup.controllers && exit 99",
    );
}
