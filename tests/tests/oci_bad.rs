//! The OCI runtime and what nobody should hand it: one clear error, exit code 1, nothing left.

use barque_testkit::{Oci, poll};
use serde_json::{Value, json};
use std::path::Path;

/// `create` is refused with one line that holds these texts, and nothing is left.
#[track_caller]
fn refused(oci: &Oci, words: &[&str], texts: &[&str]) {
    let output = oci.run(words).exits(1).says(texts);
    let lines = output.stderr.lines().count();
    assert_eq!(lines, 1, "one error: {output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
    oci.assert_clean();
}

#[track_caller]
fn refused_config(oci: &Oci, config: &str, texts: &[&str]) {
    std::fs::write(oci.dir().join("bundle/config.json"), config).expect("write config.json");
    refused(oci, &["create", "demo"], texts);
}

#[test]
fn configurations_that_are_none() {
    let oci = Oci::new();
    let whole = oci.config().to_string();
    for (text, said) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("nonsense", "line 1"),
        ("[]", "config.json"),
        ("null", "config.json"),
        ("3", "config.json"),
        ("{}", "ociVersion"),
        ("{\"ociVersion\":\"1.0.0\"}", "root"),
        ("{\"ociVersion\":\"7.0.0\"}", "7.0.0"),
        ("{\"ociVersion\":3}", "line 1"),
        ("\u{feff}{}", "line 1"),
    ] {
        refused_config(&oci, text, &[said]);
    }
    for cut in [10, whole.len() / 2, whole.len() - 1] {
        refused_config(&oci, &whole[..cut], &["config.json", "EOF"]);
    }
    refused_config(&oci, &format!("{whole}}}"), &["config.json", "trailing"]);
    // What is not understood is skipped without recursion, however deep it is.
    let deep = format!("{{\"unknown\": {}", "[".repeat(100_000));
    refused_config(&oci, &deep, &["config.json", "EOF"]);
}

#[test]
fn members_of_the_wrong_type_or_against_each_other() {
    let oci = Oci::new();
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 24] = [
        (|c| c["process"] = json!(3), "config.json"),
        (|c| c["process"]["args"] = json!("sh"), "config.json"),
        (|c| c["process"]["args"] = json!([]), "process.args"),
        (|c| c["process"]["args"] = json!([""]), "process.args"),
        (|c| c["process"]["args"] = json!(["a\u{0}b"]), "NUL"),
        (|c| c["process"]["args"] = json!(["/nowhere"]), "/nowhere"),
        (|c| c["process"]["cwd"] = json!("relative"), "process.cwd"),
        (|c| c["process"]["cwd"] = json!(""), "process.cwd"),
        (|c| c["process"]["env"] = json!([3]), "config.json"),
        (|c| c["process"]["user"]["uid"] = json!(-1), "config.json"),
        (
            |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "RLIMIT_X",
        ),
        (
            |c| c["process"]["oomScoreAdj"] = json!("much"),
            "config.json",
        ),
        (|c| c["hostname"] = json!(["a"]), "config.json"),
        (|c| c["mounts"] = json!({}), "config.json"),
        (
            |c| c["mounts"] = json!([{"destination": "/x", "type": "nofs", "source": "x"}]),
            "nofs",
        ),
        (
            |c| c["mounts"] = json!([{"destination": "/x", "type": "bind", "source": "/no/where"}]),
            "/no/where",
        ),
        (
            |c| c["linux"]["namespaces"] = json!([{"type": "astral"}]),
            "astral",
        ),
        (
            |c| c["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "mount"}]),
            "twice",
        ),
        (
            |c| {
                c["linux"]["namespaces"] =
                    json!([{"type": "mount"}, {"type": "network", "path": "/no/net"}])
            },
            "/no/net",
        ),
        (
            |c| c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]),
            "user namespace",
        ),
        (|c| c["linux"]["cgroupsPath"] = json!("/../../up"), "up"),
        (
            |c| c["linux"]["resources"]["memory"] = json!({"limit": "lots"}),
            "config.json",
        ),
        (
            |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_SING"}),
            "SCMP_ACT_SING",
        ),
        (
            |c| c["linux"]["rootfsPropagation"] = json!("sideways"),
            "sideways",
        ),
    ];
    for (edit, said) in cases {
        let mut config = oci.config();
        edit(&mut config);
        refused_config(&oci, &config.to_string(), &[said]);
    }
}

#[test]
fn bundles_that_are_none() {
    let oci = Oci::new();
    let bundle = oci.dir().join("bundle");
    let file = bundle.join("config.json");
    refused(
        &oci,
        &["create", "-b", "/no/where", "demo"],
        &["/no/where", "no such file"],
    );
    let plain = oci.dir().join("plain");
    std::fs::write(&plain, "").expect("write");
    let plain = plain.to_string_lossy();
    refused(
        &oci,
        &["create", "-b", &plain, "demo"],
        &[&plain, "not a directory"],
    );
    std::fs::remove_file(&file).expect("remove");
    refused(&oci, &["create", "demo"], &["config.json", "no such file"]);
    std::fs::create_dir(&file).expect("a directory in its place");
    refused(&oci, &["create", "demo"], &["config.json", "directory"]);
    std::fs::remove_dir(&file).expect("remove");
    // Nobody writes into it: waiting would be for ever.
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).expect("a FIFO");
    refused(&oci, &["create", "demo"], &["config.json"]);
    std::fs::remove_file(&file).expect("remove");
    std::os::unix::fs::symlink("config.json", &file).expect("a link to itself");
    refused(&oci, &["create", "demo"], &["config.json", "symbolic link"]);
    std::fs::remove_file(&file).expect("remove");
    let huge = std::fs::File::create(&file).expect("a huge file");
    huge.set_len(10 << 30).expect("sparse");
    refused(&oci, &["create", "demo"], &["config.json", "larger"]);
}

