//! The OCI runtime: spec, features, ps, update, events, exec, list, logs.

use barque_testkit::{Cmd, Oci, barque_binary, poll, proc};
use serde_json::{Value, json};

fn bare(words: &[&str]) -> Cmd {
    Cmd::new(barque_binary()).args(["oci"]).args(words)
}

#[test]
fn spec_is_written_once_and_runs() {
    let oci = Oci::new();
    let dir = oci.dir().join("new");
    std::fs::create_dir(&dir).expect("a directory");
    let path = dir.to_string_lossy().into_owned();
    bare(&["spec", "--bundle", &path]).output().ok().quiet();
    let text = std::fs::read_to_string(dir.join("config.json")).expect("config.json");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    assert_eq!(
        config["linux"]["resources"]["devices"],
        json!([{"allow": false, "access": "rwm"}])
    );
    bare(&["spec", "-b", &path])
        .output()
        .exits(1)
        .says(&["config.json exists. Remove it first"]);
    assert_eq!(
        std::fs::read_to_string(dir.join("config.json")).expect("config.json"),
        text
    );

    // The one for users without rights has a user namespace and no limits, and works as it stands.
    let other = oci.dir().join("rootless");
    std::fs::create_dir(&other).expect("a directory");
    bare(&["spec", "--rootless"])
        .cwd(&other)
        .output()
        .ok()
        .quiet();
    let text = std::fs::read(other.join("config.json")).expect("config.json");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    let kinds = config["linux"]["namespaces"].to_string();
    assert!(
        kinds.contains("user") && !kinds.contains("network"),
        "{kinds}"
    );
    assert_eq!(config["linux"].get("resources"), None);
    let own = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    assert_eq!(config["linux"]["uidMappings"], own);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["id", "-u"]);
    config["root"]["path"] = json!(oci.rootfs());
    config["linux"]["cgroupsPath"] = json!(format!("/{}/rootless", oci.cgroup()));
    oci.bundle("rootless", &config);
    let output = oci.ok(["run", "-b", &other.to_string_lossy(), "rootless"]);
    assert_eq!(output.text(), "0");
}

#[test]
fn features_are_those_of_the_specification() {
    let features = bare(&["features"]).output().ok().quiet().json();
    let hooks = [
        "createContainer",
        "createRuntime",
        "poststart",
        "poststop",
        "prestart",
        "startContainer",
    ];
    let mut named: Vec<String> = serde_json::from_value(features["hooks"].clone()).expect("names");
    named.sort();
    assert_eq!(named, hooks);
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let linux = &features["linux"];
    let mut kinds: Vec<String> = std::fs::read_dir("/proc/self/ns")
        .expect("namespaces of this kernel")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("_for_children"))
        .map(|name| match name.as_str() {
            "mnt" => "mount".to_owned(),
            "net" => "network".to_owned(),
            _ => name,
        })
        .collect();
    kinds.sort();
    assert_eq!(linux["namespaces"], json!(kinds));
    assert_eq!(linux["cgroup"]["v1"], true);
    assert_eq!(linux["cgroup"]["v2"], true);
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    assert_eq!(linux["seccomp"]["enabled"], true);
    // What the kernel says of its own actions is a subset of what is offered.
    let offered: Vec<String> =
        serde_json::from_value(linux["seccomp"]["actions"].clone()).expect("names");
    let kernel =
        std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").expect("seccomp");
    for action in kernel.split_whitespace() {
        let name = match action {
            "user_notif" => "NOTIFY".to_owned(),
            other => other.to_uppercase(),
        };
        assert!(
            offered.contains(&format!("SCMP_ACT_{name}")),
            "{action} in {offered:?}"
        );
    }
    for option in ["rro", "ridmap", "tmpcopyup", "nosymfollow", "rprivate"] {
        assert!(
            features["mountOptions"]
                .to_string()
                .contains(&format!("\"{option}\""))
        );
    }
}

