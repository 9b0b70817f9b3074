//! 3. PID: the container counts its processes from 1, and sees no others.

use barque_testkit::{Barque, Cmd, proc};

#[test]
fn ps_inside_sees_only_the_containers_processes() {
    let barque = Barque::new();
    barque.ok([
        "run", "-d", "--name", "box", "--rootfs", "/", "sleep", "31415",
    ]);

    // UID PID PPID C STIME TTY TIME CMD
    let table = barque.ok(["exec", "box", "ps", "-ef"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let commands: Vec<String> = rows.iter().map(|row| row[7..].join(" ")).collect();
    assert_eq!(commands, ["sleep 31415", "ps -ef"], "{table}");
    assert_eq!(rows[0][1], "1", "PID 1 is the command\n{table}");

    // The host sees the same process under another number …
    let pid = barque.pid("box");
    assert_ne!(pid, 1);
    let on_host = Cmd::new("/usr/bin/ps")
        .args(["-o", "args=", "-p", &pid.to_string()])
        .output()
        .ok();
    assert_eq!(on_host.text(), "sleep 31415");

    // … and the kernel knows both: its pid in each namespace, the outermost first.
    let both = proc::status(pid, "NSpid");
    let both: Vec<&str> = both.split_whitespace().collect();
    assert_eq!(both.first(), Some(&pid.to_string().as_str()));
    assert_eq!(both.last(), Some(&"1"));
}

#[test]
fn proc_belongs_to_the_namespace() {
    let barque = Barque::new();
    let script = "echo /proc/[0-9]*; cat /proc/1/comm";
    let seen = barque.ok(["run", "--rm", "--rootfs", "/", "sh", "-c", script]);
    // PID 1 is this shell; `cat` came after the list was made.
    assert_eq!(seen, "/proc/1\nsh");
}

#[test]
fn when_pid_1_ends_all_others_end() {
    let barque = Barque::new();
    let script = "sleep 100000 & sleep 100000 & wait";
    barque.ok([
        "run", "-d", "--name", "box", "--rootfs", "/", "sh", "-c", script,
    ]);
    let namespace = proc::namespace(barque.pid("box"), "pid");
    // A namespace that ended gives its inode number to the next one made, which may be another test's.
    let _kept = std::fs::File::open(format!("/proc/{}/ns/pid", barque.pid("box")))
        .expect("open the namespace");
    barque_testkit::poll::until("three processes", || {
        proc::in_namespace("pid", &namespace).len() == 3
    });
    barque.ok(["kill", "box"]);
    assert_eq!(barque.ok(["wait", "box"]), "137");
    assert_eq!(proc::in_namespace("pid", &namespace), [] as [i32; 0]);
}
