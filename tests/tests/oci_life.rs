//! The OCI runtime: a container's life, command by command, as the kernel sees it.

use barque_testkit::{Cmd, Oci, barque_binary, poll, proc};
use serde_json::{Value, json};
use std::time::Duration;

/// The value of a member of `state`.
fn member(oci: &Oci, id: &str, name: &str) -> Value {
    oci.state(id)[name].clone()
}

#[test]
fn a_whole_life() {
    let oci = Oci::new();
    oci.create(&["demo"]);
    let state = oci.state("demo");
    let pid = oci.pid("demo");
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], "demo");
    assert_eq!(state["bundle"], json!(oci.dir().join("bundle")));
    assert_eq!(state["rootfs"], json!(oci.rootfs()));
    assert_eq!(state["owner"], "root");
    // It exists, waits, and is ours still: its namespaces are new, its cgroup is its own.
    assert!(proc::alive(pid));
    for ns in ["pid", "mnt", "net", "ipc", "uts"] {
        assert_ne!(proc::namespace(pid, ns), proc::own_namespace(ns), "{ns}");
    }
    let group = format!("/{}/demo", oci.cgroup());
    assert!(proc::cgroup_of(pid, "memory").ends_with(&group));

    oci.ok(["start", "demo"]);
    assert_eq!(oci.status("demo"), "running");
    assert_eq!(oci.pid("demo"), pid, "the same process");
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).expect("cmdline");
    assert!(cmdline.starts_with(b"sh\0-c\0"), "the program");

    oci.ok(["pause", "demo"]);
    assert_eq!(oci.status("demo"), "paused");
    oci.ok(["resume", "demo"]);
    assert_eq!(oci.status("demo"), "running");

    let said = oci.ok(["exec", "demo", "echo", "from", "inside"]);
    assert_eq!(said.text(), "from inside");

    oci.ok(["kill", "demo", "TERM"]);
    oci.until("demo", "stopped");
    assert_eq!(member(&oci, "demo", "pid"), 0);
    oci.ok(["delete", "demo"]);
    oci.assert_clean();
    oci.run(["state", "demo"])
        .exits(1)
        .says(&["does not exist"]);
}

#[test]
fn what_a_status_does_not_allow_is_refused_and_changes_nothing() {
    let oci = Oci::new();
    let refused = |words: &[&str], texts: &[&str]| {
        oci.run(words).exits(1).says(texts);
    };
    for command in [
        "start", "state", "kill", "pause", "resume", "delete", "ps", "update",
    ] {
        refused(&[command, "demo"], &["container", "does not exist"]);
    }
    oci.run(["exec", "demo", "true"])
        .exits(255)
        .says(&["does not exist"]);

    oci.create(&["demo"]);
    refused(&["resume", "demo"], &["created", "paused"]);
    refused(&["create", "demo"], &["exists already"]);
    refused(&["run", "demo"], &["exists already"]);
    assert_eq!(oci.status("demo"), "created");

    oci.ok(["start", "demo"]);
    refused(&["start", "demo"], &["running"]);
    refused(&["delete", "demo"], &["running", "--force"]);
    refused(&["resume", "demo"], &["running"]);
    assert_eq!(oci.status("demo"), "running");

    oci.ok(["pause", "demo"]);
    refused(&["pause", "demo"], &["paused"]);
    refused(&["start", "demo"], &["paused"]);
    refused(&["delete", "demo"], &["paused"]);
    oci.run(["exec", "demo", "true"])
        .exits(255)
        .says(&["paused"]);
    oci.ok(["resume", "demo"]);

    oci.ok(["kill", "demo", "KILL"]);
    oci.until("demo", "stopped");
    refused(&["start", "demo"], &["stopped"]);
    refused(&["pause", "demo"], &["stopped"]);
    refused(&["kill", "demo"], &["container not running"]);
    refused(&["update", "demo", "--pids-limit", "5"], &["stopped"]);
    oci.run(["exec", "demo", "true"])
        .exits(255)
        .says(&["container", "not running"]);
    assert_eq!(oci.status("demo"), "stopped");
    oci.ok(["delete", "demo"]);
    oci.assert_clean();
}