#[test]
fn ps_shows_what_is_in_the_container_and_nothing_else() {
    let oci = Oci::new();
    let config = oci.config_for("demo", &["sh", "-c", "sleep 1001 & exec sleep 1002"]);
    oci.bundle("bundle", &config);
    oci.detached(&["run", "-d", "demo"]);
    poll::until("both are there", || {
        oci.ok(["ps", "-f", "json", "demo"])
            .json()
            .as_array()
            .map_or(0, Vec::len)
            == 2
    });
    let pids: Vec<i32> =
        serde_json::from_value(oci.ok(["ps", "--format", "json", "demo"]).json()).expect("pids");
    assert!(pids.contains(&oci.pid("demo")));
    poll::until("both are sleeping", || {
        let table = oci.ok(["ps", "demo"]).text();
        table.contains("sleep 1001") && table.contains("sleep 1002")
    });
    let table = oci.ok(["ps", "demo"]).lines();
    assert_eq!(table.len(), 3, "{table:?}");
    let head: Vec<&str> = table[0].split_whitespace().collect();
    assert_eq!(
        head,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    let row: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!((row[0], row[1]), ("root", &*pids[0].to_string()));

    // As procps has it, column by column.
    let list = pids
        .iter()
        .map(i32::to_string)
        .collect::<Vec<_>>()
        .join(",");
    for columns in [
        "pid,ppid,pgid,sid,uid,user,comm,args",
        "pid,tty,ni,nlwp,state",
        "pid=,args=",
    ] {
        let theirs = Cmd::new("/bin/ps")
            .args(["-p", &list, "-o", columns])
            .output()
            .ok();
        let ours = oci.ok(["ps", "demo", "-o", columns]);
        let words = |lines: Vec<String>| -> Vec<Vec<String>> {
            let split = |line: &String| line.split_whitespace().map(str::to_owned).collect();
            lines.iter().map(split).collect()
        };
        assert_eq!(words(ours.lines()), words(theirs.lines()), "{columns}");
    }
    oci.run(["ps", "demo", "-o", "colour"])
        .exits(1)
        .says(&["colour", "not a column"]);
    oci.run(["ps", "-f", "xml", "demo"]).exits(1).says(&["xml"]);
    oci.run(["kill", "demo", "KILL"]).ok();
    oci.until("demo", "stopped");
    assert_eq!(oci.ok(["ps", "-f", "json", "demo"]).json(), json!([]));
}

#[test]
fn update_changes_the_kernels_limits() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    let pid = oci.pid("demo");
    oci.ok([
        "update",
        "demo",
        "--memory",
        "64m",
        "--pids-limit",
        "77",
        "--cpu-share",
        "333",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
    ]);
    let file = |controller: &str, v1: &str, v2: &str| {
        let group = proc::cgroup_dir(controller, &proc::cgroup_of(pid, controller));
        std::fs::read_to_string(group.join(v1))
            .or_else(|_| std::fs::read_to_string(group.join(v2)))
            .expect("a limit")
            .trim()
            .to_owned()
    };
    assert_eq!(
        file("memory", "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(file("pids", "pids.max", "pids.max"), "77");
    let quota = file("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota.starts_with("20000"), "{quota}");
    // A file, and the standard input; what they do not name stays.
    let resources = oci.dir().join("resources.json");
    std::fs::write(&resources, json!({"pids": {"limit": 55}}).to_string()).expect("write");
    oci.ok(["update", "-r", &resources.to_string_lossy(), "demo"]);
    assert_eq!(file("pids", "pids.max", "pids.max"), "55");
    oci.cmd(["update", "--resources", "-", "demo"])
        .stdin(json!({"pids": {"limit": -1}}).to_string())
        .output()
        .ok()
        .quiet();
    assert_eq!(file("pids", "pids.max", "pids.max"), "max");
    assert_eq!(
        file("memory", "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    oci.cmd(["update", "-r", "-", "demo"])
        .stdin("{\"pids\": \"many\"}")
        .output()
        .exits(1)
        .says(&["resources -"]);
    oci.run(["update", "demo", "--memory", "heaps"])
        .exits(1)
        .says(&["--memory"]);
    assert_eq!(oci.status("demo"), "running");
}

#[test]
fn events_tell_what_is_used_and_when_memory_is_gone() {
    let oci = Oci::new();
    let script = "while [ ! -e /tmp/go ]; do sleep 0.02; done; exec tail /dev/zero";
    let mut config = oci.config_for("demo", &["sh", "-c", script]);
    config["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    oci.bundle("bundle", &config);
    oci.run(["events", "demo"])
        .exits(1)
        .says(&["does not exist"]);
    oci.detached(&["run", "-d", "demo"]);
    let once = oci.ok(["events", "--stats", "demo"]);
    assert_eq!(once.lines().len(), 1);
    let event = once.json();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!("demo"))
    );
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 32 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0));
    assert!(data["pids"]["current"].as_u64() >= Some(1));
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0));
    oci.run(["events", "--interval", "0s", "demo"])
        .exits(1)
        .says(&["--interval"]);
    oci.run(["events", "--interval", "soon", "demo"])
        .exits(1)
        .says(&["--interval"]);

    let following = oci
        .cmd(["events", "--interval", "20ms", "demo"])
        .spawn_without_stdin();
    following.until_stdout("\"type\":\"stats\"");
    std::fs::write(oci.rootfs().join("tmp/go"), "").expect("go");
    following.until_stdout("\"type\":\"oom\"");
    // It ends with the container.
    let all = following.wait().ok().quiet();
    assert!(
        all.lines()
            .contains(&"{\"type\":\"oom\",\"id\":\"demo\"}".to_owned()),
        "{all}"
    );
    assert_eq!(oci.status("demo"), "stopped");
    oci.run(["events", "--stats", "demo"])
        .exits(1)
        .says(&["not running"]);
}

