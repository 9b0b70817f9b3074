//! Checkpoint and restore with the real CRIU: what was counted goes on being counted.

use crate::Case;
use crate::support::{Bench, null};
use barque_cgroup::{Cgroup, Layout};
use barque_runtime::criu::{CheckpointOptions, CriuOptions, RestoreOptions, checkpoint, restore};
use barque_runtime::{Error, Running, Stdio, open_namespace};
use barque_sys::process::reap;
use barque_types::spec::{NamespaceKind, Resources};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[
    ("criu::it_goes_on_where_it_was", it_goes_on_where_it_was),
    ("criu::it_may_be_left_running", it_may_be_left_running),
    (
        "criu::a_frozen_container_is_dumped",
        a_frozen_container_is_dumped,
    ),
    ("criu::mounts_are_as_they_were", mounts_are_as_they_were),
    ("criu::a_user_namespace_too", a_user_namespace_too),
    ("criu::a_terminal_is_restored", a_terminal_is_restored),
    (
        "criu::namespaces_that_were_joined",
        namespaces_that_were_joined,
    ),
    ("criu::a_missing_criu_is_named", a_missing_criu_is_named),
    ("criu::bad_images_are_refused", bad_images_are_refused),
    (
        "criu::a_dump_of_changes_works_or_is_refused",
        a_dump_of_changes_works_or_is_refused,
    ),
    (
        "criu::a_failed_dump_leaves_it_running",
        a_failed_dump_leaves_it_running,
    ),
];

/// Counts into an open file and, through a pipe and another process, to standard output.
const COUNTER: &str = "exec 3>/tmp/log; i=0
    while :; do i=$((i+1)); echo $i >&3; echo tick $i; sleep 0.02; done |
    while read line; do echo $line; done";

/// A container that counts, and what it says.
struct Counter {
    bench: Bench,
    cgroup: Cgroup,
    program: PathBuf,
    running: Option<Running>,
    lines: Option<BufReader<fs::File>>,
    /// The last number that was read.
    last: u32,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe")
}

