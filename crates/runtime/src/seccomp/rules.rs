//! From a specification's rules to what happens to each system call number.
//!
//! The reading is that of runc with libseccomp, checked against libseccomp 2.6 (`tests/libseccomp.rs`):
//!
//! - a name that no architecture has is ignored: profiles name calls of newer kernels than ours;
//! - a rule with the default's own outcome is dropped, so it cannot shadow another rule;
//! - of several rules for one call, one without conditions wins over all with conditions, and the first
//!   of those without over the others;
//! - conditions within one rule must all hold, except that a rule with two conditions on the *same*
//!   argument holds when either does (runc splits it; profiles of old rely on it);
//! - rules with conditions and different outcomes that can both hold are tried as libseccomp's tree
//!   does: [`precedence`].
//!
//! Where we are stricter: calls multiplexed through `socketcall` and `ipc` (see [`Rules::multiplex`]).

use std::cmp::Ordering;

use barque_sys::seccomp as sys;
use barque_types::spec;

use super::Error;
use super::arch::{ARM_PRIVATE, Arch, X32_BIT};
use super::names::Call;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel caps what a filter returns at this (`MAX_ERRNO`, linux/err.h).
const MAX_ERRNO: u32 = 4095;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `arg & mask == value`.
    Masked {
        mask: u64,
    },
}

/// One comparison of one argument, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Argument number, 0 to 5.
    pub index: u8,
    pub op: Op,
    pub value: u64,
}

/// A rule's conditions (all must hold; none means always) and what then happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    /// Sorted by argument.
    pub conditions: Vec<Condition>,
    /// `SECCOMP_RET_*` with its data.
    pub answer: u32,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Always this.
    Answer(u32),
    /// The first of these tests (indices into [`Rules::tests`]) that holds, else the default.
    Tests(Vec<u32>),
}

/// From this number on, until the next range, one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u32,
    pub outcome: Outcome,
}

/// A specification's rules, names resolved, values checked.
#[derive(Debug)]
pub(super) struct Rules {
    /// What happens to a call that no rule names.
    pub default: u32,
    /// Whether calls newer than the profile get ENOSYS: [`Rules::ranges`].
    pub stub: bool,
    /// Whether some call is answered by a listener.
    pub notifies: bool,
    pub tests: Vec<Test>,
    /// In the order of the specification: a call, and its test.
    entries: Vec<(Call, u32)>,
    /// As `entries`, for architectures that multiplex: the carrying call, and the test for one use of it.
    multiplexed: Vec<(Call, u32)>,
}

impl Rules {
    /// Checks and resolves `spec`.
    pub fn read(spec: &spec::Seccomp) -> Result<Self, Error> {
        let default = answer(&spec.default_action, spec.default_errno_ret)
            .map_err(|problem| Error::invalid("defaultAction", problem))?;
        if default == sys::RET_USER_NOTIF {
            // The agent would have to answer the very calls that hand it the listener.
            return Err(Error::invalid(
                "defaultAction",
                "SCMP_ACT_NOTIFY cannot be the default action",
            ));
        }
        let names = spec.syscalls.iter().map(|r| r.names.len()).sum();
        let mut rules = Self {
            default,
            stub: !lets_through(default),
            notifies: false,
            tests: Vec::with_capacity(spec.syscalls.len()),
            entries: Vec::with_capacity(names),
            multiplexed: Vec::new(),
        };
        for rule in &spec.syscalls {
            rules
                .add(rule)
                .map_err(|problem| Error::invalid(place(rule), problem))?;
        }
        if spec.listener_metadata.is_some() && spec.listener_path.is_none() {
            return Err(Error::invalid(
                "listenerMetadata",
                "is set, but listenerPath, the socket that it would be sent to, is not",
            ));
        }
        if rules.notifies && spec.listener_path.is_none() {
            return Err(Error::invalid(
                "listenerPath",
                "SCMP_ACT_NOTIFY is used, but no socket is named that receives the notifications",
            ));
        }
        Ok(rules)
    }

    fn add(&mut self, rule: &spec::SyscallRule) -> Result<(), String> {
        let answer = answer(&rule.action, rule.errno_ret)?;
        self.notifies |= answer == sys::RET_USER_NOTIF;
        let first = self.tests.len() as u32;
        self.add_tests(&rule.args, answer)?;
        let tests = first..self.tests.len() as u32;
        for name in &rule.names {
            if name.is_empty() {
                return Err("a system call's name is empty".into());
            }
            let Some(call) = Call::by_name(name) else {
                continue;
            };
            self.entries.extend(tests.clone().map(|t| (call, t)));
            self.multiplex(call, answer, rule.args.is_empty());
        }
        Ok(())
    }

