//! A container's life: created, started, paused, stopped, started again, removed, and races on the way.

use barque_testkit::{Barque, poll, proc};
use std::time::Duration;

#[test]
fn from_create_to_rm() {
    let barque = Barque::with_busybox();
    let id = barque.ok([
        "create",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo hi; sleep 100000",
    ]);
    assert_eq!(barque.status("box"), "created");
    assert_eq!(barque.ok(["start", "box"]), "box");
    assert_eq!(barque.status(&id[..12]), "running");
    let first = barque.pid("box");
    // Starting what runs is no error, and changes nothing.
    barque.ok(["start", "box"]);
    assert_eq!(barque.pid("box"), first);

    let text = barque.fails(1, ["rm", "box"]);
    assert!(text.contains("box") && text.contains("running"), "{text}");
    barque.ok(["stop", "box"]);
    assert_eq!(barque.status("box"), "exited");
    assert!(!proc::alive(first));
    // Stopping what has stopped is no error either.
    barque.ok(["stop", "box"]);
    barque.ok(["restart", "box"]);
    assert_ne!(barque.pid("box"), first);
    assert_eq!(barque.ok(["kill", "box"]), "box");
    assert_eq!(barque.ok(["wait", "box"]), "137");
    let text = barque.fails(1, ["kill", "box"]);
    assert!(text.contains("not running"), "{text}");
    assert_eq!(barque.ok(["rm", "box"]), "box");
    barque.fails(1, ["inspect", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn names_and_id_prefixes() {
    let barque = Barque::with_busybox();
    let id = barque.ok(["create", "--name", "box", "busybox"]);
    let text = barque.fails(1, ["create", "--name", "box", "busybox"]);
    assert!(
        text.contains("box") && text.contains(&id[..12]),
        "names the holder: {text}"
    );
    barque.fails(125, ["run", "--name", "box", "busybox", "true"]);
    for short in [&id[..], &id[..12], &id[..4], "box", "/box"] {
        assert_eq!(barque.look_str(short, "/Id"), id);
    }
    barque.ok(["rm", &id[..4]]);
    // Free again; and without a name, there is one all the same.
    barque.ok(["create", "--name", "box", "busybox"]);
    let other = barque.ok(["create", "busybox"]);
    let name = barque.look_str(&other, "/Name");
    assert!(name.len() > 2 && name.starts_with('/'), "{name}");
}

#[test]
fn run_rm_leaves_nothing() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "--rm", "--name", "box", "busybox", "true"]);
    assert_eq!(barque.ok(["ps", "-aq"]), "");
    // The snapshot is gone as well: only the image's one layer is left.
    let layers = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list");
    let diffs = layers.filter(|entry| entry.as_ref().is_ok_and(|e| e.path().join("diff").is_dir()));
    assert_eq!(diffs.count(), 1);
    // Detached too, when it ends by itself.
    barque.ok(["run", "-d", "--rm", "--name", "box", "busybox", "true"]);
    poll::until("it is removed", || barque.ok(["ps", "-aq"]).is_empty());
}

#[test]
fn pause_refuses_what_cannot_be() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    barque.ok(["pause", "box"]);
    assert!(barque.ok(["ps"]).contains("(Paused)"));
    let text = barque.fails(1, ["pause", "box"]);
    assert!(text.contains("paused"), "{text}");
    let text = barque.fails(1, ["exec", "box", "true"]);
    assert!(text.contains("paused"), "{text}");
    barque.ok(["unpause", "box"]);
    let text = barque.fails(1, ["unpause", "box"]);
    assert!(text.contains("not paused"), "{text}");
    // A frozen container can be stopped and removed.
    barque.ok(["pause", "box"]);
    barque
        .cmd(["stop", "box"])
        .timeout(Duration::from_secs(60))
        .output()
        .ok();
    assert_eq!(barque.status("box"), "exited");
    barque.ok(["start", "box"]);
    barque.ok(["pause", "box"]);
    barque.ok(["rm", "-f", "box"]);
}

#[test]
fn wait_waits_and_tells_the_code() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "read x; exit 9",
    ]);
    assert_eq!(
        barque.ok(["wait", "box"]),
        "9",
        "no stdin: `read` fails, the shell goes on"
    );
    barque.ok(["run", "-d", "--name", "long", "busybox", "sleep", "100000"]);
    let mut waiting = barque.cmd(["wait", "long", "box"]).spawn_without_stdin();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!waiting.ended());
    barque.ok(["kill", "-s", "KILL", "long"]);
    assert_eq!(waiting.wait().ok().text(), "137\n9");
}

