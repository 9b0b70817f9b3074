//! Hooks: when each kind runs, where, and what becomes of its failure.

use crate::Case;
use crate::support::{Bench, Outcome};
use barque_runtime::Error;
use barque_types::spec::{Hook, Hooks};
use std::fs;

pub const CASES: &[Case] = &[
    ("hooks::each_kind_in_its_place", each_kind_in_its_place),
    ("hooks::state_and_environment", state_and_environment),
    (
        "hooks::a_container_hook_changes_the_mounts",
        a_container_hook_changes_the_mounts,
    ),
    (
        "hooks::a_failure_undoes_the_container",
        a_failure_undoes_the_container,
    ),
    ("hooks::a_late_hook_is_killed", a_late_hook_is_killed),
    (
        "hooks::a_start_hook_has_the_programs_rights",
        a_start_hook_has_the_programs_rights,
    ),
];

/// A hook that runs a shell script: of the host, and by the same path in the container.
fn hook(script: &str) -> Hook {
    Hook {
        path: "/bin/busybox".into(),
        args: ["busybox", "sh", "-c", script].map(str::to_owned).to_vec(),
        ..Hook::default()
    }
}

fn run(b: &mut Bench, hooks: Hooks, script: &str) -> Result<Outcome, Error> {
    b.spec.hooks = Some(hooks);
    b.run(&["/bin/sh", "-c", script])
}

fn each_kind_in_its_place() {
    let mut b = Bench::new();
    fs::create_dir(b.path("shared")).expect("mkdir");
    b.bind(&b.path("shared"), "/shared", &["rbind"]);
    let log = b.path("shared/log");
    // The same file by its name outside and inside; the host's name ends with the pivot.
    let note = |kind: &str| {
        let path = if kind == "startContainer" {
            "/shared/log".into()
        } else {
            log.display().to_string()
        };
        hook(&format!("echo {kind} $(hostname) >> {path}"))
    };
    let hooks = Hooks {
        prestart: vec![note("prestart"), note("prestart-2")],
        create_runtime: vec![note("createRuntime")],
        create_container: vec![note("createContainer")],
        start_container: vec![note("startContainer")],
        ..Hooks::default()
    };
    let o = run(&mut b, hooks, "echo program >> /shared/log").expect("runs");
    assert_eq!(o.code, 0, "{o:?}");
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        fs::read_to_string(&log).expect("the log"),
        format!(
            "prestart {host}\nprestart-2 {host}\ncreateRuntime {host}\ncreateContainer inside\nstartContainer inside\nprogram\n"
        )
    );
}

fn state_and_environment() {
    let mut b = Bench::new();
    let (state, env) = (b.path("state"), b.path("env"));
    b.spec.annotations.insert("key".into(), "value".into());
    let mut asking = hook(&format!(
        "cat > {}; cat /proc/$$/environ > {}; true",
        state.display(),
        env.display()
    ));
    asking.env = vec!["ONLY=this".into()];
    let hooks = Hooks {
        create_runtime: vec![asking],
        ..Hooks::default()
    };
    assert_eq!(run(&mut b, hooks, "true").expect("runs").code, 0);
    let state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(state).expect("a state")).expect("JSON");
    assert_eq!(state["id"], "test");
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], "/");
    assert_eq!(state["annotations"]["key"], "value");
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{state}");
    let env = fs::read_to_string(env).expect("an environment");
    assert_eq!(env, "ONLY=this\0");
}

/// What GPU toolkits do: mount into the root by its path, and by the working directory.
fn a_container_hook_changes_the_mounts() {
    let mut b = Bench::new();
    b.overlay = false;
    fs::create_dir(b.root("added")).expect("mkdir");
    let by_path = format!("mount -t tmpfs none {}", b.root("added").display());
    let hooks = Hooks {
        create_container: vec![hook(&by_path), hook("touch ./added/in-the-tmpfs")],
        ..Hooks::default()
    };
    let o = run(&mut b, hooks, "ls /added").expect("runs");
    assert_eq!(o.out, "in-the-tmpfs\n", "{o:?}");
    assert_eq!(
        fs::read_dir(b.root("added")).expect("list").count(),
        0,
        "it stayed in the container"
    );
}

fn a_failure_undoes_the_container() {
    let fail = || vec![hook("echo the reason >&2; exit 3")];
    for (kind, hooks) in [
        (
            "prestart",
            Hooks {
                prestart: fail(),
                ..Hooks::default()
            },
        ),
        (
            "createRuntime",
            Hooks {
                create_runtime: fail(),
                ..Hooks::default()
            },
        ),
        (
            "createContainer",
            Hooks {
                create_container: fail(),
                ..Hooks::default()
            },
        ),
        (
            "startContainer",
            Hooks {
                start_container: fail(),
                ..Hooks::default()
            },
        ),
    ] {
        let mut b = Bench::new();
        let error = run(&mut b, hooks, "touch /home/ran")
            .expect_err(kind)
            .to_string();
        assert_eq!(
            error,
            format!("{kind} hook #0 \"/bin/busybox\": exit code 3: the reason")
        );
        assert!(!b.path("upper/home/ran").exists());
    }
    let mut b = Bench::new();
    let absent = Hook {
        path: "/no/such/hook".into(),
        ..Hook::default()
    };
    let error = run(
        &mut b,
        Hooks {
            prestart: vec![absent],
            ..Hooks::default()
        },
        "true",
    )
    .expect_err("absent");
    assert!(
        error
            .to_string()
            .contains("cannot be executed: no such file"),
        "{error}"
    );
}

fn a_late_hook_is_killed() {
    let mut b = Bench::new();
    let mut late = hook("sleep 1000");
    late.timeout = Some(1);
    let error = run(
        &mut b,
        Hooks {
            create_runtime: vec![late],
            ..Hooks::default()
        },
        "true",
    )
    .expect_err("late");
    assert!(
        error
            .to_string()
            .ends_with("did not end within 1 s and was killed"),
        "{error}"
    );
}

fn a_start_hook_has_the_programs_rights() {
    let mut b = Bench::new();
    b.process().user.uid = 33;
    b.process().capabilities = Some(barque_runtime::defaults::capability_sets(&[]));
    fs::create_dir(b.root("tmp/open")).expect("mkdir");
    let filter = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    b.linux().seccomp = Some(serde_json::from_value(filter).expect("a filter"));
    let script =
        "grep -E '^(CapEff|Seccomp):' /proc/self/status >&2; id -u >&2; mkdir /tmp/x; exit 1";
    let hooks = Hooks {
        start_container: vec![hook(script)],
        ..Hooks::default()
    };
    let error = run(&mut b, hooks, "true")
        .expect_err("it says what it has")
        .to_string();
    for word in [
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "\n33\n",
        "not supported",
    ] {
        assert!(error.contains(word), "{word:?} in {error}");
    }
}
