//! What `run` sets up, flag by flag, seen from inside and from the host.

use barque_testkit::image::{Image, Layer};
use barque_testkit::{Barque, proc};
use serde_json::json;

/// Runs a script in a throw-away busybox container with these flags; its stdout.
#[track_caller]
fn inside(barque: &Barque, flags: &[&str], script: &str) -> String {
    let command = ["busybox", "sh", "-c", script];
    let args = ["run", "--rm"].iter().chain(flags).chain(&command);
    barque.output(args).ok().text()
}

/// A field of the container's own /proc/self/status.
#[track_caller]
fn status(barque: &Barque, flags: &[&str], field: &str) -> String {
    let text = inside(barque, flags, "cat /proc/self/status");
    proc::field_of(&text, field)
        .unwrap_or_else(|| panic!("no {field} in {text}"))
        .to_owned()
}

/// Docker's default capabilities: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT_CAPS: &str = "00000000a80425fb";

#[test]
fn capabilities() {
    let barque = Barque::with_busybox();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&barque, &[], set), DEFAULT_CAPS, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(&barque, &[], set), "0000000000000000", "{set}");
    }
    let none = ["--cap-drop", "ALL"];
    assert_eq!(status(&barque, &none, "CapBnd"), "0000000000000000");
    // CAP_NET_ADMIN is bit 12, CAP_CHOWN bit 0.
    let one = ["--cap-drop", "all", "--cap-add", "net_admin"];
    assert_eq!(status(&barque, &one, "CapEff"), "0000000000001000");
    let less = ["--cap-drop", "CAP_CHOWN"];
    assert_eq!(status(&barque, &less, "CapEff"), "00000000a80425fa");
    // Another user has none in effect, and may not get more than the bounding set.
    assert_eq!(
        status(&barque, &["-u", "1000"], "CapEff"),
        "0000000000000000"
    );
    assert_eq!(status(&barque, &["-u", "1000"], "CapBnd"), DEFAULT_CAPS);
}

#[test]
fn privileged_means_all_that_we_have() {
    let barque = Barque::with_busybox();
    let ours = proc::status(std::process::id() as i32, "CapBnd");
    let flags = ["--privileged"];
    assert_eq!(status(&barque, &flags, "CapEff"), ours);
    assert_eq!(status(&barque, &flags, "Seccomp"), "0");
    let script = "mount -t tmpfs x /mnt && echo mounted; test -w /proc/sys/kernel && echo writable; \
                  test -b /dev/$(ls /sys/block | head -n 1) && echo devices";
    assert_eq!(
        inside(&barque, &flags, script),
        "mounted\nwritable\ndevices"
    );
}

#[test]
fn seccomp_and_new_privileges() {
    let barque = Barque::with_busybox();
    assert_eq!(status(&barque, &[], "Seccomp"), "2");
    assert_eq!(status(&barque, &[], "NoNewPrivs"), "0");
    let flags = ["--security-opt", "no-new-privileges"];
    assert_eq!(status(&barque, &flags, "NoNewPrivs"), "1");
    let flags = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(status(&barque, &flags, "Seccomp"), "0");

    // unshare(2) needs CAP_SYS_ADMIN in Docker's profile.
    let script = "unshare -U true 2>/dev/null && echo allowed || echo refused";
    assert_eq!(inside(&barque, &[], script), "refused");
    assert_eq!(inside(&barque, &flags, script), "allowed");

    // A profile of one's own.
    let profile = barque.dir().join("profile.json");
    let text = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    });
    std::fs::write(&profile, text.to_string()).expect("write a profile");
    let option = format!("seccomp={}", profile.display());
    let script = "mkdir /tmp/x 2>&1; ls /tmp";
    let said = inside(&barque, &["--security-opt", &option], script);
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn user_group_and_working_directory() {
    let barque = Barque::with_busybox();
    let id = "echo $(id -u):$(id -g) $(id -G)";
    assert_eq!(inside(&barque, &[], id), "0:0 0");
    assert_eq!(inside(&barque, &["-u", "guest"], id), "1000:1000 1000 50");
    assert_eq!(inside(&barque, &["-u", "1000:50"], id), "1000:50 50");
    assert_eq!(inside(&barque, &["-u", "4711"], id), "4711:0 0");
    assert_eq!(inside(&barque, &["-u", "guest:staff"], id), "1000:50 50");
    assert_eq!(
        inside(&barque, &["-u", "guest"], "echo $HOME"),
        "/home/guest"
    );
    assert_eq!(inside(&barque, &["-w", "/etc"], "pwd"), "/etc");
    // A missing working directory is made.
    assert_eq!(
        inside(&barque, &["--workdir", "/new/deep"], "pwd; ls -A"),
        "/new/deep"
    );
}

