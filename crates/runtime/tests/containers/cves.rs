//! Known escapes of other runtimes, really tried, and what must not leak into a container.

use crate::Case;
use crate::support::{Bench, Streams, null};
use barque_runtime::{CgroupJoin, ExecOptions, Stdio, UserSpec, exec, shield};
use barque_sys::process::reap;
use barque_types::spec;
use rustix::fs::{Mode, OFlags, open};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode};

pub const CASES: &[Case] = &[
    ("cves::2019_5736_by_exec_of_a_script", by_script),
    ("cves::2019_5736_by_exec_of_a_link", by_link),
    ("cves::2019_5736_by_create", by_create),
    ("cves::2024_21626_create", cwd_of_create),
    ("cves::2024_21626_exec", cwd_of_exec),
    (
        "cves::2016_9962_nothing_of_ours_is_open",
        nothing_of_ours_is_open,
    ),
    ("cves::2022_29162_inheritable_capabilities", inheritable),
    (
        "cves::2023_25809_cgroup_is_not_writable",
        cgroup_is_not_writable,
    ),
    ("cves::descriptors_in_all_modes", descriptors_in_all_modes),
    (
        "cves::memory_is_not_shared_across_exec",
        memory_is_not_shared,
    ),
];

/// The number under which the thief keeps the stolen binary open.
const LOOT: i32 = 100;

/// What this binary does under other names; `None` for its ordinary work.
pub fn mode(args: &[String]) -> Option<ExitCode> {
    match args {
        // As the runtime: `--attacked PID PROGRAM`, executing itself read-only first.
        [flag, pid, program] if flag == "--attacked" => Some(attacked(pid, program)),
        // Inside of the container, by `#!/proc/self/exe --steal` or by a link and its arguments.
        [flag, ..] if flag == "--steal" => Some(steal()),
        _ => None,
    }
}

fn c_strings(words: impl Iterator<Item = std::ffi::OsString>) -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt;
    words
        .map(|w| CString::new(w.into_vec()).expect("no NUL"))
        .collect()
}

fn shield_this() {
    shield::shield(
        c_strings(std::env::args_os()),
        c_strings(std::env::vars_os().map(|(k, v)| {
            let mut both = k;
            both.push("=");
            both.push(v);
            both
        })),
    )
    .expect("the shield");
}

/// Runs the hostile program by exec, and ends at once, so that nobody runs the binary any more.
fn attacked(pid: &str, program: &str) -> ExitCode {
    shield_this();
    let pid: i32 = pid.parse().expect("a pid");
    let target = barque_runtime::open_pidfd(pid).expect("a pidfd");
    let mut process = crate::support::ordinary().process.expect("a process");
    process.args = vec![program.to_owned(), "--steal".to_owned()];
    let stdio = Stdio::Fds {
        stdin: rustix::stdio::stdin(),
        stdout: rustix::stdio::stdout(),
        stderr: rustix::stdio::stderr(),
    };
    exec(ExecOptions {
        id: "test",
        pid,
        pidfd: target.as_fd(),
        process: &process,
        user: UserSpec::Ids,
        agent: None,
        seccomp: None,
        personality: None,
        memory_policy: None,
        preserve: Vec::new(),
        cgroup: CgroupJoin::default(),
        stdio,
        tied_to_caller: false,
    })
    .expect("exec");
    ExitCode::SUCCESS
}

/// The thief: it is the runtime's binary, executed in the container. It keeps that open, becomes a
/// shell (so that nobody executes the binary any more), and tries to write until it is not busy.
fn steal() -> ExitCode {
    let own = open("/proc/self/exe", OFlags::RDONLY, Mode::empty()).expect("our own binary");
    let kept = rustix::io::fcntl_dupfd_cloexec(&own, LOOT).expect("dup");
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).expect("kept open");
    assert_eq!(kept.as_fd().as_raw_fd(), LOOT);
    println!("stolen");
    let script = format!(
        "while :; do
            e=$( (echo pwned > /proc/self/fd/{LOOT}) 2>&1 ) && {{ echo written; exit; }}
            case $e in *busy*) ;; *) echo \"refused: $e\"; exit;; esac
         done"
    );
    use std::os::unix::process::CommandExt;
    let error = Command::new("/bin/busybox")
        .args(["sh", "-c", &script])
        .exec();
    panic!("{error}");
}

