//! How long it takes. Printed, never asserted: run with `--release` to compare.

use crate::Case;
use crate::support::{Bench, null};
use barque_runtime::{CgroupJoin, CreateOptions, ExecOptions, Stdio, create, exec};
use barque_sys::process::reap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[(
    "bench::create_start_wait_and_exec",
    create_start_wait_and_exec,
)];

const ROUNDS: usize = 30;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn create_start_wait_and_exec() {
    let mut b = Bench::new();
    let null = null();
    let stdio = Stdio::Fds {
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
    };
    b.process().args = vec!["/bin/true".into()];
    let mut run = |user_namespace: bool| {
        if user_namespace {
            b.with_user_namespace();
        }
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let created =
                create(CreateOptions::new("bench", &b.spec, b.rootfs(), stdio)).expect("created");
            parts[0].push(begin.elapsed());
            let running = created.start().expect("started");
            parts[1].push(begin.elapsed());
            reap(running.pidfd.as_fd()).expect("waited");
            parts[2].push(begin.elapsed());
        }
        parts.map(median)
    };
    let [created, started, ended] = run(false);
    println!("  true, six namespaces: created {created:?}, started {started:?}, ended {ended:?}");
    let [created, started, ended] = run(true);
    println!("  with a user namespace: created {created:?}, started {started:?}, ended {ended:?}");

    let mut b = Bench::new();
    let sleeper = b.sleeper();
    b.process().args = vec!["/bin/true".into()];
    let process = b.spec.process.clone().expect("a process");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let running = exec(ExecOptions {
            id: "bench",
            pid: sleeper.0.pid,
            pidfd: sleeper.0.pidfd.as_fd(),
            process: &process,
            user: b.user.clone(),
            agent: None,
            seccomp: None,
            personality: None,
            memory_policy: None,
            cgroup: CgroupJoin::default(),
            stdio,
            tied_to_caller: true,
            preserve: Vec::new(),
        })
        .expect("exec");
        reap(running.pidfd.as_fd()).expect("waited");
        times.push(begin.elapsed());
    }
    println!("  exec true: {:?}", median(times));
}
