//! `checkpoint create | ls | rm` and `start --checkpoint`, with the real CRIU.

use barque_testkit::{Barque, Cmd, Pty, criu, poll};
use std::path::Path;

/// Counts into an open file and, through a pipe and another process, to standard output.
const COUNTER: &str = "exec 3>/tmp/log; i=0
    while :; do i=$((i+1)); echo $i >&3; echo tick $i; sleep 0.02; done |
    while read line; do echo $line; done";

/// A command with CRIU in its `PATH`, and nothing else.
fn with_criu(barque: &Barque, args: &[&str]) -> Cmd {
    let directory = criu().parent().expect("a directory").to_owned();
    barque.cmd(args).env("PATH", directory)
}

#[track_caller]
fn ok(barque: &Barque, args: &[&str]) -> String {
    with_criu(barque, args).output().ok().text()
}

fn counter(barque: &Barque, name: &str, flags: &[&str]) {
    let args = ["run", "-d", "--name", name];
    let args: Vec<&str> = args
        .into_iter()
        .chain(flags.iter().copied())
        .chain(["busybox", "sh", "-c", COUNTER])
        .collect();
    barque.ok(args);
    until_it_has_counted_to(barque, name, 5);
}

/// What it has said; each number follows the one before.
fn numbers(barque: &Barque, name: &str) -> Vec<u32> {
    let log = barque.ok(["logs", name]);
    let numbers: Vec<u32> = log
        .lines()
        .map(|line| {
            line.trim_end()
                .strip_prefix("tick ")
                .and_then(|n| n.parse().ok())
        })
        .map(|number| number.unwrap_or_else(|| panic!("{log}")))
        .collect();
    let expected: Vec<u32> = (1..=numbers.len() as u32).collect();
    assert_eq!(numbers, expected, "something was lost or said twice");
    numbers
}

fn until_it_has_counted_to(barque: &Barque, name: &str, number: u32) {
    poll::until("it counts", || numbers(barque, name).len() as u32 >= number);
}

#[test]
fn a_container_goes_on_where_it_was() {
    let barque = Barque::with_busybox();
    // `always`: nothing but the user's wish keeps it down.
    counter(&barque, "box", &["--restart", "always"]);
    assert_eq!(
        ok(&barque, &["checkpoint", "create", "box", "first"]),
        "first"
    );
    assert_eq!(barque.status("box"), "exited");
    assert_eq!(barque.look("box", "/State/ExitCode"), 137);
    let stopped = numbers(&barque, "box").len() as u32;
    assert_eq!(
        barque.ok(["checkpoint", "ls", "box"]),
        "CHECKPOINT NAME\nfirst"
    );

    assert_eq!(ok(&barque, &["start", "--checkpoint", "first", "box"]), "");
    assert_eq!(barque.status("box"), "running");
    // Its output goes on in the same log, its file without a gap.
    until_it_has_counted_to(&barque, "box", stopped + 10);
    let log = barque.inside("box", "cat /tmp/log");
    let logged: Vec<u32> = log.lines().map(|n| n.parse().expect("a number")).collect();
    assert_eq!(logged, (1..=logged.len() as u32).collect::<Vec<u32>>());
    // It is a container like any other: its names, its address, its memory, its end.
    assert_eq!(
        barque.inside("box", "ps | grep -c '[e]xec 3>/tmp/log'"),
        "3"
    );
    let lo = barque.inside("box", "ip addr show lo");
    assert!(lo.contains("127.0.0.1") && lo.contains("UP"), "{lo}");
    let id = barque.look_str("box", "/Id");
    let pid = barque.pid("box");
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    assert!(cgroups.lines().all(|line| line.ends_with(&id)), "{cgroups}");
    // Taken again, over and over.
    barque.ok(["pause", "box"]);
    ok(&barque, &["checkpoint", "create", "box", "second"]);
    ok(&barque, &["start", "--checkpoint", "second", "box"]);
    let counted = numbers(&barque, "box").len() as u32;
    until_it_has_counted_to(&barque, "box", counted + 5);
    assert_eq!(
        barque.ok(["checkpoint", "ls", "box"]),
        "CHECKPOINT NAME\nfirst\nsecond"
    );
    assert_eq!(barque.ok(["checkpoint", "rm", "box", "first"]), "");
    assert_eq!(
        barque.ok(["checkpoint", "ls", "box"]),
        "CHECKPOINT NAME\nsecond"
    );
    barque.ok(["stop", "-t", "0", "box"]);
    assert_eq!(barque.look("box", "/State/ExitCode"), 137);
    // And from the beginning, as if nothing had been.
    barque.ok(["start", "box"]);
    poll::until("it begins anew", || {
        barque.ok(["logs", "box"]).matches("tick 1\n").count() == 2
    });
}

