//! The command line itself: help, versions, exit codes, tables and formats as Docker's users know them.

use barque_testkit::Barque;

#[test]
fn help_names_the_commands_and_says_what_is_absent() {
    let barque = Barque::new();
    let help = barque.ok(["--help"]);
    for verb in [
        "pull", "images", "import", "load", "tag", "rmi", "create", "run", "start", "stop",
        "restart", "kill", "pause", "unpause", "wait", "attach", "rm", "ps", "logs", "exec",
        "inspect", "diff", "info", "version",
    ] {
        assert!(
            help.contains(&format!(" {verb} ")),
            "{verb} is not in\n{help}"
        );
        let own = barque.ok([verb, "--help"]);
        assert!(own.contains(verb), "{own}");
    }
    // Until networks exist, the default is none, and the help says so.
    let run = barque.ok(["run", "--help"]);
    let network = run
        .lines()
        .skip_while(|line| !line.contains("--network"))
        .take(3);
    let network: String = network.collect();
    assert!(
        network.contains("none") && network.contains("default"),
        "{run}"
    );
    assert!(!barque.data_root().exists(), "help needs no data root");
}

#[test]
fn version_tells_the_program_and_the_kernel() {
    let barque = Barque::new();
    let text = barque.ok(["version"]);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("kernel release");
    assert!(
        text.contains(env!("CARGO_PKG_VERSION")) && text.contains(kernel.trim()),
        "{text}"
    );
    assert!(barque.ok(["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn run_exits_with_the_containers_code() {
    let barque = Barque::with_busybox();
    let code = |args: &[&str]| {
        let all = ["run", "--rm"].iter().chain(args).copied();
        barque.output(all.collect::<Vec<_>>()).code
    };
    assert_eq!(code(&["busybox", "true"]), 0);
    assert_eq!(code(&["busybox", "sh", "-c", "exit 7"]), 7);
    // PID 1 cannot kill itself: the kernel protects it from its own namespace. Its children can.
    assert_eq!(
        code(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]),
        137
    );
    assert_eq!(
        code(&["busybox", "sh", "-c", "sh -c 'kill -15 $$'; exit $?"]),
        143
    );
    assert_eq!(code(&["busybox", "no-such-program"]), 127);
    assert_eq!(code(&["busybox", "/no/such/program"]), 127);
    assert_eq!(code(&["busybox", "/etc"]), 126);
    assert_eq!(code(&["busybox", "/etc/passwd"]), 126);
    assert_eq!(code(&["--no-such-flag", "busybox", "true"]), 125);
    assert_eq!(code(&["--memory", "lots", "busybox", "true"]), 125);
    assert_eq!(code(&["--pull=never", "no-such-image", "true"]), 125);
}

#[test]
fn other_commands_fail_with_docker_s_codes() {
    let barque = Barque::with_busybox();
    for verb in [
        "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm", "logs",
    ] {
        let text = barque.fails(1, [verb, "nobody"]);
        assert!(text.contains("nobody"), "{verb}: {text}");
    }
    for args in [
        &["inspect", "nobody"][..],
        &["diff", "nobody"],
        &["attach", "nobody"],
    ] {
        let text = barque.fails(1, args);
        assert!(text.contains("nobody"), "{args:?}: {text}");
    }
    barque.fails(1, ["exec", "nobody", "true"]);
    barque.fails(1, ["rmi", "no-such-image"]);
    barque.fails(1, ["create", "--pull=never", "no-such-image"]);
    barque.fails(125, ["ps", "--no-such-flag"]);
    // Docker's, but not ours yet: that is no typing error.
    for (args, word) in [
        (&["run", "--annotation", "a=b", "x"][..], "annotations"),
        (&["create", "--annotation=a=b", "x"], "annotations"),
        (&["images", "--tree"], "tree"),
        (&["image", "ls", "--tree"], "tree"),
        (&["load", "--platform", "linux/arm64"], "platform"),
        (&["rmi", "--platform=linux/arm64", "x"], "platform"),
        (&["rm", "--link", "x"], "links"),
        (&["rm", "-fl", "x"], "links"),
        (&["pull", "--disable-content-trust=false", "x"], "trust"),
    ] {
        let text = barque.fails(125, args);
        assert!(text.contains(word) && text.contains("version"), "{text}");
        assert!(!text.contains("unknown"), "{text}");
    }
    // What it asks for is the case in any event.
    let text = barque.fails(1, ["pull", "--disable-content-trust", "localhost:1/x"]);
    assert!(text.contains("localhost:1"), "{text}");
    let text = barque.fails(125, ["run", "--cidfile", "", "busybox", "true"]);
    assert!(
        text.contains("invalid argument \"\" for \"--cidfile\" flag"),
        "{text}"
    );
    assert_eq!(barque.ok(["ps", "-aq"]), "");
    let text = barque.fails(1, ["sail"]);
    assert!(text.contains("sail"), "{text}");
    // A command that needs arguments says which.
    barque.fails(1, ["rm"]);
}

#[test]
fn errors_of_bad_values_name_the_value() {
    let barque = Barque::with_busybox();
    for (flag, value) in [
        ("--memory", "12q"),
        ("--cpus", "many"),
        ("--cpus", "-1"),
        ("--pids-limit", "x"),
        ("--network", "bridge9"),
        ("--restart", "sometimes"),
        ("--ulimit", "nofile"),
        ("--ulimit", "nonsense=1"),
        ("--cap-add", "CAP_NONSENSE"),
        ("--volume", "relative:also-relative"),
        ("--tmpfs", "relative"),
        ("--device-write-bps", "/dev/null"),
        ("--device-write-bps", "/no/such/device:1mb"),
        ("--blkio-weight", "5"),
        ("--stop-signal", "SIGNONSENSE"),
        ("--security-opt", "nonsense"),
        ("--security-opt", "seccomp=/no/such/file"),
        ("--user", "nobody-here"),
        ("--pid", "container:nobody"),
        ("--name", "bad/name"),
        ("--workdir", "relative"),
        ("--env-file", "/no/such/file"),
        ("--log-driver", "carrier-pigeon"),
        ("--cgroup-parent", "../../outside"),
        ("--cgroup-parent", "/a/./b"),
    ] {
        let text = barque.fails(125, ["run", "--rm", flag, value, "busybox", "true"]);
        let named = value
            .trim_start_matches("container:")
            .trim_start_matches("seccomp=");
        let named = named.split([':', '=']).next().unwrap_or(named);
        assert!(
            text.contains(named) || text.contains(flag),
            "{flag} {value}: {text}"
        );
    }
    assert_eq!(
        barque.ok(["ps", "-aq"]),
        "",
        "no half-made container is left"
    );
    // And the next command finds nothing to complain about.
    barque.output(["ps"]).ok().quiet();
}

#[test]
fn ps_has_dockers_columns_filters_and_formats() {
    let barque = Barque::with_busybox();
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        "-l",
        "port=kiel",
        "busybox",
        "sleep",
        "100000",
    ];
    let id = barque.ok(args);
    assert_eq!(id.len(), 64, "run -d prints the whole id: {id}");
    barque.ok(["run", "--name", "done", "busybox", "true"]);
    barque.ok(["create", "--name", "new", "busybox", "true"]);

    let table = barque.ok(["ps"]);
    let header: Vec<&str> = table
        .lines()
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .collect();
    let header: Vec<&str> = header.into_iter().filter(|word| !word.is_empty()).collect();
    let want = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ];
    assert_eq!(header, want);
    let row = table.lines().nth(1).expect("a row");
    assert!(row.starts_with(&id[..12]) && row.ends_with("box"), "{row}");
    assert!(
        row.contains("\"sleep 100000\"") && row.contains("Up "),
        "{row}"
    );
    assert_eq!(table.lines().count(), 2);

    assert_eq!(barque.ok(["ps", "-q"]), id[..12]);
    assert_eq!(barque.ok(["ps", "-q", "--no-trunc"]), id);
    let names = |filter: &str| {
        let args = ["ps", "-a", "--filter", filter, "--format", "{{.Names}}"];
        let mut lines = barque.output(args).ok().lines();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(names("status=running"), "box");
    assert_eq!(names("status=exited"), "done");
    assert_eq!(names("status=created"), "new");
    assert_eq!(names("name=o"), "box done");
    assert_eq!(names("label=port=kiel"), "box");
    assert_eq!(names("label=port"), "box");
    assert_eq!(names("exited=0"), "done");
    assert_eq!(names("ancestor=busybox"), "box done new");
    assert_eq!(names(&format!("id={}", &id[..6])), "box");
    barque.fails(1, ["ps", "--filter", "colour=red"]);

    let all = barque.ok(["ps", "-a", "--format", "table {{.Names}}\t{{.State}}"]);
    let rows: Vec<Vec<&str>> = all
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["NAMES", "STATE"]);
    // The newest first.
    assert_eq!(
        rows[1..],
        [["new", "created"], ["done", "exited"], ["box", "running"]]
    );
    let json = barque.output(["ps", "--format", "{{json .}}"]).ok().json();
    assert_eq!(
        (json["Names"].as_str(), json["Labels"].as_str()),
        (Some("box"), Some("port=kiel"))
    );
    assert_eq!(barque.ok(["ps", "-n", "1", "-q", "-a"]).lines().count(), 1);
}