/// A file that appears when this goes.
struct Gate<'a>(&'a std::path::Path);

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        std::fs::write(self.0, "").expect("open the gate");
    }
}

#[test]
fn every_state_is_seen_by_others() {
    let oci = Oci::new();
    // A hook that holds the creation up until the test lets it go.
    let gate = oci.dir().join("gate");
    let mut config = oci.config();
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/busybox", "args": ["sh", "-c", script]}
    ]});
    oci.bundle("bundle", &config);
    let creating = std::thread::scope(|scope| {
        let create = scope.spawn(|| oci.try_detached(&["create", "demo"]));
        // Whatever fails here, the creation ends.
        let open = Gate(&gate);
        poll::until("it is being created", || {
            let state = oci.run(["state", "demo"]);
            state.code == 0 && state.json()["status"] == "creating"
        });
        // Neither can be had before it is there.
        oci.run(["start", "demo"]).exits(1).says(&["creating"]);
        oci.run(["delete", "demo"]).exits(1).says(&["creating"]);
        assert_eq!(oci.ok(["list", "-q"]).text(), "demo");
        drop(open);
        create.join().expect("create")
    });
    creating.ok().quiet();
    assert_eq!(oci.status("demo"), "created");
    oci.ok(["start", "demo"]);
    assert_eq!(oci.status("demo"), "running");
    oci.ok(["pause", "demo"]);
    assert_eq!(oci.status("demo"), "paused");
    // SIGKILL reaches it all the same.
    oci.ok(["kill", "demo", "9"]);
    oci.until("demo", "stopped");
}

#[test]
fn two_roots_never_meet() {
    let oci = Oci::new();
    let other = oci.dir().join("other-root");
    oci.detached(&["run", "-d", "demo"]);
    oci.cmd_at(&other, ["state", "demo"])
        .output()
        .exits(1)
        .says(&["does not exist"]);
    assert_eq!(oci.cmd_at(&other, ["list", "-q"]).output().ok().text(), "");
    oci.cmd_at(&other, ["kill", "demo", "KILL"])
        .output()
        .exits(1);
    oci.cmd_at(&other, ["delete", "--force", "demo"])
        .output()
        .ok();
    assert_eq!(oci.status("demo"), "running");
    assert!(!other.exists(), "looking makes nothing");

    // The same id there is another container, but not in the same cgroup.
    oci.cmd_at(&other, ["create", "demo"])
        .output()
        .exits(1)
        .says(&["cgroup"]);
    assert_eq!(oci.status("demo"), "running");
    assert!(
        std::fs::read_dir(&other)
            .expect("the root")
            .next()
            .is_none()
    );
}

#[test]
fn of_eight_creators_of_one_id_exactly_one_wins() {
    let oci = Oci::new();
    for _ in 0..5 {
        let outputs: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| oci.try_detached(&["create", "demo"])))
                .collect();
            all.into_iter().map(|t| t.join().expect("create")).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|o| o.code == 0);
        assert_eq!((won.len(), lost.len()), (1, 7));
        for loser in lost {
            loser.exits(1).says(&["exists already"]);
        }
        assert_eq!(oci.status("demo"), "created");
        oci.ok(["start", "demo"]);
        assert_eq!(oci.status("demo"), "running");
        // And of eight who delete it, all are content.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| oci.ok(["delete", "--force", "demo"]));
            }
        });
        oci.assert_clean();
    }
}

#[test]
fn run_waits_and_gives_the_exit_code_of_the_program() {
    let oci = Oci::new();
    for code in [0, 7, 255] {
        let config = oci.config_for("demo", &["sh", "-c", &format!("exit {code}")]);
        oci.bundle("bundle", &config);
        oci.run(["run", "demo"]).exits(code).quiet();
        oci.assert_clean();
    }
    let config = oci.config_for("demo", &["sleep", "1000"]);
    oci.bundle("bundle", &config);
    let running = oci.cmd(["run", "demo"]).spawn_without_stdin();
    poll::until("it runs", || {
        let state = oci.run(["state", "demo"]);
        state.code == 0 && state.json()["status"] == "running"
    });
    oci.ok(["kill", "demo", "KILL"]);
    running.wait().exits(137).quiet();
    oci.assert_clean();
}