/// Executes `program` in a container by a copy of this binary, and lets it attack the copy.
fn attack(prepare: fn(&Bench), program: &str) {
    let mut b = Bench::new();
    prepare(&b);
    let sleeper = b.sleeper();
    let runtime = b.path("runtime");
    fs::copy(std::env::current_exe().expect("own path"), &runtime).expect("copy");
    let before = fs::read(&runtime).expect("read");
    let output = Command::new(&runtime)
        .args(["--attacked", &sleeper.0.pid.to_string(), program])
        .output()
        .expect("the runtime runs");
    // The pipes end only when the thief does.
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        out.starts_with("stolen\n"),
        "the attack is real: {output:?}"
    );
    assert!(
        out.contains("refused: ") && out.contains("Read-only file system"),
        "{out}"
    );
    assert!(
        fs::read(&runtime).expect("read") == before,
        "the binary was changed"
    );
    // And without the shield it would have worked: the file itself is writable.
    fs::OpenOptions::new()
        .write(true)
        .open(&runtime)
        .expect("not busy, not read-only");
}

fn by_script() {
    attack(
        |b| {
            fs::write(b.root("bin/evil"), "#!/proc/self/exe --steal\n").expect("write");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(b.root("bin/evil"), mode).expect("chmod");
        },
        "/bin/evil",
    );
}

fn by_link() {
    attack(
        |b| symlink("/proc/self/exe", b.root("bin/evil")).expect("symlink"),
        "/bin/evil",
    );
}

/// As a container's program, and with a library path that would make a dynamic binary load its code.
fn by_create() {
    shield_this();
    assert!(shield::is_shielded().expect("shielded"));
    let mut b = Bench::new();
    symlink("/proc/self/exe", b.root("bin/evil")).expect("symlink");
    fs::write(b.root("tmp/hostile.so"), "not even a library").expect("write");
    for variable in [
        "LD_PRELOAD=/tmp/hostile.so",
        "LD_LIBRARY_PATH=/tmp",
        "LD_AUDIT=/tmp/hostile.so",
    ] {
        b.process().env.push(variable.into());
    }
    let o = b.run(&["/bin/evil", "--case", "no such"]).expect("started");
    assert_eq!(
        (o.code, o.out.as_str()),
        (99, ""),
        "there is no such case: {o:?}"
    );
    let streams = Streams::new();
    let running = b
        .start(&["/bin/evil", "--steal"], streams.stdio())
        .expect("started");
    // We run the binary all the time. The thief hears of the mount all the same, before it hears that the file is
    // busy: opening it to be emptied asks the mount for leave first.
    let (out, err) = streams.read();
    assert!(
        out.contains("stolen\nrefused: ") && out.contains("Read-only file system"),
        "{out} {err}"
    );
    reap(running.pidfd.as_fd()).expect("reap");
}

