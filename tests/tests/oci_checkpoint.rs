//! `barque oci checkpoint` and `restore`, with the real CRIU.

use barque_testkit::{Cmd, Output, barque_binary, criu, poll};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Counts into an open file and, through a pipe and another process, to standard output.
const COUNTER: &str = "exec 3>/log; i=0
    while :; do i=$((i+1)); echo $i >&3; echo tick $i; sleep 0.02; done |
    while read line; do echo $line; done";

/// Kills the runtime: the parent of CRIU, which is ours.
const KILLER: &str = "#!/bin/sh
[ \"$CRTOOLS_SCRIPT_ACTION\" = @AT@ ] || exit 0
kill -9 $(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status)
";

/// A bundle, and a runtime of its own.
struct Runtime {
    dir: TempDir,
}

impl Runtime {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bq-oci-")
            .tempdir_in("/var/tmp")
            .expect("make a directory in /var/tmp");
        let runtime = Self { dir };
        let bin = runtime.path("bundle/rootfs/bin");
        fs::create_dir_all(&bin).expect("make a root file system");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in ["sh", "sleep", "cat", "echo", "ps", "readlink"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("make a link");
        }
        runtime.configure(|_| {});
        runtime
    }

    /// Writes the configuration, with a change.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        change(&mut config);
        let text = serde_json::to_vec(&config).expect("JSON");
        fs::write(self.path("bundle/config.json"), text).expect("write");
    }

    /// A program of the host.
    fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, text).expect("write a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        path.to_string_lossy().into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory's name is the container's id, and so its cgroup's.
    fn id(&self) -> String {
        let name = self.dir.path().file_name().expect("a name");
        name.to_string_lossy().into_owned()
    }

    fn config(&self) -> Value {
        let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
        let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", COUNTER],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                },
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "counting",
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
                mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "cgroupsPath": format!("/{}", self.id()),
                "namespaces": namespaces,
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys", "/proc/irq"],
            },
        })
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        let root = self.path("root").to_string_lossy().into_owned();
        let criu = criu().to_string_lossy().into_owned();
        ["oci", "--root", &root, "--criu", &criu]
            .into_iter()
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    fn run(&self, args: &[&str]) -> Output {
        Cmd::new(barque_binary()).args(self.words(args)).output()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{args:?}");
        said
    }

    /// Runs a command whose container writes to a pipe, and returns the other end.
    fn piped(&self, args: &[&str]) -> Lines {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let status = Command::new(barque_binary())
            .args(self.words(args))
            .current_dir(self.path("bundle"))
            .stdin(Stdio::null())
            // Not the test's own, which may be a file that grows meanwhile: CRIU would refuse that.
            .stderr(Stdio::null())
            .stdout(OwnedFd::from(writer))
            .status()
            .expect("run barque");
        assert!(status.success(), "{args:?}: {status}");
        BufReader::new(reader)
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.ok(&["state", &self.id()])).expect("JSON");
        state["status"].as_str().expect("a status").to_owned()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", &self.id()]);
        if std::thread::panicking() {
            return;
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let left = hierarchy.path().join(self.id());
            assert!(!left.exists(), "{} is left", left.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains(&self.id()), "a mount is left: {mounts}");
    }
}

type Lines = BufReader<std::io::PipeReader>;

/// Reads a number, which has to follow `last`.
fn next(lines: &mut Lines, last: &mut u32) {
    let mut line = String::new();
    lines.read_line(&mut line).expect("read a pipe");
    assert_eq!(line, format!("tick {}\n", *last + 1));
    *last += 1;
}

#[test]
fn a_container_goes_on_where_it_was() {
    let runtime = Runtime::new();
    let (id, image) = (runtime.id(), runtime.path("image"));
    let image = image.to_str().expect("UTF-8");
    let mut lines = runtime.piped(&["run", "-d", &id]);
    let mut last = 0;
    (0..5).for_each(|_| next(&mut lines, &mut last));
    runtime.ok(&["checkpoint", "--image-path", image, &id]);
    for line in lines.lines() {
        assert_eq!(line.expect("read a pipe"), format!("tick {}", last + 1));
        last += 1;
    }
    let unknown = runtime.run(&["state", &id]);
    assert!(unknown.stderr.contains("does not exist"), "{unknown:?}");

    let pid_file = runtime.path("pid");
    let args = ["restore", "-d", "--image-path", image, "--pid-file"];
    let args: Vec<&str> = args
        .into_iter()
        .chain([pid_file.to_str().expect("UTF-8"), &*id])
        .collect();
    let mut lines = runtime.piped(&args);
    (0..5).for_each(|_| next(&mut lines, &mut last));
    assert_eq!(runtime.status(), "running");
    let pid = fs::read_to_string(pid_file).expect("a pid file");
    let state: Value = serde_json::from_str(&runtime.ok(&["state", &id])).expect("JSON");
    assert_eq!(state["pid"].to_string(), pid);
    // Two processes and a pipe between them, and the file that is written to, without a gap.
    let processes = runtime.ok(&["exec", &id, "ps", "-o", "pid,args"]);
    assert_eq!(processes.matches("exec 3>/log").count(), 3, "{processes}");
    let log = runtime.ok(&["exec", &id, "cat", "/log"]);
    let numbers: Vec<u32> = log.lines().map(|n| n.parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<u32>>());
    assert!(numbers.len() as u32 >= last);
    // It is in the cgroups of its name, and a container like any other.
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    assert!(cgroup.lines().all(|line| line.ends_with(&id)), "{cgroup}");
    runtime.ok(&["pause", &id]);
    assert_eq!(runtime.status(), "paused");
    runtime.ok(&["resume", &id]);
    next(&mut lines, &mut last);
    runtime.ok(&["kill", &id, "KILL"]);
    poll::until("it stops", || runtime.status() == "stopped");
    runtime.ok(&["delete", &id]);
    assert!(!runtime.path("root").join(&id).exists());
}

