//! Reading just enough of an ELF file (elf(5), 64 bit, little endian) to know that it needs nothing.

use anyhow::{Context, Result, bail};

const ET_DYN: u16 = 3;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// What a program asks of the system that starts it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// May be loaded anywhere.
    pub(crate) position_independent: bool,
    /// Marked as a program (not a library) by its linker.
    pub(crate) pie_flag: bool,
    /// Wants a dynamic linker.
    pub(crate) interpreter: bool,
    /// Wants so many shared libraries.
    pub(crate) needed: usize,
}

impl Facts {
    /// No dynamic linker, no shared library, any address.
    pub(crate) fn is_static_pie(&self) -> bool {
        self.position_independent && self.pie_flag && !self.interpreter && self.needed == 0
    }
}

/// Reads the program headers and the dynamic section.
pub(crate) fn read(bytes: &[u8]) -> Result<Facts> {
    // EI_CLASS 2: 64 bit; EI_DATA 1: little endian.
    if bytes.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        bail!("not a 64-bit little-endian ELF file");
    }
    let mut facts = Facts {
        position_independent: u16_at(bytes, 16)? == ET_DYN,
        ..Facts::default()
    };
    let (table, size, count) = (
        u64_at(bytes, 32)? as usize,
        u16_at(bytes, 54)? as usize,
        u16_at(bytes, 56)? as usize,
    );
    for header in (0..count).map(|index| table + index * size) {
        match u32_at(bytes, header)? {
            PT_INTERP => facts.interpreter = true,
            PT_DYNAMIC => {
                let start = u64_at(bytes, header + 8)? as usize;
                let length = u64_at(bytes, header + 32)? as usize;
                dynamic(bytes, start, length, &mut facts)?;
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn dynamic(bytes: &[u8], start: usize, length: usize, facts: &mut Facts) -> Result<()> {
    for entry in (start..start + length).step_by(16) {
        match u64_at(bytes, entry)? {
            0 => break,
            DT_NEEDED => facts.needed += 1,
            DT_FLAGS_1 => facts.pie_flag = u64_at(bytes, entry + 8)? & DF_1_PIE != 0,
            _ => {}
        }
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .context("the ELF file is cut off")
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_static_and_the_shell_is_not() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(read(&own).unwrap().is_static_pie());
        let shell = read(&std::fs::read("/bin/sh").unwrap()).unwrap();
        assert!(shell.interpreter && shell.needed > 0 && !shell.is_static_pie());
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read(b"#!/bin/sh\n").is_err());
        assert!(read(&[0x7f, b'E', b'L', b'F', 2, 1, 1]).is_err());
    }
}