/// Directories of the host under many numbers, one of them inheritable.
fn leaks() -> Vec<OwnedFd> {
    let mut fds: Vec<OwnedFd> = (0..12)
        .map(|_| {
            open(
                "/",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .expect("open")
        })
        .collect();
    fds.push(rustix::io::dup(&fds[0]).expect("dup"));
    fds
}

/// Every number, by every name of it.
fn names_of_descriptors() -> Vec<String> {
    (0..40)
        .flat_map(|n| {
            [
                "/proc/self/fd",
                "/proc/thread-self/fd",
                "/proc/1/fd",
                "/dev/fd",
            ]
            .map(|dir| format!("{dir}/{n}"))
        })
        .collect()
}

fn cwd_of_create() {
    let leaked = leaks();
    for (i, cwd) in names_of_descriptors().into_iter().enumerate() {
        // A root file system of its own costs little, but not nothing: a new one for some.
        let mut b = Bench::new();
        b.overlay = i % 2 == 0;
        symlink(&cwd, b.root("cwd")).expect("symlink");
        for cwd in [cwd.as_str(), "/cwd", &format!("{cwd}/..")] {
            b.process().cwd = cwd.to_owned();
            if let Ok(o) = b.run(&["/bin/sh", "-c", "ls -d ../../../../work ./work work"]) {
                assert_ne!(o.code, 0, "{cwd}: {o:?}");
                assert!(!o.out.contains("work"), "{cwd}: {o:?}");
            }
        }
    }
    drop(leaked);
}

fn cwd_of_exec() {
    let leaked = leaks();
    let mut b = Bench::new();
    for (i, cwd) in names_of_descriptors().iter().enumerate() {
        symlink(cwd, b.root(&format!("cwd{i}"))).expect("symlink");
    }
    let sleeper = b.sleeper();
    for (i, cwd) in names_of_descriptors().into_iter().enumerate() {
        for cwd in [cwd, format!("/cwd{i}")] {
            b.process().cwd = cwd.clone();
            let script = "ls -d ../../../../work ./work work";
            if let Ok(o) = b.exec(&sleeper.0, &["/bin/sh", "-c", script]) {
                assert!(o.code != 0 && !o.out.contains("work"), "{cwd}: {o:?}");
            }
        }
    }
    drop(leaked);
}

/// A process of the container that looks at every other one, all the time, for what is the host's:
/// while sessions come and go, it finds no descriptor, root or working directory of one.
fn nothing_of_ours_is_open() {
    let mut b = Bench::new();
    let mark = b.path("mark-of-the-host");
    fs::create_dir(&mark).expect("mkdir");
    let _open = open(&mark, OFlags::PATH, Mode::empty()).expect("open");
    let all = barque_runtime::caps::names(barque_runtime::caps::bounding_set());
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(
        &all.into_iter()
            .filter(|c| c != "CAP_SYS_PTRACE")
            .collect::<Vec<_>>(),
    ));
    let script = "while :; do
            for p in /proc/[0-9]*; do
                case $p in /proc/1|/proc/$$) continue;; esac
                ls -l $p/fd $p/root $p/cwd 2>/dev/null | grep -e mark-of-the-host -e rootfs -e tasks && echo FOUND
            done
         done";
    let streams = Streams::new();
    let watcher = b
        .start(&["/bin/sh", "-c", script], streams.stdio())
        .expect("started");
    for _ in 0..60 {
        let o = b.exec(&watcher, &["true"]).expect("exec");
        assert_eq!(o.code, 0, "{o:?}");
    }
    rustix::process::pidfd_send_signal(&watcher.pidfd, rustix::process::Signal::KILL)
        .expect("kill");
    reap(watcher.pidfd.as_fd()).expect("reap");
    let (out, _) = streams.read();
    assert_eq!(out, "", "the watcher has seen something of the host's");
}

/// No inheritable capabilities but those that are asked for, in create and in exec: a program with file
/// capabilities would raise them.
fn inheritable() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    let script = "grep -E 'CapInh|CapAmb' /proc/self/status";
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    assert_eq!(b.sh(script).out, none);
    for uid in [0, 1000] {
        b.process().user.uid = uid;
        let o = b.exec(&sleeper.0, &["sh", "-c", script]).expect("exec");
        assert_eq!(o.out, none, "{uid}");
    }
    // Ambient without inheritable is impossible, and silently raised by nobody.
    let sets = b.process().capabilities.as_mut().expect("sets");
    sets.ambient = vec!["CAP_CHOWN".into()];
    let o = b.exec(&sleeper.0, &["sh", "-c", script]).expect("exec");
    assert_eq!(o.out, none, "{o:?}");
}

