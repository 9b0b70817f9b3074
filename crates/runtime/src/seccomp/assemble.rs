//! Putting BPF instructions together, last one first.
//!
//! Classic BPF jumps only forward, so a program written from its end knows every target before the jump to
//! it. A conditional jump reaches 255 instructions; what is farther is reached through an unconditional
//! one, or, when it is only a return, through a copy of that return: never slower, never longer.

use barque_sys::seccomp::SockFilter;

use super::arch::Arch;
use super::rules::{Condition, Op, Outcome, Range, Rules};

/// Opcodes of linux/bpf_common.h, of those that seccomp admits (`seccomp_check_filter`).
mod code {
    /// BPF_LD | BPF_W | BPF_ABS.
    pub const LOAD: u16 = 0x20;
    /// BPF_ALU | BPF_AND | BPF_K.
    pub const AND: u16 = 0x54;
    /// BPF_RET | BPF_K.
    pub const RETURN: u16 = 0x06;
    /// BPF_JMP | BPF_JA.
    pub const JUMP: u16 = 0x05;
    /// BPF_JMP | BPF_JEQ | BPF_K.
    pub const EQUAL: u16 = 0x15;
    /// BPF_JMP | BPF_JGT | BPF_K.
    pub const GREATER: u16 = 0x25;
    /// BPF_JMP | BPF_JGE | BPF_K.
    pub const AT_LEAST: u16 = 0x35;
    /// BPF_JMP | BPF_JSET | BPF_K.
    pub const ANY_BIT: u16 = 0x45;
}

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Farthest target of a conditional jump.
const REACH: usize = u8::MAX as usize;

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To a return of this value; made when first needed.
    Answer(u32),
    /// To this instruction, counted from the program's end.
    Instruction(usize),
}