impl Counter {
    fn start(bench: Bench) -> Self {
        let (stdin, stdout) = (null(), pipe());
        let stdio = Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.1.as_fd(),
            stderr: stdout.1.as_fd(),
        };
        let mut counter = Self::start_with(bench, stdio);
        counter.lines = Some(BufReader::new(fs::File::from(stdout.0)));
        counter
    }

    fn start_on_a_terminal(bench: Bench) -> Self {
        let mut counter = Self::start_with(bench, Stdio::Terminal);
        let running = counter.running.as_mut().expect("it runs");
        let console = running.console.take().expect("a terminal");
        counter.lines = Some(BufReader::new(fs::File::from(console)));
        counter
    }

    fn start_with(mut bench: Bench, stdio: Stdio<'_>) -> Self {
        let layout = Layout::detect().expect("cgroups");
        let name = format!("/barque-criu-test-{}", std::process::id());
        let (cgroup, _) = Cgroup::create(&layout, &name, &Resources::default()).expect("a cgroup");
        let v2 = cgroup
            .v2_fd()
            .map(|fd| fd.try_clone_to_owned().expect("dup"));
        bench.cgroups = (cgroup.join_fds().expect("tasks"), v2);
        let running = bench
            .start(&["/bin/sh", "-c", COUNTER], stdio)
            .expect("the container starts");
        Self {
            bench,
            cgroup,
            program: barque_testkit::criu(),
            running: Some(running),
            lines: None,
            last: 0,
        }
    }

    fn image(&self) -> PathBuf {
        self.bench.path("image")
    }

    /// Reads numbers until one is as large; each must follow the one before.
    fn read_to(&mut self, number: u32) {
        while self.last < number {
            let mut line = String::new();
            let lines = self.lines.as_mut().expect("it runs");
            lines.read_line(&mut line).expect("reading a pipe");
            let read = line
                .trim()
                .strip_prefix("tick ")
                .and_then(|n| n.parse().ok());
            assert_eq!(read, Some(self.last + 1), "after {}: {line:?}", self.last);
            self.last += 1;
        }
    }

    fn read_to_end(&mut self) {
        let lines = self.lines.take().expect("it runs");
        for line in lines.lines() {
            let line = line.expect("reading a pipe");
            assert_eq!(line, format!("tick {}", self.last + 1));
            self.last += 1;
        }
    }

    fn dump(&self, change: impl FnOnce(&mut CheckpointOptions<'_>)) -> Result<(), Error> {
        let image = self.image();
        let running = self.running.as_ref().expect("it runs");
        let mut options = CheckpointOptions {
            criu: CriuOptions::new(&self.program, &image),
            pid: running.pid,
            pidfd: running.pidfd.as_fd(),
            spec: &self.bench.spec,
            freezer: None,
            leave_running: false,
            pre_dump: false,
            parent_path: None,
            tcp_skip_in_flight: false,
            link_remap: false,
            page_server: None,
            status_fd: None,
        };
        change(&mut options);
        checkpoint(options)
    }

    /// Dumps it, and reads what it has said.
    fn stop(&mut self) {
        self.dump(|_| {})
            .unwrap_or_else(|e| self.fail(&e, "dump.log"));
        let running = self.running.take().expect("it runs");
        assert_eq!(reap(running.pidfd.as_fd()), Ok(-9));
        self.read_to_end();
    }

    fn go_on(&mut self) {
        let (stdin, stdout) = (null(), pipe());
        let stdio = Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.1.as_fd(),
            stderr: stdout.1.as_fd(),
        };
        let join = std::mem::take(&mut self.bench.join);
        let restored = self.restore(stdio, |options| options.join = join);
        let running = restored.unwrap_or_else(|e| self.fail(&e, "restore.log"));
        self.running = Some(running);
        self.lines = Some(BufReader::new(fs::File::from(stdout.0)));
    }

    fn restore(
        &self,
        stdio: Stdio<'_>,
        change: impl FnOnce(&mut RestoreOptions<'_>),
    ) -> Result<Running, Error> {
        let place = self.bench.path("place");
        fs::create_dir_all(&place).expect("mkdir");
        let image = self.image();
        let mut options = RestoreOptions {
            criu: CriuOptions::new(&self.program, &image),
            spec: &self.bench.spec,
            rootfs: self.bench.rootfs(),
            place: &place,
            stdio,
            cgroup: self.bench.cgroup(),
            join: Vec::new(),
            trees: Vec::new(),
            on_namespaces: None,
            lsm_profile: None,
            lsm_mount_context: None,
        };
        change(&mut options);
        restore(options)
    }

    fn fail(&self, error: &Error, log: &str) -> ! {
        let log = fs::read_to_string(self.image().join(log)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("{error}\n{tail}");
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            let _ =
                rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL);
            let _ = reap(running.pidfd.as_fd());
        }
        let _ = self.cgroup.kill_all(Duration::from_secs(5));
        let removed = self.cgroup.remove();
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

fn it_goes_on_where_it_was() {
    let mut counter = Counter::start(Bench::new());
    counter.read_to(5);
    counter.stop();
    let stopped = counter.last;
    counter.go_on();
    counter.read_to(stopped + 5);
    let seen = counter
        .bench
        .exec(counter.running(), &["/bin/cat", "/tmp/log"])
        .expect("exec works in what was restored");
    let logged: Vec<u32> = seen
        .out
        .lines()
        .map(|n| n.parse().expect("a number"))
        .collect();
    let expected: Vec<u32> = (1..=logged.len() as u32).collect();
    assert_eq!(logged, expected, "the file lost or repeated something");
    assert!(logged.len() as u32 >= stopped + 5);
}

fn it_may_be_left_running() {
    let mut counter = Counter::start(Bench::new());
    counter.read_to(5);
    counter
        .dump(|options| options.leave_running = true)
        .unwrap_or_else(|e| counter.fail(&e, "dump.log"));
    counter.read_to(counter.last + 20);
    assert!(counter.image().join("inventory.img").exists());
}

fn a_frozen_container_is_dumped() {
    let mut counter = Counter::start(Bench::new());
    counter.read_to(5);
    let patience = Duration::from_secs(5);
    counter.cgroup.freeze(patience).expect("freezing");
    let paths = counter.cgroup.paths();
    let freezer = paths.get("freezer").or(paths.get("")).cloned();
    counter
        .dump(|options| {
            options.leave_running = true;
            options.freezer = freezer.clone();
        })
        .unwrap_or_else(|e| counter.fail(&e, "dump.log"));
    assert!(
        counter.cgroup.is_frozen().expect("a state"),
        "it was thawed"
    );
    counter.cgroup.thaw().expect("thawing");
    counter.read_to(counter.last + 5);
    counter
        .dump(|options| options.freezer = freezer.clone())
        .unwrap_or_else(|e| counter.fail(&e, "dump.log"));
    let running = counter.running.take().expect("it runs");
    assert_eq!(reap(running.pidfd.as_fd()), Ok(-9));
    counter.read_to_end();
    counter.go_on();
    counter.read_to(counter.last + 5);
}

/// Everything about a container's mounts but the numbers, sorted.
fn mounts(counter: &Counter) -> Vec<String> {
    let path = format!("/proc/{}/mountinfo", counter.running().pid);
    let text = fs::read_to_string(path).expect("mountinfo");
    let mut mounts: Vec<String> = text
        .lines()
        .map(|line| {
            let (head, tail) = line.split_once(" - ").expect("a line of mountinfo");
            let head: Vec<&str> = head.split(' ').collect();
            let kind = tail.split(' ').next().expect("a type");
            let propagation: Vec<&str> = head[6..]
                .iter()
                .map(|tag| tag.split(':').next().unwrap_or_default())
                .collect();
            format!("{} {} {} {kind} {propagation:?}", head[4], head[3], head[5])
        })
        .collect();
    mounts.sort();
    mounts
}

fn mounts_are_as_they_were() {
    let mut bench = Bench::new();
    for dir in ["data", "data/deep", "secret"] {
        fs::create_dir(bench.path(dir)).expect("mkdir");
    }
    fs::write(bench.path("file"), "from the host\n").expect("write");
    rustix::mount::mount(
        "tmpfs",
        bench.path("data/deep"),
        "tmpfs",
        MountFlags::empty(),
        None,
    )
    .expect("mount");
    fs::write(bench.path("data/deep/x"), "deep\n").expect("write");
    let (data, file) = (bench.path("data"), bench.path("file"));
    bench.bind(&data, "/data", &["rbind", "ro"]);
    bench.bind(&data, "/slave", &["rbind", "rslave"]);
    bench.bind(&file, "/etc/file", &["bind", "nosuid", "noexec"]);
    let deep = bench.path("data/deep");
    let mut counter = Counter::start(bench);
    counter.read_to(5);
    let before = mounts(&counter);
    let before_exec = counter
        .bench
        .exec(counter.running(), &["/bin/touch", "/dev/shm/kept"])
        .expect("exec");
    assert_eq!(before_exec.code, 0, "{before_exec:?}");
    counter.stop();
    counter.go_on();
    counter.read_to(counter.last + 2);
    let after = mounts(&counter);
    let seen = counter
        .bench
        .exec(
            counter.running(),
            &["/bin/cat", "/data/deep/x", "/slave/deep/x", "/etc/file"],
        )
        .expect("exec");
    let kept = counter
        .bench
        .exec(counter.running(), &["/bin/ls", "/dev/shm"])
        .expect("exec");
    drop(counter);
    rustix::mount::unmount(&deep, UnmountFlags::DETACH).expect("umount");
    assert_eq!(seen.out, "deep\ndeep\nfrom the host\n", "{seen:?}");
    assert_eq!(kept.out, "kept\n", "{kept:?}");
    let list = |mounts: &[String]| mounts.join("\n");
    assert_eq!(list(&before), list(&after));
}

fn a_user_namespace_too() {
    let mut bench = Bench::new();
    bench.with_user_namespace();
    fs::write(bench.path("file"), "from the host\n").expect("write");
    let file = bench.path("file");
    bench.bind(&file, "/etc/file", &["bind", "ro"]);
    let mut counter = Counter::start(bench);
    counter.read_to(5);
    let before = mounts(&counter);
    counter.stop();
    counter.go_on();
    counter.read_to(counter.last + 5);
    assert_eq!(before.join("\n"), mounts(&counter).join("\n"));
    let map = fs::read_to_string(format!("/proc/{}/uid_map", counter.running().pid));
    let map: Vec<String> = map
        .expect("uid_map")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    let made = counter
        .bench
        .exec(
            counter.running(),
            &["/bin/sh", "-c", "touch /made && stat -c %u /made"],
        )
        .expect("exec");
    assert_eq!(made.out, "0\n", "{made:?}");
}

fn a_terminal_is_restored() {
    let mut counter = Counter::start_on_a_terminal(Bench::new());
    counter.read_to(5);
    counter
        .dump(|_| {})
        .unwrap_or_else(|e| counter.fail(&e, "dump.log"));
    let running = counter.running.take().expect("it runs");
    assert_eq!(reap(running.pidfd.as_fd()), Ok(-9));
    let stopped = counter.last;
    let restored = counter.restore(Stdio::Terminal, |_| {});
    let mut running = restored.unwrap_or_else(|e| counter.fail(&e, "restore.log"));
    let console = running.console.take().expect("a terminal");
    counter.running = Some(running);
    let mut lines = BufReader::new(fs::File::from(console));
    // What was in the terminal, unread, is lost with it, as with any terminal that is closed.
    let mut number = || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("reading a terminal");
        let number = line.trim().strip_prefix("tick ").map(str::parse::<u32>);
        number
            .unwrap_or_else(|| panic!("{line:?}"))
            .expect("a number")
    };
    let first = number();
    assert!(first > stopped, "{first} after {stopped}");
    assert_eq!((number(), number()), (first + 1, first + 2));
}