#[test]
fn roots_that_are_none() {
    let oci = Oci::new();
    let with = |root: Value, texts: &[&str]| {
        let mut config = oci.config();
        config["root"] = root;
        refused_config(&oci, &config.to_string(), texts);
    };
    with(json!({"path": ""}), &["root.path", "empty"]);
    with(json!({"path": "/no/where"}), &["/no/where"]);
    let plain = oci.dir().join("plain");
    std::fs::write(&plain, "").expect("write");
    with(json!({"path": plain}), &["plain", "not a directory"]);
    with(json!({}), &["path"]);
    with(json!("rootfs"), &["config.json"]);
    with(json!(null), &["root"]);
    // Relative ones begin at the bundle, and a link is followed: both are of the specification.
    let link = oci.dir().join("bundle/link");
    std::os::unix::fs::symlink(oci.rootfs(), link).expect("a link");
    let mut config = oci.config_for("demo", &["true"]);
    config["root"] = json!({"path": "link"});
    oci.bundle("bundle", &config);
    oci.ok(["run", "demo"]);
    oci.assert_clean();
}

#[test]
fn ids_and_words_that_are_none() {
    let oci = Oci::new();
    for id in ["", ".", "..", "a/b", "../x", "a b", "ä", "x~"] {
        refused(&oci, &["create", "--", id], &["container id"]);
        oci.run(["state", "--", id])
            .exits(1)
            .says(&["container id"]);
        oci.run(["delete", "--force", "--", id])
            .exits(1)
            .says(&["container id"]);
    }
    let long = "x".repeat(2000);
    refused(&oci, &["create", &long], &["container id"]);
    refused(
        &oci,
        &["create", "--nope", "demo"],
        &["not defined", "--nope"],
    );
    refused(
        &oci,
        &["create", "demo", "--bundle"],
        &["needs an argument"],
    );
    refused(
        &oci,
        &["create", "--preserve-fds", "many", "demo"],
        &["--preserve-fds"],
    );
    refused(
        &oci,
        &["create", "--preserve-fds", "7", "demo"],
        &["--preserve-fds", "open"],
    );
    refused(
        &oci,
        &["create", "--no-pivot=perhaps", "demo"],
        &["neither true nor false"],
    );
    for words in [
        ["--log-format", "xml", "list"],
        ["--cgroup-manager", "none", "list"],
        ["--rootless", "maybe", "list"],
        ["list", "--format", "xml"],
    ] {
        oci.run(words)
            .exits(1)
            .says(&[words[1].trim_start_matches("--")]);
    }
    oci.run(["--log", "/no/where/log", "list"])
        .exits(1)
        .says(&["/no/where/log"]);
    // A root that cannot be one.
    let file = oci.dir().join("file");
    std::fs::write(&file, "").expect("write");
    oci.cmd_at(&file, ["create", "demo"])
        .output()
        .exits(1)
        .says(&["not a directory"]);
}

#[test]
fn what_is_announced_to_nobody_leaves_nothing() {
    let oci = Oci::new();
    let no_dir = "/no/where/pid";
    for command in ["create", "run"] {
        refused(&oci, &[command, "--pid-file", no_dir, "demo"], &[no_dir]);
    }
    refused(
        &oci,
        &["create", "--console-socket", "/no/where", "demo"],
        &["console-socket"],
    );
    let mut config = oci.config();
    config["process"]["terminal"] = json!(true);
    oci.bundle("bundle", &config);
    refused(&oci, &["create", "demo"], &["--console-socket"]);
    refused(&oci, &["run", "-d", "demo"], &["--console-socket"]);
    refused(
        &oci,
        &["create", "--console-socket", "/no/where", "demo"],
        &["/no/where"],
    );
    oci.bundle("bundle", &oci.config());
    oci.detached(&["run", "-d", "demo"]);
    oci.run(["exec", "--pid-file", no_dir, "demo", "sleep", "1000"])
        .exits(255)
        .says(&[no_dir]);
    let group = format!("{}/demo", oci.cgroup());
    poll::until("the process is gone", || {
        barque_testkit::proc::with_command_line("sleep 1000")
            .iter()
            .all(|(pid, _)| !barque_testkit::proc::in_cgroup(&group).contains(pid))
    });
}

#[test]
fn the_same_cgroup_is_nobodys_twice() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    let config = oci.config();
    let bundle = oci.bundle("second", &config);
    oci.run(["create", "-b", &bundle.to_string_lossy(), "second"])
        .exits(1)
        .says(&["cgroup"]);
    assert_eq!(oci.records(), ["demo"]);
    assert_eq!(oci.status("demo"), "running");
    oci.ok(["delete", "--force", "demo"]);
    // An empty one, made by an engine beforehand, is taken.
    for (_, mount) in barque_testkit::proc::cgroup_mounts() {
        let path = mount.join(oci.cgroup()).join("demo");
        if !Path::new(&mount).join("cgroup.procs").exists() {
            continue;
        }
        std::fs::create_dir_all(path).expect("make a cgroup");
    }
    oci.detached(&["run", "-d", "demo"]);
    oci.ok(["delete", "--force", "demo"]);
    oci.assert_clean();
}
