//! A scope of a user's own systemd, without root. [`crate::vm_systemd`] runs this as a user in a
//! virtual machine; elsewhere it checks that a manager that is not there is told of.

use barque_cgroup::Layout;
use barque_cgroup::systemd::{Manager, Start, UnitName};

use crate::support::*;

/// Where the user's manager is to be found.
const ADDRESS: &str = "BARQUE_TEST_USER_MANAGER";

#[test]
fn a_user_has_a_scope_of_its_own_systemd() {
    let Ok(address) = std::env::var(ADDRESS) else {
        let nowhere = "unix:path=/nonexistent/bus";
        let error = Manager::at(nowhere).unwrap_err().to_string();
        assert!(error.contains(nowhere), "{error}");
        return;
    };
    assert!(!rustix::process::geteuid().is_root());
    let layout = Layout::detect().unwrap();
    let mut manager = Manager::at(&address).unwrap();
    let name = UnitName::parse(":barque:user", "user.slice").unwrap();
    let mut member = Member::outside("sleep 1000");
    member.go();
    // Every configuration has device rules, which a user cannot have enforced.
    let limits = resources(
        r#"{"pids":{"limit":20},"memory":{"limit":33554432},"devices":[{"allow":false}]}"#,
    );
    let start = Start {
        pid: Some(member.pid()),
        description: "a test of Barque",
        resources: &limits,
        properties: &[],
    };
    let (group, warnings) = manager.start(&layout, &name, &start).unwrap();
    assert_eq!(
        warnings,
        ["Device rules need root on the host. Device rules discarded."]
    );
    assert!(
        group.path().ends_with("/user.slice/barque-user.scope"),
        "{}",
        group.path()
    );
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", member.pid())).unwrap();
    assert_eq!(membership.trim(), format!("0::{}", group.path()));
    let limits = |group: &barque_cgroup::Cgroup| {
        let stats = group.stats().unwrap();
        (stats.pids.unwrap().limit, stats.memory.unwrap().limit)
    };
    assert_eq!(limits(&group), (Some(20), Some(33_554_432)));
    manager
        .update(
            &layout,
            &name,
            &group,
            &resources(r#"{"pids":{"limit":21}}"#),
        )
        .unwrap();
    assert_eq!(limits(&group), (Some(21), Some(33_554_432)));
    group.kill_all(PATIENCE).unwrap();
    member.wait();
    manager.stop(&name, &group).unwrap();
    assert!(group.paths().values().all(|path| !path.exists()));
    println!("a user's scope: done");
}
