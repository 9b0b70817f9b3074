//! Device rules in force: v1's files, and on v2 the program.

use std::os::fd::BorrowedFd;

use crate::support::*;

const RULES: &str = r#"[
    {"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
    {"allow":true,"type":"b","access":"m"}"#;

fn rules(more: &str) -> String {
    format!(r#"{{"devices":{RULES}{more}]}}"#)
}

/// Which of the accesses a process of the group has: one word each.
fn accesses(group: &Group) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path().display();
    let script = format!(
        "(: < /dev/null) && echo null-r
(: > /dev/null) && echo null-w
(: <> /dev/null) && echo null-rw
(: < /dev/zero) && echo zero-r
(: > /dev/zero) && echo zero-w
mknod {d}/c c 1 3 && echo mknod-c
mknod {d}/b b 7 200 && echo mknod-b
(: < {d}/b) && echo block-r
exit 0"
    );
    let (status, out, stderr) = group.shell(&script).finish();
    assert!(status.success(), "{stderr}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn devices_that_are_not_listed_are_denied() {
    let group = Group::new(&rules(""));
    assert_eq!(accesses(&group), ["null-r", "null-w", "null-rw", "mknod-b"]);
    // The same rules again, and others: each replaces what was there.
    group.apply(&resources(&rules(""))).unwrap();
    let more = r#",{"allow":true,"type":"c","major":1,"minor":5,"access":"r"},{"allow":true,"type":"c","access":"m"}"#;
    group.apply(&resources(&rules(more))).unwrap();
    assert_eq!(
        accesses(&group),
        [
            "null-r", "null-w", "null-rw", "zero-r", "mknod-c", "mknod-b"
        ]
    );
    one_program(&group);
    group
        .apply(&resources(r#"{"devices":[{"allow":true}]}"#))
        .unwrap();
    let all = accesses(&group);
    assert!(
        all.contains(&"zero-w".to_owned()) && all.contains(&"mknod-c".to_owned()),
        "{all:?}"
    );
}

/// On v2 an update leaves one program, not a pile of them.
fn one_program(group: &Group) {
    if group.on_v1("devices") {
        return;
    }
    let fd: BorrowedFd<'_> = group.v2_fd().unwrap();
    assert_eq!(
        barque_sys::bpf::cgroup_device_programs(fd).unwrap().len(),
        1
    );
}

#[test]
fn a_later_rule_takes_back_what_an_earlier_one_gave_where_that_can_be_said() {
    let devices = r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"access":"rw"},{"allow":false,"type":"c","major":1,"minor":5,"access":"w"}]}"#;
    let group = Group::new("{}");
    let result = group.apply(&resources(devices));
    if group.on_v1("devices") {
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("deny c 1:5 w") && error.contains("cgroup v1"),
            "{error}"
        );
    } else {
        result.unwrap();
        assert_eq!(accesses(&group), ["null-r", "null-w", "null-rw", "zero-r"]);
    }
}
