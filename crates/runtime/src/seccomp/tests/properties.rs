//! The compiler against a naive reading of the specification.

use proptest::prelude::*;

use super::*;

const CALLS: &[&str] = &[
    "read",
    "write",
    "open",
    "ioctl",
    "clone",
    "personality",
    "openat2",
    "set_tls",
    "fchmod",
    "futex",
    "mseal",
    "mmap2",
    "pause",
    "keyctl",
    "bogus",
    "clone3",
    "execve",
];
const VALUES: &[u64] = &[
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x2_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX - 1,
    u64::MAX,
    0x7e02_0000,
];
const OPS: &[&str] = &["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => proptest::sample::select(VALUES), 1 => any::<u64>()]
}

fn argument() -> impl Strategy<Value = (u32, &'static str, u64, u64)> {
    (0u32..6, proptest::sample::select(OPS), value(), value())
}

/// Rules with one outcome for each call, so that their order has no say (for the rest there are golden
/// answers of libseccomp).
fn rules() -> impl Strategy<Value = Vec<SyscallRule>> {
    let names = proptest::collection::vec(proptest::sample::select(CALLS), 1..4);
    let args = proptest::collection::vec(argument(), 0..4);
    proptest::collection::vec((names, args), 0..12).prop_map(|rules| {
        let rules = rules.into_iter();
        rules
            .map(|(names, args)| rule(&names, "ALLOW", &args))
            .collect()
    })
}

/// The specification read out, with no thought of speed.
fn naive(spec: &Seccomp, arches: &[&Arch], arch: &Arch, number: u32, args: &[u64; 6]) -> u32 {
    let default = errno(1);
    if !arches.iter().any(|a| a.audit == arch.audit) {
        return sys::RET_KILL_THREAD;
    }
    let mine = |name: &String| Call::by_name(name).and_then(|c| c.number(arch));
    let all = spec.syscalls.iter().flat_map(|r| &r.names).filter_map(mine);
    let private = |n: u32| arch.name == "ARM" && n >= 0xf0000;
    let newest = all.filter(|n| private(*n) == private(number)).max();
    if newest.is_some_and(|newest| number > newest) {
        return errno(38);
    }
    if number == 0 && arch.name == "S390X" && newest.is_some() {
        return errno(38);
    }
    let holds = |a: &SyscallArg| {
        let width = if arch.wide { u64::MAX } else { 0xffff_ffff };
        let (x, v, v2) = (
            args[a.index as usize] & width,
            a.value & width,
            a.value_two & width,
        );
        match a.op.trim_start_matches("SCMP_CMP_") {
            "EQ" => x == v,
            "NE" => x != v,
            "LT" => x < v,
            "LE" => x <= v,
            "GT" => x > v,
            "GE" => x >= v,
            _ => x & v == v2 & v,
        }
    };
    for r in &spec.syscalls {
        if !r.names.iter().any(|n| mine(n) == Some(number)) {
            continue;
        }
        let twice = |a: &SyscallArg| r.args.iter().filter(|b| b.index == a.index).count() > 1;
        let matches = if r.args.iter().any(twice) {
            r.args.iter().any(holds)
        } else {
            r.args.iter().all(holds)
        };
        if matches {
            return ALLOW;
        }
    }
    default
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_program_says_what_the_specification_says(
        rules in rules(),
        native in proptest::sample::select(vec!["X86_64", "AARCH64", "S390X", "RISCV64", "PPC64LE"]),
        calls in proptest::collection::vec(
            (proptest::sample::select(CALLS), 0u32..8, proptest::array::uniform6(value())), 30),
    ) {
        let native = arch(native);
        let mut arches = vec![native];
        arches.extend(native.companions().iter().filter(|n| **n != "X32").map(|n| arch(n)));
        let names: Vec<&str> = arches.iter().map(|a| a.name).collect();
        let spec = profile("ERRNO", &names, rules);
        let program = compile_for(&spec, native).unwrap();
        check(program.instructions());
        for (call, which, args) in calls {
            let a = arches.get(which as usize % 4).copied().unwrap_or(arch("MIPS"));
            let n = Call::by_name(call).and_then(|c| c.number(a)).unwrap_or(which * 77);
            let want = naive(&spec, &arches, a, n, &args);
            prop_assert_eq!(ask(&program, a, n, &args), want, "{} {} {:?}", a.name, n, args);
        }
    }
}

#[test]
fn a_call_costs_few_instructions() {
    let x = arch("X86_64");
    let program = compile_for(&default_profile_for(&[], KERNEL, x), x).unwrap();
    let steps = (0..450)
        .map(|number| {
            let data = Data {
                arch: x.audit,
                number,
                args: [0; 6],
                little_endian: true,
            };
            run(program.instructions(), &data).1
        })
        .max()
        .unwrap();
    // socket's families come one by one; the tree itself is seven deep.
    assert!(steps < 120, "{steps}");
    assert!(
        program.instructions().len() < 700,
        "{}",
        program.instructions().len()
    );
}
