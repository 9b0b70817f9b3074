//! One more process in a running container.

use crate::Case;
use crate::support::{Bench, null};
use barque_runtime::{CgroupJoin, Error, ExecOptions, Stdio, UserSpec, exec};
use barque_sys::process::reap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;

pub const CASES: &[Case] = &[
    ("exec::enters_every_namespace", enters_every_namespace),
    ("exec::in_a_user_namespace", in_a_user_namespace),
    ("exec::user_caps_and_cwd", user_caps_and_cwd),
    ("exec::exit_codes_of_failures", exit_codes_of_failures),
    ("exec::terminal", terminal),
    ("exec::into_a_dead_container", into_a_dead_container),
    (
        "exec::is_our_child_and_leaves_no_other",
        is_our_child_and_leaves_no_other,
    ),
];

fn enters_every_namespace() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    let script = "cd /proc/self/ns; for n in cgroup ipc mnt net pid uts; do readlink $n; done; \
                  hostname; ps -o args; cat /proc/self/cgroup";
    let o = b
        .exec(&sleeper.0, &["/bin/sh", "-c", script])
        .expect("exec");
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{kind}", sleeper.0.pid)).expect("ns");
        assert!(o.out.contains(&*theirs.to_string_lossy()), "{kind}: {o:?}");
    }
    assert!(
        o.out.contains("\ninside\n") && o.out.contains("sleep 1000"),
        "{o:?}"
    );
    assert!(o.err.is_empty() && o.warnings.is_empty(), "{o:?}");
}

fn in_a_user_namespace() {
    let mut b = Bench::new();
    b.with_user_namespace();
    let sleeper = b.sleeper();
    let o = b
        .exec(
            &sleeper.0,
            &["/bin/sh", "-c", "id -u; touch /home/by-exec; id -G"],
        )
        .expect("exec");
    assert_eq!(o.out, "0\n0\n", "{o:?}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(b.path("upper/home/by-exec"))
            .expect("stat")
            .uid(),
        0
    );
}

fn user_caps_and_cwd() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    b.user = UserSpec::Named {
        user: "web".into(),
        groups: vec![],
    };
    b.process().cwd = "/etc".into();
    b.process().no_new_privileges = true;
    let script = "id -un; pwd; echo $HOME; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status";
    let o = b
        .exec(&sleeper.0, &["/bin/sh", "-c", script])
        .expect("exec");
    assert_eq!(
        o.out,
        "web\n/etc\n/home/web\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n",
        "{o:?}"
    );
}

fn exit_codes_of_failures() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    assert_eq!(
        b.exec(&sleeper.0, &["nonesuch"])
            .expect_err("absent")
            .exit_code(),
        127
    );
    assert_eq!(
        b.exec(&sleeper.0, &["/etc/passwd"])
            .expect_err("a text")
            .exit_code(),
        126
    );
    b.process().cwd = "/none".into();
    let e = b.exec(&sleeper.0, &["true"]).expect_err("no cwd");
    assert_eq!(
        e.to_string(),
        "entering the working directory \"/none\": no such file or directory"
    );
    b.process().cwd = "/".into();
    assert_eq!(
        b.exec(&sleeper.0, &["sh", "-c", "exit 42"])
            .expect("exec")
            .code,
        42
    );
}

fn terminal() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    let mut process = b.spec.process.clone().expect("a process");
    process.args = ["sh", "-c", "tty; echo > /dev/tty && echo ctty"]
        .map(str::to_owned)
        .to_vec();
    let running = exec(ExecOptions {
        id: "test",
        pid: sleeper.0.pid,
        pidfd: sleeper.0.pidfd.as_fd(),
        process: &process,
        user: UserSpec::Ids,
        agent: None,
        seccomp: None,
        personality: None,
        memory_policy: None,
        cgroup: CgroupJoin::default(),
        stdio: Stdio::Terminal,
        tied_to_caller: true,
        preserve: Vec::new(),
    })
    .expect("exec");
    let mut out = String::new();
    let _ = fs::File::from(running.console.expect("a console")).read_to_string(&mut out);
    assert!(
        out.contains("/dev/pts/0") && out.contains("ctty"),
        "{out:?}"
    );
    assert_eq!(reap(running.pidfd.as_fd()), Ok(0));
}

fn into_a_dead_container() {
    let mut b = Bench::new();
    let null = null();
    let stdio = Stdio::Fds {
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
    };
    let running = b.start(&["/bin/true"], stdio).expect("started");
    // A zombie, and then nothing: both are gone.
    let mut fds = [rustix::event::PollFd::new(
        &running.pidfd,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut fds, None).expect("poll");
    assert!(matches!(
        b.exec(&running, &["true"]),
        Err(Error::Gone { .. })
    ));
    reap(running.pidfd.as_fd()).expect("reap");
    assert!(matches!(
        b.exec(&running, &["true"]),
        Err(Error::Gone { .. })
    ));
}

fn is_our_child_and_leaves_no_other() {
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    for _ in 0..3 {
        assert_eq!(b.exec(&sleeper.0, &["true"]).expect("exec").code, 0);
    }
    let own = std::process::id();
    let children =
        fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    assert_eq!(children.trim(), sleeper.0.pid.to_string(), "no zombies");
}