#[test]
fn a_checkpoint_may_leave_it_running_and_lie_elsewhere() {
    let barque = Barque::with_busybox();
    counter(&barque, "box", &["--rm"]);
    let dir = barque.dir().join("elsewhere");
    let place = dir.to_string_lossy().into_owned();
    let args = [
        "checkpoint",
        "create",
        "--leave-running",
        "--checkpoint-dir",
        &place,
    ];
    let args: Vec<&str> = args.into_iter().chain(["box", "mark"]).collect();
    ok(&barque, &args);
    assert_eq!(barque.status("box"), "running");
    let counted = numbers(&barque, "box").len() as u32;
    until_it_has_counted_to(&barque, "box", counted + 10);
    assert_eq!(barque.ok(["checkpoint", "ls", "box"]), "CHECKPOINT NAME");
    let listed = barque.ok(["checkpoint", "ls", "--checkpoint-dir", &place, "box"]);
    assert_eq!(listed, "CHECKPOINT NAME\nmark");
    let refused = with_criu(&barque, &["checkpoint", "create", "box", "gone"]).output();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("made with --rm"), "{refused}");
    barque.ok(["rm", "-f", "box"]);

    // Another container goes on from it. Its files must be as they were: this one makes them.
    counter(&barque, "quiet", &[]);
    ok(
        &barque,
        &[
            "checkpoint",
            "create",
            "--checkpoint-dir",
            &place,
            "quiet",
            "moved",
        ],
    );
    let upper = barque.upper("quiet");
    barque.ok(["create", "--name", "heir", "busybox", "sh", "-c", COUNTER]);
    let heir = barque.upper("heir");
    std::fs::create_dir(heir.join("tmp")).expect("make /tmp");
    std::fs::copy(upper.join("tmp/log"), heir.join("tmp/log")).expect("copy the file");
    ok(
        &barque,
        &[
            "start",
            "--checkpoint-dir",
            &place,
            "--checkpoint",
            "moved",
            "heir",
        ],
    );
    poll::until("the heir counts", || {
        barque.ok(["logs", "heir"]).lines().count() > 5
    });
    let first = barque.ok(["logs", "heir"]);
    assert!(!first.starts_with("tick 1\n"), "it began anew: {first}");
}

#[test]
fn terminals_shared_namespaces_and_mounts_are_restored() {
    let barque = Barque::with_busybox();
    let data = barque.dir().join("words");
    std::fs::create_dir(&data).expect("mkdir");
    std::fs::write(data.join("word"), "kept\n").expect("write");
    barque.sleeper("owner");
    let volume = format!("{}:/data:ro", data.display());
    let flags = [
        "-v",
        &volume,
        "--tmpfs",
        "/scratch",
        "--network",
        "container:owner",
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .chain(["--ipc", "container:owner", "-t", "-m", "64m"])
        .collect();
    counter(&barque, "box", &flags);
    barque.inside("box", "echo noted > /scratch/note");
    ok(&barque, &["checkpoint", "create", "box", "mark"]);
    ok(&barque, &["start", "--checkpoint", "mark", "box"]);
    assert_eq!(
        barque.inside("box", "cat /data/word /scratch/note"),
        "kept\nnoted"
    );
    let failed = barque.output(["exec", "box", "touch", "/data/x"]);
    assert!(failed.stderr.contains("Read-only"), "{failed}");
    for ns in ["net", "ipc"] {
        let of = |name: &str| barque_testkit::proc::namespace(barque.pid(name), ns);
        assert_eq!(of("box"), of("owner"), "{ns}");
    }
    // It writes to a terminal of its own, whose master the new monitor has.
    poll::until("the terminal says something", || {
        barque.ok(["logs", "--tail", "1", "box"]).contains("tick")
    });
    let pty = Pty::start(barque.cmd(["attach", "--sig-proxy=false", "box"]));
    pty.expect("tick");
}

#[test]
fn what_cannot_be_is_one_clear_error() {
    let barque = Barque::with_busybox();
    let refused = |cmd: Cmd| {
        let output = cmd.output();
        assert_eq!((output.code, output.stdout.len()), (1, 0), "{output}");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output}");
        output.stderr
    };
    let says = |args: &[&str], text: &str| {
        let error = refused(with_criu(&barque, args));
        assert!(error.contains(text), "{args:?}: {error}");
    };
    says(
        &["checkpoint", "create", "box", "mark"],
        "No such container: box",
    );
    counter(&barque, "box", &[]);
    says(
        &["checkpoint", "create", "box", "../up"],
        "Invalid checkpoint ID (../up)",
    );
    says(
        &["start", "--checkpoint", "a1", "box", "other"],
        "you cannot restore multiple containers at once",
    );
    ok(
        &barque,
        &["checkpoint", "create", "--leave-running", "box", "mark"],
    );
    says(
        &["checkpoint", "create", "box", "mark"],
        "checkpoint with name mark already exists for container box",
    );
    says(
        &["checkpoint", "rm", "box", "nope"],
        "checkpoint nope does not exist for container box",
    );
    let running = numbers(&barque, "box").len() as u32;
    until_it_has_counted_to(&barque, "box", running + 2);
    barque.ok(["stop", "-t", "0", "box"]);
    says(&["checkpoint", "create", "box", "more"], "is not running");
    says(
        &["start", "--checkpoint", "nope", "box"],
        "checkpoint nope does not exist for container box",
    );
    // Bad images: CRIU's own words, and where it says more.
    let id = barque.look_str("box", "/Id");
    let container = barque.data_root().join("containers").join(id);
    std::fs::write(container.join("checkpoints/mark/pstree.img"), "no tree").expect("write");
    let error = refused(with_criu(
        &barque,
        &["start", "--checkpoint", "mark", "box"],
    ));
    let log = container.join("criu/restore.log");
    assert!(
        error.contains("Error (") && error.contains(&*log.to_string_lossy()),
        "{error}"
    );
    assert!(log.exists());
    assert_eq!(barque.status("box"), "exited");
    barque.ok(["start", "box"]);
    assert_eq!(barque.status("box"), "running");
    no_criu(&barque);
}