    /// Adds the test for a rule's conditions, or several when they share an argument (either may hold).
    fn add_tests(&mut self, args: &[spec::SyscallArg], answer: u32) -> Result<(), String> {
        let mut conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        conditions.sort_by_key(|c| c.index);
        if conditions.windows(2).any(|w| w[0].index == w[1].index) {
            self.tests.extend(conditions.into_iter().map(|c| Test {
                conditions: vec![c],
                answer,
            }));
        } else {
            self.tests.push(Test { conditions, answer });
        }
        Ok(())
    }

    /// On x86, s390, powerpc and 32-bit MIPS, socket and System V IPC calls also (formerly only) go
    /// through one call each whose first argument says which is meant. A rule for `socket` must hold there
    /// too. The other arguments then lie in the caller's memory, where no filter can look: libseccomp
    /// drops conditions on the first argument and compares pointers for the others. We never let
    /// through what we cannot see, and never let go what a rule would have caught.
    fn multiplex(&mut self, call: Call, answer: u32, unconditional: bool) {
        let Some((carrier, number)) = carrier(call.name()) else {
            return;
        };
        if lets_through(answer) && !unconditional {
            return;
        }
        let op = match carrier {
            // The upper half of ipc's first argument is a version, which the kernel strips.
            "ipc" => Op::Masked { mask: 0xffff },
            _ => Op::Eq,
        };
        let condition = Condition {
            index: 0,
            op,
            value: number,
        };
        let carrier = Call::by_name(carrier).expect("both carriers are in the table");
        self.multiplexed.push((carrier, self.tests.len() as u32));
        self.tests.push(Test {
            conditions: vec![condition],
            answer,
        });
    }

    /// The outcomes of all numbers that `seccomp_data.nr` can hold, for the architectures that share one
    /// audit value (x86_64 and x32; otherwise one). Neighbours differ; the first range starts at 0.
    ///
    /// Numbers above the largest that the profile names get ENOSYS, not the default, unless that is to
    /// let the call through. The profile's author cannot have known those calls, and programs probe
    /// for new calls and fall back on ENOSYS, while EPERM makes them fail: glibc with `clone3` and
    /// `faccessat2` broke every older profile. runc does the same. (A hole below the largest number stays with
    /// the default; from the table alone, it cannot be told from a call that was left out on purpose.)
    pub fn ranges(&self, arches: &[&Arch]) -> Vec<Range> {
        let mut out = Ranges(Vec::with_capacity(128));
        let x86_family = arches.iter().any(|a| matches!(a.name, "X86_64" | "X32"));
        if x86_family {
            // A kernel without x32, or a profile without it: nobody makes such a call by accident. What
            // libseccomp does with a foreign architecture happens to a foreign half as well.
            let foreign = Outcome::Answer(sys::RET_KILL_THREAD);
            for (name, start, end) in [("X86_64", 0, X32_BIT - 1), ("X32", X32_BIT, u32::MAX - 1)] {
                match arches.iter().find(|a| a.name == name) {
                    Some(arch) => self.window(&mut out, arch, start, end),
                    None => out.push(start, foreign.clone()),
                }
            }
            // -1 is what a tracer writes to have a call skipped: not a call of x32's.
            let none = if self.stub {
                sys::RET_ERRNO | ENOSYS
            } else {
                self.default
            };
            out.push(u32::MAX, Outcome::Answer(none));
        } else if arches[0].name == "ARM" {
            // The private calls lie far above; they are not the newest.
            self.window(&mut out, arches[0], 0, ARM_PRIVATE - 1);
            self.window(&mut out, arches[0], ARM_PRIVATE, u32::MAX);
        } else {
            self.window(&mut out, arches[0], 0, u32::MAX);
        }
        out.0
    }