#[test]
fn kill_sends_any_signal() {
    let barque = Barque::with_busybox();
    let script = "trap 'echo hup' HUP; trap 'echo term; exit 3' TERM; echo ready; \
                  while :; do sleep 0.1; done";
    barque.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    let log = |wanted: &str| poll::until(wanted, || barque.ok(["logs", "box"]).ends_with(wanted));
    log("ready");
    for signal in ["HUP", "SIGHUP", "1"] {
        barque.ok(["kill", "--signal", signal, "box"]);
        log("hup");
    }
    barque.ok(["kill", "-s", "15", "box"]);
    assert_eq!(barque.ok(["wait", "box"]), "3");
    let text = barque.fails(1, ["kill", "-s", "NONSENSE", "box"]);
    assert!(text.contains("NONSENSE"), "{text}");
}

#[test]
fn attach_joins_a_running_container() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "-d", "-i", "--name", "box", "busybox", "cat"]);
    let mut one = barque.cmd(["attach", "box"]).spawn();
    one.write(b"hello\n");
    one.until_stdout("hello");
    // Two at once hear the same.
    let mut two = barque.cmd(["attach", "box"]).spawn();
    poll::until("the second one hears it", || {
        one.write(b"again\n");
        std::thread::sleep(Duration::from_millis(50));
        two.stdout().contains("again")
    });
    two.write(b"from two\n");
    one.until_stdout("from two");
    drop(two);
    assert_eq!(barque.status("box"), "running");
    barque.ok(["kill", "box"]);
    one.wait().exits(137);
    let text = barque.fails(1, ["attach", "box"]);
    assert!(
        text.contains("not running") || text.contains("stopped"),
        "{text}"
    );
}

#[test]
fn start_attached_gives_output_and_code() {
    let barque = Barque::with_busybox();
    barque.ok([
        "create",
        "-i",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "cat; exit 4",
    ]);
    let output = barque
        .cmd(["start", "-a", "-i", "box"])
        .stdin("fed\n")
        .output()
        .exits(4);
    assert_eq!(output.text(), "fed");
    let output = barque
        .cmd(["start", "-ai", "box"])
        .stdin("again\n")
        .output()
        .exits(4);
    assert_eq!(output.text(), "again");
}

#[test]
fn many_commands_race_on_one_container() {
    let barque = Barque::with_busybox();
    barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
    // All start it: one process comes of it.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| barque.ok(["start", "box"]));
        }
    });
    assert_eq!(proc::in_cgroup(&barque.cgroup_parent()).len(), 1);
    // Some stop, some start, some kill: each does or says why not, and the end is a sound state.
    std::thread::scope(|scope| {
        for verb in [
            "stop", "start", "kill", "restart", "stop", "start", "pause", "unpause",
        ] {
            let barque = &barque;
            scope.spawn(move || {
                let output = barque.output([verb, "box"]);
                assert!(matches!(output.code, 0 | 1), "{output}");
                assert!(!output.stderr.contains("panicked"), "{output}");
            });
        }
    });
    let status = barque.status("box");
    assert!(
        ["running", "exited", "paused"].contains(&status.as_str()),
        "{status}"
    );
    let alive = proc::in_cgroup(&barque.cgroup_parent()).len();
    assert_eq!(alive, usize::from(status != "exited"), "{status}");
    // All remove it: one succeeds or all of the others find it gone.
    std::thread::scope(|scope| {
        let rms: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| barque.output(["rm", "-f", "box"])))
            .collect();
        let codes: Vec<i32> = rms
            .into_iter()
            .map(|rm| rm.join().expect("rm").code)
            .collect();
        assert!(
            codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 1)),
            "{codes:?}"
        );
    });
    assert_eq!(barque.ok(["ps", "-aq"]), "");
    barque.assert_nothing_left();
}

#[test]
fn many_creators_race_for_one_name() {
    let barque = Barque::with_busybox();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| barque.output(["create", "--name", "box", "busybox"]).code))
            .collect();
        let mut codes: Vec<i32> = all
            .into_iter()
            .map(|one| one.join().expect("create"))
            .collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 1, 1, 1, 1]);
    });
    assert_eq!(barque.ok(["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn twenty_containers_at_once() {
    let barque = Barque::with_busybox();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let barque = &barque;
            scope.spawn(move || barque.sleeper(&format!("box{n}")));
        }
    });
    assert_eq!(barque.ok(["ps", "-q"]).lines().count(), 20);
    let ids = barque.output(["ps", "-q"]).lines();
    barque.ok(["rm".to_owned(), "-f".to_owned()].into_iter().chain(ids));
    barque.assert_nothing_left();
}

#[test]
fn changes_are_listed_for_stopped_containers_too() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo x > /etc/new; rm /bin/vi",
    ]);
    let mut lines = barque.output(["diff", "box"]).ok().lines();
    lines.sort();
    assert_eq!(lines, ["A /etc/new", "C /bin", "C /etc", "D /bin/vi"]);
}