#[test]
fn a_checkpoint_may_leave_it_running_and_a_restored_one_be_waited_for() {
    let runtime = Runtime::new();
    let (id, image) = (runtime.id(), runtime.path("image"));
    let image = image.to_str().expect("UTF-8");
    let mut lines = runtime.piped(&["run", "-d", &id]);
    let mut last = 0;
    (0..5).for_each(|_| next(&mut lines, &mut last));
    let work = runtime.path("work");
    let work = work.to_str().expect("UTF-8");
    let args = ["checkpoint", "--leave-running", "--image-path", image];
    let args: Vec<&str> = args.into_iter().chain(["--work-path", work, &id]).collect();
    runtime.ok(&args);
    assert_eq!(runtime.status(), "running");
    assert!(runtime.path("work/dump.log").exists());
    (0..20).for_each(|_| next(&mut lines, &mut last));
    runtime.ok(&["pause", &id]);
    runtime.ok(&["checkpoint", "--image-path", image, &id]);
    for line in lines.lines() {
        assert_eq!(line.expect("read a pipe"), format!("tick {}", last + 1));
        last += 1;
    }
    // In the foreground: its end is the command's, and it is deleted.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = Command::new(barque_binary())
        .args(runtime.words(&["restore", "--image-path", image, &id]))
        .current_dir(runtime.path("bundle"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(OwnedFd::from(writer))
        .spawn()
        .expect("run barque");
    let mut lines = BufReader::new(reader);
    (0..5).for_each(|_| next(&mut lines, &mut last));
    runtime.ok(&["kill", &id, "TERM"]);
    runtime.ok(&["kill", &id, "KILL"]);
    assert_eq!(child.wait().expect("wait").code(), Some(137));
    assert!(!runtime.path("root").join(&id).exists());
}

#[test]
fn what_cannot_be_is_one_clear_error() {
    let runtime = Runtime::new();
    let (id, image) = (runtime.id(), runtime.path("image"));
    let image = image.to_str().expect("UTF-8");
    let refused = |args: &[&str]| {
        let output = runtime.run(args);
        assert_eq!((output.code, output.stdout.len()), (1, 0), "{args:?}");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output:?}");
        output.stderr
    };
    let bundle = runtime.path("bundle");
    let restore = ["restore", "-b", bundle.to_str().expect("UTF-8")];
    let restore: Vec<&str> = restore
        .into_iter()
        .chain(["--image-path", image, &id])
        .collect();
    let error = refused(&restore);
    assert!(
        error.contains(&format!("checkpoint {image}: is not there")),
        "{error}"
    );
    let unit: Vec<&str> = ["--systemd-cgroup"]
        .into_iter()
        .chain(restore.clone())
        .collect();
    let error = refused(&unit);
    assert!(error.contains("without --systemd-cgroup"), "{error}");
    let error = refused(&["checkpoint", &id]);
    assert!(error.contains("does not exist"), "{error}");

    let mut lines = runtime.piped(&["run", "-d", &id]);
    let mut last = 0;
    next(&mut lines, &mut last);
    let error = refused(&[
        "--criu",
        "/nowhere/criu",
        "checkpoint",
        "--image-path",
        image,
        &id,
    ]);
    assert!(error.contains("/nowhere/criu: not found"), "{error}");
    assert!(error.contains("CRIU 4.1 or later"), "{error}");
    for (flag, value) in [
        ("--manage-cgroups-mode", "hard"),
        ("--empty-ns", "ipc"),
        ("--page-server", "nowhere"),
        ("--parent-path", "/absolute"),
        ("--status-fd", "99"),
    ] {
        let error = refused(&["checkpoint", "--image-path", image, flag, value, &id]);
        assert!(error.contains(flag), "{error}");
    }
    next(&mut lines, &mut last);
    let error = refused(&restore);
    assert!(error.contains("exists already"), "{error}");

    runtime.ok(&["checkpoint", "--image-path", image, &id]);
    fs::write(runtime.path("image/pstree.img"), "no tree").expect("write");
    let error = refused(&restore);
    assert!(error.contains("Error ("), "{error}");
    assert!(error.contains(&format!("{image}/restore.log")), "{error}");
    assert!(
        !runtime.path("root").join(&id).exists(),
        "a failed restore leaves nothing"
    );
}

#[test]
fn hooks_are_told_of_a_restore() {
    let runtime = Runtime::new();
    let noted = runtime.path("noted").to_string_lossy().into_owned();
    let hook = runtime.script("hook", &format!("#!/bin/sh\ncat >> {noted}\n"));
    runtime.configure(|config| {
        config["hooks"] = json!({"createRuntime": [{"path": hook}]});
    });
    let (id, image) = (runtime.id(), runtime.path("image"));
    let image = image.to_str().expect("UTF-8");
    let mut lines = runtime.piped(&["run", "-d", &id]);
    let mut last = 0;
    (0..5).for_each(|_| next(&mut lines, &mut last));
    runtime.ok(&["checkpoint", "--image-path", image, &id]);
    let args = ["restore", "-d", "--image-path", image, &id];
    let mut lines = runtime.piped(&args);
    let mut line = String::new();
    lines.read_line(&mut line).expect("read a pipe");
    assert!(line.starts_with("tick "), "{line:?}");
    // Once at the creation, once at the restore, with the pid of the time.
    let noted = fs::read_to_string(noted).expect("the hook ran");
    let states: Vec<Value> = serde_json::Deserializer::from_str(&noted)
        .into_iter()
        .map(|state| state.expect("a state"))
        .collect();
    let now: Value = serde_json::from_str(&runtime.ok(&["state", &id])).expect("JSON");
    assert_eq!(states.len(), 2, "{noted}");
    assert_eq!(states[1]["pid"], now["pid"]);
    assert_eq!(states[1]["status"], "created");
}

#[test]
fn a_killed_runtime_leaves_the_container_running_or_nothing() {
    let runtime = Runtime::new();
    let config = runtime.path("criu.conf").to_string_lossy().into_owned();
    let kill_at = |action: &str| {
        let script = runtime.script("killer", &KILLER.replace("@AT@", action));
        fs::write(&config, format!("action-script {script}\n")).expect("write");
    };
    runtime.configure(|spec| spec["annotations"] = json!({"org.criu.config": config}));
    let (id, image) = (runtime.id(), runtime.path("image"));
    let image = image.to_str().expect("UTF-8");
    let mut lines = runtime.piped(&["run", "-d", &id]);
    let mut last = 0;
    next(&mut lines, &mut last);
    // The container stands still then, with CRIU in it.
    kill_at("network-lock");
    let killed = runtime.run(&["checkpoint", "--image-path", image, &id]);
    assert_eq!(killed.code, 128 + 9, "{killed:?}");
    (0..20).for_each(|_| next(&mut lines, &mut last));
    kill_at("never");
    runtime.ok(&["checkpoint", "--image-path", image, &id]);
    for line in lines.lines() {
        assert_eq!(line.expect("read a pipe"), format!("tick {}", last + 1));
        last += 1;
    }
    for action in ["setup-namespaces", "post-restore"] {
        kill_at(action);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let status = Command::new(barque_binary())
            .args(runtime.words(&["restore", "-d", "--image-path", image, &id]))
            .current_dir(runtime.path("bundle"))
            .stdin(Stdio::null())
            // Not the test's own, which may be a file that grows meanwhile: CRIU would refuse that.
            .stderr(Stdio::null())
            .stdout(OwnedFd::from(writer))
            .status()
            .expect("run barque");
        assert_eq!(status.signal(), Some(9), "{action}");
        runtime.ok(&["delete", "--force", &id]);
        // Whatever ran has ended: nobody writes to it any more.
        std::io::copy(&mut reader, &mut std::io::sink()).expect("read a pipe");
        // CRIU itself leaves an empty directory when it is killed.
        let log = fs::read_to_string(runtime.path("image/restore.log")).expect("a log");
        if let Some(at) = log.find("/tmp/.criu.mntns.") {
            let _ = fs::remove_dir(&log[at..at + "/tmp/.criu.mntns.XXXXXX".len()]);
        }
    }
    kill_at("never");
    let mut lines = runtime.piped(&["restore", "-d", "--image-path", image, &id]);
    (0..5).for_each(|_| next(&mut lines, &mut last));
}
