//! Containers live without the command that started them; stopping is quick; restart policies hold.

use barque_testkit::{Barque, poll, proc};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_container_survives_the_client_that_started_it() {
    let barque = Barque::with_busybox();
    let script = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done";
    let client = barque.cmd(["run", "--name", "box", "busybox", "sh", "-c", script]);
    let client = client.spawn_without_stdin();
    client.until_stdout("tick 1");
    client.signal(Signal::KILL);
    drop(client);

    assert_eq!(barque.status("box"), "running");
    assert!(barque.ok(["ps"]).contains("box"));
    let so_far = barque.ok(["logs", "box"]).lines().count();
    poll::until("the log grows", || {
        barque.ok(["logs", "box"]).lines().count() > so_far
    });
    barque.ok(["exec", "box", "true"]);
    barque.ok(["stop", "-t", "1", "box"]);
    assert_eq!(barque.status("box"), "exited");
}

#[test]
fn an_image_s_stop_of_a_deaf_process_does_not_wait() {
    let barque = Barque::with_busybox();
    // `sleep` as PID 1 has no handler: the kernel never delivers SIGTERM to it.
    barque.sleeper("deaf");
    let quick = barque.output(["stop", "deaf"]).ok();
    assert!(quick.took < Duration::from_secs(8), "{quick}");
    assert_eq!(barque.look("deaf", "/State/ExitCode"), 137);

    // One that ignores it is as deaf.
    let ignore = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    barque.ok([
        "run", "-d", "--name", "ignores", "busybox", "sh", "-c", ignore,
    ]);
    poll::until("it is ready", || barque.ok(["logs", "ignores"]) == "ready");
    let quick = barque.output(["stop", "-t", "30", "ignores"]).ok();
    assert!(quick.took < Duration::from_secs(20), "{quick}");

    // One that listens is given its time.
    let listen = "trap 'sleep 1; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    barque.ok([
        "run", "-d", "--name", "listens", "busybox", "sh", "-c", listen,
    ]);
    poll::until("it is ready", || barque.ok(["logs", "listens"]) == "ready");
    barque.ok(["stop", "listens"]);
    assert_eq!(barque.look("listens", "/State/ExitCode"), 0);
    assert_eq!(barque.ok(["logs", "listens"]), "ready\nbye");

    // And one that listens but does not go is killed when its time is over.
    let stay = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done";
    barque.ok(["run", "-d", "--name", "stays", "busybox", "sh", "-c", stay]);
    poll::until("it is ready", || barque.ok(["logs", "stays"]) == "ready");
    let slow = barque.output(["stop", "-t", "2", "stays"]).ok();
    assert!(slow.took >= Duration::from_secs(2), "{slow}");
    assert_eq!(barque.look("stays", "/State/ExitCode"), 137);
    assert_eq!(barque.ok(["logs", "stays"]), "ready\nno");
}

#[test]
fn the_stop_signal_and_timeout_of_the_container_count() {
    let barque = Barque::with_busybox();
    let script = "trap 'echo usr1; exit 8' USR1; echo ready; while :; do sleep 0.1; done";
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--stop-signal",
        "SIGUSR1",
        "--stop-timeout",
        "60",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    poll::until("it is ready", || barque.ok(["logs", "box"]) == "ready");
    barque.ok(["stop", "box"]);
    assert_eq!(barque.look("box", "/State/ExitCode"), 8);
    barque.ok(["start", "box"]);
    poll::until("it is ready", || {
        barque.ok(["logs", "-n", "1", "box"]) == "ready"
    });
    let quick = barque.output(["stop", "-s", "TERM", "box"]).ok();
    assert!(
        quick.took < Duration::from_secs(30),
        "TERM is not handled: {quick}"
    );
}

