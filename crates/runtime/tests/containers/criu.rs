//! Checkpoint and restore with the real CRIU: what was counted goes on being counted.

use crate::Case;
use crate::support::{Bench, null};
use barque_cgroup::{Cgroup, Layout};
use barque_runtime::criu::{CheckpointOptions, CriuOptions, RestoreOptions, checkpoint, restore};
use barque_runtime::{Error, Running, Stdio};
use barque_sys::process::reap;
use barque_types::spec::Resources;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[("criu::it_goes_on_where_it_was", it_goes_on_where_it_was)];

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
    fn start(mut bench: Bench) -> Self {
        let layout = Layout::detect().expect("cgroups");
        let name = format!("/barque-criu-test-{}", std::process::id());
        let (cgroup, _) = Cgroup::create(&layout, &name, &Resources::default()).expect("a cgroup");
        let v2 = cgroup
            .v2_fd()
            .map(|fd| fd.try_clone_to_owned().expect("dup"));
        bench.cgroups = (cgroup.join_fds().expect("tasks"), v2);
        let (stdin, stdout) = (null(), pipe());
        let stdio = Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.1.as_fd(),
            stderr: stdout.1.as_fd(),
        };
        let running = bench
            .start(&["/bin/sh", "-c", COUNTER], stdio)
            .expect("the container starts");
        Self {
            bench,
            cgroup,
            program: barque_testkit::criu(),
            running: Some(running),
            lines: Some(BufReader::new(fs::File::from(stdout.0))),
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
        let place = self.bench.path("place");
        fs::create_dir_all(&place).expect("mkdir");
        let image = self.image();
        let restored = restore(RestoreOptions {
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
        });
        let running = restored.unwrap_or_else(|e| self.fail(&e, "restore.log"));
        self.running = Some(running);
        self.lines = Some(BufReader::new(fs::File::from(stdout.0)));
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
