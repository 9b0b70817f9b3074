//! What profiles may say, asked of the very functions that read them: for `features`.

use super::arch::{ARCHES, FOREIGN};
use super::{compile, rules};
use barque_sys::seccomp as sys;
use barque_types::spec;

/// All that the specification names (config-linux.md, "Seccomp"); which of them are known here is asked.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", sys::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", sys::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", sys::FLAG_TSYNC),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        sys::FLAG_WAIT_KILLABLE_RECV,
    ),
];

/// Known actions.
pub fn actions() -> Vec<String> {
    let known = ACTIONS
        .iter()
        .filter(|name| rules::answer(name, None).is_ok());
    known.map(|name| (*name).to_owned()).collect()
}

/// Known comparisons.
pub fn operators() -> Vec<String> {
    let arg = |name: &str| spec::SyscallArg {
        index: 0,
        value: 0,
        value_two: 0,
        op: name.to_owned(),
    };
    let known = OPERATORS
        .iter()
        .filter(|name| rules::condition(&arg(name)).is_ok());
    known.map(|name| (*name).to_owned()).collect()
}

/// Known architectures.
pub fn architectures() -> Vec<String> {
    let own = ARCHES.iter().map(|arch| arch.name);
    let mut all: Vec<String> = own
        .chain(FOREIGN.iter().copied())
        .map(|name| format!("SCMP_ARCH_{name}"))
        .collect();
    all.sort_unstable();
    all
}

/// Known flags, and those of them that this kernel has.
pub fn flags() -> (Vec<String>, Vec<String>) {
    let profile = |name: &str| spec::Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        flags: vec![name.to_owned()],
        ..spec::Seccomp::default()
    };
    let known = FLAGS
        .iter()
        .filter(|(name, _)| compile(&profile(name)).is_ok());
    let names = |(name, _): &(&str, u32)| (*name).to_owned();
    (
        known.clone().map(names).collect(),
        known
            .filter(|(_, flag)| sys::flag_available(*flag))
            .map(names)
            .collect(),
    )
}
