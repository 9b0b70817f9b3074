//! bpf(2), as far as cgroup device programs need it: load, attach, replace, query, detach.
//!
//! cgroup v2 has no `devices` controller files: which device nodes a group may open or create is
//! decided by programs of type `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15) attached to the group.
//! What such a program says is policy and lives in the `cgroup` crate; here are the system calls.
//!
//! Layouts and numbers are those of `include/uapi/linux/bpf.h`, the same on every architecture.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source (`BPF_*` of `linux/bpf_common.h`).
    pub code: u8,
    /// Destination and source register, four bits each, in the byte order of the machine.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

impl Insn {
    /// An instruction; `destination` and `source` are register numbers, 0 to 10.
    #[must_use]
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // `dst_reg:4, src_reg:4` are C bit fields: the first is the low nibble where bytes are
        // little-endian and the high one where they are big-endian.
        let registers = if cfg!(target_endian = "little") {
            (source << 4) | (destination & 0xf)
        } else {
            (destination << 4) | (source & 0xf)
        };
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

/// Why a program was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// What bpf(2) answered.
    pub errno: Errno,
    /// What the verifier said; empty when it was not reached.
    pub log: String,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.errno)?;
        // The verifier's last lines say what it refused; the rest is its walk through the program.
        match self.log.trim_end().lines().next_back() {
            Some(line) if !line.is_empty() => write!(f, " (verifier: {line})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for LoadError {}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to the fields that Linux 4.15 knows.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `A` must be a `#[repr(C)]` prefix of the member of `union bpf_attr` that `command` reads, and
/// every pointer stored in it as an integer must stay valid for the call, for writing where the
/// command writes there, over the length stored beside it.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is exclusively borrowed and the kernel reads and writes at most the
    // `size_of::<A>()` bytes that it is told of; the inner pointers are the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(result)
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed fd is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn owned(result: libc::c_long) -> OwnedFd {
    // SAFETY: called only with what a successful BPF_PROG_LOAD or BPF_PROG_GET_FD_BY_ID returned:
    // a new fd (made O_CLOEXEC by the kernel) that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(result as libc::c_int) }
}

fn load_once(program: &[Insn], name: &str, log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0u8; 16];
    let length = name.len().min(prog_name.len() - 1);
    prog_name[..length].copy_from_slice(&name.as_bytes()[..length]);
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::TOOBIG)?,
        log_buf: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    // SAFETY: `insns` points to `insn_cnt` instructions and `license` to a static C string, both
    // only read; `log_buf` is an exclusively borrowed buffer of `log_size` bytes, or null with 0.
    unsafe { bpf(BPF_PROG_LOAD, &mut attr) }.map(owned)
}

/// Loads a cgroup device program. `name` (letters, digits, `_`, `.`; at most 15 are kept) is what
/// `bpftool prog` shows.
///
/// # Errors
/// [`LoadError`] with the verifier's log; `EPERM` without CAP_BPF or CAP_SYS_ADMIN, `EINVAL` on a
/// kernel without CONFIG_CGROUP_BPF.
pub fn load_cgroup_device(program: &[Insn], name: &str) -> Result<OwnedFd, LoadError> {
    // The log costs the verifier time: ask for it only when there is something to explain.
    load_once(program, name, &mut []).or_else(|errno| {
        let mut log = vec![0u8; 64 * 1024];
        match load_once(program, name, &mut log) {
            Ok(fd) => Ok(fd),
            Err(_) => {
                let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
                let log = String::from_utf8_lossy(&log[..end]).into_owned();
                Err(LoadError { errno, log })
            }
        }
    })
}

/// Attaches `program` to `cgroup` beside what is attached already; all attached programs must
/// allow an access. With `replaced`, it takes the place of that program in one step (Linux 5.6;
/// `EINVAL` before).
///
/// # Errors
/// Those of bpf(2): `EPERM`, `ENOENT` when `replaced` is not attached there, `E2BIG` at 64 programs.
pub fn attach_cgroup_device(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let replace = if replaced.is_some() { BPF_F_REPLACE } else { 0 };
    let mut attr = AttachAttr {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: BPF_CGROUP_DEVICE,
        // Multi, so that a program attached above us (or by somebody else) keeps its say, and one
        // attached below us (a nested engine) is possible at all.
        attach_flags: BPF_F_ALLOW_MULTI | replace,
        replace_bpf_fd: replaced.map_or(0, fd_number),
    };
    // SAFETY: `AttachAttr` is the prefix that BPF_PROG_ATTACH reads; it holds no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches `program` from `cgroup`.
///
/// # Errors
/// Those of bpf(2): `ENOENT` when it is not attached there.
pub fn detach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: `AttachAttr` is the prefix that BPF_PROG_DETACH reads; it holds no pointers.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr) }.map(drop)
}

/// The device programs attached to `cgroup` itself (not those it inherits), oldest first.
///
/// # Errors
/// Those of bpf(2). A program that goes away while being looked up is left out.
pub fn cgroup_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    // The kernel's limit of programs of one type on one group (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: fd_number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: `prog_ids` points to `prog_cnt` writable u32 in `ids`, which outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    let count = (attr.prog_cnt as usize).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for &id in &ids[..count] {
        match program_by_id(id) {
            Ok(fd) => programs.push(fd),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = IdAttr {
        prog_id: id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: `IdAttr` is the prefix that BPF_PROG_GET_FD_BY_ID reads; it holds no pointers.
    unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) }.map(owned)
}

/// Makes `program` the only device program attached to `cgroup` itself.
///
/// At no instant is the group without a program: one predecessor is replaced in one step; of
/// several (or before Linux 5.6) the old ones go after the new one is in force, and meanwhile an
/// access must pass all of them.
///
/// # Errors
/// Those of bpf(2).
pub fn set_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let old = cgroup_device_programs(cgroup)?;
    if let [only] = &old[..] {
        match attach_cgroup_device(cgroup, program, Some(only.as_fd())) {
            // EINVAL: no BPF_F_REPLACE; ENOENT: somebody else replaced it meanwhile.
            Err(Errno::INVAL | Errno::NOENT) => {}
            result => return result,
        }
    }
    attach_cgroup_device(cgroup, program, None)?;
    for fd in &old {
        match detach_cgroup_device(cgroup, fd.as_fd()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_match_the_kernel_header() {
        assert_eq!(size_of::<Insn>(), 8);
        assert_eq!(std::mem::offset_of!(LoadAttr, log_buf), 32);
        assert_eq!(std::mem::offset_of!(LoadAttr, prog_name), 48);
        assert_eq!(std::mem::offset_of!(QueryAttr, prog_ids), 16);
        assert_eq!(std::mem::offset_of!(QueryAttr, prog_cnt), 24);
        assert_eq!(std::mem::offset_of!(AttachAttr, replace_bpf_fd), 16);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn registers_are_packed_as_bit_fields() {
        assert_eq!(Insn::new(0xbf, 3, 2, 0, 0).registers, 0x23);
    }

    #[test]
    fn the_verifier_speaks_when_a_program_is_refused() {
        // `exit` alone: r0 was never set.
        let error = load_cgroup_device(&[Insn::new(0x95, 0, 0, 0, 0)], "bad").unwrap_err();
        assert!(
            error.errno == Errno::PERM || error.log.contains("R0"),
            "{error:?}"
        );
    }
}
