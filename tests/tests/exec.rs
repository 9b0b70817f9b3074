//! `exec`, and terminals.

use barque_testkit::{Barque, Pty, proc};

#[test]
fn one_more_process_in_the_container() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "-e",
        "A=container",
        "-w",
        "/var",
        "--cap-drop",
        "CHOWN",
        "busybox",
        "sleep",
        "100000",
    ]);
    assert_eq!(barque.inside("box", "echo $A; pwd"), "container\n/var");
    let args = [
        "exec", "-e", "A=mine", "-w", "/etc", "-u", "guest", "box", "sh", "-c",
    ];
    let said = barque.ok(args.into_iter().chain(["echo $A; pwd; id -u"]));
    assert_eq!(said, "mine\n/etc\n1000");
    // In all of its namespaces, with its limits and its filter.
    let pid = barque.pid("box");
    for ns in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let link = barque.inside("box", &format!("readlink /proc/self/ns/{ns}"));
        assert_eq!(link, proc::namespace(pid, ns), "{ns}");
    }
    let status = barque.inside("box", "cat /proc/self/status");
    for field in ["CapEff", "CapBnd", "Seccomp", "NoNewPrivs"] {
        assert_eq!(
            proc::field_of(&status, field),
            Some(&*proc::status(pid, field)),
            "{field}"
        );
    }
    assert_eq!(
        barque.inside("box", "cat /proc/self/cgroup"),
        barque.inside("box", "cat /proc/1/cgroup")
    );
    let args = [
        "exec",
        "--privileged",
        "box",
        "grep",
        "CapEff",
        "/proc/self/status",
    ];
    let ours = proc::status(std::process::id() as i32, "CapBnd");
    assert!(barque.ok(args).ends_with(&ours));
}

#[test]
fn exit_codes() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let code = |args: &[&str]| barque.output(["exec", "box"].iter().chain(args)).code;
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(code(&["no-such-program"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126);
    assert_eq!(code(&["/etc"]), 126);
    barque.ok(["stop", "box"]);
    let text = barque.fails(1, ["exec", "box", "true"]);
    assert!(text.contains("not running"), "{text}");
}

#[test]
fn stdin_only_when_asked_for() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let upper = barque
        .cmd(["exec", "-i", "box", "tr", "a-z", "A-Z"])
        .stdin("ahoy")
        .output()
        .ok();
    assert_eq!(upper.text(), "AHOY");
    let nothing = barque
        .cmd(["exec", "box", "cat"])
        .stdin("lost")
        .output()
        .ok();
    assert_eq!(nothing.text(), "");
    let both = barque
        .output(["exec", "box", "sh", "-c", "echo out; echo err >&2"])
        .ok();
    assert_eq!(
        (both.text().as_str(), both.stderr.as_str()),
        ("out", "err\n")
    );
    let big: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let echo = barque
        .cmd(["exec", "-i", "box", "cat"])
        .stdin(big.clone())
        .output()
        .ok();
    assert!(
        echo.stdout == big,
        "{} of {} bytes",
        echo.stdout.len(),
        big.len()
    );
}

#[test]
fn detached() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    barque.ok([
        "exec",
        "-d",
        "box",
        "sh",
        "-c",
        "sleep 0.2; echo done > /done",
    ]);
    let done = barque.upper("box").join("done");
    barque_testkit::poll::until("it ran on", || done.exists());
}

#[test]
fn the_process_ends_with_the_container() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let running = barque
        .cmd(["exec", "box", "sleep", "100000"])
        .spawn_without_stdin();
    barque_testkit::poll::until("it runs", || {
        barque.inside("box", "ps").matches("sleep").count() == 2
    });
    barque.ok(["stop", "box"]);
    running.wait().exits(137);
    barque.assert_nothing_left();
}

#[test]
fn a_terminal_for_exec() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let mut shell = Pty::start(barque.cmd(["exec", "-it", "box", "sh"]));
    shell.expect("/ #");
    shell.send("tty; stty size\n");
    shell.expect("/dev/pts/0");
    shell.expect("24 80");
    // A new size is there before what was typed after it.
    shell.while_stopped(|shell| {
        shell.resize(50, 132);
        shell.send("stty size\n");
    });
    shell.expect("50 132");
    // ^C reaches the program in the container, not the client.
    shell.send("sleep 100000\n");
    barque_testkit::poll::until("it sleeps", || {
        barque.inside("box", "ps").matches("sleep").count() == 2
    });
    shell.send("\x03");
    shell.send("echo still; exit 3\n");
    shell.expect("still");
    let (code, screen) = shell.finish();
    assert_eq!(code, 3, "{screen}");
}

#[test]
fn a_terminal_for_run() {
    let barque = Barque::with_busybox();
    let mut shell = Pty::start(barque.cmd(["run", "-it", "--rm", "--name", "box", "busybox"]));
    shell.expect("/ #");
    shell.send("test -t 0 && test -t 1 && test -t 2 && echo all''three; echo $TERM\n");
    shell.expect("allthree");
    shell.while_stopped(|shell| {
        shell.resize(50, 132);
        shell.send("stty size\n");
    });
    shell.expect("50 132");
    shell.expect("xterm");
    shell.send("exit 6\n");
    let (code, screen) = shell.finish();
    assert_eq!(code, 6, "{screen}");
}

#[test]
fn detach_keys_leave_the_container_running() {
    let barque = Barque::with_busybox();
    let mut shell = Pty::start(barque.cmd(["run", "-it", "--name", "box", "busybox"]));
    shell.expect("/ #");
    shell.send("\x10\x11"); // ^P ^Q
    let (code, screen) = shell.finish();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(barque.status("box"), "running");
    let mut again = Pty::start(barque.cmd(["attach", "box"]));
    again.send("echo back''again\n");
    again.expect("backagain");
    again.send("exit\n");
    again.finish();
    barque.until_status("box", "exited");
}

#[test]
fn a_terminal_is_refused_where_there_is_none() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let text = barque.fails(1, ["exec", "-it", "box", "sh"]);
    assert!(text.to_lowercase().contains("tty"), "{text}");
}
