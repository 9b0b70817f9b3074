//! What libseccomp 2.6's programs say to calls, with runc's ENOSYS stub before them: recorded by
//! `syscalls/golden.py`, because the library is not there when these tests run.

use serde::Deserialize;

use super::*;

/// Architecture, number, arguments, answer.
type Call = (String, u32, Vec<u64>, u32);

#[derive(Deserialize)]
struct Golden {
    docker: Vec<Docker>,
    made: Vec<Made>,
}

/// Docker's own profile file, resolved by Docker's rules.
#[derive(Deserialize)]
struct Docker {
    arch: String,
    caps: Vec<String>,
    /// Architecture, first and last number, and the answer to all of them without arguments.
    runs: Vec<(String, u32, u32, u32)>,
    calls: Vec<Call>,
}

/// A specification made up at random.
#[derive(Deserialize)]
struct Made {
    spec: Seccomp,
    calls: Vec<Call>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../testdata/libseccomp.json")).unwrap()
}

fn differences(program: &Program, calls: &[Call]) -> Vec<String> {
    let said = calls
        .iter()
        .map(|(a, n, args, _)| ask(program, arch(a), *n, args));
    said.zip(calls)
        .filter(|(ours, call)| *ours != call.3)
        .map(|(ours, call)| format!("{call:x?}: we say {ours:x}"))
        .collect()
}

#[test]
fn dockers_profile_means_the_same() {
    for case in golden().docker {
        let native = arch(&case.arch);
        let spec = default_profile_for(&case.caps, KERNEL, native);
        let program = compile_for(&spec, native).unwrap();
        check(program.instructions());
        let calls: Vec<Call> = case
            .runs
            .iter()
            .flat_map(|(a, first, last, says)| {
                (*first..=*last).map(|n| (a.clone(), n, vec![], *says))
            })
            .chain(case.calls.iter().cloned())
            .collect();
        assert!(calls.len() > 400);
        let found = differences(&program, &calls);
        assert!(
            found.is_empty(),
            "{} {:?}: {found:#?}",
            case.arch,
            case.caps
        );
    }
}

#[test]
fn specifications_mean_the_same() {
    for case in golden().made {
        let native = Arch::from_name(&case.spec.architectures[0]).unwrap();
        let program = compile_for(&case.spec, native).unwrap();
        check(program.instructions());
        let found = differences(&program, &case.calls);
        assert!(found.is_empty(), "{:#?}: {found:#?}", case.spec);
    }
}
