//! 1. UTS: a host name of one's own.

use barque_testkit::{Barque, proc};

/// The name and NIS domain of this machine, as the kernel has them.
fn names_of_the_host() -> (String, String) {
    let read = |file: &str| {
        let path = format!("/proc/sys/kernel/{file}");
        let text = std::fs::read_to_string(path).expect("read a kernel parameter");
        text.trim().to_owned()
    };
    (read("hostname"), read("domainname"))
}

#[test]
fn host_and_domain_name_change_without_the_hosts_changing() {
    let barque = Barque::new();
    let before = names_of_the_host();

    // Given from outside …
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--hostname",
        "harbour",
        "--domainname",
        "sea.test",
        // (to set a host name is the right of a namespace's administrator)
        "--cap-add",
        "SYS_ADMIN",
        "--rootfs",
        "/",
        "sleep",
        "100000",
    ]);
    assert_eq!(barque.inside("box", "uname -n"), "harbour");
    assert_eq!(
        barque.inside("box", "cat /proc/sys/kernel/domainname"),
        "sea.test"
    );
    assert_eq!(names_of_the_host(), before);

    // … and changed from inside.
    barque.inside(
        "box",
        "hostname lighthouse 2>/dev/null || exec busybox hostname lighthouse",
    );
    assert_eq!(barque.inside("box", "uname -n"), "lighthouse");
    assert_eq!(names_of_the_host(), before);

    // Because the kernel keeps the two in different UTS namespaces.
    let pid = barque.pid("box");
    assert_ne!(proc::namespace(pid, "uts"), proc::own_namespace("uts"));
}
