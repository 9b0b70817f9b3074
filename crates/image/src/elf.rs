//! Writing the smallest honest ELF program: print a text, exit 0.
//!
//! ```text
//! ELF header 64 │ one PT_LOAD program header 56 │ code │ text
//! ```
//! Sources: elf(5), the System V ABI supplements for x86-64 and AArch64, syscall(2) for the registers. The code is a list
//! of instructions with their encodings beside them; no assembler, linker or foreign binary is needed to build it.

/// The processors it can write for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64,
}

/// Where the file is mapped: any page-aligned address above vm.mmap_min_addr.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

impl Machine {
    /// This host's, if it is one of them.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `e_machine`: EM_X86_64, EM_AARCH64.
    const fn number(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }

    /// The largest page the architecture's kernels use, which segments must be aligned to.
    const fn page(self) -> u64 {
        match self {
            Self::X86_64 => 0x1000,
            Self::Aarch64 => 0x1_0000,
        }
    }

    /// `write(1, text, length); exit(0)`, with the text right behind the code.
    fn code(self, length: u32) -> Vec<u8> {
        match self {
            Self::X86_64 => {
                let mut code = vec![
                    0xb8, 1, 0, 0, 0, // mov eax, SYS_write
                    0xbf, 1, 0, 0, 0, // mov edi, 1
                    0x48, 0x8d, 0x35, 18, 0, 0,
                    0,    // lea rsi, [rip + 18]: behind the last instruction
                    0xba, // mov edx, length
                ];
                code.extend_from_slice(&length.to_le_bytes());
                code.extend_from_slice(&[
                    0x0f, 0x05, // syscall
                    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
                    0x31, 0xff, // xor edi, edi
                    0x0f, 0x05, // syscall
                    0x0f, 0x0b, // ud2
                ]);
                code
            }
            Self::Aarch64 => {
                let movz =
                    |register: u32, value: u32| 0xd280_0000 | (value & 0xffff) << 5 | register;
                let movk16 =
                    |register: u32, value: u32| 0xf2a0_0000 | (value >> 16) << 5 | register;
                let svc = 0xd400_0001u32;
                let instructions = [
                    movz(8, 64),       // x8 = SYS_write
                    movz(0, 1),        // x0 = 1
                    0x1000_0101,       // adr x1, .+32: behind the last instruction
                    movz(2, length),   // x2 = length
                    movk16(2, length), //
                    svc,               //
                    movz(8, 93),       // x8 = SYS_exit
                    movz(0, 0),        // x0 = 0
                    svc,               //
                    0xd420_0000,       // brk #0
                ];
                instructions
                    .iter()
                    .flat_map(|i: &u32| i.to_le_bytes())
                    .collect()
            }
        }
    }
}

/// The program.
pub(crate) fn print_and_exit(machine: Machine, text: &str) -> Vec<u8> {
    let code = machine.code(text.len() as u32);
    let size = HEADERS + (code.len() + text.len()) as u64;
    let mut out = Vec::with_capacity(size as usize);
    // ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let half = |out: &mut Vec<u8>, n: u16| out.extend_from_slice(&n.to_le_bytes());
    let word = |out: &mut Vec<u8>, n: u32| out.extend_from_slice(&n.to_le_bytes());
    let xword = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
    half(&mut out, 2); // e_type: ET_EXEC
    half(&mut out, machine.number());
    word(&mut out, 1); // e_version
    xword(&mut out, BASE + HEADERS); // e_entry
    xword(&mut out, 64); // e_phoff
    xword(&mut out, 0); // e_shoff: no sections
    word(&mut out, 0); // e_flags
    for n in [64, 56, 1, 64, 0, 0] {
        half(&mut out, n); // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    }
    word(&mut out, 1); // p_type: PT_LOAD
    word(&mut out, 5); // p_flags: PF_R | PF_X
    for n in [0, BASE, BASE, size, size, machine.page()] {
        xword(&mut out, n); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    }
    out.extend_from_slice(&code);
    out.extend_from_slice(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_text_starts_right_behind_the_code() {
        // lea: 18 bytes follow it before the text. adr: eight instructions from itself.
        let x86 = Machine::X86_64.code(7);
        assert_eq!(x86.len() - 17, 18);
        let arm = Machine::Aarch64.code(0x2_0001);
        assert_eq!(arm.len() - 8, 32);
        assert_eq!(arm[12..20], [0x22, 0, 0x80, 0xd2, 0x42, 0, 0xa0, 0xf2]);
    }

    #[test]
    fn it_runs_and_says_its_text() {
        let Some(machine) = Machine::host() else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        std::fs::write(&path, print_and_exit(machine, "hello, wörld\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, "hello, wörld\n".as_bytes());
    }
}