#[test]
fn environment() {
    let barque = Barque::with_busybox();
    let file = barque.dir().join("env");
    std::fs::write(&file, "# a comment\nFROM_FILE=a=b c\nPASSED\nUNKNOWN\n").expect("write");
    let args = [
        "run",
        "--rm",
        "-e",
        "A=1",
        "--env",
        "B=two words",
        "-e",
        "PASSED_TOO",
        "-e",
        "NOT_THERE",
        "--env-file",
        &file.to_string_lossy(),
        "--hostname",
        "harbour",
        "busybox",
        "env",
    ];
    let output = barque
        .cmd(args)
        .env("PASSED", "from here")
        .env("PASSED_TOO", "x")
        .output()
        .ok();
    let mut lines = output.lines();
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let want = [
        "A=1",
        "B=two words",
        "FROM_FILE=a=b c",
        "HOME=/root",
        "HOSTNAME=harbour",
        "PASSED=from here",
        "PASSED_TOO=x",
        path,
    ];
    assert_eq!(lines, want);
}

#[test]
fn entrypoint_and_command() {
    let barque = Barque::new();
    let image = Image::busybox()
        .with("Entrypoint", json!(["echo", "entry"]))
        .with("Cmd", json!(["default"]));
    barque.load(&image, &["talker"]);
    assert_eq!(barque.ok(["run", "--rm", "talker"]), "entry default");
    assert_eq!(
        barque.ok(["run", "--rm", "talker", "mine", "too"]),
        "entry mine too"
    );
    assert_eq!(
        barque.ok(["run", "--rm", "--entrypoint", "echo", "talker"]),
        ""
    );
    assert_eq!(
        barque.ok(["run", "--rm", "--entrypoint", "echo", "talker", "x"]),
        "x"
    );
    assert_eq!(
        barque.ok(["run", "--rm", "--entrypoint", "", "talker", "echo", "y"]),
        "y"
    );
    barque.load(&Image::busybox().with("Cmd", json!(null)), &["mute"]);
    let text = barque.fails(125, ["run", "--rm", "mute"]);
    assert!(text.to_lowercase().contains("no command"), "{text}");
}

#[test]
fn image_settings_reach_the_process() {
    let barque = Barque::new();
    let image = Image::busybox()
        .with("Env", json!(["PATH=/bin", "COLOUR=blue", "SHAPE=round"]))
        .with("WorkingDir", json!("/var"))
        .with("User", json!("guest"))
        .with("Labels", json!({"a": "image", "b": "image"}))
        .with("StopSignal", json!("SIGUSR1"));
    barque.load(&image, &["set"]);
    let args = [
        "run",
        "--name",
        "box",
        "-e",
        "COLOUR=red",
        "-l",
        "b=mine",
        "set",
    ];
    let said =
        barque.ok(args
            .into_iter()
            .chain(["sh", "-c", "id -u; pwd; echo $COLOUR $SHAPE $PATH"]));
    assert_eq!(said, "1000\n/var\nred round /bin");
    assert_eq!(
        barque.look("box", "/Config/Labels"),
        json!({"a": "image", "b": "mine"})
    );
    assert_eq!(barque.look("box", "/Config/StopSignal"), "SIGUSR1");
}

