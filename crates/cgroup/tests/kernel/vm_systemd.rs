//! The systemd driver against a real systemd, which is process 1 of a virtual machine.

use std::time::Duration;

use barque_testkit::vm::{Cgroups, Vm};

/// Once over systemd's own socket, before there is a bus, and once over the bus alone.
const SCRIPT: &str = "
kernel-tests --test-threads 1 --show-output systemd_driver || exit 1
systemctl start dbus.service && rm /run/systemd/private || exit 2
kernel-tests --test-threads 1 --show-output systemd_driver || exit 3
";

fn run(cgroups: Cgroups) {
    let outcome = Vm::new(cgroups)
        .program("/bin/kernel-tests", std::env::current_exe().unwrap())
        .systemd()
        .timeout(Duration::from_secs(300))
        .run(SCRIPT);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    // A machine without systemd has these tests pass otherwise.
    let passed = outcome.output.matches(" ... ok").count();
    assert_eq!(passed, 2 * super::systemd_driver::COUNT, "{outcome}");
    assert!(
        !outcome.output.contains(super::systemd_driver::WITHOUT),
        "{outcome}"
    );
}

#[test]
fn systemd_with_pure_v2_in_a_virtual_machine() {
    run(Cgroups::V2);
}

#[test]
fn systemd_with_hybrid_in_a_virtual_machine() {
    run(Cgroups::Hybrid);
}