#[test]
fn signals_to_a_foreground_run_reach_the_container() {
    let oci = Oci::new();
    let script = "trap 'echo got usr1' USR1; trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let config = oci.config_for("demo", &["sh", "-c", script]);
    oci.bundle("bundle", &config);
    let running = oci.cmd(["run", "demo"]).spawn_without_stdin();
    running.until_stdout("ready");
    running.signal(rustix::process::Signal::USR1);
    running.until_stdout("got usr1");
    running.signal(rustix::process::Signal::TERM);
    let output = running.wait().exits(3).quiet();
    assert!(output.text().ends_with("bye"));
    oci.assert_clean();
}

#[test]
fn run_can_keep_what_has_ended() {
    let oci = Oci::new();
    let config = oci.config_for("demo", &["true"]);
    oci.bundle("bundle", &config);
    oci.ok(["run", "--keep", "demo"]);
    assert_eq!(oci.status("demo"), "stopped");
    oci.ok(["delete", "demo"]);
}

#[test]
fn a_configuration_without_a_process_is_created_and_not_started() {
    let oci = Oci::new();
    let mut config = oci.config();
    config.as_object_mut().expect("object").remove("process");
    oci.bundle("bundle", &config);
    oci.create(&["demo"]);
    assert_eq!(oci.status("demo"), "created");
    oci.run(["start", "demo"])
        .exits(1)
        .says(&["cannot be started", "no process"]);
    assert_eq!(oci.status("demo"), "created");
    oci.ok(["delete", "demo"]);
    oci.assert_clean();
    // In the foreground, the failure leaves nothing.
    oci.run(["run", "demo"]).exits(1).says(&["no process"]);
    oci.assert_clean();
}

#[test]
fn kill_by_name_and_number_and_to_all() {
    let oci = Oci::new();
    let script = "trap 'echo 37 >> /tmp/got' RTMIN+3; for n in HUP USR1 USR2; do trap \"echo $n >> /tmp/got\" $n; done; \
                  touch /tmp/ready; while :; do sleep 0.02; done";
    let script = script.replace("RTMIN+3", "37");
    let config = oci.config_for("demo", &["sh", "-c", &script]);
    oci.bundle("bundle", &config);
    oci.detached(&["run", "-d", "demo"]);
    poll::until("it is ready", || oci.rootfs().join("tmp/ready").exists());
    let got = || std::fs::read_to_string(oci.rootfs().join("tmp/got")).unwrap_or_default();
    for (signal, name) in [
        ("HUP", "HUP"),
        ("SIGUSR1", "USR1"),
        ("12", "USR2"),
        ("SIGRTMIN+3", "37"),
        ("usr1", "USR1"),
    ] {
        let before = got().lines().count();
        oci.ok(["kill", "demo", signal]);
        poll::until(signal, || got().lines().count() > before);
        assert_eq!(got().lines().last(), Some(name), "{signal}");
    }
    oci.run(["kill", "demo", "NOPE"]).exits(1).says(&["NOPE"]);
    oci.run(["kill", "demo", "0"]).exits(1);
    oci.run(["kill", "demo", "99"]).exits(1);
    assert_eq!(oci.status("demo"), "running");
    oci.ok(["kill", "--all", "demo", "KILL"]);
    oci.until("demo", "stopped");
}