fn namespaces_that_were_joined() {
    let mut owner = Bench::new();
    let owner = owner.sleeper();
    let join = |bench: &mut Bench| {
        let kind = NamespaceKind::Network;
        let fd = open_namespace(owner.0.pid, kind).expect("a namespace");
        bench.share(kind);
        bench.join = vec![(kind, fd)];
    };
    let mut bench = Bench::new();
    join(&mut bench);
    let mut counter = Counter::start(bench);
    counter.read_to(5);
    counter
        .dump(|options| options.criu.joined = vec![NamespaceKind::Network])
        .unwrap_or_else(|e| counter.fail(&e, "dump.log"));
    let running = counter.running.take().expect("it runs");
    assert_eq!(reap(running.pidfd.as_fd()), Ok(-9));
    counter.read_to_end();
    join(&mut counter.bench);
    counter.go_on();
    counter.read_to(counter.last + 5);
    let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    assert_eq!(of(counter.running().pid), of(owner.0.pid));
}

fn a_missing_criu_is_named() {
    let mut counter = Counter::start(Bench::new());
    counter.program = PathBuf::from("/nowhere/criu");
    let error = counter.dump(|_| {}).expect_err("there is no such program");
    assert_eq!(
        error.to_string(),
        "/nowhere/criu: not found: checkpoint and restore need CRIU 4.1 or later (the package criu of Debian 13)"
    );
    counter.read_to(5);
}

