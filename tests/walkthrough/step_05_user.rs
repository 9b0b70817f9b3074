//! 5. User: root inside, an ordinary user outside.

use barque_testkit::{Barque, Cmd, proc};
use std::os::unix::fs::MetadataExt;

/// Where the container's ids begin on the host.
const FIRST: u32 = 100_000;

#[test]
fn root_inside_is_an_ordinary_user_outside() {
    let barque = Barque::with_busybox();
    let shared = barque.dir().join("shared");
    std::fs::create_dir(&shared).expect("make a directory");
    std::os::unix::fs::chown(&shared, Some(FIRST), Some(FIRST)).expect("give it away");
    let secret = shared.join("secret");
    std::fs::write(&secret, "root's own").expect("write a file");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("make it private");

    let map = format!("0:{FIRST}:65536");
    let volume = format!("{}:/shared", shared.display());
    barque.ok([
        "run", "-d", "--name", "box", "--uidmap", &map, "--gidmap", &map, "-v", &volume, "busybox",
        "sleep", "100000",
    ]);

    // Inside: root, with a complete set of ids.
    assert_eq!(barque.inside("box", "id -u"), "0");
    let inner_map = barque.inside("box", "cat /proc/self/uid_map");
    let inner_map: Vec<&str> = inner_map.split_whitespace().collect();
    assert_eq!(inner_map, ["0", "100000", "65536"]);

    // Outside: the host's ps shows the mapped id.
    let pid = barque.pid("box");
    let uid = Cmd::new("/usr/bin/ps")
        .args(["-o", "uid=", "-p", &pid.to_string()])
        .output()
        .ok()
        .text();
    assert_eq!(uid.trim(), FIRST.to_string());
    assert_ne!(proc::namespace(pid, "user"), proc::own_namespace("user"));

    // Files written to a bind mount belong to that user …
    barque.inside("box", "echo from inside > /shared/letter");
    let letter = std::fs::metadata(shared.join("letter")).expect("the file is there");
    assert_eq!((letter.uid(), letter.gid()), (FIRST, FIRST));
    // … another user inside is another user outside …
    barque.inside("box", "mkdir -m 777 /shared/open");
    barque.ok([
        "exec",
        "-u",
        "1000:1000",
        "box",
        "touch",
        "/shared/open/guest",
    ]);
    let guest = std::fs::metadata(shared.join("open/guest")).expect("the file is there");
    assert_eq!((guest.uid(), guest.gid()), (FIRST + 1000, FIRST + 1000));
    // … and what belongs to the host's root is out of reach of the container's.
    barque.fails(1, ["exec", "box", "cat", "/shared/secret"]);

    // The image's files are root's inside, without having been copied or given away.
    assert_eq!(barque.inside("box", "stat -c %u:%g /bin/busybox"), "0:0");
}

#[test]
fn a_range_can_be_chosen_by_the_engine() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run", "-d", "--name", "box", "--userns", "auto", "busybox", "sleep", "100000",
    ]);
    assert_eq!(
        barque.inside("box", "id -u; touch /root/x && stat -c %u /root/x"),
        "0\n0"
    );
    let uids = proc::status(barque.pid("box"), "Uid");
    let real: u32 = uids
        .split_whitespace()
        .next()
        .and_then(|uid| uid.parse().ok())
        .unwrap();
    assert!(real >= 65536, "an id that no one on the host has: {real}");
}
