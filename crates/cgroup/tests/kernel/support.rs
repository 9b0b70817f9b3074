//! Groups and processes that do not outlive the test that made them.

use std::io::Write;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use barque_cgroup::{Cgroup, Layout};
use barque_types::spec::Resources;

/// Longer than anything takes on a busy machine with an emulated processor.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn layout() -> Layout {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make cgroups and need root"
    );
    let layout = Layout::detect().unwrap();
    assert!(
        !layout.hierarchies().is_empty(),
        "no cgroup hierarchy is mounted"
    );
    layout
}

/// A path that no other test has.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("/barque-test-{}-{count}", std::process::id())
}

pub fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

/// A group that is emptied and removed at the end.
pub struct Group(pub Cgroup);

impl Group {
    pub fn new(json: &str) -> Self {
        let (group, warnings) = Self::with_warnings(json);
        assert_eq!(warnings, Vec::<String>::new());
        group
    }

    pub fn with_warnings(json: &str) -> (Self, Vec<String>) {
        let (cgroup, warnings) = Cgroup::create(&layout(), &unique(), &resources(json)).unwrap();
        (Self(cgroup), warnings)
    }

    /// The directory where a controller (v1 name) is.
    pub fn dir(&self, controller: &str) -> PathBuf {
        let paths = self.0.paths();
        let found = paths.get(controller).or_else(|| paths.get(""));
        found
            .unwrap_or_else(|| panic!("{controller} is nowhere"))
            .clone()
    }

    /// What a file of v1 or of v2 holds: `(controller, v1 file, v2 file)`.
    pub fn file(&self, controller: &str, v1: &str, v2: &str) -> String {
        let file = if self.on_v1(controller) { v1 } else { v2 };
        let path = self.dir(controller).join(file);
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .trim()
            .to_owned()
    }

    pub fn on_v1(&self, controller: &str) -> bool {
        self.0.paths().contains_key(controller)
    }

    /// A shell in the group that waits for [`Member::go`] before it runs the script.
    pub fn shell(&self, script: &str) -> Member {
        let member = Member::outside(script);
        self.0.attach(member.pid()).unwrap();
        member
    }
}

impl Deref for Group {
    type Target = Cgroup;
    fn deref(&self) -> &Cgroup {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let result = self.0.kill_all(PATIENCE).and_then(|()| self.0.remove());
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// A shell that is killed and waited for at the end.
pub struct Member {
    child: Child,
    go: Option<ChildStdin>,
}

impl Member {
    /// A shell that is in no group of ours.
    pub fn outside(script: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go\n{script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let go = child.stdin.take();
        Self { child, go }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Lets the script run; its further reads wait for the end of the test.
    pub fn go_on(&mut self) {
        self.go.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Lets the script run, with an empty input.
    pub fn go(&mut self) {
        self.go.take().unwrap().write_all(b"\n").unwrap();
    }

    /// Lets the script run and waits for its end: status, stdout, stderr.
    pub fn finish(mut self) -> (ExitStatus, String, String) {
        self.go_on();
        self.end()
    }

    /// What the script writes up to the next line with a dot alone.
    pub fn lines(&mut self) -> Vec<String> {
        use std::io::Read;
        let out = self.child.stdout.as_mut().unwrap();
        let mut text = Vec::new();
        let mut byte = [0u8];
        while !text.ends_with(b".\n") {
            out.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        text.truncate(text.len() - 2);
        let text = String::from_utf8(text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for the end of a script that runs: status, stdout, stderr.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        self.go = None;
        let read = |stream: &mut dyn std::io::Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let out = read(self.child.stdout.as_mut().unwrap());
        let err = read(self.child.stderr.as_mut().unwrap());
        (self.child.wait().unwrap(), out, err)
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `done`; panics after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A whole disk: `(major, minor)`.
pub fn disk() -> String {
    std::fs::read_dir("/sys/block")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // Loop and RAM disks come and go; any other will do.
            let name = path.file_name()?.to_str()?.to_owned();
            let usable = !["loop", "ram", "zram"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            usable.then(|| std::fs::read_to_string(path.join("dev")).ok())?
        })
        .next()
        .expect("this test needs a block device (in a virtual machine: the module null_blk)")
        .trim()
        .to_owned()
}
