//! The OCI runtime's command line, with a root directory, bundles and a cgroup of one's own.

use crate::command::{Cmd, Output};
use crate::leftovers::Scope;
use crate::{barque_binary, poll};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// `barque oci` with a `--root` of its own. When it is dropped, its containers are deleted by force, and then nothing
/// may be left of them: no process, cgroup, mount or directory.
#[derive(Debug)]
pub struct Oci {
    dir: TempDir,
    cgroup: String,
}

impl Default for Oci {
    fn default() -> Self {
        Self::new()
    }
}

impl Oci {
    /// A fresh one, with a bundle `bundle` whose configuration is [`Oci::config`].
    #[track_caller]
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make namespaces, cgroups and mounts: run them as root"
        );
        let dir = tempfile::Builder::new()
            .prefix("bo-")
            .tempdir_in("/var/tmp")
            .expect("make a directory in /var/tmp");
        let name = dir.path().file_name().expect("a tempdir has a name");
        let cgroup = format!("oci-test-{}", &name.to_string_lossy()[3..]);
        let oci = Self { dir, cgroup };
        rootfs(&oci.rootfs());
        oci.bundle("bundle", &oci.config());
        oci
    }

    /// Everything of this one is below.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The root file system that the bundles share: busybox.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// The cgroup below which all containers are, from the top of each hierarchy.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Makes a bundle, or replaces its configuration.
    #[track_caller]
    pub fn bundle(&self, name: &str, config: &Value) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).expect("make a bundle");
        std::fs::write(path.join("config.json"), config.to_string()).expect("write config.json");
        path
    }

    /// What `spec` writes, without a terminal, with a writable root, and with a program that runs until it is told to
    /// end (SIGTERM). The cgroup is to be set with [`Oci::config_for`].
    pub fn config(&self) -> Value {
        self.config_for(
            "demo",
            &[
                "sh",
                "-c",
                "trap 'exit 0' TERM; while :; do sleep 0.02; done",
            ],
        )
    }

    /// The same for a container of that id and another program.
    pub fn config_for(&self, id: &str, args: &[&str]) -> Value {
        let mut config = example();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"] = json!({"path": self.rootfs(), "readonly": false});
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.cgroup));
        config
    }

    /// `barque oci --root … WORDS`.
    pub fn cmd<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        self.cmd_at(&self.root(), words)
    }

    /// The same with another root.
    pub fn cmd_at<S: AsRef<str>>(&self, root: &Path, words: impl IntoIterator<Item = S>) -> Cmd {
        Cmd::new(barque_binary())
            .args(["oci", "--root", &root.to_string_lossy()])
            .args(words)
            .cwd(&self.dir.path().join("bundle"))
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.cmd(words).output()
    }

    /// Runs it; it has to succeed and to have nothing to say about it.
    #[track_caller]
    pub fn ok<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.run(words).ok().quiet()
    }

    /// Creates a container whose program does not hold our pipes.
    #[track_caller]
    pub fn create(&self, words: &[&str]) {
        self.detached(&[&["create"], words].concat());
    }

    /// Runs a command that leaves a container behind; that container has /dev/null for standard streams.
    #[track_caller]
    pub fn detached(&self, words: &[&str]) {
        self.try_detached(words).ok().quiet();
    }

    /// The same, whatever comes of it. What it says is caught in a file, which the container would not hold up.
    #[track_caller]
    pub fn try_detached(&self, words: &[&str]) -> Output {
        detach(self.cmd(words), self.dir.path())
    }

    /// The same for a command of another program, a tracer say, that runs this one.
    #[track_caller]
    pub fn detach(&self, cmd: Cmd) -> Output {
        detach(cmd, self.dir.path())
    }

    /// What `state` says.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        self.ok(["state", id]).json()
    }

    /// The status alone.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        let state = self.state(id);
        state["status"].as_str().expect("a status").to_owned()
    }

    /// The first process.
    #[track_caller]
    pub fn pid(&self, id: &str) -> i32 {
        self.state(id)["pid"].as_i64().expect("a pid") as i32
    }

    /// Waits until it has that status.
    #[track_caller]
    pub fn until(&self, id: &str, status: &str) {
        poll::until(&format!("{id} is {status}"), || self.status(id) == status);
    }

    /// Where the containers' records are: their ids.
    pub fn records(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Panics when anything of any container is left: a record, a process, a cgroup, a mount.
    #[track_caller]
    pub fn assert_clean(&self) {
        let records = self.records();
        assert!(records.is_empty(), "records are left: {records:?}");
        let left = self.left(&self.dir.path().to_string_lossy());
        assert!(left.is_empty(), "is left:\n{}", left.join("\n"));
    }

    fn left(&self, dir: &str) -> Vec<String> {
        Scope {
            dir,
            cgroup: &self.cgroup,
            known: &[],
        }
        .check()
    }

    fn end(&self) -> Result<(), String> {
        for id in self.records() {
            let output = self.run(["delete", "--force", &id]);
            if output.code != 0 {
                return Err(output.to_string());
            }
        }
        let mut left = self.left(&self.dir.path().to_string_lossy());
        left.extend(self.records().iter().map(|id| format!("record of {id}")));
        match left.is_empty() {
            true => Ok(()),
            false => Err(left.join("\n")),
        }
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let scope = Scope {
            dir: &dir,
            cgroup: &self.cgroup,
            known: &[],
        };
        if std::thread::panicking() {
            scope.clear();
            scope.remove_cgroups();
            return;
        }
        let ended = self.end();
        scope.clear();
        scope.remove_cgroups();
        if let Err(left) = ended {
            panic!("is left when the test is over:\n{left}");
        }
    }
}

