//! A machine for classic BPF as seccomp runs it (kernel/seccomp.c, net/core/filter.c), so that tests can see
//! what a program says on any architecture, with no kernel.

use barque_sys::seccomp::SockFilter;

/// `struct seccomp_data`, but for the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
    pub little_endian: bool,
}

impl Data {
    fn word(&self, at: u32) -> u32 {
        match at {
            0 => self.number,
            4 => self.arch,
            16..64 if at.is_multiple_of(4) => {
                let arg = self.args[(at as usize - 16) / 8];
                let first = (at - 16).is_multiple_of(8);
                if first == self.little_endian {
                    arg as u32
                } else {
                    (arg >> 32) as u32
                }
            }
            _ => panic!("load at {at}"),
        }
    }
}

/// What the program returns, and how many instructions that took. Panics where the kernel would refuse the
/// program: an unknown instruction, a jump or a fall beyond its end.
pub(super) fn run(program: &[SockFilter], data: &Data) -> (u32, usize) {
    let mut acc = 0;
    let mut at = 0;
    let mut steps = 0;
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let branch = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            0x20 => acc = data.word(k),
            0x54 => acc &= k,
            0x06 => return (k, steps),
            0x05 => at += k as usize,
            0x15 => at += branch(acc == k),
            0x25 => at += branch(acc > k),
            0x35 => at += branch(acc >= k),
            0x45 => at += branch(acc & k != 0),
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// Whether the kernel would load it: `bpf_check_classic` and `seccomp_check_filter`.
pub(super) fn check(program: &[SockFilter]) {
    assert!((1..=4096).contains(&program.len()), "{}", program.len());
    for (at, i) in program.iter().enumerate() {
        let room = program.len() - at - 1;
        match i.code {
            0x05 => assert!((i.k as usize) < room, "jump at {at}"),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(i.jt.max(i.jf)) < room, "branch at {at}");
            }
            0x20 => assert!(
                i.k < 64 && i.k.is_multiple_of(4) && room > 0,
                "load at {at}"
            ),
            0x54 => assert!(room > 0),
            0x06 => {}
            other => panic!("instruction {other:#x} at {at}"),
        }
    }
    assert_eq!(program.last().unwrap().code, 0x06);
}