fn bad_images_are_refused() {
    let mut counter = Counter::start(Bench::new());
    counter.read_to(5);
    let refused = |counter: &Counter| {
        let stdin = null();
        let stdio = Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdin.as_fd(),
            stderr: stdin.as_fd(),
        };
        let error = counter.restore(stdio, |_| {}).expect_err("a bad image");
        error.to_string()
    };
    let image = counter.image();
    let shown = image.display();
    assert_eq!(
        refused(&counter),
        format!("checkpoint {shown}: is not there")
    );
    fs::create_dir(&image).expect("mkdir");
    let empty = format!("checkpoint {shown}: holds no checkpoint (no barque.json)");
    assert_eq!(refused(&counter), empty);
    counter.stop();
    fs::write(image.join("pstree.img"), "no tree").expect("write");
    let error = refused(&counter);
    assert!(
        error.starts_with("criu failed to restore the container: Error ("),
        "{error}"
    );
    assert!(
        error.ends_with(&format!("the log is {shown}/restore.log")),
        "{error}"
    );
    assert!(fs::read_to_string(image.join("restore.log")).is_ok());
}

fn a_failed_dump_leaves_it_running() {
    // One end of a socket whose other is outside: CRIU wants to be told that this is all right.
    let (inside, _outside) = UnixStream::pair().expect("a pair of sockets");
    let (inside, stdout) = (OwnedFd::from(inside), pipe());
    let stdio = Stdio::Fds {
        stdin: inside.as_fd(),
        stdout: stdout.1.as_fd(),
        stderr: stdout.1.as_fd(),
    };
    let mut counter = Counter::start_with(Bench::new(), stdio);
    counter.lines = Some(BufReader::new(fs::File::from(stdout.0)));
    counter.read_to(5);
    let error = counter.dump(|_| {}).expect_err("a socket leads outside");
    let text = error.to_string();
    assert!(
        text.starts_with("criu failed to dump the container: Error ("),
        "{text}"
    );
    let log = counter.image().join("dump.log");
    assert!(
        text.ends_with(&format!("the log is {}", log.display())),
        "{text}"
    );
    counter.read_to(counter.last + 20);
}

fn a_dump_of_changes_works_or_is_refused() {
    let mut counter = Counter::start(Bench::new());
    counter.read_to(5);
    let dumped = counter.dump(|options| options.pre_dump = true);
    // Written memory is tracked by kernels with CONFIG_MEM_SOFT_DIRTY only.
    match dumped {
        Ok(()) => assert!(counter.image().join("pages-1.img").exists()),
        Err(error) => assert_eq!(
            error.to_string(),
            "a pre-dump needs a kernel that tracks written memory (CONFIG_MEM_SOFT_DIRTY)"
        ),
    }
    counter.read_to(counter.last + 20);
}