#[test]
fn file_systems() {
    let barque = Barque::with_busybox();
    let mounts = inside(&barque, &[], "cat /proc/self/mountinfo");
    for (point, kind) in [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        let found = mounts.lines().any(|line| {
            line.split(' ').nth(4) == Some(point) && line.contains(&format!(" - {kind} "))
        });
        assert!(found, "{point} is not {kind}\n{mounts}");
    }
    // Nothing of the host's tree is left in the namespace.
    let points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert!(
        !points.iter().any(|point| point.starts_with("/var")),
        "{mounts}"
    );

    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do test -e $f && wc -c < $f; done; \
                  ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : ; \
                  echo 1 > /proc/sys/kernel/panic; mkdir /sys/x; echo 1 > /proc/irq/default_smp_affinity";
    let said = inside(&barque, &[], &format!("({script}) 2>&1; true"));
    assert!(
        said.lines().filter(|line| *line == "0").count() >= 2,
        "masked files read as empty\n{said}"
    );
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");

    let devices = "ls /dev";
    let said = inside(&barque, &[], devices);
    let mut names: Vec<&str> = said.split_whitespace().collect();
    names.sort_unstable();
    let want = [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(names, want);
    let script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && test -r /dev/urandom && \
                  mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda 2>&1";
    let output = barque.output(["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(
        output.text().contains("Operation not permitted"),
        "devices cgroup\n{output}"
    );
}

#[test]
fn read_only_tmpfs_and_binds() {
    let barque = Barque::with_busybox();
    let script = "touch /x 2>&1; touch /run/y && echo tmpfs is writable; \
                  grep ' /run ' /proc/mounts";
    let said = inside(
        &barque,
        &["--read-only", "--tmpfs", "/run:size=64k,mode=700"],
        script,
    );
    assert!(
        said.contains("Read-only file system") && said.contains("tmpfs is writable"),
        "{said}"
    );
    assert!(
        said.contains("size=64k") && said.contains("nosuid") && said.contains("mode=700"),
        "{said}"
    );

    let shared = barque.dir().join("shared");
    std::fs::create_dir(&shared).expect("make a directory");
    std::fs::write(shared.join("a"), "from outside").expect("write");
    let (rw, ro) = (
        format!("{}:/data", shared.display()),
        format!("{}:/data:ro", shared.display()),
    );
    assert_eq!(
        inside(&barque, &["-v", &rw], "cat /data/a; echo in > /data/b"),
        "from outside"
    );
    assert_eq!(
        std::fs::read_to_string(shared.join("b")).expect("written"),
        "in\n"
    );
    let said = inside(
        &barque,
        &["-v", &ro],
        "cat /data/a; touch /data/c 2>&1; true",
    );
    assert!(
        said.starts_with("from outside") && said.contains("Read-only"),
        "{said}"
    );
    // One file, into a directory that the image lacks.
    let file = format!("{}:/deep/er/file", shared.join("a").display());
    assert_eq!(
        inside(&barque, &["-v", &file], "cat /deep/er/file"),
        "from outside"
    );
    // A missing source of -v is made, as a directory.
    let missing = barque.dir().join("made");
    inside(
        &barque,
        &["-v", &format!("{}:/m", missing.display())],
        "true",
    );
    assert!(missing.is_dir());
}

#[test]
fn a_symlink_of_the_image_leads_no_mount_out_of_it() {
    let barque = Barque::new();
    let outside = barque.dir().join("outside");
    std::fs::create_dir(&outside).expect("make a directory");
    let evil = Layer::builder()
        .symlink("data", &outside.to_string_lossy())
        .build();
    barque.load(&Image::busybox().plus(evil), &["evil"]);
    let source = barque.dir().join("source");
    std::fs::create_dir(&source).expect("make a directory");
    let volume = format!("{}:/data/sub", source.display());
    barque.output(["run", "--rm", "-v", &volume, "evil", "touch", "/data/sub/x"]);
    assert!(
        std::fs::read_dir(&outside).expect("list").next().is_none(),
        "it got out"
    );
}

#[test]
fn ulimits_and_clamping() {
    let barque = Barque::with_busybox();
    let script = "ulimit -n; ulimit -Hn; ulimit -c";
    let flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    assert_eq!(inside(&barque, &flags, script), "100\n200\n0");
    // More than this process may have: the most that there is, and a warning if that is less.
    let args = [
        "run",
        "--rm",
        "--ulimit",
        "nofile=1000000000:1000000000",
        "busybox",
    ];
    let output = barque
        .output(args.into_iter().chain(["sh", "-c", "ulimit -Hn"]))
        .ok();
    let got: u64 = output.text().parse().expect("a number");
    if got != 1_000_000_000 {
        output.says(&["nofile"]);
    }
}

#[test]
fn namespaces_of_another_container() {
    let barque = Barque::with_busybox();
    let args = [
        "run",
        "-d",
        "--name",
        "aa",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "100000",
    ];
    barque.ok(args);
    barque.ok([
        "run",
        "-d",
        "--name",
        "bb",
        "--pid",
        "container:aa",
        "--ipc",
        "container:aa",
        "--network",
        "container:aa",
        "--uts",
        "host",
        "busybox",
        "sleep",
        "4242",
    ]);
    let (a, b) = (barque.pid("aa"), barque.pid("bb"));
    for ns in ["pid", "ipc", "net"] {
        assert_eq!(proc::namespace(a, ns), proc::namespace(b, ns), "{ns}");
        assert_ne!(proc::namespace(a, ns), proc::own_namespace(ns), "{ns}");
    }
    assert_ne!(proc::namespace(a, "mnt"), proc::namespace(b, "mnt"));
    assert_eq!(proc::namespace(b, "uts"), proc::own_namespace("uts"));
    assert_ne!(proc::namespace(a, "cgroup"), proc::own_namespace("cgroup"));
    assert!(barque.inside("aa", "ps").contains("sleep 4242"));
    // /dev/shm comes with the IPC namespace.
    barque.inside("aa", "echo shared > /dev/shm/x");
    assert_eq!(barque.inside("bb", "cat /dev/shm/x"), "shared");

    barque.ok([
        "run", "-d", "--name", "cc", "--pid", "host", "busybox", "sleep", "100000",
    ]);
    let c = barque.pid("cc");
    assert_eq!(proc::namespace(c, "pid"), proc::own_namespace("pid"));
    barque.ok(["rm", "-f", "bb"]);
    assert_eq!(barque.status("aa"), "running");
    // A private namespace cannot be joined once its container has ended.
    barque.ok(["stop", "aa"]);
    let text = barque.fails(
        125,
        [
            "run",
            "--rm",
            "--network",
            "container:aa",
            "busybox",
            "true",
        ],
    );
    assert!(
        text.contains("aa") && text.contains("not running"),
        "{text}"
    );
}

#[test]
fn limits_arrive_in_the_cgroup() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "-m",
        "64m",
        "--memory-reservation",
        "32m",
        "--memory-swap",
        "64m",
        "--cpus",
        "1.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "77",
        "busybox",
        "sleep",
        "100000",
    ]);
    let pid = barque.pid("box");
    let v1 = proc::cgroup_mounts()
        .iter()
        .any(|(name, _)| name == "memory");
    let wanted: &[(&str, &str, &str)] = if v1 {
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.cfs_quota_us", "150000"),
            ("cpu", "cpu.shares", "512"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "77"),
        ]
    } else {
        &[
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.low", "33554432"),
            ("memory", "memory.swap.max", "0"),
            ("cpu", "cpu.max", "150000 100000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "77"),
        ]
    };
    for (controller, file, value) in wanted {
        assert_eq!(proc::cgroup_file(pid, controller, file), *value, "{file}");
    }
    let host = barque.look("box", "/HostConfig");
    for (member, value) in [
        ("Memory", 67_108_864_u64),
        ("MemoryReservation", 33_554_432),
        ("NanoCpus", 1_500_000_000),
        ("CpuShares", 512),
        ("PidsLimit", 77),
    ] {
        assert_eq!(host[member], value, "{member}");
    }
    assert_eq!(host["CpusetCpus"], "0");
    let parent = barque.cgroup_parent();
    assert!(proc::cgroup_of(pid, "memory").starts_with(&parent));
}

