//! The process: what it is allowed, what it inherits, how its program is found, its terminal.

use crate::Case;
use crate::support::{Bench, Streams, null};
use barque_runtime::{Error, Stdio, defaults};
use barque_sys::process::reap;
use barque_types::spec;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

pub const CASES: &[Case] = &[
    ("process::capabilities", capabilities),
    (
        "process::unavailable_capabilities_warn",
        unavailable_capabilities_warn,
    ),
    ("process::ambient_capabilities", ambient_capabilities),
    ("process::no_new_privileges", no_new_privileges),
    ("process::seccomp", seccomp),
    (
        "process::seccomp_without_privileges",
        seccomp_without_privileges,
    ),
    ("process::limits_are_clamped", limits_are_clamped),
    ("process::oom_score", oom_score),
    ("process::no_descriptor_leaks", no_descriptor_leaks),
    ("process::streams_in_any_order", streams_in_any_order),
    ("process::signals_are_reset", signals_are_reset),
    ("process::program_lookup", program_lookup),
    ("process::working_directory", working_directory),
    ("process::terminal", terminal),
    ("process::keyring_is_its_own", keyring_is_its_own),
    ("process::nonsense_is_refused", nonsense_is_refused),
];

fn capabilities() {
    let o = Bench::new().sh("grep Cap /proc/self/status");
    assert_eq!(
        o.out,
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n",
        "{o:?}"
    );
}

fn unavailable_capabilities_warn() {
    let mut b = Bench::new();
    let all = barque_runtime::caps::bounding_set();
    let names: Vec<String> = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_FROM_THE_FUTURE"]
        .map(str::to_owned)
        .to_vec();
    b.process().capabilities = Some(defaults::capability_sets(&names));
    let o = b.sh("grep CapPrm /proc/self/status");
    let has = all.contains(rustix::thread::CapabilitySet::SYS_RESOURCE);
    assert_eq!(
        o.out,
        format!("CapPrm:\t{:016x}\n", if has { 0x100_0001 } else { 1 })
    );
    assert_eq!(o.warnings.len(), 1, "{:?}", o.warnings);
    assert!(
        o.warnings[0].contains("CAP_FROM_THE_FUTURE"),
        "{:?}",
        o.warnings
    );
    assert_eq!(
        o.warnings[0].contains("CAP_SYS_RESOURCE"),
        !has,
        "{:?}",
        o.warnings
    );
}

fn ambient_capabilities() {
    let mut b = Bench::new();
    let names = vec!["CAP_NET_BIND_SERVICE".to_owned()];
    let sets = b.process().capabilities.as_mut().expect("set");
    sets.inheritable = names.clone();
    sets.ambient = names;
    b.process().user.uid = 1000;
    let o = b.sh("grep -E 'CapEff|CapAmb' /proc/self/status");
    assert_eq!(
        o.out, "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n",
        "{o:?}"
    );
}

fn no_new_privileges() {
    let mut b = Bench::new();
    assert_eq!(
        b.sh("grep NoNewPrivs /proc/self/status").out,
        "NoNewPrivs:\t0\n"
    );
    b.process().no_new_privileges = true;
    assert_eq!(
        b.sh("grep NoNewPrivs /proc/self/status").out,
        "NoNewPrivs:\t1\n"
    );
}

/// Everything but mkdir.
fn no_mkdir() -> spec::Seccomp {
    spec::Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![spec::SyscallRule {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: "SCMP_ACT_ERRNO".into(),
            errno_ret: Some(95),
            ..spec::SyscallRule::default()
        }],
        ..spec::Seccomp::default()
    }
}

fn seccomp() {
    let mut b = Bench::new();
    b.linux().seccomp = Some(no_mkdir());
    let o = b.sh("mkdir /x; grep -E 'Seccomp:|CapEff|CapPrm' /proc/self/status");
    assert!(o.err.contains("not supported"), "{o:?}");
    // Loading the filter took CAP_SYS_ADMIN, which the program does not have.
    assert_eq!(
        o.out, "CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n",
        "{o:?}"
    );
}

fn seccomp_without_privileges() {
    for no_new_privileges in [false, true] {
        let mut b = Bench::new();
        b.linux().seccomp = Some(no_mkdir());
        b.process().no_new_privileges = no_new_privileges;
        b.process().user.uid = 1000;
        let o = b.sh("mkdir /tmp/x; grep -E 'Seccomp:|CapEff' /proc/self/status");
        assert!(o.err.contains("not supported"), "{o:?}");
        assert_eq!(o.out, "CapEff:\t0000000000000000\nSeccomp:\t2\n", "{o:?}");
    }
}