#[test]
fn restart_policies() {
    let barque = Barque::with_busybox();
    let run = |name: &str, policy: &str, script: &str| {
        barque.ok([
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            policy,
            "busybox",
            "sh",
            "-c",
            script,
        ]);
    };
    run("always", "always", "sleep 0.2; exit 0");
    run("twice", "on-failure:2", "exit 3");
    run("fine", "on-failure", "exit 0");
    run("never", "no", "exit 3");
    run("unless", "unless-stopped", "sleep 0.2; exit 1");

    for name in ["always", "unless"] {
        poll::until(&format!("{name} is started again and again"), || {
            barque.look(name, "/RestartCount").as_u64() >= Some(2)
        });
        // Stopping ends it for good.
        barque.ok(["stop", name]);
        assert_eq!(barque.status(name), "exited");
        let count = barque.look(name, "/RestartCount");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(barque.status(name), "exited");
        assert_eq!(barque.look(name, "/RestartCount"), count);
    }
    poll::until("on-failure:2 gives up", || {
        barque.status("twice") == "exited" && barque.look("twice", "/RestartCount") == 2
    });
    assert_eq!(barque.look("twice", "/State/ExitCode"), 3);
    for name in ["fine", "never"] {
        barque.until_status(name, "exited");
        assert_eq!(barque.look(name, "/RestartCount"), 0);
    }
    barque.fails(
        125,
        ["run", "--rm", "--restart", "always", "busybox", "true"],
    );
}

#[test]
fn a_container_whose_monitor_was_killed_is_noticed() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let pid = barque.pid("box");
    let monitor = proc::parent(pid);
    let monitors = proc::with_open_files("barque", &barque.dir().to_string_lossy());
    assert!(
        monitors.iter().any(|(found, _)| *found == monitor),
        "{monitor} {monitors:?}"
    );
    let target = rustix::process::Pid::from_raw(monitor).expect("a pid");
    rustix::process::kill_process(target, Signal::KILL).expect("kill the monitor");
    // Whatever the engine makes of it (the container dies with it or is adopted), it tells the truth
    // and can be cleaned away.
    poll::until("the monitor is gone", || !proc::alive(monitor));
    let status = barque.status("box");
    assert_eq!(status == "running", proc::alive(pid), "{status}");
    barque.ok(["rm", "-f", "box"]);
    assert!(!proc::alive(pid));
    barque.assert_nothing_left();
}

#[test]
fn the_monitor_holds_nothing_of_its_caller() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let monitor = proc::parent(barque.pid("box"));
    let fds = std::fs::read_dir(format!("/proc/{monitor}/fd")).expect("list its files");
    for fd in fds {
        let target = std::fs::read_link(fd.expect("an fd").path()).expect("read a link");
        let text = target.to_string_lossy().into_owned();
        assert!(
            !text.starts_with("/dev/pts"),
            "it holds the caller's terminal: {text}"
        );
    }
    // A session and a root directory of its own, so that no terminal and no mount is kept busy.
    let cwd = std::fs::read_link(format!("/proc/{monitor}/cwd")).expect("its directory");
    assert_eq!(cwd, std::path::Path::new("/"));
    // From /proc, not getsid(2): a session whose leader is outside of our PID namespace is 0 there.
    let session = proc::session(monitor);
    assert_ne!(session, proc::session(std::process::id() as i32));
    assert_ne!(session, 0, "its leader is in this namespace");
}

#[test]
fn a_long_run_root_does_not_break_the_socket() {
    // sun_path holds 108 bytes; 64 of them would be the id alone.
    let barque = Barque::with_busybox();
    let deep = barque
        .dir()
        .join("a-run-root-with-quite-a-long-name/that-goes-on-and-on-for-a-while");
    let cmd = |args: &[&str]| {
        let mut all = vec!["--run-root", deep.to_str().expect("UTF-8")];
        all.extend(args);
        barque.cmd(all).output().ok().text()
    };
    let parent = format!("--cgroup-parent={}", barque.cgroup_parent());
    cmd(&[
        "run", &parent, "-d", "-i", "--name", "box", "busybox", "cat",
    ]);
    assert_eq!(cmd(&["ps", "-q"]).len(), 12);
    cmd(&["stop", "box"]);
    cmd(&["rm", "box"]);
}