/// Runs a command whose offspring keeps its streams: none of them is a pipe of ours.
#[track_caller]
fn detach(mut cmd: Cmd, dir: &Path) -> Output {
    let started = std::time::Instant::now();
    let errors = tempfile::NamedTempFile::new_in(dir).expect("make a file for stderr");
    let command = cmd.command();
    let text = crate::command::describe(command);
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(errors.reopen().expect("open it again"))
        .status()
        .unwrap_or_else(|e| panic!("run {text}: {e}"));
    Output {
        command: text,
        code: crate::command::code(status),
        stdout: Vec::new(),
        stderr: std::fs::read_to_string(errors.path()).expect("read stderr"),
        took: started.elapsed(),
    }
}

/// What `spec` writes.
fn example() -> Value {
    static EXAMPLE: OnceLock<Value> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().expect("make a directory");
        Cmd::new(barque_binary())
            .args(["oci", "spec", "-b", &dir.path().to_string_lossy()])
            .output()
            .ok();
        let text = std::fs::read(dir.path().join("config.json")).expect("spec wrote config.json");
        serde_json::from_slice(&text).expect("spec writes JSON")
    };
    EXAMPLE.get_or_init(make).clone()
}

/// Busybox and the directories that the default mounts need.
fn rootfs(path: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
        std::fs::create_dir_all(path.join(dir)).expect("make a directory of the root file system");
    }
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).is_file())
        .expect("Debian's busybox-static is installed (`cargo xtask test` does that)");
    std::fs::copy(program, path.join("bin/busybox")).expect("copy busybox");
    for name in [
        "cat", "chmod", "echo", "env", "head", "id", "kill", "ls", "mkdir", "ps", "pwd",
        "readlink", "sh", "sleep", "stty", "tail", "test", "touch", "true", "false", "tty", "wc",
    ] {
        symlink("busybox", path.join("bin").join(name)).expect("link an applet");
    }
    std::fs::write(path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
}

/// How many cgroups, mounts and network namespaces there are on this machine.
pub fn census() -> (usize, usize, usize) {
    let cgroups = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let groups = cgroups
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<usize>().ok())
        .sum();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut networks: Vec<_> = std::fs::read_dir("/proc")
        .expect("list /proc")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path().join("ns/net")).ok())
        .collect();
    networks.sort();
    networks.dedup();
    (groups, mounts.lines().count(), networks.len())
}
