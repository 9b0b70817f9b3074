//! Cgroups: entered before the container's first allocation, and all that it sees of them.

use crate::Case;
use crate::support::Bench;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::path::{Path, PathBuf};

pub const CASES: &[Case] = &[
    (
        "cgroups::entered_by_create_and_exec",
        entered_by_create_and_exec,
    ),
    (
        "cgroups::the_view_is_the_containers_own_part",
        the_view_is_its_own_part,
    ),
    (
        "cgroups::a_refused_cgroup_is_named",
        a_refused_cgroup_is_named,
    ),
];

/// Groups of our own: of `pids` if that is a v1 hierarchy, and of v2 if there is one.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn make(b: &mut Bench) -> Self {
        let name = format!("barque-runtime-test-{}", std::process::id());
        let mut made = Vec::new();
        let v1 = Path::new("/sys/fs/cgroup/pids");
        if v1.join("tasks").exists() {
            let dir = v1.join(&name);
            fs::create_dir(&dir).expect("mkdir");
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let tasks = rustix::fs::open(dir.join("tasks"), flags, Mode::empty()).expect("tasks");
            b.cgroups.0.push(tasks);
            made.push(dir);
        }
        let v2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(Path::new)
            .into_iter()
            .find(|d| d.join("cgroup.controllers").exists());
        if let Some(v2) = v2 {
            let dir = v2.join(&name);
            fs::create_dir(&dir).expect("mkdir");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            b.cgroups.1 = Some(rustix::fs::open(&dir, flags, Mode::empty()).expect("v2"));
            made.push(dir);
        }
        assert!(!made.is_empty(), "this machine has no cgroups to test with");
        Self(made)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        for dir in &self.0 {
            // A killed process leaves its group a moment after it was reaped.
            while fs::remove_dir(dir).is_err() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

fn procs(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("cgroup.procs"))
        .expect("procs")
        .lines()
        .map(Into::into)
        .collect()
}

fn entered_by_create_and_exec() {
    let mut b = Bench::new();
    let groups = Groups::make(&mut b);
    for user_namespace in [false, true] {
        if user_namespace {
            b.with_user_namespace();
        }
        let sleeper = b.sleeper();
        for dir in &groups.0 {
            assert_eq!(procs(dir), [sleeper.0.pid.to_string()], "{dir:?}");
        }
        // In the container the same group is the root: of the namespace, of exec's process too.
        let o = b
            .exec(&sleeper.0, &["/bin/cat", "/proc/self/cgroup"])
            .expect("exec");
        for line in o
            .out
            .lines()
            .filter(|l| l.contains(":pids:") || l.starts_with("0::"))
        {
            assert!(line.ends_with(":/"), "{line}");
        }
    }
}

fn the_view_is_its_own_part() {
    let mut b = Bench::new();
    let groups = Groups::make(&mut b);
    let o = b.sh("cat /sys/fs/cgroup/pids/tasks 2>/dev/null || cat /sys/fs/cgroup/cgroup.procs");
    assert!(
        o.out.starts_with("1\n"),
        "only its own processes, by its own numbers: {o:?}"
    );
    assert!(o.out.lines().count() <= 2, "{o:?}");
    let o = b.sh("mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x; touch /sys/fs/cgroup/y");
    assert!(o.err.matches("Read-only file system").count() >= 2, "{o:?}");
    drop(groups);
}

fn a_refused_cgroup_is_named() {
    let mut b = Bench::new();
    b.cgroups.0.push(crate::support::null());
    assert_eq!(b.sh("echo /dev/null takes anything").code, 0);
    let read_only = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).expect("open");
    b.cgroups.0 = vec![read_only];
    let e = b.run(&["true"]).expect_err("not writable").to_string();
    assert!(e.starts_with("entering a cgroup: "), "{e}");
}
