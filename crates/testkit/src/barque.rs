//! An engine of one's own.

use crate::command::{Cmd, Output, Running};
use crate::image::Image;
use crate::leftovers::Scope;
use crate::{barque_binary, poll};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A private engine: its own data root, run root, home and parent cgroup. Any number of them live side
/// by side. When it is dropped, its containers are removed with `rm -f`, and then nothing may be left:
/// no process, no cgroup, no mount, no record; the test fails otherwise.
#[derive(Debug)]
pub struct Barque {
    dir: TempDir,
    cgroup: String,
    /// A process in another mount namespace in which the commands run, and its pid.
    namespace: Option<Running>,
    /// Files that [`Barque::drop`] does not complain about.
    tolerant: bool,
}

impl Default for Barque {
    fn default() -> Self {
        Self::new()
    }
}

impl Barque {
    /// A fresh one with empty roots, below `/var/tmp`: a file system that can hold an overlay's upper
    /// directory, which a `/tmp` on tmpfs of an old kernel cannot.
    #[track_caller]
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make namespaces, cgroups and overlay mounts: run them as root"
        );
        let dir = tempfile::Builder::new()
            .prefix("bq-")
            .tempdir_in("/var/tmp")
            .expect("make a directory in /var/tmp");
        let name = dir.path().file_name().expect("a tempdir has a name");
        let cgroup = format!("barque-test-{}", &name.to_string_lossy()[3..]);
        let barque = Self {
            dir,
            cgroup,
            namespace: None,
            tolerant: false,
        };
        std::fs::create_dir(barque.home()).expect("make a home");
        barque
    }

    /// A fresh one with the busybox image loaded.
    #[track_caller]
    pub fn with_busybox() -> Self {
        let barque = Self::new();
        barque.load(&Image::busybox(), &["busybox:latest"]);
        barque
    }

    /// A fresh one whose data root is a tmpfs of `bytes`, in a mount namespace of its own.
    #[track_caller]
    pub fn on_small_disk(bytes: u64) -> Self {
        let mut barque = Self::new();
        let data = barque.data_root();
        std::fs::create_dir(&data).expect("make the data root");
        let script = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && echo ready && exec cat";
        let holder = Cmd::new("/usr/bin/unshare")
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c"])
            .args([script, "sh", &bytes.to_string(), &data.to_string_lossy()])
            .timeout(std::time::Duration::from_secs(3600))
            .spawn();
        holder.until_stdout("ready");
        barque.namespace = Some(holder);
        barque
    }

    /// The directory that holds both roots, for files of the test too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `--data-root`.
    pub fn data_root(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// `--run-root`.
    pub fn run_root(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// `$HOME` of the commands.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The parent cgroup of all containers, relative to each hierarchy.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// How a path of the data root is seen from the test, also with a mount namespace of its own.
    pub fn seen(&self, path: &Path) -> PathBuf {
        match &self.namespace {
            Some(holder) => PathBuf::from(format!("/proc/{}/root{}", holder.pid(), path.display())),
            None => path.to_owned(),
        }
    }

    /// Nothing is checked when it is dropped: for tests that break it on purpose.
    pub fn tolerate_leftovers(&mut self) {
        self.tolerant = true;
    }

    /// A `barque` command on this engine's roots. `PATH` leads nowhere: the engine needs no helper
    /// programs. `run` and `create` get this engine's cgroup parent unless they name one.
    pub fn cmd<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        let mut command = match &self.namespace {
            Some(holder) => {
                let mut command = Command::new("/usr/bin/nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", holder.pid()));
                command.arg("--").arg(barque_binary());
                command
            }
            None => Command::new(barque_binary()),
        };
        command
            .env_clear()
            .env("PATH", "/nonexistent")
            .env("HOME", self.home())
            .env("TERM", "xterm")
            .env("TZ", "UTC")
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--run-root")
            .arg(self.run_root());
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        Cmd::from_command(command).args(self.with_cgroup_parent(args))
    }

    /// The global options alone, for commands that start another way.
    pub fn global_options(&self) -> [String; 4] {
        [
            "--data-root".into(),
            self.data_root().to_string_lossy().into_owned(),
            "--run-root".into(),
            self.run_root().to_string_lossy().into_owned(),
        ]
    }

    fn with_cgroup_parent(&self, mut args: Vec<String>) -> Vec<String> {
        let verb = args.first().map(String::as_str);
        let named = args.iter().any(|arg| arg.starts_with("--cgroup-parent"));
        if matches!(verb, Some("run" | "create")) && !named {
            args.insert(1, format!("--cgroup-parent={}", self.cgroup_parent()));
        }
        args
    }

    /// Runs a command to its end, whatever its exit code.
    #[track_caller]
    pub fn output<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.cmd(args).output()
    }

    /// Runs a command that must succeed; its stdout.
    #[track_caller]
    pub fn ok<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.output(args).ok().text()
    }

    /// Runs a command that must fail with `code`; its stderr, which must be one clear error.
    #[track_caller]
    pub fn fails<S: AsRef<str>>(&self, code: i32, args: impl IntoIterator<Item = S>) -> String {
        let output = self.output(args).exits(code);
        assert!(
            !output.stderr.contains("panicked"),
            "a panic is not an error message\n{output}"
        );
        assert!(
            !output.stderr.trim().is_empty(),
            "it says nothing\n{output}"
        );
        output.stderr.trim_end().to_owned()
    }

    /// Loads an image under these names.
    #[track_caller]
    pub fn load(&self, image: &Image, names: &[&str]) {
        self.cmd(["load", "-q"])
            .stdin(image.docker_archive(names))
            .output()
            .ok();
    }

    /// `inspect` of one object.
    #[track_caller]
    pub fn inspect(&self, object: &str) -> Value {
        let mut all = self.output(["inspect", object]).ok().json();
        match all.as_array_mut() {
            Some(list) if list.len() == 1 => list.remove(0),
            _ => panic!("inspect {object} is not one object: {all}"),
        }
    }

    /// One value of `inspect` by JSON pointer, e.g. `/State/Pid`.
    #[track_caller]
    pub fn look(&self, object: &str, pointer: &str) -> Value {
        let all = self.inspect(object);
        match all.pointer(pointer) {
            Some(value) => value.clone(),
            None => panic!("inspect {object} has no {pointer}: {all:#}"),
        }
    }

    /// [`Barque::look`] for a text.
    #[track_caller]
    pub fn look_str(&self, object: &str, pointer: &str) -> String {
        match self.look(object, pointer) {
            Value::String(text) => text,
            other => panic!("{pointer} of {object} is not a string: {other}"),
        }
    }

    /// The host's pid of a running container's PID 1.
    #[track_caller]
    pub fn pid(&self, container: &str) -> i32 {
        let pid = self.look(container, "/State/Pid").as_i64().unwrap_or(0);
        assert!(pid > 0, "{container} does not run");
        pid as i32
    }

    /// `State.Status`.
    #[track_caller]
    pub fn status(&self, container: &str) -> String {
        self.look_str(container, "/State/Status")
    }

    /// Waits until `State.Status` is `status`.
    #[track_caller]
    pub fn until_status(&self, container: &str, status: &str) {
        poll::until(&format!("{container} becomes {status}"), || {
            self.status(container) == status
        });
    }

    /// The directory of a container's writable layer on the host.
    #[track_caller]
    pub fn upper(&self, container: &str) -> PathBuf {
        PathBuf::from(self.look_str(container, "/GraphDriver/Data/UpperDir"))
    }

    /// Starts `sleep` in a detached container of the busybox image; its id.
    #[track_caller]
    pub fn sleeper(&self, name: &str) -> String {
        self.ok(["run", "-d", "--name", name, "busybox", "sleep", "100000"])
    }

    /// Runs a shell script in a running container with `exec`; its stdout.
    #[track_caller]
    pub fn inside(&self, container: &str, script: &str) -> String {
        self.ok(["exec", container, "sh", "-c", script])
    }

    /// Asserts that nothing of the engine runs, is mounted or limited any more, as after `rm` of all.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.scope_check();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    fn scope_check(&self) -> Vec<String> {
        let dir = self.dir.path().to_string_lossy();
        self.with_scope(&dir, |scope| scope.check())
    }

    fn with_scope<T>(&self, dir: &str, call: impl FnOnce(&Scope<'_>) -> T) -> T {
        let holder: Vec<i32> = self.namespace.iter().map(Running::pid).collect();
        call(&Scope {
            dir,
            cgroup: &self.cgroup,
            known: &holder,
        })
    }

    /// Removes every container; what could not be removed or is still there afterwards.
    fn close(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let list = self.output(["ps", "-aq", "--no-trunc"]);
        let ids = list.lines();
        if list.code != 0 {
            faults.push(format!("{list}"));
        }
        if !ids.is_empty() {
            let args = ["rm", "-f"].map(str::to_owned).into_iter().chain(ids);
            let removed = self.output(args);
            if removed.code != 0 {
                faults.push(format!("{removed}"));
            }
        }
        faults.extend(self.scope_check());
        for place in [
            "data/containers",
            "data/names",
            "data/tmp",
            "run/containers",
        ] {
            let entries = std::fs::read_dir(self.seen(&self.dir.path().join(place)));
            for entry in entries.into_iter().flatten().flatten() {
                if entry.file_name() == ".lock" {
                    continue; // of the names; it outlives them
                }
                faults.push(format!("file {}", entry.path().display()));
            }
        }
        faults
    }
}

impl Drop for Barque {
    fn drop(&mut self) {
        // A second panic while unwinding would abort the whole test process.
        let failing = std::thread::panicking();
        let faults = if self.data_root().join("version").exists() || self.namespace.is_some() {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.close()))
                .unwrap_or_else(|_| vec!["the final `ps` and `rm -f` failed".into()])
        } else {
            self.scope_check()
        };
        let dir = self.dir.path().to_string_lossy().into_owned();
        self.with_scope(&dir, |scope| match faults.is_empty() {
            true => scope.remove_cgroups(),
            false => scope.clear(),
        });
        self.namespace = None;
        if !failing && !self.tolerant && !faults.is_empty() {
            panic!("left behind after rm -f of all:\n{}", faults.join("\n"));
        }
    }
}
