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

/// A user's systemd, as `user@.service` has it: a delegated group, and no rights but the user's. The
/// test is a service of it, because a user cannot fetch processes from elsewhere in the tree.
#[test]
fn a_users_systemd_in_a_virtual_machine() {
    let manager = "[Unit]
DefaultDependencies=no
[Service]
User=user
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/1000 HOME=/tmp
ExecStart=/usr/lib/systemd/systemd --user --unit=test.service
";
    let test = "[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
Environment=BARQUE_TEST_USER_MANAGER=unix:path=/run/user/1000/systemd/private
ExecStart=/bin/sh -c 'kernel-tests --show-output systemd_user >/tmp/out 2>&1; echo $? >/tmp/status'
";
    let outcome = Vm::new(Cgroups::V2)
        .program("/bin/kernel-tests", std::env::current_exe().unwrap())
        .systemd()
        .file("/etc/systemd/system/manager.service", 0o644, manager)
        .file("/etc/systemd/user/test.service", 0o644, test)
        .timeout(Duration::from_secs(120))
        .run(
            "mkdir -p /run/user/1000 && chown user:user /run/user/1000 && systemctl start manager.service || exit 9
i=0; while [ ! -s /tmp/status ] && [ $i -lt 60 ]; do i=$((i+1)); sleep 1; done
cat /tmp/out; exit $(cat /tmp/status)",
        );
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(outcome.output.contains("a user's scope: done"), "{outcome}");
}
