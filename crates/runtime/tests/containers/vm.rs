//! All of these tests again on Debian 12's kernel (6.1): the root is an initramfs that cannot be
//! pivoted away, an overlay takes its layers in one string and no detached ones, and the cgroups
//! are those that this machine does not have.

use crate::Case;
use barque_testkit::vm::{Cgroups, Vm};
use std::process::Command;
use std::time::Duration;

pub const CASES: &[Case] = &[
    (
        "vm::an_older_kernel_with_cgroup_v2",
        an_older_kernel_with_cgroup_v2,
    ),
    (
        "vm::an_older_kernel_with_cgroup_v1",
        an_older_kernel_with_cgroup_v1,
    ),
];

fn run(cgroups: Cgroups) {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk = dir.path().join("disk");
    // tmpfs has idmapped mounts only since 6.3, so the tests' corner is on ext4.
    let made = Command::new("mkfs.ext4")
        .args(["-q"])
        .arg(&disk)
        .arg("256M")
        .status();
    assert!(
        made.expect("mkfs.ext4 is missing: apt-get install e2fsprogs")
            .success()
    );
    let outcome = Vm::new(cgroups)
        .program(
            "/bin/containers",
            std::env::current_exe().expect("own path"),
        )
        .module("overlay")
        .disk(&disk)
        .memory(1024)
        .timeout(Duration::from_secs(400))
        .run("mount -t ext4 /dev/vda /tmp && containers --skip vm:: --skip bench::");
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let passed = outcome.output.matches(" ... ok").count();
    assert!(passed >= 60, "{passed} tests ran: {outcome}");
}

fn an_older_kernel_with_cgroup_v2() {
    run(Cgroups::V2);
}

fn an_older_kernel_with_cgroup_v1() {
    run(Cgroups::V1);
}