#[test]
fn exec_gives_the_exit_code_of_its_program_or_255() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    for code in [0, 1, 42] {
        oci.run(["exec", "demo", "sh", "-c", &format!("exit {code}")])
            .exits(code)
            .quiet();
    }
    oci.run(["exec", "demo", "sh", "-c", "kill -KILL $$"])
        .exits(137);
    oci.run(["exec", "demo", "nothere"])
        .exits(255)
        .says(&["exec failed", "nothere", "not found"]);
    oci.run(["exec", "demo", "/etc/passwd"])
        .exits(255)
        .says(&["exec failed", "permission denied"]);
    oci.run(["exec", "demo"]).exits(255).says(&["no command"]);
    oci.run(["exec", "--cwd", "/nodir", "demo", "true"])
        .exits(255)
        .says(&["/nodir", "no such file"]);

    let process = json!({
        "args": ["sh", "-c", "pwd; id -u; echo $NAME"], "cwd": "/tmp", "env": ["PATH=/bin", "NAME=value"],
        "user": {"uid": 7, "gid": 8}
    });
    let file = oci.dir().join("process.json");
    std::fs::write(&file, process.to_string()).expect("write");
    let said = oci.ok(["exec", "--process", &file.to_string_lossy(), "demo"]);
    assert_eq!(said.lines(), ["/tmp", "7", "value"]);
    let said = oci.ok([
        "exec",
        "-e",
        "A=1",
        "--env",
        "B=2",
        "-u",
        "5:6",
        "--cwd",
        "/bin",
        "demo",
        "sh",
        "-c",
        "echo $A$B; id -u; id -g; pwd",
    ]);
    assert_eq!(said.lines(), ["12", "5", "6", "/bin"]);

    // Detached, it outlives the command, and its pid is where it was asked for.
    let pid_file = oci.dir().join("exec.pid");
    oci.detached(&[
        "exec",
        "-d",
        "--pid-file",
        &pid_file.to_string_lossy(),
        "demo",
        "sleep",
        "1003",
    ]);
    let pid: i32 = std::fs::read_to_string(&pid_file)
        .expect("pid file")
        .parse()
        .expect("a pid");
    poll::until("it is executed", || {
        proc::with_command_line("sleep 1003")
            .iter()
            .any(|(p, _)| *p == pid)
    });
    assert_eq!(
        proc::namespace(pid, "pid"),
        proc::namespace(oci.pid("demo"), "pid")
    );
    assert_eq!(
        proc::cgroup_of(pid, "memory"),
        proc::cgroup_of(oci.pid("demo"), "memory")
    );
}

