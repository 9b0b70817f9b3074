//! A specification becomes a program.

use barque_sys::seccomp as sys;
use barque_types::spec;

use super::arch::{Arch, FOREIGN};
use super::assemble::Assembler;
use super::rules::Rules;
use super::{Error, Program};

/// What happens to a call of an architecture that the specification does not name: libseccomp's default,
/// which runc leaves as it is.
const FOREIGN_ARCH: u32 = sys::RET_KILL_THREAD;

/// Compiles `linux.seccomp` for this machine.
///
/// The native architecture is always part of the filter, whether or not `architectures` names it. Names
/// of system calls that do not exist are ignored. Pure; some 40 µs for Docker's default profile.
///
/// # Errors
/// [`Error::Invalid`] for an action, comparison, architecture, flag, argument number or errno that does not
/// exist or cannot stand where it does; [`Error::TooLarge`] for more than 4096 instructions.
pub fn compile(spec: &spec::Seccomp) -> Result<Program, Error> {
    compile_for(spec, Arch::native())
}

/// As [`compile`], for a machine of another architecture.
pub(super) fn compile_for(spec: &spec::Seccomp, native: &'static Arch) -> Result<Program, Error> {
    let rules = Rules::read(spec)?;
    let groups = groups(spec, native)?;
    let mut assembler = Assembler::new();
    // Written from the end: the native section last, where the jump to it is short.
    let mut sections = Vec::with_capacity(groups.len());
    for group in groups.iter().rev() {
        let ranges = rules.ranges(group);
        sections.push((group[0].audit, assembler.section(&rules, group, &ranges)));
    }
    sections.reverse();
    assembler.dispatch(&sections, FOREIGN_ARCH);
    let instructions = assembler.finish();
    if instructions.len() > sys::MAX_INSTRUCTIONS {
        return Err(Error::TooLarge {
            instructions: instructions.len(),
        });
    }
    Ok(Program {
        instructions,
        flags: flags(spec, rules.notifies)?,
        notifies: rules.notifies,
    })
}

/// The architectures of the filter, those of one audit value together, the native one first.
fn groups(spec: &spec::Seccomp, native: &'static Arch) -> Result<Vec<Vec<&'static Arch>>, Error> {
    let mut groups: Vec<Vec<&'static Arch>> = vec![vec![native]];
    for name in &spec.architectures {
        let arch = match Arch::from_name(name) {
            Some(arch) => arch,
            None if name == "SCMP_ARCH_NATIVE" => native,
            None => {
                let plain = name.strip_prefix("SCMP_ARCH_").unwrap_or_default();
                if FOREIGN.contains(&plain) {
                    continue;
                }
                return Err(Error::invalid(
                    "architectures",
                    format!("unknown architecture {name:?}; they look like SCMP_ARCH_X86_64"),
                ));
            }
        };
        match groups.iter_mut().find(|g| g[0].audit == arch.audit) {
            Some(group) if group.contains(&arch) => {}
            Some(group) => group.push(arch),
            None => groups.push(vec![arch]),
        }
    }
    Ok(groups)
}

/// `SECCOMP_FILTER_FLAG_*` by name.
fn flags(spec: &spec::Seccomp, notifies: bool) -> Result<u32, Error> {
    if spec.flags.is_empty() {
        // As runc: until Linux 5.16 a filter otherwise slows every process in the container down by a
        // mitigation (of speculative store bypass) that newer kernels no longer tie to seccomp.
        return Ok(sys::FLAG_SPEC_ALLOW);
    }
    let mut flags = 0;
    for name in &spec.flags {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => sys::FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => sys::FLAG_SPEC_ALLOW,
            // The process that loads the filter has one thread, so there is nothing to synchronise; with a
            // listener the kernel refuses the two together.
            "SECCOMP_FILTER_FLAG_TSYNC" if notifies => 0,
            "SECCOMP_FILTER_FLAG_TSYNC" => sys::FLAG_TSYNC,
            // Says how a notified call waits: without a notified call, the kernel refuses it.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if !notifies => 0,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => sys::FLAG_WAIT_KILLABLE_RECV,
            _ => {
                return Err(Error::invalid(
                    "flags",
                    format!(
                        "unknown flag {name:?}; known are SECCOMP_FILTER_FLAG_TSYNC, _LOG, _SPEC_ALLOW and \
                         _WAIT_KILLABLE_RECV"
                    ),
                ));
            }
        };
    }
    Ok(flags)
}
