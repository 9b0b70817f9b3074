//! How the kernel treats a process: its scheduling policy, CPUs, I/O priority, NUMA policy and
//! execution domain. All of it is inherited by children and survives `execve`.
//!
//! `pid` is 0 for the calling thread throughout.

use crate::process::Result;
use rustix::io::Errno;
use std::ffi::{c_int, c_long, c_ulong};

/// A scheduling policy with its parameters (sched_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr` in its first version, which every kernel since 3.14 takes.
#[repr(C)]
#[derive(Default)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling policy of a thread.
pub fn set_scheduler(pid: i32, attributes: SchedAttr) -> Result<()> {
    let mut raw = RawSchedAttr {
        size: std::mem::size_of::<RawSchedAttr>() as u32,
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        runtime: attributes.runtime,
        deadline: attributes.deadline,
        period: attributes.period,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which has no padding (4+4+8+4+4+3*8),
    // and writes at most its first member (with E2BIG).
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw mut raw, 0u32) })
}

/// The scheduling policy of a thread (sched_getattr(2)).
pub fn scheduler(pid: i32) -> Result<SchedAttr> {
    let mut raw = RawSchedAttr::default();
    let size = std::mem::size_of::<RawSchedAttr>();
    // SAFETY: the kernel writes at most `size` bytes, the whole of the structure, which is plain
    // integers.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, pid, &raw mut raw, size, 0u32) })?;
    Ok(SchedAttr {
        policy: raw.policy,
        flags: raw.flags,
        nice: raw.nice,
        priority: raw.priority,
        runtime: raw.runtime,
        deadline: raw.deadline,
        period: raw.period,
    })
}

/// Sets the CPUs that a thread may run on (sched_setaffinity(2)): bit `n` of word `n / 64`. CPUs that
/// do not exist or are not in its cpuset are left out; `EINVAL` when none remains.
pub fn set_affinity(pid: i32, mask: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads exactly the given number of bytes of the slice.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            std::mem::size_of_val(mask),
            mask.as_ptr(),
        )
    })
}

/// The CPUs that a thread may run on, as [`set_affinity`] takes them.
pub fn affinity(pid: i32) -> Result<Vec<u64>> {
    // The kernel refuses (EINVAL) a buffer with fewer bits than it could ever have CPUs; the largest
    // configuration has 8192.
    let mut mask = vec![0u64; 8192 / 64];
    // SAFETY: the kernel writes at most the given number of bytes into the vector's initialised
    // elements and returns how many.
    let written = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            pid,
            std::mem::size_of_val(&mask[..]),
            mask.as_mut_ptr(),
        )
    };
    check(written)?;
    mask.truncate(usize::try_from(written).unwrap_or(0).div_ceil(8));
    Ok(mask)
}

/// Sets the I/O priority of the calling thread (ioprio_set(2)): class (1 to 3) and level (0 to 7).
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = c_int::from(class) << IOPRIO_CLASS_SHIFT | c_int::from(level);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// The I/O priority of a thread, class and level.
pub fn io_priority(pid: i32) -> Result<(u8, u8)> {
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) };
    check(value)?;
    Ok(((value >> 13) as u8 & 7, value as u8 & 7))
}

/// Sets where the calling thread's memory comes from (set_mempolicy(2)): `mode` with its flags, and
/// the nodes, bit `n` of word `n / 64`. `ENOSYS` on kernels without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    let words: Vec<c_ulong> = nodes.iter().map(|w| *w as c_ulong).collect();
    // The kernel counts one bit less than it is told (get_nodes() in mm/mempolicy.c).
    let bits = (words.len() * 64 + 1) as c_ulong;
    let (pointer, bits) = if words.iter().all(|w| *w == 0) {
        (std::ptr::null(), 0)
    } else {
        (words.as_ptr(), bits)
    };
    // SAFETY: the kernel reads `bits - 1` bits, which is the length of the vector, or nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as c_int, pointer, bits) })
}

/// Sets the execution domain of the calling process (personality(2)).
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: an integer only.
    check(unsafe { libc::syscall(libc::SYS_personality, c_ulong::from(domain)) })
}

fn check(result: c_long) -> Result<()> {
    if result == -1 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each in a thread of its own: the settings are the thread's.
    fn apart<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(f).join().expect("no panic")
    }

    #[test]
    fn affinity_is_what_was_set() {
        let (before, after, nowhere) = apart(|| {
            let before = affinity(0).unwrap();
            let first = before.iter().position(|w| *w != 0).unwrap();
            let mut one = vec![0; before.len()];
            one[first] = 1 << before[first].trailing_zeros();
            set_affinity(0, &one).unwrap();
            (before, affinity(0).unwrap() == one, set_affinity(0, &[0]))
        });
        assert!(before.iter().any(|w| *w != 0));
        assert!(after);
        assert_eq!(nowhere, Err(Errno::INVAL));
    }

    #[test]
    fn a_thread_becomes_nicer_and_idle() {
        let batch = SchedAttr {
            policy: 3,
            nice: 7,
            ..SchedAttr::default()
        };
        let (set, io) = apart(move || {
            set_io_priority(3, 0).unwrap();
            let set = set_scheduler(0, batch).and_then(|()| scheduler(0));
            // Since 6.12 the kernel tells the length of a slice there.
            let set = set.map(|attr| SchedAttr { runtime: 0, ..attr });
            (set, io_priority(0))
        });
        assert_eq!((set, io), (Ok(batch), Ok((3, 0))));
        assert_eq!(
            apart(|| set_scheduler(
                0,
                SchedAttr {
                    policy: 99,
                    ..SchedAttr::default()
                }
            )),
            Err(Errno::INVAL)
        );
    }
}