/// With the host's cgroup namespace, the mount in the container is read-only when it is asked to be.
fn cgroup_is_not_writable() {
    for shared in [false, true] {
        let mut b = Bench::new();
        if shared {
            b.share(spec::NamespaceKind::Cgroup);
        }
        b.with_user_namespace();
        let o = b.sh(
            "grep ' /sys/fs/cgroup' /proc/mounts | while read s where t options rest; do
                 case $options in ro,*|ro) ;; *) echo \"$where $options\";; esac; done
             mkdir /sys/fs/cgroup/mine /sys/fs/cgroup/*/mine 2>/dev/null && echo made",
        );
        assert_eq!(o.out, "", "{o:?}");
    }
}

/// Exactly the standard streams and what is handed over survives, whatever is open in the caller.
fn descriptors_in_all_modes() {
    let _leaked = leaks();
    let stray = rustix::io::dup(null()).expect("dup");
    let handed = [20, 27].map(|n| rustix::io::fcntl_dupfd_cloexec(null(), n).expect("dup"));
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    let open_in = |pid: i32| {
        let mut all: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fds")
            .map(|e| {
                e.expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .parse()
                    .expect("a number")
            })
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(open_in(sleeper.0.pid), [0, 1, 2]);
    let mut process = b.spec.process.clone().expect("a process");
    process.args = vec!["sleep".into(), "1000".into()];
    let (target, nothing) = (&sleeper.0, null());
    let streams = Stdio::Fds {
        stdin: nothing.as_fd(),
        stdout: nothing.as_fd(),
        stderr: nothing.as_fd(),
    };
    for stdio in [streams, Stdio::Terminal] {
        for preserve in [
            Vec::new(),
            handed.iter().map(AsFd::as_fd).collect::<Vec<_>>(),
        ] {
            let mut expected = vec![0, 1, 2];
            expected.extend(preserve.iter().map(|fd| fd.as_raw_fd()));
            let running = exec(ExecOptions {
                id: "test",
                pid: target.pid,
                pidfd: target.pidfd.as_fd(),
                process: &process,
                user: UserSpec::Ids,
                agent: None,
                seccomp: None,
                personality: None,
                memory_policy: None,
                preserve: preserve.clone(),
                cgroup: CgroupJoin::default(),
                stdio,
                tied_to_caller: true,
            })
            .expect("exec");
            let seen = open_in(running.pid);
            rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL)
                .expect("kill");
            reap(running.pidfd.as_fd()).expect("reap");
            assert_eq!(seen, expected, "exec, {stdio:?}");
            let mut options =
                barque_runtime::CreateOptions::new("test", &b.spec, b.rootfs(), stdio);
            options.preserve = preserve;
            let mut spec = b.spec.clone();
            spec.process.as_mut().expect("a process").args = process.args.clone();
            options.spec = &spec;
            // One upper layer is one container's at a time.
            let own = Bench::new();
            options.rootfs = own.rootfs();
            let running = barque_runtime::create(options)
                .expect("create")
                .start()
                .expect("start");
            let seen = open_in(running.pid);
            rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL)
                .expect("kill");
            reap(running.pidfd.as_fd()).expect("reap");
            assert_eq!(seen, expected, "create, {stdio:?}");
        }
    }
    drop(stray);
}

/// Nothing of the runtime's memory is mapped in a session: no shared segment of System V, no memfd, no
/// page of its binary.
fn memory_is_not_shared() {
    let mut b = Bench::new();
    let own = std::env::current_exe().expect("own path");
    let own = own
        .file_name()
        .expect("name")
        .to_string_lossy()
        .into_owned();
    let memory =
        rustix::fs::memfd_create("of-the-host", rustix::fs::MemfdFlags::empty()).expect("memfd");
    let sleeper = b.sleeper();
    let o = b
        .exec(&sleeper.0, &["cat", "/proc/self/maps", "/proc/1/maps"])
        .expect("exec");
    assert!(o.out.contains("busybox"), "{o:?}");
    for name in [own.as_str(), "of-the-host", "SYSV", "memfd:", " rw-s "] {
        assert!(!o.out.contains(name), "{name}: {o:?}");
    }
    drop(memory);
}
