//! Agents that answer for a container's system calls: a real one, in a process of its own.

use crate::Case;
use crate::support::{Bench, Outcome, Streams};
use barque_runtime::ExecOptions;
use barque_sys::notify;
use barque_sys::process::{CloneArgs, Cloned, clone_process, reap};
use barque_types::oci_state::{State, Status};
use barque_types::spec::{Seccomp, SyscallRule};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

pub const CASES: &[Case] = &[
    ("agent_is_told_and_answers", is_told_and_answers),
    (
        "agent_is_asked_about_execve_first",
        is_asked_about_execve_first,
    ),
    (
        "agent_leaves_nothing_in_the_program",
        leaves_nothing_in_the_program,
    ),
    ("agent_of_a_session", of_a_session),
    ("agent_that_is_not_there", that_is_not_there),
];

/// An agent: a process, because whoever makes containers has a single thread.
struct Agent {
    process: Cloned,
    file: PathBuf,
}

impl Agent {
    /// Listens at `path`. It accepts one connection, takes the listener, and answers until the last process under
    /// the filter has ended: `answer` gives an errno, or lets the call be made.
    fn at(path: &Path, answer: fn(i32) -> Option<Errno>) -> Self {
        let socket = UnixListener::bind(path).expect("bind");
        let file = path.with_extension("heard");
        let process = clone_process(CloneArgs::default(), &[socket.as_fd()], || {
            // It ends with the test, also when nobody ever connects.
            set_parent_process_death_signal(Some(Signal::KILL)).expect("prctl");
            let (connection, _) = socket.accept().expect("accept");
            let (words, listener) = receive(&connection);
            let mut calls = Vec::new();
            while let Some(asked) = notify::receive(listener.as_fd()).expect("receive") {
                calls.push(asked.number);
                let answered = match answer(asked.number) {
                    Some(errno) => notify::deny(listener.as_fd(), asked.id, errno),
                    None => notify::let_through(listener.as_fd(), asked.id),
                };
                // Whoever asked may have been killed meanwhile.
                assert!(
                    matches!(answered, Ok(()) | Err(Errno::NOENT)),
                    "{answered:?}"
                );
            }
            let heard = serde_json::json!({"words": words, "calls": calls});
            std::fs::write(&file, heard.to_string()).expect("write");
            0
        })
        .expect("fork");
        Self { process, file }
    }

    /// What it got, when all is over: the words, and the numbers of the calls that it was asked about.
    fn heard(self) -> (Value, Vec<i64>) {
        assert_eq!(reap(self.process.pidfd.as_fd()), Ok(0));
        let text = std::fs::read(&self.file).expect("what it heard");
        let mut heard: Value = serde_json::from_slice(&text).expect("JSON");
        let calls = heard["calls"].as_array().expect("calls");
        let calls = calls.iter().filter_map(Value::as_i64).collect();
        (heard["words"].take(), calls)
    }
}

fn receive(connection: impl AsFd) -> (Value, OwnedFd) {
    let mut bytes = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        connection,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("recvmsg");
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let words = serde_json::from_slice(&bytes[..received.bytes]).expect("JSON");
    (words, fd.expect("a descriptor"))
}

fn answered(names: &[&str], path: PathBuf) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        listener_path: Some(path),
        listener_metadata: Some("opaque".into()),
        syscalls: vec![SyscallRule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action: "SCMP_ACT_NOTIFY".into(),
            ..SyscallRule::default()
        }],
        ..Seccomp::default()
    }
}

const MKDIRS: [i64; 2] = [MKDIR, MKDIRAT];
/// An architecture without mkdir(2) has no number for it.
const MKDIR: i64 = if cfg!(target_arch = "x86_64") { 83 } else { -1 };
const MKDIRAT: i64 = if cfg!(target_arch = "x86_64") {
    258
} else {
    34
};
const EXECVE: i64 = if cfg!(target_arch = "x86_64") {
    59
} else {
    221
};

fn no_directories(call: i32) -> Option<Errno> {
    // Not an errno that the kernel would give.
    MKDIRS.contains(&call.into()).then_some(Errno::HWPOISON)
}

fn is_told_and_answers() {
    let mut bench = Bench::new();
    let path = bench.path("agent");
    let agent = Agent::at(&path, no_directories);
    bench
        .spec
        .annotations
        .insert("org.example".into(), "yes".into());
    bench.linux().seccomp = Some(answered(&["mkdir", "mkdirat"], path));
    let outcome = bench.sh("mkdir /made; echo $?; test -e /made || echo none");
    assert_eq!(outcome.out, "1\nnone\n", "{outcome:?}");
    assert!(outcome.err.contains("hardware error"), "{outcome:?}");
    let (words, calls) = agent.heard();
    assert!(calls.iter().all(|call| MKDIRS.contains(call)));
    assert_eq!(calls.len(), 1);
    assert_eq!(words["fds"], serde_json::json!(["seccompFd"]));
    assert_eq!(words["metadata"], "opaque");
    assert_eq!(words["state"]["id"], "test");
    assert_eq!(words["state"]["status"], "created");
    assert_eq!(words["state"]["annotations"]["org.example"], "yes");
    assert_eq!(words["state"]["pid"], words["pid"]);
    assert!(words["pid"].as_i64().is_some_and(|pid| pid > 1), "{words}");
    assert!(words["ociVersion"].is_string(), "{words}");
}

