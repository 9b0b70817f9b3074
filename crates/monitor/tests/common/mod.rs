//! A fake engine for the monitor's tests: real processes, real pipes and terminals, real signals.
//!
//! The monitor forks, so it must be spawned from a process with one thread, and libtest runs every test in
//! a thread of its own, even the only one. So this test binary has its own small `main` ([`main`]): in a
//! re-executed copy it is the *spawner* ([`run_spawner`]), in the role of `barque run`; else it runs the
//! tests, as libtest would.

use barque_monitor::*;
use barque_sys::process::{Namespaces, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PLAN: &str = "BARQUE_MONITOR_TEST_PLAN";

/// What a container of these tests is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Fake {
    /// For `sh -c`.
    pub script: String,
    /// Where the calls to the engine are written down, one line each.
    pub events: PathBuf,
    /// PID 1 of a pid namespace of its own (works for one start only).
    pub pid_namespace: bool,
    /// Fail so.
    pub start_error: Option<StartError>,
}

impl Fake {
    fn note(&self, line: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.events)
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Supervised for Fake {
    #[expect(
        clippy::zombie_processes,
        reason = "the monitor reaps it, by its pidfd"
    )]
    fn start(&mut self, request: StartRequest) -> Result<Started, StartError> {
        self.note(&format!("start {}", request.restart_count));
        if let Some(error) = &self.start_error {
            return Err(error.clone());
        }
        if self.pid_namespace {
            unshare(Namespaces::PID).unwrap();
        }
        let mut console = None;
        let mut command;
        match request.io {
            ContainerIo::Fds {
                stdin,
                stdout,
                stderr,
            } => {
                command = Command::new("/bin/sh");
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            }
            ContainerIo::Terminal { .. } => {
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                let master = openpt(flags).unwrap();
                grantpt(&master).unwrap();
                unlockpt(&master).unwrap();
                let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
                command = Command::new("setsid");
                command.args(["--ctty", "/bin/sh"]);
                command.stdin(slave.try_clone().unwrap());
                command.stdout(slave.try_clone().unwrap()).stderr(slave);
                console = Some(master);
            }
        }
        let child = command.arg("-c").arg(&self.script).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Ok(Started {
            pid: child.id() as i32,
            pidfd,
            console,
            warnings: vec!["a warning".into()],
        })
    }

    fn init_ended(&mut self) {
        self.note("init_ended");
    }

    fn ended(&mut self, ended: &Ended) {
        let restart = ended.restart.map(|r| r.count);
        self.note(&format!(
            "ended {} {:?} requested={} restart={restart:?}",
            ended.exit.code, ended.exit.signal, ended.stop_requested
        ));
    }

    fn finished(&mut self, finish: &Finish) {
        self.note(&format!("finished {finish:?}"));
    }
}

#[derive(Serialize, Deserialize)]
struct Plan {
    config: Config,
    fake: Fake,
    attach: Option<AttachOptions>,
}