#[test]
fn inspect_formats_and_tries_containers_before_images() {
    let barque = Barque::with_busybox();
    barque.ok([
        "create", "--name", "busybox", "-e", "A=1", "busybox", "sh", "-c", "true x",
    ]);
    // The container's name hides the image's.
    assert_eq!(
        barque.ok(["inspect", "-f", "{{.Name}}", "busybox"]),
        "/busybox"
    );
    let image = [
        "inspect",
        "--type",
        "image",
        "-f",
        "{{index .RepoTags 0}}",
        "busybox",
    ];
    assert_eq!(barque.ok(image), "busybox:latest");
    let format = "{{range .Args}}[{{.}}]{{end}} {{.State.Status}} {{len .Config.Env}}";
    let text = barque.ok(["inspect", "--format", format, "busybox"]);
    assert!(text.starts_with("[-c][true x] created "), "{text}");
    assert_eq!(
        barque.ok(["inspect", "-f", "{{json .Config.Cmd}}", "busybox"]),
        r#"["sh","-c","true x"]"#
    );
    let text = barque.fails(1, ["inspect", "-f", "{{.NoSuchField}}", "busybox"]);
    assert!(text.contains("NoSuchField"), "{text}");
    barque.fails(64, ["inspect", "-f", "{{.Unclosed", "busybox"]);
}

