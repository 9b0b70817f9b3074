//! The programs in the running kernel.
//!
//! A filter holds for the thread that loads it and for what that thread starts, so each test loads its own in
//! a thread of its own and starts a prober there: perl, essential on Debian, can make any call by number.
//! These tests run as root: what a filter refuses, nothing else would have.

use std::os::fd::OwnedFd;
use std::process::Command;

use super::*;

/// Makes the calls named (with their arguments) under `program`, each in a process that has nothing else
/// to lose; says `ok` or the errno of each.
fn probe(program: &Program, calls: &[(&str, &[u64])]) -> Vec<String> {
    let native = Arch::native();
    let script: String = calls
        .iter()
        .map(|(call, args)| {
            let args: String = args.iter().map(|a| format!(", {a}")).collect();
            let number = Call::by_name(call)
                .and_then(|c| c.number(native))
                .unwrap_or_else(|| panic!("no {call} here"));
            format!(
                "$! = 0; $r = syscall({number}{args}); print $r < 0 ? $! + 0 : 'ok', qq(\\n);\n"
            )
        })
        .collect();
    let program = program.clone();
    let output = std::thread::spawn(move || {
        let listener: Option<OwnedFd> = program.install().expect("these tests need root");
        assert!(listener.is_none());
        Command::new("/usr/bin/perl").arg("-e").arg(script).output()
    })
    .join()
    .unwrap()
    .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(str::to_owned).collect()
}

const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const SIGCHLD: u64 = 17;

#[test]
fn privileged_the_default_profile_holds() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let program = compile(&default_profile(&[], KernelVersion::running())).unwrap();
    let calls: &[(&str, &[u64])] = &[
        ("getpid", &[]),
        ("mount", &[0, 0, 0, 0, 0]),
        ("unshare", &[CLONE_NEWUTS]),
        ("clone", &[CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0]),
        ("clone3", &[0, 0]),
        ("keyctl", &[0, 0]),
        ("add_key", &[0, 0, 0, 0, 0]),
        ("bpf", &[99, 0, 0]),
        ("io_uring_setup", &[0, 0]),
        ("userfaultfd", &[0]),
        ("personality", &[0xffff_ffff]),
        ("personality", &[0]),
        ("personality", &[0x0040_0000]),
        ("socket", &[1, 1, 0]),
        ("socket", &[38, 5, 0]),
        ("socket", &[40, 1, 0]),
        ("socket", &[40 | 1 << 32, 1, 0]),
        ("reboot", &[0, 0, 0, 0]),
        ("getppid", &[]),
    ];
    let want = [
        "ok", "1", "1", "1", "38", "1", "1", "1", "1", "1", "ok", "ok", "1", "ok", "1", "1", "1",
        "1", "ok",
    ];
    assert_eq!(probe(&program, calls), want);
}

#[test]
fn privileged_calls_newer_than_the_profile_do_not_exist() {
    let spec = default_profile(&[], KernelVersion::running());
    let program = compile(&spec).unwrap();
    let newest = spec
        .syscalls
        .iter()
        .flat_map(|r| &r.names)
        .filter_map(|n| Call::by_name(n)?.number(Arch::native()))
        .max()
        .unwrap();
    let output = std::thread::spawn(move || {
        program.install().unwrap();
        let script = format!("print syscall({}, -1, 0, 0, 0, 0), ' ', $! + 0", newest + 1);
        Command::new("/usr/bin/perl").arg("-e").arg(script).output()
    })
    .join()
    .unwrap()
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "-1 38");
}

#[test]
fn privileged_a_capability_opens_its_calls() {
    let caps = ["CAP_SYS_ADMIN".to_owned()];
    let program = compile(&default_profile(&caps, KernelVersion::running())).unwrap();
    let calls: &[(&str, &[u64])] = &[
        ("unshare", &[CLONE_NEWUTS]),
        // Bad addresses (14) and sizes (22): the calls are made.
        ("mount", &[0, 0, 0, 0, 0]),
        ("clone3", &[0, 0]),
        ("keyctl", &[0, 0]),
    ];
    assert_eq!(probe(&program, calls), ["ok", "14", "22", "1"]);
}

#[test]
fn privileged_actions_do_what_they_say() {
    let with = |action: &str| {
        let program = compile(&profile(
            "ALLOW",
            &[],
            vec![rule(&["getppid"], action, &[])],
        ))
        .unwrap();
        let number = Call::by_name("getppid")
            .unwrap()
            .number(Arch::native())
            .unwrap();
        std::thread::spawn(move || {
            program.install().unwrap();
            let script = format!("print syscall({number}) > 0 ? 'ok' : $! + 0");
            Command::new("/usr/bin/perl").arg("-e").arg(script).output()
        })
        .join()
        .unwrap()
        .unwrap()
    };
    use std::os::unix::process::ExitStatusExt;
    const SIGSYS: i32 = 31;
    for (action, signal, says) in [
        ("LOG", None, "ok"),
        ("ERRNO", None, "1"),
        // Without a tracer the call does not exist.
        ("TRACE", None, "38"),
        ("TRAP", Some(SIGSYS), ""),
        ("KILL", Some(SIGSYS), ""),
        ("KILL_PROCESS", Some(SIGSYS), ""),
    ] {
        let output = with(action);
        assert_eq!(output.status.signal(), signal, "{action}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), says, "{action}");
    }
}

#[test]
fn privileged_notifications_come_with_a_listener() {
    let mut spec = profile("ALLOW", &[], vec![rule(&["getppid"], "NOTIFY", &[])]);
    spec.listener_path = Some("/run/agent".into());
    spec.flags = vec!["SECCOMP_FILTER_FLAG_TSYNC".into()];
    let program = compile(&spec).unwrap();
    let listener = std::thread::spawn(move || program.install().unwrap())
        .join()
        .unwrap()
        .expect("a listener");
    let flags = rustix::io::fcntl_getfd(&listener).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

/// Any program that our own check lets pass, the kernel takes: jumps over more than 255 instructions, four
/// thousand of them, three architectures.
#[test]
fn privileged_the_kernel_takes_long_programs() {
    let rules = (0..300)
        .map(|i| rule(&["ioctl"], "TRAP", &[(1, "EQ", (i << 40) + 7 * i + 1, 0)]))
        .collect();
    let program = build_native(&profile("ALLOW", &["X86_64", "X86", "AARCH64"], rules));
    assert!(program.instructions().len() > 1500);
    assert_eq!(
        probe(&program, &[("getpid", &[]), ("ioctl", &[0, 0, 0])]).len(),
        2
    );
}

fn build_native(spec: &Seccomp) -> Program {
    let program = compile(spec).unwrap();
    check(program.instructions());
    program
}