    /// The ranges of one numbering, within `start..=end`.
    fn window(&self, out: &mut Ranges, arch: &Arch, start: u32, end: u32) {
        let mut uses = Vec::with_capacity(self.entries.len() + self.multiplexed.len());
        let here = |&(call, test): &(Call, u32)| {
            let number = call.number(arch)?;
            (start..=end).contains(&number).then_some((number, test))
        };
        uses.extend(self.entries.iter().filter_map(here));
        // A carrier that is not named itself says nothing about how new the profile is.
        let newest = uses.iter().map(|u| u.0).max();
        uses.extend(self.multiplexed.iter().filter_map(here));
        uses.sort_unstable();
        out.push(start, Outcome::Answer(self.default));
        for group in uses.chunk_by(|a, b| a.0 == b.0) {
            let number = group[0].0;
            out.push(number, self.outcome(group));
            out.push(number + 1, Outcome::Answer(self.default));
        }
        if let (true, Some(newest)) = (self.stub, newest) {
            let enosys = Outcome::Answer(sys::RET_ERRNO | ENOSYS);
            out.cut(newest + 1, enosys.clone());
            // There, a call number too large for the instruction goes through a register, and one
            // that the kernel does not know shows as 0, long unused (runc's finding).
            if arch.name.starts_with("S390") && start == 0 {
                out.set_first(enosys);
            }
        }
    }

    /// What the tests of one call, in the specification's order, come to.
    fn outcome(&self, group: &[(u32, u32)]) -> Outcome {
        let mut tests = Vec::new();
        for &(_, index) in group {
            let test = &self.tests[index as usize];
            if test.answer == self.default {
                continue;
            }
            if test.conditions.is_empty() {
                return Outcome::Answer(test.answer);
            }
            tests.push(index);
        }
        let answer = |i: &u32| self.tests[*i as usize].answer;
        match tests.first().map(answer) {
            None => Outcome::Answer(self.default),
            Some(first) => {
                // With one outcome the order does not matter; the author's is the likelier to be quick.
                if tests.iter().any(|i| answer(i) != first) {
                    tests.sort_by(|a, b| {
                        precedence(&self.tests[*a as usize], &self.tests[*b as usize])
                    });
                }
                Outcome::Tests(tests)
            }
        }
    }
}

/// Ranges in the making: ascending, no two neighbours alike.
struct Ranges(Vec<Range>);

impl Ranges {
    /// From `start` on, `outcome`; replaces what was said about `start`.
    fn push(&mut self, start: u32, outcome: Outcome) {
        if self.0.last().is_some_and(|last| last.start == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.outcome != outcome) {
            self.0.push(Range { start, outcome });
        }
    }

    /// As [`push`](Self::push), over whatever was said about larger numbers.
    fn cut(&mut self, start: u32, outcome: Outcome) {
        while self.0.last().is_some_and(|last| last.start > start) {
            self.0.pop();
        }
        self.push(start, outcome);
    }

    /// Number 0 alone becomes `outcome`.
    fn set_first(&mut self, outcome: Outcome) {
        let old = std::mem::replace(&mut self.0[0].outcome, outcome);
        if self.0.get(1).is_none_or(|next| next.start != 1) {
            self.0.insert(
                1,
                Range {
                    start: 1,
                    outcome: old,
                },
            );
        }
    }
}

/// The order in which libseccomp's decision tree comes to tests with different outcomes: those on higher
/// arguments first, equality before ranges, the narrower range first, and a test before those that add
/// conditions to it. Otherwise as written.
fn precedence(a: &Test, b: &Test) -> Ordering {
    let class = |op: Op| match op {
        Op::Eq | Op::Ne | Op::Masked { .. } => 0,
        Op::Lt | Op::Le => 1,
        Op::Gt | Op::Ge => 2,
    };
    for (x, y) in a.conditions.iter().zip(&b.conditions) {
        let by_value = match x.op {
            Op::Lt | Op::Le => x.value.cmp(&y.value),
            _ => y.value.cmp(&x.value),
        };
        let order = y
            .index
            .cmp(&x.index)
            .then(class(x.op).cmp(&class(y.op)))
            .then(by_value);
        if order.is_ne() {
            return order;
        }
    }
    a.conditions.len().cmp(&b.conditions.len())
}

/// Whether the call is made after all. A tracer counts: it can answer ENOSYS itself, and would be
/// deprived of new calls.
fn lets_through(answer: u32) -> bool {
    matches!(
        answer & 0xffff_0000,
        sys::RET_ALLOW | sys::RET_LOG | sys::RET_TRACE
    )
}