/// Everything that a runtime might do between the filter and the program is asked about, and only execve is.
fn is_asked_about_execve_first() {
    for no_new_privileges in [true, false] {
        let mut bench = Bench::new();
        let path = bench.path("agent");
        let agent = Agent::at(&path, |_| None);
        bench.process().no_new_privileges = no_new_privileges;
        // Without no_new_privs, loading takes CAP_SYS_ADMIN, which is dropped by a capset after it.
        let mut names = vec![
            "execve", "execveat", "write", "writev", "read", "sendmsg", "sendto", "recvmsg",
            "close", "dup", "dup3", "fcntl", "futex", "poll", "ppoll", "getpid", "kill", "clone",
            "clone3", "wait4", "waitid", "ioctl",
        ];
        if no_new_privileges {
            names.extend(["capset", "prctl"]);
        }
        bench.linux().seccomp = Some(answered(&names, path));
        let outcome = bench.run(&["/bin/true"]).expect("it starts");
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let (_, calls) = agent.heard();
        assert_eq!(calls.first(), Some(&EXECVE), "{calls:?}");
    }
}

fn leaves_nothing_in_the_program() {
    let mut bench = Bench::new();
    let path = bench.path("agent");
    let agent = Agent::at(&path, |_| None);
    bench.linux().seccomp = Some(answered(&["mkdir", "mkdirat"], path));
    let outcome =
        bench.sh("ls -l /proc/self/fd; grep -E '^(TracerPid|Seccomp):' /proc/self/status");
    assert!(!outcome.out.contains("seccomp"), "{outcome:?}");
    assert!(
        outcome.out.contains("TracerPid:\t0\nSeccomp:\t2"),
        "{outcome:?}"
    );
    assert!(agent.heard().1.is_empty());
}

fn of_a_session() {
    let mut bench = Bench::new();
    let first = Agent::at(&bench.path("first"), |_| None);
    bench.linux().seccomp = Some(answered(&["mkdir", "mkdirat"], bench.path("first")));
    let sleeper = bench.sleeper();
    let second = Agent::at(&bench.path("second"), no_directories);
    let seccomp = answered(&["mkdir", "mkdirat"], bench.path("second"));
    let outcome = exec(&bench, &sleeper.0, &seccomp);
    assert_eq!(outcome.out, "1\n", "{outcome:?}");
    let words = second.heard().0;
    assert_eq!(words["state"]["status"], "running");
    assert_eq!(words["state"]["pid"], sleeper.0.pid);
    assert_ne!(words["pid"], words["state"]["pid"]);
    drop(sleeper);
    assert!(first.heard().1.is_empty());
}

fn exec(bench: &Bench, target: &barque_runtime::Running, seccomp: &Seccomp) -> Outcome {
    let mut process = bench.spec.process.clone().expect("a process");
    process.args = ["/bin/sh", "-c", "mkdir /x 2>/dev/null; echo $?"]
        .map(str::to_owned)
        .to_vec();
    let streams = Streams::new();
    let state = State {
        oci_version: "1.2.0".into(),
        id: "test".into(),
        status: Status::Running,
        pid: target.pid,
        bundle: "/".into(),
        annotations: Default::default(),
    };
    let running = barque_runtime::exec(ExecOptions {
        id: "test",
        pid: target.pid,
        pidfd: target.pidfd.as_fd(),
        process: &process,
        user: bench.user.clone(),
        agent: barque_runtime::Agent::of(Some(seccomp), state),
        seccomp: Some(seccomp),
        personality: None,
        memory_policy: None,
        cgroup: bench.cgroup(),
        stdio: streams.stdio(),
        tied_to_caller: true,
        preserve: Vec::new(),
    })
    .expect("the session starts");
    let (out, err) = streams.read();
    let code = reap(running.pidfd.as_fd()).expect("waiting");
    Outcome {
        code,
        out,
        err,
        warnings: running.warnings,
    }
}

fn that_is_not_there() {
    let mut bench = Bench::new();
    let path = bench.path("nobody");
    bench.linux().seccomp = Some(answered(&["mkdir"], path));
    let error = bench
        .run(&["/bin/true"])
        .expect_err("nobody listens")
        .to_string();
    assert!(
        error.contains("listenerPath") && error.contains("no such file"),
        "{error}"
    );
}