fn limits_are_clamped() {
    let mut b = Bench::new();
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    b.process().rlimits = vec![
        spec::Rlimit {
            kind: "RLIMIT_CORE".into(),
            soft: 0,
            hard: 0,
        },
        spec::Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            soft: 1 << 40,
            hard: 1 << 40,
        },
    ];
    let o = b.sh("ulimit -c; ulimit -n");
    let hard = hard.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    assert_eq!(o.out, format!("0\n{hard}\n"), "{o:?}");
    assert_eq!(o.warnings.len(), 1, "{:?}", o.warnings);
    assert!(
        o.warnings[0].starts_with("RLIMIT_NOFILE is limited to"),
        "{:?}",
        o.warnings
    );
}

fn oom_score() {
    let mut b = Bench::new();
    b.process().oom_score_adj = Some(321);
    assert_eq!(b.sh("cat /proc/self/oom_score_adj").out, "321\n");
    b.with_user_namespace();
    assert_eq!(b.sh("cat /proc/self/oom_score_adj").out, "321\n");
    b.process().oom_score_adj = Some(-500);
    let o = b.sh("cat /proc/self/oom_score_adj");
    assert_eq!(o.out == "-500\n", o.warnings.is_empty(), "{o:?}");
}

fn no_descriptor_leaks() {
    // One that is inheritable: even a caller's mistake does not reach the program.
    let stray = rustix::io::dup(null()).expect("dup");
    let o = Bench::new()
        .run(&["/bin/ls", "/proc/self/fd"])
        .expect("started");
    assert_eq!(o.out, "0\n1\n2\n3\n", "3 is ls's own: {o:?}");
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    let open = fs::read_dir(format!("/proc/{}/fd", sleeper.0.pid))
        .expect("fds")
        .count();
    assert_eq!(open, 3);
    let o = b
        .exec(&sleeper.0, &["/bin/ls", "/proc/self/fd"])
        .expect("exec");
    assert_eq!(o.out, "0\n1\n2\n3\n", "{o:?}");
    drop(stray);
}

fn streams_in_any_order() {
    // Our own 1 and 2 swapped: a naive dup2 would lose one of them.
    let streams = Streams::new();
    let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = streams.stdio()
    else {
        unreachable!()
    };
    let saved = [1, 2].map(|_| rustix::io::fcntl_dupfd_cloexec(null(), 10).expect("dup"));
    rustix::stdio::dup2_stdout(stdout).expect("dup2");
    rustix::stdio::dup2_stderr(stderr).expect("dup2");
    let mut b = Bench::new();
    let swapped = Stdio::Fds {
        stdin,
        stdout: rustix::stdio::stderr(),
        stderr: rustix::stdio::stdout(),
    };
    let running = b
        .start(&["/bin/sh", "-c", "echo out; echo err >&2"], swapped)
        .expect("started");
    // Our copies of the writing ends have to go, or the reading would not end.
    rustix::stdio::dup2_stdout(&saved[0]).expect("dup2");
    rustix::stdio::dup2_stderr(&saved[1]).expect("dup2");
    let (out, err) = streams.read();
    assert_eq!((out.as_str(), err.as_str()), ("err\n", "out\n"));
    assert_eq!(reap(running.pidfd.as_fd()), Ok(0));
}

