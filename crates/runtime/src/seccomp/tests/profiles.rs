//! Docker's default profile, and files in its format.

use super::*;

fn caps(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| format!("CAP_{n}")).collect()
}

#[test]
fn every_name_in_the_default_profile_exists() {
    let all = caps(&[
        "DAC_READ_SEARCH",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "SYS_NICE",
        "SYSLOG",
        "BPF",
        "PERFMON",
    ]);
    for a in &ARCHES {
        for caps in [&[][..], &all] {
            let spec = default_profile_for(caps, KERNEL, a);
            for name in spec.syscalls.iter().flat_map(|r| &r.names) {
                assert!(Call::by_name(name).is_some(), "{name}");
            }
            let program = compile_for(&spec, a).unwrap();
            check(program.instructions());
        }
    }
}

#[test]
fn old_kernels_get_no_ptrace() {
    let x = arch("X86_64");
    let says = |minor| {
        let spec = default_profile_for(&[], KernelVersion { major: 4, minor }, x);
        ask(&build(&spec), x, number(x, "ptrace"), &[])
    };
    assert_eq!(says(7), errno(1));
    assert_eq!(says(8), ALLOW);
}

/// No value of the first argument makes the kernel see one of the families that no namespace confines: it
/// looks at the lower half.
#[test]
fn no_way_around_the_socket_families() {
    let x = arch("X86_64");
    let program = build(&default_profile_for(&[], KERNEL, x));
    let socket = number(x, "socket");
    for family in 0..64 {
        let refused = [12, 19, 20, 23, 25, 34, 37, 38, 40].contains(&family) || family > 45;
        let want = if refused { errno(1) } else { ALLOW };
        assert_eq!(ask(&program, x, socket, &[family]), want, "{family}");
        assert_eq!(ask(&program, x, socket, &[family | 1 << 32]), errno(1));
    }
}

const DOCKER_FILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
    ],
    "syscalls": [
        {"names": ["read", "future_call"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "",
         "includes": {}, "excludes": {}},
        {"name": "write", "action": "SCMP_ACT_ALLOW", "args": []},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM",
         "excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["uselib"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}},
        {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}},
        {"names": ["getppid"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
    ]
}"#;

#[test]
fn a_docker_file_is_resolved() {
    let names = |capabilities: &[&str], version: &str| {
        let spec = load_profile(DOCKER_FILE, &caps(capabilities), version.parse().unwrap());
        let spec = spec.unwrap().unwrap();
        let names = spec.syscalls.iter().flat_map(|r| r.names.clone());
        (names.collect::<Vec<_>>().join(" "), spec)
    };
    let (none, spec) = names(&[], "6.1");
    assert_eq!(none, "read future_call write bpf ptrace getpid clone");
    assert_eq!(spec.default_errno_ret, Some(38));
    let native = Arch::native();
    let mut expected = vec![format!("SCMP_ARCH_{}", native.name)];
    expected.extend(native.companions().iter().map(|n| format!("SCMP_ARCH_{n}")));
    assert_eq!(spec.architectures, expected);
    assert_eq!(
        names(&["BPF"], "6.1").0,
        "read future_call write ptrace getpid clone"
    );
    assert_eq!(
        names(&["BPF", "SYS_ADMIN"], "4.7").0,
        "read future_call write mount uselib getpid clone"
    );
}

#[test]
fn a_runtime_specification_is_a_profile_too() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let spec = load_profile(json, &[], KERNEL).unwrap().unwrap();
    assert_eq!(spec.architectures, ["SCMP_ARCH_X86_64"]);
    assert_eq!(compile(&spec).unwrap().flags(), sys::FLAG_LOG);
}

#[test]
fn an_empty_profile_is_none() {
    for json in [
        "{}",
        r#"{"syscalls": []}"#,
        r#"{"defaultAction": "", "syscalls": null}"#,
    ] {
        assert_eq!(load_profile(json, &[], KERNEL), Ok(None), "{json}");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_said() {
    for (json, part) in [
        ("", "cannot read seccomp profile: EOF"),
        ("[]", "cannot read seccomp profile: invalid"),
        ("{\"defaultAction\": 1}", "line 1 column"),
        (
            r#"{"syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW"}]}"#,
            "defaultAction: missing",
        ),
        (
            r#"{"defaultAction": "ALLOW"}"#,
            "defaultAction: unknown action \"ALLOW\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b", "action": "x"}]}"#,
            "rule 1 of \"syscalls\": has both \"name\" and \"names\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
            "archMap: stands beside \"architectures\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "4"}}]}"#,
            "minKernel \"4\" is not a version",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument 9 does not exist",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}"#,
            "missing field `action`",
        ),
    ] {
        let message = load_profile(json, &[], KERNEL).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
        assert_eq!(message.lines().count(), 1, "{message:?}");
    }
}
