//! The OCI runtime, killed at any moment: whatever it leaves, `delete --force` removes, and the id can be had again.
//!
//! `strace` kills it at the entry of its n-th system call. `BARQUE_TEST_EVERY=1` tries every single one; without it, a
//! sample, with other numbers in each test run of another process id.

use barque_testkit::{Cmd, Oci, barque_binary, census, poll};
use std::path::PathBuf;

/// How many places of one command are tried.
const SAMPLE: usize = 16;

/// A command under strace.
fn traced(oci: &Oci, strace: &[&str], words: &[&str]) -> Cmd {
    let root = oci.root();
    let log = oci.dir().join("log");
    Cmd::new("/usr/bin/strace")
        .args(strace)
        .args([
            &*barque_binary().to_string_lossy(),
            "oci",
            "--root",
            &root.to_string_lossy(),
            "--debug",
            "--log",
            &log.to_string_lossy(),
        ])
        .args(words)
        .cwd(&oci.dir().join("bundle"))
}

/// How many system calls (of `which`) the command makes when nobody disturbs it.
fn calls(oci: &Oci, which: &str, words: &[&str]) -> usize {
    let file = oci.dir().join("trace");
    let filter = format!("trace={which}");
    let options = [
        "-qq",
        "-e",
        "signal=none",
        "-e",
        &filter,
        "-o",
        &file.to_string_lossy(),
    ];
    oci.detach(traced(oci, &options, words)).ok();
    let text = std::fs::read_to_string(&file).expect("strace's output");
    text.lines().count()
}

fn places(count: usize) -> Vec<usize> {
    let step = match std::env::var("BARQUE_TEST_EVERY") {
        Ok(every) => every.parse().expect("BARQUE_TEST_EVERY is a number"),
        Err(_) => (count / SAMPLE).max(1),
    };
    let first = 1 + std::process::id() as usize % step;
    (first..=count).step_by(step).collect()
}

/// Kills the command at many places; `before` makes what it works on.
fn sweep(which: &str, words: &[&str], before: impl Fn(&Oci)) {
    let oci = Oci::new();
    before(&oci);
    let count = calls(&oci, which, words);
    oci.run(["delete", "--force", "demo"]).ok();
    let mut killed = 0;
    for n in places(count) {
        before(&oci);
        let inject = format!("inject={which}:signal=KILL:when={n}");
        let filter = format!("trace={which}");
        let options = ["-qq", "-o", "/dev/null", "-e", &filter, "-e", &inject];
        let output = oci.detach(traced(&oci, &options, words));
        killed += usize::from(output.code == 137);

        let place = format!("{words:?} killed at call {n} of {count} ({which})");
        let delete = oci.run(["delete", "--force", "demo"]);
        assert_eq!(delete.code, 0, "{place}: {delete}");
        let left: Vec<String> = oci.records();
        assert!(left.is_empty(), "{place}: {left:?} are left");
        oci.assert_clean();
        // The id is free, and the container lives.
        oci.detached(&["run", "-d", "demo"]);
        assert_eq!(oci.status("demo"), "running", "{place}");
        oci.ok(["delete", "--force", "demo"]);
    }
    assert!(killed > 0, "nothing was ever killed");
    oci.assert_clean();
}

#[test]
fn create_killed_at_any_system_call() {
    sweep("all", &["create", "demo"], |_| {});
}

#[test]
fn create_killed_at_any_step() {
    // Each step is one line of the log, and the log is all that it writes besides its records.
    sweep("write", &["create", "demo"], |_| {});
}

#[test]
fn start_killed_at_any_system_call() {
    sweep("all", &["start", "demo"], |oci| oci.create(&["demo"]));
}

#[test]
fn delete_killed_at_any_system_call() {
    sweep("all", &["delete", "--force", "demo"], |oci| {
        oci.detached(&["run", "-d", "demo"])
    });
}

#[test]
fn a_detached_run_killed_at_any_system_call() {
    sweep("all", &["run", "-d", "demo"], |_| {});
}

/// `BARQUE_TEST_CYCLES=1000` makes as many as the issue asks for.
#[test]
fn many_lives_leave_nothing() {
    let cycles = match std::env::var("BARQUE_TEST_CYCLES") {
        Ok(cycles) => cycles.parse().expect("BARQUE_TEST_CYCLES is a number"),
        Err(_) => 100,
    };
    let oci = Oci::new();
    let config = oci.config_for("demo", &["true"]);
    oci.bundle("bundle", &config);
    let files = |dir: PathBuf| std::fs::read_dir(dir).expect("list a directory").count();
    let (_, mounts_before, networks_before) = census();
    // The first makes the root and the parent cgroup.
    for cycle in 0..cycles {
        oci.create(&["demo"]);
        oci.ok(["start", "demo"]);
        oci.until("demo", "stopped");
        oci.ok(["delete", "demo"]);
        if cycle == 0 {
            assert_eq!(files(oci.root()), 0);
        }
    }
    assert_eq!(files(oci.root()), 0);
    oci.assert_clean();
    // Nobody but PID 1 can reap them, and that may take its time. Others run a `true` as well, but not as many.
    let zombies = || {
        std::fs::read_dir("/proc")
            .expect("list /proc")
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| stat.contains("(true) Z"))
            .count()
    };
    poll::until("the zombies are reaped", || zombies() < cycles / 2);
    // Anonymous: a network namespace that nothing holds has no name to be found by. Other tests make some, too, but
    // never as many.
    let (_, mounts, networks) = census();
    assert!(
        mounts < mounts_before + cycles / 2,
        "{mounts_before} mounts became {mounts}"
    );
    assert!(
        networks < networks_before + cycles / 2,
        "{networks_before} network namespaces became {networks}"
    );
}
