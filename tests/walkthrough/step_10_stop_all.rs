//! 10. And all of it ends with one line.

use barque_testkit::Barque;

#[test]
fn stop_of_all_that_runs_stops_everything() {
    let barque = Barque::with_busybox();
    for name in ["one", "two", "three"] {
        barque.sleeper(name);
    }
    let running = barque.output(["ps", "-q"]).ok().lines();
    assert_eq!(running.len(), 3);

    // stop $(ps -q)
    let stopped = barque
        .output(["stop".to_owned()].into_iter().chain(running.clone()))
        .ok();
    assert_eq!(stopped.lines(), running, "it names what it stopped");

    assert_eq!(barque.ok(["ps", "-q"]), "");
    assert_eq!(barque.output(["ps", "-aq"]).ok().lines().len(), 3);
    for name in ["one", "two", "three"] {
        assert_eq!(barque.status(name), "exited");
    }
    barque.assert_nothing_left();
}