#[test]
fn rootfs_is_copy_on_write_and_hostname_files_are_the_containers() {
    let barque = Barque::new();
    let marker = format!("/etc/{}", barque.cgroup_parent().trim_start_matches('/'));
    let script = format!("echo x > {marker} && cat {marker} && hostname && cat /etc/hostname");
    let args = [
        "run",
        "--rm",
        "--hostname",
        "pier",
        "--rootfs",
        "/",
        "sh",
        "-c",
        &script,
    ];
    let said = barque.ok(args);
    assert_eq!(said, "x\npier\npier");
    assert!(
        !std::path::Path::new(&marker).exists(),
        "the host's /etc was written to"
    );
    assert!(
        barque
            .ok(["run", "--rm", "--rootfs", "/", "cat", "/etc/hosts"])
            .contains("127.0.0.1")
    );
    // Without a name, the short id.
    let id = barque.ok(["run", "-d", "--rootfs", "/", "sleep", "100000"]);
    assert_eq!(barque.inside(&id, "hostname"), id[..12]);
}

#[test]
fn the_embedded_image_needs_nothing() {
    let barque = Barque::new();
    let said = barque.output(["run", "--rm", "barque/hello"]).ok();
    assert!(!said.text().is_empty(), "{said}");
    assert!(barque.ok(["images"]).contains("barque/hello"));
}

#[test]
fn stdin_and_streams() {
    let barque = Barque::with_busybox();
    let upper = barque.cmd(["run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z"]);
    assert_eq!(upper.stdin("ahoy\n").output().ok().text(), "AHOY");
    // Without -i there is no stdin: `cat` ends at once.
    assert_eq!(
        barque
            .cmd(["run", "--rm", "busybox", "cat"])
            .stdin("lost")
            .output()
            .ok()
            .text(),
        ""
    );
    let both = barque
        .output([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .ok();
    assert_eq!(
        (both.text().as_str(), both.stderr.as_str()),
        ("out", "err\n")
    );
    // Much data, bit by bit the same, through log, monitor and client.
    let script = "seq 1 200000";
    let many = barque
        .output(["run", "--rm", "busybox", "sh", "-c", script])
        .ok();
    let want: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(
        many.stdout == want.as_bytes(),
        "{} of {} bytes",
        many.stdout.len(),
        want.len()
    );
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let echo = barque
        .cmd(["run", "--rm", "-i", "busybox", "cat"])
        .stdin(big.clone())
        .output()
        .ok();
    assert!(
        echo.stdout == big,
        "{} of {} bytes came back",
        echo.stdout.len(),
        big.len()
    );
}

#[test]
fn signals_are_forwarded() {
    let barque = Barque::with_busybox();
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    let running = barque
        .cmd(["run", "--rm", "busybox", "sh", "-c", script])
        .spawn_without_stdin();
    running.until_stdout("ready");
    running.signal(rustix::process::Signal::USR1);
    let output = running.wait().exits(5);
    assert_eq!(output.text(), "ready\ngot it");
}
