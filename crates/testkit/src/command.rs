//! Running a program to its end with a deadline, and saying all that is known when it went wrong.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command about to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

/// What a command that ended has said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; 128 + signal when a signal killed it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Wall time from start to end.
    pub took: Duration,
}

/// A command that runs. Killed (by its pid, with SIGKILL) when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    started: Instant,
    timeout: Duration,
    out: Pump,
    err: Pump,
}

/// Reads a pipe to its end in a thread; what came so far can be looked at.
#[derive(Debug)]
struct Pump {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Cmd {
    /// A command with stdin from /dev/null and two minutes to live.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self::from_command(Command::new(program.as_ref()))
    }

    pub(crate) fn from_command(command: Command) -> Self {
        Self {
            command,
            stdin: None,
            timeout: Duration::from_secs(120),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.command.arg(arg.as_ref());
        }
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn cwd(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it this on stdin, then end of file.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Changes how long it may run before it is killed and the test fails.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The command itself, for what has no method here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let stdin = self.stdin.take();
        let mut running = self.start(stdin.is_some());
        // A program may end without reading everything: a broken pipe is its right.
        if let (Some(mut pipe), Some(bytes)) = (running.child.stdin.take(), stdin) {
            let _ = pipe.write_all(&bytes);
        }
        running.finish()
    }

    /// Starts it with a pipe as stdin.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let stdin = self.stdin.take();
        let mut running = self.start(true);
        if let Some(bytes) = stdin {
            running.write(&bytes);
        }
        running
    }

    /// Starts it with stdin from /dev/null.
    #[track_caller]
    pub fn spawn_without_stdin(self) -> Running {
        self.start(false)
    }

    #[track_caller]
    fn start(mut self, pipe: bool) -> Running {
        let text = describe(&self.command);
        let mut child = self
            .command
            .stdin(if pipe { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {text}: {e}"));
        Running {
            out: Pump::new(child.stdout.take().expect("stdout is piped")),
            err: Pump::new(child.stderr.take().expect("stderr is piped")),
            child,
            command: text,
            started: Instant::now(),
            timeout: self.timeout,
        }
    }
}

impl Running {
    /// Its pid; valid until it was waited for.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Writes to its stdin.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        let pipe = self.child.stdin.as_mut().expect("stdin is open");
        if let Err(e) = pipe.write_all(bytes).and_then(|()| pipe.flush()) {
            panic!("write to {}: {e}\n{}", self.command, self.so_far());
        }
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a child has a pid");
        // The child was not waited for yet: its pid is still its own.
        if let Err(e) = rustix::process::kill_process(pid, signal) {
            panic!("send {signal:?} to {}: {e}", self.command);
        }
    }

    /// Its stdout so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// Waits until its stdout contains `needle`.
    #[track_caller]
    pub fn until_stdout(&self, needle: &str) {
        let found = crate::poll::within(crate::poll::PATIENCE, || {
            self.stdout().contains(needle).then_some(())
        });
        if found.is_none() {
            panic!("{} never wrote {needle:?}\n{}", self.command, self.so_far());
        }
    }

    /// Whether it has ended.
    #[track_caller]
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_some()
    }

    /// Waits for its end. Stdin is closed first.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        self.close_stdin();
        self.wait()
    }

    /// Waits for its end, stdin staying open.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let deadline = self.started + self.timeout;
        let status = loop {
            match self.child.try_wait().expect("wait for a child") {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    let state = stuck(self.pid());
                    panic!(
                        "{} did not end within {:?}\n{}\n{state}",
                        self.command,
                        self.timeout,
                        self.so_far()
                    );
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let took = self.started.elapsed();
        // Whoever still holds the pipes would hang any caller that reads to the end: a fault.
        for (name, pump) in [("stdout", &mut self.out), ("stderr", &mut self.err)] {
            if !pump.join(Duration::from_secs(10)) {
                panic!(
                    "{} has ended, but something it left holds its {name}",
                    self.command
                );
            }
        }
        Output {
            command: self.command.clone(),
            code: code(status),
            stdout: self.out.bytes.lock().expect("pump").clone(),
            stderr: self.err.text(),
            took,
        }
    }

    fn so_far(&self) -> String {
        format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pump {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                sink.lock().expect("pump").extend_from_slice(&buffer[..n]);
            }
        });
        Self {
            bytes,
            thread: Some(thread),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("pump")).into_owned()
    }

    /// Whether the end came in time.
    fn join(&mut self, patience: Duration) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        let done = crate::poll::within(patience, || thread.is_finished().then_some(())).is_some();
        if done {
            let _ = thread.join();
        }
        done
    }
}

impl Output {
    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        if self.code != code {
            panic!("exit code {} instead of {code}\n{self}", self.code);
        }
        self
    }

    /// Asserts that stderr contains each of `needles`, ignoring case.
    #[track_caller]
    pub fn says(self, needles: &[&str]) -> Self {
        let text = self.stderr.to_lowercase();
        for needle in needles {
            if !text.contains(&needle.to_lowercase()) {
                panic!("stderr lacks {needle:?}\n{self}");
            }
        }
        self
    }

    /// Asserts that nothing was written to stderr.
    #[track_caller]
    pub fn quiet(self) -> Self {
        if !self.stderr.is_empty() {
            panic!("stderr should be empty\n{self}");
        }
        self
    }

    /// Stdout as text without the last newline(s).
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Stdout by lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(e) => panic!("stdout is not JSON: {e}\n{self}"),
        }
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n[exit {} after {:?}]\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.took,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The command line as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains([' ', '\n', '$', '\'', ';', '|', '&']) {
                format!("'{}'", word.replace('\'', r"'\''"))
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a process that does not end is stuck, as far as the kernel tells.
fn stuck(pid: i32) -> String {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    format!(
        "it is in: wchan={} syscall={}\n{}",
        read("wchan"),
        read("syscall"),
        read("stack")
    )
}
