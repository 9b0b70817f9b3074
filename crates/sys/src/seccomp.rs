//! Loading seccomp filters: seccomp(2).
//!
//! `rustix` has no door to it. What a filter says is not decided here (see `barque_runtime::seccomp`);
//! this module only hands an already compiled program to the kernel. Everything in it may be called
//! between fork and exec: no allocation, no lock, one system call each.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// One instruction of a classic BPF program: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SockFilter {
    /// Operation: class, size or operator, and source.
    pub code: u16,
    /// Instructions to skip when a conditional jump's test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand: a constant, an offset into `struct seccomp_data`, or a return value.
    pub k: u32,
}

/// Longest program the kernel accepts (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_FILTER_FLAG_TSYNC`: apply to all threads of the process (Linux 3.17).
pub const FLAG_TSYNC: u32 = 1 << 0;
/// `SECCOMP_FILTER_FLAG_LOG`: log every action but ALLOW (Linux 4.14).
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: leave speculative store bypass alone (Linux 4.17).
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: return the fd that receives notifications (Linux 5.0).
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: once received, a notified call is only interrupted by
/// fatal signals (Linux 5.19); needs [`FLAG_NEW_LISTENER`].
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// `SECCOMP_RET_KILL_PROCESS`: the whole process dies of SIGSYS (Linux 4.14).
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_KILL_THREAD`: the thread dies of SIGSYS.
pub const RET_KILL_THREAD: u32 = 0;
/// `SECCOMP_RET_TRAP`: a SIGSYS is raised in the thread; the low 16 bits go into `si_errno`.
pub const RET_TRAP: u32 = 0x0003_0000;
/// `SECCOMP_RET_ERRNO`: the call fails with the errno in the low 16 bits.
pub const RET_ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_USER_NOTIF`: whoever holds the listener answers (Linux 5.0).
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// `SECCOMP_RET_TRACE`: a tracer is told, with the low 16 bits; without one the call is ENOSYS.
pub const RET_TRACE: u32 = 0x7ff0_0000;
/// `SECCOMP_RET_LOG`: the call is logged and done (Linux 4.14).
pub const RET_LOG: u32 = 0x7ffc_0000;
/// `SECCOMP_RET_ALLOW`: the call is done.
pub const RET_ALLOW: u32 = 0x7fff_0000;

/// Not in `libc` for every target: operation numbers of seccomp(2).
const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;

/// Puts the calling thread, and whatever it executes or forks, under `filter` for good.
///
/// `flags` is a union of the `FLAG_*` of this module, without [`FLAG_NEW_LISTENER`] (see
/// [`install_with_listener`]). Async-signal-safe.
///
/// # Errors
/// `EACCES` without `no_new_privs` and without `CAP_SYS_ADMIN` in the thread's user namespace;
/// `EINVAL` for a program or a flag that this kernel does not accept (an empty program, one longer than
/// [`MAX_INSTRUCTIONS`], a jump out of it) or for a kernel without `CONFIG_SECCOMP_FILTER`; `ENOSYS`
/// before Linux 3.17; `ESRCH` with [`FLAG_TSYNC`] when another thread could not follow.
pub fn install(filter: &[SockFilter], flags: u32) -> Result<(), Errno> {
    if flags & FLAG_NEW_LISTENER != 0 {
        // The returned fd would leak.
        return Err(Errno::INVAL);
    }
    match set_mode_filter(filter, flags)? {
        0 => Ok(()),
        // With TSYNC the kernel answers with the id of the thread that stood in the way.
        _ => Err(Errno::SRCH),
    }
}