/// A program in the making; `code[0]` is its last instruction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<SockFilter>,
    /// The returns made so far, the nearest of each value.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// With room for a usual program.
    pub fn new() -> Self {
        Self {
            code: Vec::with_capacity(512),
            returns: Vec::new(),
        }
    }

    /// The program, first instruction first.
    pub fn finish(mut self) -> Vec<SockFilter> {
        self.code.reverse();
        self.code
    }

    /// The decision for one architecture's numbers, from the first instruction, which loads the number.
    ///
    /// `arches` share the section's audit value (see [`Rules::ranges`]).
    pub fn section(&mut self, rules: &Rules, arches: &[&Arch], ranges: &[Range]) -> Target {
        match self.tree(rules, arches, ranges) {
            // Nothing depends on the number.
            Target::Answer(answer) => Target::Answer(answer),
            tree => self.load(NUMBER, tree),
        }
    }

    /// The dispatch to `sections` by audit value, the first named tried first, and `foreign` for all
    /// others: the program's beginning.
    pub fn dispatch(&mut self, sections: &[(u32, Target)], foreign: u32) {
        let mut next = Target::Answer(foreign);
        for &(audit, section) in sections.iter().rev() {
            next = self.branch(code::EQUAL, audit, section, next);
        }
        self.load(ARCHITECTURE, next);
    }

    /// Finds the range that the number in the accumulator lies in, by halving.
    fn tree(&mut self, rules: &Rules, arches: &[&Arch], ranges: &[Range]) -> Target {
        if let [range] = ranges {
            return match &range.outcome {
                Outcome::Answer(answer) => Target::Answer(*answer),
                Outcome::Tests(tests) => {
                    self.tests(rules, Arch::of_number(arches, range.start), tests)
                }
            };
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let at_least = high[0].start;
        let high = self.tree(rules, arches, high);
        let low = self.tree(rules, arches, low);
        self.branch(code::AT_LEAST, at_least, high, low)
    }

    /// The first test that holds decides, else the default.
    fn tests(&mut self, rules: &Rules, arch: &Arch, tests: &[u32]) -> Target {
        let mut next = Target::Answer(rules.default);
        for &index in tests.iter().rev() {
            let test = &rules.tests[index as usize];
            let mut holds = Target::Answer(test.answer);
            for condition in test.conditions.iter().rev() {
                holds = self.condition(arch, condition, holds, next);
            }
            next = holds;
        }
        next
    }

    /// Compares one argument: the upper half first where there is one, the lower half if that leaves it open.
    fn condition(&mut self, arch: &Arch, c: &Condition, yes: Target, no: Target) -> Target {
        let [low_at, high_at] = halves(arch, c.index);
        let (low, high) = (c.value as u32, (c.value >> 32) as u32);
        let (yes, no, op) = match c.op {
            Op::Ne => (no, yes, Op::Eq),
            Op::Lt => (no, yes, Op::Ge),
            Op::Le => (no, yes, Op::Gt),
            op => (yes, no, op),
        };
        match op {
            Op::Masked { mask } => {
                let below = self.masked(low_at, mask as u32, low, yes, no);
                if arch.wide {
                    self.masked(high_at, (mask >> 32) as u32, high, below, no)
                } else {
                    below
                }
            }
            Op::Gt | Op::Ge => {
                let compare = if op == Op::Gt {
                    code::GREATER
                } else {
                    code::AT_LEAST
                };
                let below = self.branch(compare, low, yes, no);
                let below = self.load(low_at, below);
                if !arch.wide {
                    return below;
                }
                let same = self.branch(code::EQUAL, high, below, no);
                let above = self.branch(code::GREATER, high, yes, same);
                self.load(high_at, above)
            }
            _ => {
                let below = self.branch(code::EQUAL, low, yes, no);
                let below = self.load(low_at, below);
                if !arch.wide {
                    return below;
                }
                let same = self.branch(code::EQUAL, high, below, no);
                self.load(high_at, same)
            }
        }
    }

    /// One half of `arg & mask == value`.
    fn masked(&mut self, at: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        if mask == 0 {
            return yes;
        }
        let test = if value == 0 {
            self.branch(code::ANY_BIT, mask, no, yes)
        } else if value == mask && mask.is_power_of_two() {
            self.branch(code::ANY_BIT, mask, yes, no)
        } else {
            let equal = self.branch(code::EQUAL, value, yes, no);
            self.before(code::AND, mask, equal)
        };
        self.load(at, test)
    }

    /// Loads the word at `at` of `seccomp_data`, then goes on at `next`.
    fn load(&mut self, at: u32, next: Target) -> Target {
        self.before(code::LOAD, at, next)
    }

    /// An instruction that falls through to `next`.
    fn before(&mut self, code: u16, k: u32, next: Target) -> Target {
        let next = self.near(next, 0);
        if next + 1 != self.code.len() {
            let skip = (self.code.len() - next - 1) as u32;
            self.push(code::JUMP, 0, 0, skip);
        }
        self.push(code, 0, 0, k)
    }

    /// A conditional jump.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Bringing `no` near may take one more instruction, between here and `yes`.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let distance = |to: usize| (self.code.len() - to - 1) as u8;
        let (jt, jf) = (distance(yes), distance(no));
        self.push(code, jt, jf, k)
    }

    /// The instruction to name in order to get to `target` from the next instruction but `slack`.
    fn near(&mut self, target: Target, slack: usize) -> usize {
        let here = self.code.len();
        let reachable = |to: usize| here + slack - to - 1 <= REACH;
        match target {
            Target::Instruction(to) if reachable(to) => to,
            Target::Instruction(to) => {
                self.push(code::JUMP, 0, 0, (here - to - 1) as u32);
                here
            }
            Target::Answer(answer) => {
                let known = self.returns.iter().position(|(a, _)| *a == answer);
                match known.map(|i| self.returns[i].1) {
                    Some(to) if reachable(to) => return to,
                    Some(_) => self.returns[known.unwrap_or_default()].1 = here,
                    None => self.returns.push((answer, here)),
                }
                self.push(code::RETURN, 0, 0, answer);
                here
            }
        }
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Target {
        self.code.push(SockFilter { code, jt, jf, k });
        Target::Instruction(self.code.len() - 1)
    }
}

/// Where the lower and the upper half of an argument lie.
fn halves(arch: &Arch, index: u8) -> [u32; 2] {
    let at = ARGUMENTS + 8 * u32::from(index);
    if arch.little_endian() {
        [at, at + 4]
    } else {
        [at + 4, at]
    }
}