fn signals_are_reset() {
    let o = Bench::new()
        .run(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"])
        .expect("started");
    assert_eq!(
        o.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
        "{o:?}"
    );
}

fn program_lookup() {
    let mut b = Bench::new();
    fs::write(b.root("tmp/plain"), "x").expect("write");
    for (name, content) in [
        ("script", "#!/no/such/interpreter\n"),
        ("garbage", "\u{1}\u{2}"),
    ] {
        fs::write(b.root("tmp").join(name), content).expect("write");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(b.root("tmp").join(name), mode).expect("chmod");
    }
    for (program, code, text) in [
        (
            "nonesuch",
            127,
            "exec: \"nonesuch\": executable file not found in $PATH",
        ),
        (
            "/no/such",
            127,
            "exec: \"/no/such\": no such file or directory",
        ),
        ("/tmp/script", 127, "its interpreter"),
        ("/tmp/plain", 126, "exec: \"/tmp/plain\": permission denied"),
        ("/tmp", 126, "exec: \"/tmp\": is a directory"),
        ("/tmp/garbage", 126, "exec format error"),
        ("/bin/busybox/x", 126, "not a directory"),
    ] {
        let e = b.run(&[program]).expect_err(program);
        assert_eq!(e.exit_code(), code, "{program}: {e}");
        assert!(e.to_string().contains(text), "{program}: {e}");
    }
    assert_eq!(b.run(&["true"]).expect("in PATH").code, 0);
    assert_eq!(b.run(&["./bin/true"]).expect("relative").code, 0);
    b.process().env.clear();
    assert_eq!(b.run(&["true"]).expect("in the default PATH").code, 0);
    b.process().env = vec!["PATH=/nowhere".into()];
    assert!(matches!(b.run(&["true"]), Err(Error::NotFound { .. })));
}

fn working_directory() {
    let mut b = Bench::new();
    b.process().cwd = "/made/for/me".into();
    assert_eq!(b.sh("pwd").out, "/made/for/me\n");
    b.process().cwd = "/home/private".into();
    fs::create_dir(b.root("home/private")).expect("mkdir");
    fs::set_permissions(b.root("home/private"), fs::Permissions::from_mode(0o700)).expect("chmod");
    b.process().user.uid = 1000;
    // Entered as root, as runc does: the user may stay, though not come again.
    assert_eq!(b.run(&["/bin/true"]).expect("started").code, 0);
}

fn terminal() {
    let mut b = Bench::new();
    b.process().console_size = Some(spec::ConsoleSize {
        height: 40,
        width: 132,
    });
    let script = "tty; stty size; stat -c %t:%T /dev/console; test -t 0 && test -t 1 && test -t 2 \
                  && echo all; read x; echo got $x; exec 3<>/dev/tty && echo ctty";
    let running = b
        .start(&["/bin/sh", "-c", script], Stdio::Terminal)
        .expect("started");
    let mut master = fs::File::from(running.console.expect("a console"));
    master.write_all(b"hello\n").expect("write");
    let mut out = Vec::new();
    let mut buffer = [0; 4096];
    // EIO is how a terminal ends.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        out.extend_from_slice(&buffer[..n]);
    }
    let out = String::from_utf8_lossy(&out).replace('\r', "");
    for line in [
        "/dev/pts/0\n",
        "40 132\n",
        "88:0\n",
        "all\n",
        "got hello\n",
        "ctty\n",
    ] {
        assert!(out.contains(line), "{line:?} in {out:?}");
    }
    assert_eq!(reap(running.pidfd.as_fd()), Ok(0));

    // In a user namespace and for another user, whose terminal it then is.
    b.with_user_namespace();
    b.process().user.uid = 33;
    let running = b
        .start(
            &[
                "/bin/sh",
                "-c",
                "stat -c %u $(tty); echo > /dev/tty && echo ok",
            ],
            Stdio::Terminal,
        )
        .expect("started");
    let mut master = fs::File::from(running.console.expect("a console"));
    let mut out = String::new();
    let _ = master.read_to_string(&mut out);
    assert!(out.contains("33\r\n") && out.contains("ok\r\n"), "{out:?}");
    assert_eq!(reap(running.pidfd.as_fd()), Ok(0));
}

fn keyring_is_its_own() {
    let mut b = Bench::new();
    // Its own keyring, which /proc/keys (masked by default) would show.
    b.linux().masked_paths.clear();
    let o = b.sh("cat /proc/keys 2>/dev/null | grep -c _ses.test");
    if fs::metadata("/proc/keys").is_ok() {
        assert_eq!(o.out, "1\n", "{o:?}");
    }
}

fn nonsense_is_refused() {
    let mut b = Bench::new();
    b.linux()
        .namespaces
        .retain(|n| n.kind != spec::NamespaceKind::Mount);
    assert!(
        b.run(&["true"])
            .expect_err("no mount namespace")
            .to_string()
            .contains("mount")
    );
    let mut b = Bench::new();
    b.linux()
        .namespaces
        .retain(|n| n.kind != spec::NamespaceKind::Uts);
    let e = b.run(&["true"]).expect_err("the host's name").to_string();
    assert!(e.contains("hostname"), "{e}");
    let mut b = Bench::new();
    b.spec.hooks = Some(spec::Hooks {
        poststop: vec![spec::Hook::default()],
        ..spec::Hooks::default()
    });
    assert_eq!(
        b.run(&["true"]).expect_err("hooks").to_string(),
        "hooks.poststop[0]: its path \"\" is not absolute"
    );
}