/// As [`install`], and returns the fd on which the calls that the filter answers with
/// [`RET_USER_NOTIF`] are received (seccomp_unotify(2), Linux 5.0). The kernel sets close-on-exec on it.
///
/// # Errors
/// As [`install`]; `EBUSY` when a filter of the thread already has a listener; `EINVAL` together with
/// [`FLAG_TSYNC`], whose answer would be ambiguous.
pub fn install_with_listener(filter: &[SockFilter], flags: u32) -> Result<OwnedFd, Errno> {
    if flags & FLAG_TSYNC != 0 {
        return Err(Errno::INVAL);
    }
    let fd = set_mode_filter(filter, flags | FLAG_NEW_LISTENER)?;
    // SAFETY: with NEW_LISTENER and without TSYNC (refused above) a non-negative answer is a new fd,
    // which nobody else knows of yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a system call (its number and arguments, as a tracer sees them) is the one of
/// [`install_with_listener`].
pub fn makes_listener(number: u64, arguments: &[u64; 6]) -> bool {
    number == libc::SYS_seccomp as u64
        && arguments[0] == u64::from(SET_MODE_FILTER)
        && arguments[1] & u64::from(FLAG_NEW_LISTENER) != 0
}

/// Whether this kernel knows the action (a `RET_*` of this module; its data bits must be zero). Linux 4.14;
/// older kernels, which cannot be asked, have only those of 3.5.
pub fn action_available(action: u32) -> bool {
    // SAFETY: GET_ACTION_AVAIL reads one u32 through the pointer, which lives across the call.
    let answer = unsafe { seccomp(GET_ACTION_AVAIL, 0, (&raw const action).cast()) };
    match answer {
        Ok(_) => true,
        Err(Errno::OPNOTSUPP) => false,
        Err(_) => matches!(
            action,
            RET_KILL_THREAD | RET_TRAP | RET_ERRNO | RET_TRACE | RET_ALLOW
        ),
    }
}

/// Whether this kernel knows a `FLAG_*` of this module. Nothing is loaded: the kernel looks at the flags before
/// it looks at the filter, which is a null pointer (`EFAULT`; libseccomp asks the same way).
pub fn flag_available(flag: u32) -> bool {
    let flags = match flag {
        // Refused without the other.
        FLAG_WAIT_KILLABLE_RECV => flag | FLAG_NEW_LISTENER,
        _ => flag,
    };
    // SAFETY: SET_MODE_FILTER reads a sock_fprog through the pointer; a null one is refused by the kernel's own
    // copy_from_user, and nothing of ours is read or written.
    let answer = unsafe { seccomp(SET_MODE_FILTER, flags, std::ptr::null()) };
    matches!(answer, Err(Errno::FAULT))
}

fn set_mode_filter(filter: &[SockFilter], flags: u32) -> Result<i32, Errno> {
    let len = match u16::try_from(filter.len()) {
        Ok(len) if filter.len() <= MAX_INSTRUCTIONS => len,
        _ => return Err(Errno::INVAL),
    };
    let program = libc::sock_fprog {
        len,
        filter: filter.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    // SAFETY: `program` names exactly the `len` instructions of `filter`, which has the layout of
    // struct sock_filter (repr(C), checked below); the kernel copies them and keeps no pointer.
    unsafe { seccomp(SET_MODE_FILTER, flags, (&raw const program).cast()) }
}

const _: () = assert!(
    size_of::<SockFilter>() == size_of::<libc::sock_filter>()
        && align_of::<SockFilter>() == align_of::<libc::sock_filter>()
);

/// seccomp(2) itself: libc has no wrapper.
///
/// # Safety
/// `args` must be what `operation` reads through it.
unsafe fn seccomp(
    operation: libc::c_uint,
    flags: libc::c_uint,
    args: *const libc::c_void,
) -> Result<i32, Errno> {
    // SAFETY: three arguments as seccomp(2) takes them; the caller answers for `args`.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, args) };
    if answer < 0 {
        // Reads errno only: nothing is allocated.
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(answer as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_actions() {
        assert!(action_available(RET_ALLOW));
        assert!(action_available(RET_ERRNO));
        assert!(!action_available(0x7123_0000));
    }

    #[test]
    fn programs_the_kernel_cannot_take_are_refused() {
        let ret = SockFilter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: RET_ALLOW,
        };
        let long = vec![ret; MAX_INSTRUCTIONS + 1];
        assert_eq!(install(&long, 0), Err(Errno::INVAL));
        assert_eq!(install(&[], 0), Err(Errno::INVAL));
        assert_eq!(install(&[ret], FLAG_NEW_LISTENER), Err(Errno::INVAL));
    }
}