#[test]
fn signals_to_a_foreground_exec_reach_its_process() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    let script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.02; done";
    let running = oci
        .cmd(["exec", "demo", "sh", "-c", script])
        .spawn_without_stdin();
    running.until_stdout("ready");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.wait().exits(4).quiet().lines(), ["ready", "bye"]);
    assert_eq!(oci.status("demo"), "running");
}

#[test]
fn list_as_a_table_and_as_json() {
    let oci = Oci::new();
    assert_eq!(oci.ok(["list", "-f", "json"]).text(), "null");
    for id in ["b", "a"] {
        let config = oci.config_for(id, &["sleep", "1000"]);
        let bundle = oci.bundle(id, &config);
        oci.detached(&["create", "-b", &bundle.to_string_lossy(), id]);
    }
    assert_eq!(oci.ok(["list", "-q"]).lines(), ["a", "b"]);
    let table = oci.ok(["list"]).lines();
    let head: Vec<&str> = table[0].split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!(
        (row[0], row[1], row[2]),
        ("a", &*oci.pid("a").to_string(), "created")
    );
    let list = oci.ok(["list", "--format", "json"]).json();
    assert_eq!(list[1], oci.state("b"));
}

#[test]
fn the_log_is_what_callers_read() {
    let oci = Oci::new();
    let log = oci.dir().join("log.json");
    let path = log.to_string_lossy().into_owned();
    let failed = oci
        .run(["--log", &path, "--log-format", "json", "state", "nope"])
        .exits(1);
    // For people, the message alone.
    assert_eq!(failed.stderr.trim(), "container \"nope\" does not exist");
    let line: Value =
        serde_json::from_str(std::fs::read_to_string(&log).expect("log").trim()).expect("one line");
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container \"nope\" does not exist");
    assert!(line["time"].as_str().expect("a time").ends_with('Z'));

    std::fs::remove_file(&log).expect("remove");
    oci.detached(&[
        "--debug",
        "--log",
        &path,
        "--log-format",
        "json",
        "run",
        "-d",
        "demo",
    ]);
    let text = std::fs::read_to_string(&log).expect("log");
    assert!(text.lines().count() > 3, "{text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["level"], "debug", "{line}");
        assert!(line["msg"].is_string() && line["time"].is_string());
    }
    std::fs::remove_file(&log).expect("remove");
    oci.ok(["--log", &path, "state", "demo"]);
    assert_eq!(
        std::fs::read_to_string(&log).expect("log"),
        "",
        "nothing to say"
    );
    let text = oci.run(["state", "nope"]).exits(1).stderr;
    assert!(
        text.starts_with("time=\"") && text.contains(" level=error msg=\"container"),
        "{text}"
    );
}

#[test]
fn systemd_is_asked_and_its_absence_told() {
    let oci = Oci::new();
    let mut config = oci.config();
    config["linux"]["cgroupsPath"] = json!("/not/a/unit");
    oci.bundle("bundle", &config);
    oci.run(["--systemd-cgroup", "create", "demo"])
        .exits(1)
        .says(&["/not/a/unit", "slice:prefix:name"]);
    oci.assert_clean();
    if std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    config["linux"]["cgroupsPath"] = json!("system.slice:barque-test:demo");
    oci.bundle("bundle", &config);
    for flag in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        oci.run([flag, "create", "demo"])
            .exits(1)
            .says(&["systemd"]);
        oci.assert_clean();
    }
}