/// Without CRIU, the container goes on.
fn no_criu(barque: &Barque) {
    if [
        "/usr/sbin/criu",
        "/usr/bin/criu",
        "/usr/local/sbin/criu",
        "/usr/local/bin/criu",
    ]
    .iter()
    .any(|path| Path::new(path).exists())
    {
        // This machine has one of its own, which is found where such programs are.
        return;
    }
    let error = barque.fails(1, ["checkpoint", "create", "box", "never"]);
    assert!(error.contains("criu: not found"), "{error}");
    assert!(error.contains("CRIU 4.1 or later"), "{error}");
    assert_eq!(barque.status("box"), "running");
    let listed = barque.ok(["checkpoint", "ls", "box"]);
    assert_eq!(listed, "CHECKPOINT NAME\nmark");
}

#[test]
fn what_confines_a_container_is_kept() {
    let barque = Barque::with_busybox();
    let flags = [
        "--userns",
        "auto",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "KILL",
        "--security-opt",
        "no-new-privileges",
        "--pids-limit",
        "30",
        "-m",
        "48m",
        "--ulimit",
        "nofile=512:512",
        "--hostname",
        "confined",
    ];
    counter(&barque, "box", &flags);
    let seen = |what: &str| {
        let pid = barque.pid("box");
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .unwrap_or_else(|e| panic!("{file}: {e}"))
        };
        let status = read("status");
        let fields = [
            "CapBnd",
            "CapEff",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Seccomp_filters",
            "Uid",
            "Gid",
        ];
        let status: Vec<&str> = status
            .lines()
            .filter(|line| {
                fields
                    .iter()
                    .any(|field| line.starts_with(&format!("{field}:")))
            })
            .collect();
        assert_eq!(status.len(), fields.len(), "{what}: {status:?}");
        let mut mounts: Vec<String> = read("mountinfo")
            .lines()
            .map(|line| {
                line.split(' ')
                    .skip(4)
                    .take(2)
                    .collect::<Vec<&str>>()
                    .join(" ")
            })
            .collect();
        mounts.sort();
        let limits = read("limits");
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        format!(
            "{}\n{}\n{}\n{}\n{}\n{files:?}",
            status.join("\n"),
            read("uid_map"),
            read("gid_map"),
            read("oom_score_adj"),
            mounts.join("\n"),
        )
    };
    let before = seen("before");
    ok(&barque, &["checkpoint", "create", "box", "mark"]);
    ok(&barque, &["start", "--checkpoint", "mark", "box"]);
    assert_eq!(before, seen("after"));
    assert_eq!(barque.inside("box", "hostname"), "confined");
    let counted = numbers(&barque, "box").len() as u32;
    until_it_has_counted_to(&barque, "box", counted + 5);
    let failed = barque.output(["exec", "box", "touch", "/x"]);
    assert!(failed.stderr.contains("Read-only"), "{failed}");
    // The limits are those of the cgroups, made anew.
    let limit = barque.inside(
        "box",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
    );
    assert_eq!(limit, (48 << 20).to_string());
}