/// Runs the tests whose name contains one of the arguments (all without any), in parallel.
pub fn main(tests: &[(&str, fn())]) {
    if std::env::var_os(PLAN).is_some() {
        return run_spawner();
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| wanted(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((name, test)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ok = std::panic::catch_unwind(test).is_ok();
                    println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
                    if !ok {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let (bad, good) = (failed.len(), chosen.len() - failed.len());
    let word = if bad == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {good} passed; {bad} failed; 0 ignored; 0 measured; {} filtered out\n",
        tests.len() - chosen.len()
    );
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// The body of the spawner process: spawns, reports, and when attached plays `barque run -i`: pumps its
/// stdin to the container and the container's output to files.
fn run_spawner() {
    let plan: Plan = serde_json::from_str(&std::env::var(PLAN).unwrap()).unwrap();
    let dir = plan.fake.events.parent().unwrap().to_owned();
    let begin = Instant::now();
    let spawned = spawn(plan.config, plan.fake, plan.attach);
    let took = begin.elapsed().as_micros();
    match spawned {
        Ok(spawned) => {
            println!(
                "SPAWNED {} {} {}",
                spawned.pid,
                spawned.monitor_pid,
                spawned.warnings.len()
            );
            println!("TOOK {took} us");
            if let Some(attachment) = spawned.attachment {
                stream(attachment, plan.attach.is_some_and(|a| a.stdin), &dir);
            }
        }
        Err(Error::Start(error)) => {
            println!("START_ERROR {} {}", error.exit_code, error.message);
            println!("TOOK {took} us");
        }
        Err(error) => println!("ERROR {error}"),
    }
}

fn stream(mut attachment: Attachment, with_stdin: bool, dir: &Path) {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut out = File::create(dir.join("stdout")).unwrap();
    let mut err = File::create(dir.join("stderr")).unwrap();
    let mut input = vec![0; 30_000];
    let mut stdin_open = with_stdin;
    loop {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, attachment.has_unsent());
        let stdin = std::io::stdin();
        let mut fds = vec![PollFd::new(&attachment, wanted)];
        if stdin_open && !attachment.has_unsent() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        poll(&mut fds, None).unwrap();
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if events[0].contains(PollFlags::OUT) {
            attachment.flush().unwrap();
        }
        if events[0].intersects(PollFlags::IN | PollFlags::HUP) {
            match attachment.next_event().unwrap() {
                Some(Event::Stdout(bytes)) => out.write_all(&bytes).unwrap(),
                Some(Event::Stderr(bytes)) => err.write_all(&bytes).unwrap(),
                Some(Event::Exit(exit)) => return println!("EXIT {}", exit.code),
                None => return println!("HUNG UP"),
            }
        }
        if events.get(1).is_some_and(|e| !e.is_empty()) {
            match rustix::io::read(stdin.as_fd(), &mut input[..]).unwrap() {
                0 => {
                    attachment.close_stdin().unwrap();
                    stdin_open = false;
                }
                n => attachment.send_stdin(&input[..n]).unwrap(),
            }
        }
    }
}

/// A container under test; ended on drop whatever the test did.
pub struct Container {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub fake: Fake,
    pub pids: Option<(i32, i32)>,
}

pub const SOON: Duration = Duration::from_secs(30);

/// Polls until `what` holds; the deadline only turns a hang into a failure.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "it never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Container {
    pub fn new(script: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests must run as root"
        );
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket address has room for.
        let run_dir = dir.path().join("r".repeat(120));
        std::fs::create_dir(&run_dir).unwrap();
        let config = Config {
            id: "0123456789abcdef".repeat(4),
            run_dir,
            tty: false,
            open_stdin: false,
            stdin_once: false,
            console_size: None,
            restart: Default::default(),
            restart_count: 0,
            stop_signal: 15,
            log: Some(LogConfig {
                path: dir.path().join("x-json.log"),
                max_size: Some(10_000_000),
                max_files: 3,
            }),
        };
        let fake = Fake {
            script: script.into(),
            events: dir.path().join("events"),
            pid_namespace: false,
            start_error: None,
        };
        Self {
            dir,
            config,
            fake,
            pids: None,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Runs the spawner and returns it with its first line read.
    pub fn spawner(&mut self, attach: Option<AttachOptions>) -> Spawner {
        let plan = Plan {
            config: self.config.clone(),
            fake: self.fake.clone(),
            attach,
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(PLAN, serde_json::to_string(&plan).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut spawner = Spawner {
            child,
            stdin,
            lines,
            first: String::new(),
        };
        let first = spawner.line(&["SPAWNED", "START_ERROR", "ERROR"]);
        if let Some(pids) = first.strip_prefix("SPAWNED ") {
            let mut pids = pids.split(' ').map(|p| p.parse().unwrap());
            self.pids = Some((pids.next().unwrap(), pids.next().unwrap()));
        }
        spawner.first = first;
        spawner
    }

    /// Starts it detached, as `run -d`.
    pub fn start(&mut self) -> &mut Self {
        let mut spawner = self.spawner(None);
        assert!(spawner.first.starts_with("SPAWNED"), "{}", spawner.first);
        assert!(spawner.child.wait().unwrap().success());
        self
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.config.run_dir).unwrap()
    }

    pub fn log_path(&self) -> PathBuf {
        self.config.log.clone().unwrap().path
    }

    /// All of the log: stdout, stderr.
    pub fn logged(&self) -> (Vec<u8>, Vec<u8>) {
        let mut reader = log::Reader::open(&self.log_path(), log::ReadOptions::default()).unwrap();
        let mut all = (Vec::new(), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            match entry.stream {
                log::Stream::Stdout => all.0.extend(entry.bytes),
                log::Stream::Stderr => all.1.extend(entry.bytes),
            }
        }
        all
    }

    pub fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.fake.events).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the monitor has left.
    pub fn wait_gone(&self) {
        eventually("the monitor leaves", || {
            matches!(
                Client::connect(&self.config.run_dir),
                Err(Error::NotRunning { .. })
            )
            .then_some(())
        });
    }

    pub fn wait_logged(&self, text: &str) {
        eventually(text, || {
            let (out, _) = self.logged();
            String::from_utf8_lossy(&out).contains(text).then_some(())
        });
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(mut client) = Client::connect(&self.config.run_dir) {
            let _ = client.stop(9, Some(Duration::ZERO));
        }
    }
}

pub struct Spawner {
    pub child: Child,
    pub stdin: Option<std::process::ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
    pub first: String,
}

impl Spawner {
    /// The next line that begins with one of the words.
    pub fn line(&mut self, words: &[&str]) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "the spawner said none of {words:?}"
            );
            let text = line.trim_end();
            if words.iter().any(|w| text.starts_with(w)) {
                return text.to_owned();
            }
        }
    }

    /// Reads to the end: the exit line.
    pub fn finish(mut self) -> String {
        drop(self.stdin.take());
        let line = self.line(&["EXIT", "HUNG UP"]);
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        line
    }
}

pub const ATTACH: AttachOptions = AttachOptions {
    stdin: false,
    stdout: true,
    stderr: true,
    slow: SlowClient::Wait,
};