/// Names a rule in an error.
fn place(rule: &spec::SyscallRule) -> String {
    match rule.names.as_slice() {
        [] => "rule without names".into(),
        [one] => format!("rule for {one:?}"),
        [first, rest @ ..] => format!("rule for {first:?} and {} more", rest.len()),
    }
}

/// `SECCOMP_RET_*` for an OCI action. `data` is `errnoRet`: runtime-spec, "Seccomp": EPERM when absent,
/// an error where the action has no use for it.
pub(super) fn answer(action: &str, data: Option<u32>) -> Result<u32, String> {
    let plain = match action {
        "SCMP_ACT_ERRNO" => {
            let errno = data.unwrap_or(EPERM);
            if errno > MAX_ERRNO {
                return Err(format!(
                    "errno {errno} does not exist; the largest is {MAX_ERRNO}"
                ));
            }
            return Ok(sys::RET_ERRNO | errno);
        }
        "SCMP_ACT_TRACE" => {
            let data = data.unwrap_or(EPERM);
            if data > 0xffff {
                return Err(format!("trace data {data} does not fit into 16 bits"));
            }
            return Ok(sys::RET_TRACE | data);
        }
        "SCMP_ACT_ALLOW" => sys::RET_ALLOW,
        "SCMP_ACT_LOG" => sys::RET_LOG,
        "SCMP_ACT_NOTIFY" => sys::RET_USER_NOTIF,
        "SCMP_ACT_TRAP" => sys::RET_TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => sys::RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => sys::RET_KILL_PROCESS,
        _ => {
            return Err(format!(
                "unknown action {action:?}; known are SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, \
                 SCMP_ACT_KILL_THREAD, SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP, SCMP_ACT_TRACE, SCMP_ACT_LOG \
                 and SCMP_ACT_NOTIFY"
            ));
        }
    };
    match data {
        None => Ok(plain),
        Some(errno) => Err(format!("{action} has no use for errno {errno}")),
    }
}

pub(super) fn condition(arg: &spec::SyscallArg) -> Result<Condition, String> {
    let index = match arg.index {
        0..=5 => arg.index as u8,
        other => return Err(format!("argument {other} does not exist; they are 0 to 5")),
    };
    let mut value = arg.value;
    let op = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_MASKED_EQ" => {
            // As libseccomp: what lies outside the mask does not count.
            value = arg.value_two & arg.value;
            Op::Masked { mask: arg.value }
        }
        other => {
            return Err(format!(
                "unknown comparison {other:?}; known are SCMP_CMP_EQ, NE, LT, LE, GT, GE and MASKED_EQ"
            ));
        }
    };
    Ok(Condition { index, op, value })
}

/// The call that carries `name` on multiplexing architectures, and its number there
/// (include/uapi/linux/net.h, include/uapi/linux/ipc.h).
fn carrier(name: &str) -> Option<(&'static str, u64)> {
    Some(match name {
        "socket" => ("socketcall", 1),
        "bind" => ("socketcall", 2),
        "connect" => ("socketcall", 3),
        "listen" => ("socketcall", 4),
        "accept" => ("socketcall", 5),
        "getsockname" => ("socketcall", 6),
        "getpeername" => ("socketcall", 7),
        "socketpair" => ("socketcall", 8),
        "send" => ("socketcall", 9),
        "recv" => ("socketcall", 10),
        "sendto" => ("socketcall", 11),
        "recvfrom" => ("socketcall", 12),
        "shutdown" => ("socketcall", 13),
        "setsockopt" => ("socketcall", 14),
        "getsockopt" => ("socketcall", 15),
        "sendmsg" => ("socketcall", 16),
        "recvmsg" => ("socketcall", 17),
        "accept4" => ("socketcall", 18),
        "recvmmsg" => ("socketcall", 19),
        "sendmmsg" => ("socketcall", 20),
        "semop" => ("ipc", 1),
        "semget" => ("ipc", 2),
        "semctl" => ("ipc", 3),
        "semtimedop" => ("ipc", 4),
        "msgsnd" => ("ipc", 11),
        "msgrcv" => ("ipc", 12),
        "msgget" => ("ipc", 13),
        "msgctl" => ("ipc", 14),
        "shmat" => ("ipc", 21),
        "shmdt" => ("ipc", 22),
        "shmget" => ("ipc", 23),
        "shmctl" => ("ipc", 24),
        _ => return None,
    })
}
