//! Device rules as a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
//!
//! The kernel calls the program with `struct bpf_cgroup_dev_ctx` for every open and mknod of a
//! device node by a process of the group; it returns 1 to allow and 0 to refuse. The program walks
//! the rules from the last to the first, so that the first match is the one that counts, and keeps
//! in a register the kinds of access that no rule has decided yet:
//!
//! ```text
//! r2 = type            r3 = access asked for, undecided      r4 = major      r5 = minor
//! per rule:  if type, major or minor differ: next rule
//!   deny:    if r3 & access: return 0
//!   allow:   r3 &= ~access; if r3 == 0: return 1
//! at the end: return 1 (what no rule names is as it is for the parent)
//! ```

use barque_sys::bpf::Insn;

use super::devices::{Access, Kind, Rule};

// linux/bpf_common.h and linux/bpf.h: class | operation | source.
const LDX_W: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOV_REG: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOV_IMM: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND_IMM: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const RSH_IMM: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JNE_IMM: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JSET_IMM: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JA: u8 = 0x05; // BPF_JMP | BPF_JA
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
fn type_number(kind: Kind) -> i32 {
    match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    }
}

/// Compiles normalised rules. About six instructions per rule, far from the limit of 4096.
pub(super) fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        // ctx->access_type = (access << 16) | type
        Insn::new(LDX_W, TYPE, CONTEXT, 0, 0),
        Insn::new(MOV_REG, ACCESS, TYPE, 0, 0),
        Insn::new(RSH_IMM, ACCESS, 0, 0, 16),
        Insn::new(AND_IMM, TYPE, 0, 0, 0xffff),
        Insn::new(LDX_W, MAJOR, CONTEXT, 4, 0),
        Insn::new(LDX_W, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        match rule {
            // The verifier refuses instructions that cannot be reached: what came before this rule
            // is void, and the program ends here.
            Rule::Everything { allow } => {
                program.extend(give(*allow));
                return program;
            }
            Rule::Some {
                allow,
                kind,
                major,
                minor,
                access,
            } => {
                program.extend(one_rule(*allow, *kind, *major, *minor, *access));
            }
        }
    }
    program.extend(give(true));
    program
}

fn give(allow: bool) -> [Insn; 2] {
    [
        Insn::new(MOV_IMM, RESULT, 0, 0, i32::from(allow)),
        Insn::new(EXIT, 0, 0, 0, 0),
    ]
}

fn one_rule(
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
) -> Vec<Insn> {
    let bits = i32::from(access.0);
    let mut action = Vec::with_capacity(4);
    if allow {
        action.push(Insn::new(AND_IMM, ACCESS, 0, 0, !bits));
        action.push(Insn::new(JNE_IMM, ACCESS, 0, 2, 0));
    } else {
        action.push(Insn::new(JSET_IMM, ACCESS, 0, 1, bits));
        action.push(Insn::new(JA, 0, 0, 2, 0));
    }
    action.extend(give(allow));

    let tests = [
        Some((TYPE, type_number(kind))),
        // Normalised numbers fit an i32, so that the sign-extended immediate equals the register.
        major.map(|major| (MAJOR, major as i32)),
        minor.map(|minor| (MINOR, minor as i32)),
    ];
    let tests: Vec<(u8, i32)> = tests.into_iter().flatten().collect();
    let length = tests.len() + action.len();
    let mut code: Vec<Insn> = tests
        .iter()
        .enumerate()
        // A jump is relative to the instruction after it; all of these go behind the rule.
        .map(|(at, &(register, value))| {
            Insn::new(JNE_IMM, register, 0, (length - at - 1) as i16, value)
        })
        .collect();
    code.extend(action);
    code
}

#[cfg(test)]
mod tests {
    use super::super::devices::{normalise, tests::rules};
    use super::*;

    /// A small interpreter of the instructions used: what the program says, without a kernel.
    fn run(program: &[Insn], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [
            (u32::from(access) << 16) | type_number(kind) as u32,
            major,
            minor,
        ];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let insn = program[at];
            let (low, high) = (insn.registers & 0xf, insn.registers >> 4);
            let (dst, src) = if cfg!(target_endian = "little") {
                (low, high)
            } else {
                (high, low)
            };
            let immediate = i64::from(insn.immediate) as u64;
            let dst = usize::from(dst);
            let mut jump = false;
            match insn.code {
                LDX_W => registers[dst] = u64::from(context[insn.offset as usize / 4]),
                MOV_REG => registers[dst] = registers[usize::from(src)],
                MOV_IMM => registers[dst] = immediate,
                AND_IMM => registers[dst] &= immediate,
                RSH_IMM => registers[dst] >>= immediate,
                JNE_IMM => jump = registers[dst] != immediate,
                JSET_IMM => jump = registers[dst] & immediate != 0,
                JA => jump = true,
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            at += 1 + if jump { insn.offset as usize } else { 0 };
        }
    }

    /// The meaning, said another way: each kind of access by the last rule that names it.
    fn meaning(rules: &[Rule], device: (Kind, u32, u32), access: u8) -> bool {
        [Access::READ, Access::WRITE, Access::MKNOD]
            .into_iter()
            .filter(|bit| access & bit != 0)
            .all(|bit| {
                rules
                    .iter()
                    .rev()
                    .find_map(|rule| match rule {
                        Rule::Everything { allow } => Some(*allow),
                        Rule::Some {
                            allow,
                            kind,
                            major,
                            minor,
                            access,
                        } => (*kind == device.0
                            && major.is_none_or(|major| major == device.1)
                            && minor.is_none_or(|minor| minor == device.2)
                            && access.0 & bit != 0)
                            .then_some(*allow),
                    })
                    .unwrap_or(true)
            })
    }

    #[test]
    fn the_program_means_what_the_rules_say() {
        for text in [
            "deny a",
            "allow a",
            "deny a; allow c 1:3 rwm",
            "deny a; allow c 1:3 r; allow c 1:3 w; allow c *:* m; allow b *:* m",
            "deny a; allow c 1:* rw; deny c 1:5 w",
            "deny c 1:3 w",
            "allow c 1:3 rw; deny a; allow b 8:* r",
            "deny a; allow a *:* m; allow a 1:3 r",
            "deny b *:* rwm; allow b *:0 r; deny c *:* m",
        ] {
            let rules = normalise(&rules(text)).unwrap();
            let program = compile(&rules);
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in [(1, 3), (1, 5), (8, 0), (8, 1), (5, 3), (0, 0)] {
                    for access in 1..8 {
                        assert_eq!(
                            run(&program, kind, major, minor, access),
                            meaning(&rules, (kind, major, minor), access),
                            "{text}: {kind:?} {major}:{minor} {access:#b}"
                        );
                    }
                }
            }
        }
    }
}