#[test]
fn info_counts_and_names_the_roots() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    barque.ok(["create", "busybox"]);
    let info = barque
        .output(["info", "--format", "{{json .}}"])
        .ok()
        .json();
    assert_eq!(info["Containers"], 2, "{info}");
    assert_eq!(info["ContainersRunning"], 1, "{info}");
    assert_eq!(info["Images"], 1, "{info}");
    assert_eq!(info["Driver"], "overlay2", "{info}");
    assert_eq!(
        info["DockerRootDir"],
        barque.data_root().to_string_lossy().as_ref()
    );
    assert!(
        info["CgroupVersion"] == "1" || info["CgroupVersion"] == "2",
        "{info}"
    );
    let text = barque.ok(["info"]);
    assert!(
        text.contains("overlay2") && text.contains("Containers: 2"),
        "{text}"
    );
}

#[test]
fn debug_output_goes_to_stderr_and_only_on_request() {
    let barque = Barque::with_busybox();
    let silent = barque
        .output(["run", "--rm", "busybox", "true"])
        .ok()
        .quiet();
    assert!(silent.stdout.is_empty());
    barque.output(["--log-level", "error", "ps"]).ok().quiet();
    let loud = barque.output(["-D", "ps", "-q"]).ok();
    assert!(loud.stdout.is_empty(), "{loud}");
    barque.fails(125, ["--log-level", "shouting", "ps"]);
}