#[test]
fn kill_all_reaches_what_a_container_without_a_pid_namespace_leaves_running() {
    let oci = Oci::new();
    let script = "sleep 1000 & touch /tmp/ready; exec sleep 1000";
    let mut config = oci.config_for("demo", &["sh", "-c", script]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("array");
    namespaces.retain(|n| n["type"] != "pid");
    oci.bundle("bundle", &config);
    oci.detached(&["run", "-d", "demo"]);
    poll::until("it is ready", || oci.rootfs().join("tmp/ready").exists());
    let group = format!("{}/demo", oci.cgroup());
    assert_eq!(proc::in_cgroup(&group).len(), 2);
    // A signal to the first process leaves the other.
    oci.ok(["kill", "demo", "TERM"]);
    oci.until("demo", "stopped");
    assert_eq!(proc::in_cgroup(&group).len(), 1);
    // runc: kill --all of a stopped container is no error, and reaches what is left.
    oci.ok(["kill", "--all", "demo", "KILL"]);
    poll::until("the other has ended", || proc::in_cgroup(&group).is_empty());
    oci.ok(["kill", "--all", "demo", "KILL"]);
    oci.ok(["delete", "demo"]);
    oci.assert_clean();
}

#[test]
fn delete_takes_many_ids_and_patterns() {
    let oci = Oci::new();
    for id in ["web-1", "web-2", "db-1"] {
        let config = oci.config_for(id, &["sleep", "1000"]);
        let bundle = oci.bundle(id, &config);
        oci.detached(&["create", "-b", &bundle.to_string_lossy(), id]);
    }
    oci.run(["delete", "web-1", "nope", "db-1"])
        .exits(1)
        .says(&["nope", "does not exist"]);
    assert_eq!(oci.records(), ["web-2"], "the others went all the same");
    oci.ok(["delete", "--force", "nope"]);
    oci.ok(["delete", "--regex", "^web-.*$"]);
    oci.assert_clean();
}

#[test]
fn options_stand_before_and_after_the_id() {
    let oci = Oci::new();
    let bundle = oci.dir().join("bundle");
    let bundle = bundle.to_string_lossy();
    let file = oci.dir().join("pid");
    let file = file.to_string_lossy();
    for words in [
        ["create", "--bundle", &bundle, "--pid-file", &file, "demo"],
        ["create", "demo", "--bundle", &bundle, "--pid-file", &file],
        ["create", "-b", &bundle, "demo", "-pid-file", &file],
    ] {
        oci.detached(&words);
        let pid: i32 = std::fs::read_to_string(&*file)
            .expect("the pid file")
            .parse()
            .expect("a pid and nothing else");
        assert_eq!(pid, oci.pid("demo"));
        oci.ok(["delete", "demo", "--force"]);
        std::fs::remove_file(&*file).expect("remove the pid file");
    }
}

#[test]
fn a_paused_container_is_entered_only_on_request() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    oci.ok(["pause", "demo"]);
    oci.run(["exec", "demo", "true"])
        .exits(255)
        .says(&["paused"]);
    let entering = oci
        .cmd(["exec", "--ignore-paused", "demo", "echo", "thawed"])
        .spawn_without_stdin();
    // It is in the frozen group, and runs when that goes on.
    poll::until("it is in the cgroup", || {
        proc::in_cgroup(&format!("{}/demo", oci.cgroup())).len() > 1
    });
    oci.ok(["resume", "demo"]);
    assert_eq!(entering.wait().ok().text(), "thawed");
}

#[test]
fn version_and_help_speak_for_the_commands() {
    let barque = |words: &[&str]| {
        Cmd::new(barque_binary())
            .args(["oci"])
            .args(words)
            .timeout(Duration::from_secs(30))
            .output()
    };
    let version = barque(&["--version"]).ok().quiet().text();
    assert!(version.contains("\nspec: 1."), "{version}");
    let help = barque(&["--help"]).ok().quiet().text();
    for name in [
        "create", "start", "run", "exec", "kill", "delete", "state", "list", "pause", "resume",
        "ps", "update", "spec", "features",
    ] {
        assert!(help.contains(&format!("\n   {name} ")), "{name} in {help}");
        let own = barque(&[name, "--help"]).ok().quiet().text();
        assert!(own.starts_with(&format!("NAME:\n   {name} - ")), "{own}");
        assert_eq!(own, barque(&["help", name]).ok().text());
    }
    barque(&["fly"]).exits(1).says(&["no such command", "fly"]);
    barque(&["create"]).exits(1).says(&["exactly 1"]);
    barque(&["state", "a", "b"]).exits(1).says(&["exactly 1"]);
}
