//! The compiler against a naive reading of the specification, against libseccomp, and against the kernel.

use super::arch::{ARCHES, Arch, X32_BIT};
use super::compile::compile_for;
use super::names::Call;
use super::profile::default_profile_for;
use super::simulate::{Data, check, run};
use super::{Error, KernelVersion, Program, compile, default_profile, load_profile};
use barque_sys::seccomp as sys;
use barque_types::spec::{Seccomp, SyscallArg, SyscallRule};

mod kernel;
mod libseccomp;
mod meaning;
mod profiles;
mod properties;

const ALLOW: u32 = sys::RET_ALLOW;
const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

fn errno(n: u32) -> u32 {
    sys::RET_ERRNO | n
}

fn arch(name: &str) -> &'static Arch {
    Arch::from_name(&format!("SCMP_ARCH_{name}")).unwrap()
}

fn number(arch: &Arch, call: &str) -> u32 {
    Call::by_name(call)
        .and_then(|c| c.number(arch))
        .unwrap_or_else(|| panic!("{} has no {call}", arch.name))
}

/// What `program` says to a call.
fn ask(program: &Program, arch: &Arch, number: u32, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let data = Data {
        arch: arch.audit,
        number,
        args: all,
        little_endian: arch.little_endian(),
    };
    run(program.instructions(), &data).0
}

fn rule(names: &[&str], action: &str, args: &[(u32, &str, u64, u64)]) -> SyscallRule {
    SyscallRule {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        action: format!("SCMP_ACT_{action}"),
        errno_ret: None,
        args: args
            .iter()
            .map(|&(index, op, value, value_two)| SyscallArg {
                index,
                value,
                value_two,
                op: format!("SCMP_CMP_{op}"),
            })
            .collect(),
    }
}

fn profile(default: &str, arches: &[&str], syscalls: Vec<SyscallRule>) -> Seccomp {
    Seccomp {
        default_action: format!("SCMP_ACT_{default}"),
        architectures: arches.iter().map(|a| format!("SCMP_ARCH_{a}")).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// Compiles for x86_64 whatever the tests run on, and checks what the kernel would check.
fn build(spec: &Seccomp) -> Program {
    let program = compile_for(spec, arch("X86_64")).unwrap();
    check(program.instructions());
    program
}
