//! From a system call's name to its numbers.
//!
//! A profile names some four hundred calls, and this stands on the path of a container's start: the hash
//! table is laid out at compile time and a lookup is one hash and (mostly) one string comparison.

use super::arch::Arch;
use super::table::{NAMES, NONE, NUMBERS};

/// A known call: its row in the table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call(u16);

impl Call {
    /// Looks a name up; `None` for one that no architecture has.
    pub fn by_name(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes()) & MASK;
        loop {
            match SLOTS[slot] {
                EMPTY => return None,
                row if NAMES[row as usize] == name => return Some(Self(row)),
                _ => slot = (slot + 1) & MASK,
            }
        }
    }

    /// Its number on `arch`, if it has one there.
    pub fn number(self, arch: &Arch) -> Option<u32> {
        let number = NUMBERS[self.0 as usize][arch.column as usize];
        (number != NONE).then_some(number)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self.0 as usize]
    }
}

/// At least twice the number of names, so that chains stay short; a power of two.
const SIZE: usize = 2048;
const MASK: usize = SIZE - 1;
const EMPTY: u16 = u16::MAX;
const _: () = assert!(NAMES.len() * 2 < SIZE);

static SLOTS: [u16; SIZE] = {
    let mut slots = [EMPTY; SIZE];
    let mut row = 0;
    while row < NAMES.len() {
        let mut slot = hash(NAMES[row].as_bytes()) & MASK;
        while slots[slot] != EMPTY {
            slot = (slot + 1) & MASK;
        }
        slots[slot] = row as u16;
        row += 1;
    }
    slots
};

/// FNV-1a, with its upper half folded in.
const fn hash(bytes: &[u8]) -> usize {
    let mut h: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < bytes.len() {
        h = (h ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (h ^ (h >> 15)) as usize
}

#[cfg(test)]
mod tests {
    use super::super::arch::ARCHES;
    use super::*;

    fn number(arch: &str, name: &str) -> Option<u32> {
        let arch = ARCHES.iter().find(|a| a.name == arch).unwrap();
        Call::by_name(name)?.number(arch)
    }

    #[test]
    fn every_name_finds_its_row_and_no_other_name_does() {
        assert!(NAMES.is_sorted());
        for (row, name) in NAMES.iter().enumerate() {
            assert_eq!(Call::by_name(name), Some(Call(row as u16)), "{name}");
        }
        for none in ["", "reed", "sys_read", "READ", "read "] {
            assert_eq!(Call::by_name(none), None, "{none}");
        }
    }

    /// The rows were generated; these come from the manual and the C library.
    #[test]
    fn known_numbers() {
        for (arch, name, want) in [
            ("X86_64", "read", Some(0)),
            ("X86_64", "clone3", Some(435)),
            ("X86_64", "socketcall", None),
            ("X86", "read", Some(3)),
            ("X86", "socketcall", Some(102)),
            ("X32", "read", Some(0x4000_0000)),
            ("X32", "execve", Some(0x4000_0208)),
            ("AARCH64", "openat", Some(56)),
            ("AARCH64", "open", None),
            ("ARM", "set_tls", Some(0xf0005)),
            ("RISCV64", "riscv_flush_icache", Some(259)),
            ("S390X", "ipc", Some(117)),
            ("S390", "setxattrat", Some(463)),
            ("PPC64LE", "swapcontext", Some(249)),
            ("MIPS", "read", Some(4003)),
            ("MIPSEL64", "read", Some(5000)),
            ("MIPS64N32", "read", Some(6000)),
        ] {
            assert_eq!(number(arch, name), want, "{arch} {name}");
        }
    }
}
