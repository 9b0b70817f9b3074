//! `restart` by hand, of the containers for which it is not plainly stop and start.

use barque_testkit::{Barque, poll, proc};

#[test]
fn a_container_that_removes_itself_survives_its_restart() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run", "-d", "--rm", "--name", "box", "busybox", "sleep", "100000",
    ]);
    barque.ok(["exec", "box", "sh", "-c", "echo kept > /note"]);
    let first = barque.pid("box");
    barque.ok(["restart", "box"]);
    assert_ne!(barque.pid("box"), first);
    assert!(!proc::alive(first));
    assert_eq!(barque.ok(["exec", "box", "cat", "/note"]), "kept");
    // And it still removes itself, when it really is over.
    barque.ok(["stop", "box"]);
    barque.fails(1, ["inspect", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn a_stopped_container_is_started() {
    let barque = Barque::with_busybox();
    barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
    barque.ok(["restart", "box"]);
    assert_eq!(barque.status("box"), "running");
    let first = barque.pid("box");
    barque.ok(["restart", "-t", "0", "box"]);
    poll::until("the first process is gone", || !proc::alive(first));
    barque.ok(["rm", "-f", "box"]);
    barque.assert_nothing_left();
}
