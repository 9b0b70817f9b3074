//! The architectures a filter can tell apart.

use super::table::Column;

/// Set in the number of every x32 call; x32 shares its audit value with x86_64
/// (arch/x86/include/uapi/asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// ARM's private calls (`set_tls`, `cacheflush`, …) begin here, far above the ordinary ones
/// (arch/arm/include/uapi/asm/unistd.h).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

const LE: u32 = 0x4000_0000;
const WIDE: u32 = 0x8000_0000;
const N32: u32 = 0x2000_0000;

/// One architecture of a filter: a numbering of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arch {
    /// The OCI name without its `SCMP_ARCH_`.
    pub name: &'static str,
    /// Docker's name in a profile's `arches` (Go's architecture names and libseccomp's, mixed).
    pub docker: &'static str,
    /// Its column in the table of numbers.
    pub column: Column,
    /// `AUDIT_ARCH_*` (linux/audit.h): ELF machine, width, endianness. What `seccomp_data.arch` says.
    pub audit: u32,
    /// Whether an argument is 64 bits wide. Where it is not, only the low half is looked at: the upper
    /// half is not the calling convention's, and a 64-bit process on x86 that enters through `int 0x80`
    /// can leave there what it likes, so that "not equal" would let everything through.
    pub wide: bool,
}

impl Arch {
    const fn new(
        name: &'static str,
        docker: &'static str,
        column: Column,
        audit: u32,
        wide: bool,
    ) -> Self {
        Self {
            name,
            docker,
            column,
            audit,
            wide,
        }
    }

    /// Looks an OCI `SCMP_ARCH_*` name up.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        let name = name.strip_prefix("SCMP_ARCH_")?;
        ARCHES.iter().find(|a| a.name == name)
    }

    /// The architecture this binary was built for.
    pub fn native() -> &'static Self {
        let name = match std::env::consts::ARCH {
            "x86_64" if cfg!(target_pointer_width = "32") => "X32",
            "x86_64" => "X86_64",
            "x86" => "X86",
            "aarch64" => "AARCH64",
            "arm" => "ARM",
            "riscv64" => "RISCV64",
            "loongarch64" => "LOONGARCH64",
            "s390x" => "S390X",
            "powerpc64" if cfg!(target_endian = "little") => "PPC64LE",
            "powerpc64" => "PPC64",
            "powerpc" => "PPC",
            "mips64" if cfg!(target_endian = "little") => "MIPSEL64",
            "mips64" => "MIPS64",
            "mips" if cfg!(target_endian = "little") => "MIPSEL",
            "mips" => "MIPS",
            other => unreachable!("barque has no system call table for {other}"),
        };
        ARCHES
            .iter()
            .find(|a| a.name == name)
            .expect("every name above is in the list below")
    }

    /// Which of `arches`, which share an audit value, a call's number belongs to.
    pub fn of_number<'a>(arches: &[&'a Self], number: u32) -> &'a Self {
        let x32 = number >= X32_BIT;
        arches
            .iter()
            .find(|a| (a.name == "X32") == x32)
            .unwrap_or(&arches[0])
    }

    /// Whether the upper half of an argument comes second in memory.
    pub fn little_endian(&self) -> bool {
        self.audit & LE != 0
    }

    /// The architectures whose processes the same kernel also runs: Docker's default `archMap`.
    pub fn companions(&self) -> &'static [&'static str] {
        match self.name {
            "X86_64" => &["X86", "X32"],
            "AARCH64" => &["ARM"],
            "MIPS64" => &["MIPS", "MIPS64N32"],
            "MIPS64N32" => &["MIPS", "MIPS64"],
            "MIPSEL64" => &["MIPSEL", "MIPSEL64N32"],
            "MIPSEL64N32" => &["MIPSEL", "MIPSEL64"],
            "S390X" => &["S390"],
            _ => &[],
        }
    }
}

/// Known to libseccomp and hence allowed in a profile, but never reported by a kernel that Barque runs
/// on. A filter without a section for them refuses them as any other foreign architecture.
pub(super) const FOREIGN: &[&str] = &["M68K", "PARISC", "PARISC64", "SH", "SHEB"];

/// The audit values are ELF machine numbers (linux/elf-em.h) with width and endianness added.
pub(super) static ARCHES: [Arch; 18] = [
    Arch::new("X86_64", "amd64", Column::X8664, 62 | WIDE | LE, true),
    Arch::new("X86", "x86", Column::X86, 3 | LE, false),
    Arch::new("X32", "x32", Column::X32, 62 | WIDE | LE, false),
    Arch::new("AARCH64", "arm64", Column::Aarch64, 183 | WIDE | LE, true),
    Arch::new("ARM", "arm", Column::Arm, 40 | LE, false),
    Arch::new("RISCV64", "riscv64", Column::Riscv64, 243 | WIDE | LE, true),
    Arch::new(
        "LOONGARCH64",
        "loongarch64",
        Column::Loongarch64,
        258 | WIDE | LE,
        true,
    ),
    Arch::new("S390X", "s390x", Column::S390x, 22 | WIDE, true),
    Arch::new("S390", "s390", Column::S390, 22, false),
    Arch::new("PPC64LE", "ppc64le", Column::Ppc64, 21 | WIDE | LE, true),
    Arch::new("PPC64", "ppc64", Column::Ppc64, 21 | WIDE, true),
    Arch::new("PPC", "ppc", Column::Ppc, 20, false),
    Arch::new("MIPS64", "mips64", Column::Mips64, 8 | WIDE, true),
    Arch::new(
        "MIPS64N32",
        "mips64n32",
        Column::Mips64n32,
        8 | WIDE | N32,
        false,
    ),
    Arch::new("MIPS", "mips", Column::Mips, 8, false),
    Arch::new("MIPSEL64", "mipsel64", Column::Mips64, 8 | WIDE | LE, true),
    Arch::new(
        "MIPSEL64N32",
        "mips3l64n32",
        Column::Mips64n32,
        8 | WIDE | N32 | LE,
        false,
    ),
    Arch::new("MIPSEL", "mipsel", Column::Mips, 8 | LE, false),
];
