//! 4. Mount: what is mounted inside is not mounted outside.

use barque_testkit::{Barque, proc};

#[test]
fn mounts_made_inside_are_not_seen_outside() {
    let barque = Barque::new();
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    // mount(2) is the right of a namespace's administrator.
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--cap-add",
        "SYS_ADMIN",
        "--rootfs",
        "/",
        "sleep",
        "100000",
    ]);
    barque.inside(
        "box",
        "mkdir /srv/quay && mount -t tmpfs -o size=1m cargo /srv/quay",
    );
    barque.inside("box", "echo crate > /srv/quay/manifest");

    let inside = barque.inside("box", "cat /proc/self/mountinfo");
    assert!(inside.contains("/srv/quay"), "{inside}");
    let after = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    assert!(!after.contains("/srv/quay"), "{after}");
    assert!(!std::path::Path::new("/srv/quay").exists());

    // Nor is any part of the container's own root, which lives in its namespace alone.
    let root = barque.look_str("box", "/GraphDriver/Data/MergedDir");
    assert!(!before.contains(&root) && !after.contains(&root), "{after}");
    assert_ne!(
        proc::namespace(barque.pid("box"), "mnt"),
        proc::own_namespace("mnt")
    );

    // The mount lasts as long as the namespace: after a restart it is gone, the directory is not.
    barque.ok(["restart", "-t", "0", "box"]);
    assert_eq!(barque.inside("box", "ls -A /srv/quay"), "");
}
