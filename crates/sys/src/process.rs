//! Making processes: `clone3` into namespaces, joining and leaving namespaces, and the per-process
//! switches that `rustix` does not have.
//!
//! Everything here is about the calling, single-threaded process or a child that it makes.

use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// What the calls here return on failure: the errno.
pub type Result<T> = std::result::Result<T, Errno>;

/// A set of namespace kinds (`CLONE_NEW*`, namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// No namespace.
    pub const NONE: Self = Self(0);
    /// `CLONE_NEWNS`.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// `CLONE_NEWPID`.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// `CLONE_NEWNET`.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// `CLONE_NEWIPC`.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// `CLONE_NEWUTS`.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// `CLONE_NEWUSER`.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// `CLONE_NEWCGROUP` (4.6).
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// `CLONE_NEWTIME` (5.6). The value shares bits with `CSIGNAL`; only `unshare` and `setns`
    /// understand it on every kernel that has it.
    pub const TIME: Self = Self(0x80);

    /// Whether every kind of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the kinds of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl std::ops::BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// How [`clone_process`] makes the child.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneArgs<'a> {
    /// Namespaces that are new for the child.
    pub namespaces: Namespaces,
    /// A cgroup v2 directory in which the child is born (`CLONE_INTO_CGROUP`, 5.7).
    pub into_cgroup: Option<BorrowedFd<'a>>,
    /// `CLONE_PARENT`: the child is a sibling of the caller, and inherits the caller's exit signal.
    pub sibling: bool,
}

/// A child made by [`clone_process`].
#[derive(Debug)]
pub struct Cloned {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// A descriptor of it; readable when it has ended.
    pub pidfd: OwnedFd,
}

/// The number of threads of the calling process.
pub fn thread_count() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Forks with `clone3` (5.3): `child` runs in the new process, which then exits with the code that
/// it returns. `SIGCHLD` is its exit signal.
///
/// The child keeps descriptors 0, 1, 2 and `keep`; all others are closed before `child` runs, so
/// that nothing of the caller can be reached through `/proc/PID/fd` of a process that a container
/// might see. Other descriptors that `child` captures are closed numbers: it must not use them.
///
/// The caller must be single-threaded (checked in debug builds): the copy of a lock that another
/// thread holds, the allocator's among them, would never be released.
pub fn clone_process<F>(args: CloneArgs<'_>, keep: &[BorrowedFd<'_>], child: F) -> Result<Cloned>
where
    F: FnOnce() -> u8,
{
    // Where there is no /proc of ours (inside a container's mount namespace) nothing can be said.
    debug_assert!(
        !thread_count().is_ok_and(|threads| threads > 1),
        "clone_process in a multi-threaded process"
    );
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; zero is the kernel's documented "not used" for each.
    let mut raw: libc::clone_args = unsafe { std::mem::zeroed() };
    raw.flags = args.namespaces.0 | libc::CLONE_PIDFD as u64;
    raw.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    if args.sibling {
        // clone3(2): with CLONE_PARENT the exit signal is the caller's and must be given as 0.
        raw.flags |= libc::CLONE_PARENT as u64;
    } else {
        raw.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = args.into_cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    kept.dedup();
    // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack, at this
    // point, with a copy of all memory, so every borrow stays valid in it. The caller is
    // single-threaded, so no lock (allocator, stdio) is held by a thread that the child lacks.
    // glibc's fork handlers are skipped: they only serve locks of other threads. `raw` and
    // `pidfd` live across the call; the kernel writes one int to `pidfd`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut raw,
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    match result {
        -1 => Err(last_errno()),
        0 => run_child(&kept, child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// The child's half: never returns into the caller's frames, whatever `child` does.
fn run_child<F: FnOnce() -> u8>(keep: &[RawFd], child: F) -> ! {
    close_all_but(keep);
    // An unwinding panic would run the parent's code a second time, in the child.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
    exit_now(outcome.unwrap_or(70))
}

/// Closes every descriptor above 2 that is not in the sorted list `keep`.
fn close_all_but(keep: &[RawFd]) {
    let mut first: u32 = 3;
    for &fd in keep.iter().filter(|&&fd| fd > 2) {
        close_range(first, fd as u32 - 1);
        first = fd as u32 + 1;
    }
    close_range(first, u32::MAX);

    fn close_range(first: u32, last: u32) {
        if first <= last {
            // SAFETY: only the child of `clone_process` calls this, before any of its code runs;
            // that code is told (see there) that these descriptors are gone, and the process
            // ends by `_exit` without dropping the copies of their owners in the parent's frames.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Ends the process without running destructors or exit handlers (`_exit(2)`), as a child that
/// shares its parent's memory image has to.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// Marks every open descriptor from 3 on close-on-exec (`close_range(2)`, 5.11).
pub fn close_on_exec_from_3() -> Result<()> {
    // SAFETY: CLOEXEC closes nothing now; it only sets a flag, which no owner relies on.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// The descriptors 3 to 3 + `count` - 1, which the process was started with.
///
/// To be called once and before anything is opened: from then on they belong to the result. `EBADF` when one of them
/// is not open.
pub fn inherited_fds(count: usize) -> Result<Vec<OwnedFd>> {
    let last = 3 + RawFd::try_from(count).map_err(|_| Errno::BADF)?;
    for fd in 3..last {
        // SAFETY: only asks for flags; a number that is no descriptor gives EBADF.
        check(c_long::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    }
    // SAFETY: they are open, and by the contract above nothing in this process has made or taken them: they came with
    // execve, so that this is their one owner.
    Ok((3..last)
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect())
}

/// Moves the caller into the namespaces of `target`: a namespace file (with the one kind or
/// `NONE` for any) or, since 5.8, a pidfd with any set of kinds (setns(2)).
pub fn setns(target: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    // SAFETY: takes a descriptor and an integer; changes no memory.
    check(c_long::from(unsafe {
        libc::setns(target.as_raw_fd(), kinds.0 as c_int)
    }))
}

/// What kind of namespace a descriptor refers to (`NS_GET_NSTYPE`, 4.11). `ENOTTY` when it is none.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<Namespaces> {
    /// `_IO(0xb7, 0x3)` of linux/nsfs.h.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request takes no argument and only returns an integer; other files answer ENOTTY.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check(c_long::from(kind))?;
    Ok(Namespaces(kind as u64))
}

/// Gives the caller new namespaces (unshare(2)).
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: `kinds` can hold namespace flags only, never CLONE_FILES or CLONE_VM, which would
    // change what descriptors or memory other threads see.
    check(c_long::from(unsafe { libc::unshare(kinds.0 as c_int) }))
}

/// Gives every signal its default action and unblocks all: ignored signals and the mask survive
/// `execve`, and Rust's runtime ignores `SIGPIPE`.
pub fn reset_signals() {
    /// The kernel's `struct sigaction`, not libc's, on all 64-bit targets at most this long.
    const DEFAULT: [u64; 4] = [0; 4];
    const NO_SIGNAL: u64 = 0;
    for signal in 1..=64 {
        // SAFETY: all zeros is SIG_DFL with no flags and an empty mask; the default action runs no
        // code of ours. The kernel reads one sigaction from DEFAULT and writes nowhere. libc's
        // wrapper is avoided because it refuses the two signals that it keeps for itself (32, 33),
        // which a parent may well have ignored. KILL and STOP fail, as they must.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null::<c_void>(),
                std::mem::size_of::<u64>(),
            );
        }
    }
    // SAFETY: the kernel reads a mask of 64 bits and writes nowhere; no signal of ours has a handler.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&NO_SIGNAL),
            ptr::null::<c_void>(),
            std::mem::size_of::<u64>(),
        );
    }
}

/// A vector of C strings in the form that `execve` takes, built ahead of the call.
#[derive(Debug)]
pub struct StringVector {
    strings: Vec<CString>,
}

impl StringVector {
    /// Takes the strings in order.
    pub fn new(strings: Vec<CString>) -> Self {
        Self { strings }
    }

    fn pointers(&self) -> Vec<*const c_char> {
        self.strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    }
}

/// Replaces the process (execve(2)); returns only to say why it could not.
pub fn execve(path: &CStr, argv: &StringVector, env: &StringVector) -> Errno {
    let (argv, env) = (argv.pointers(), env.pointers());
    // SAFETY: both arrays are NULL-terminated and point to NUL-terminated strings that outlive the
    // call; on success nothing of this address space remains.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// The same for a file that is open, `O_PATH` will do (execveat(2), 3.19). Not for scripts, when the
/// descriptor is close-on-exec.
pub fn execve_fd(file: impl AsFd, argv: &StringVector, env: &StringVector) -> Errno {
    let (argv, env) = (argv.pointers(), env.pointers());
    // SAFETY: as for `execve`; the path is a NUL-terminated empty string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Joins the session keyring of that name, or makes it (keyctl(2)), and lets every process of the
/// user search it, so that a later `exec` into the container can join it too.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    const KEYCTL_SETPERM: c_long = 5;
    // Possessor: all; user: view, read, search, link (`KEY_POS_ALL`, `KEY_USR_*` of key.h).
    const PERMISSIONS: c_ulong = 0x3f00_0000 | 0x001b_0000;
    // SAFETY: the kernel copies the name; nothing else is pointed to.
    let serial =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(serial)?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, PERMISSIONS) })
}

/// Sets the ids that file-system operations of this thread are done with (setfsuid(2),
/// setfsgid(2)). Leaving uid 0 takes the file-system capabilities out of the effective set, and
/// returning to it brings them back (capabilities(7)).
///
/// The calls report no failure; that is why the result is read back.
pub fn set_fs_ids(uid: u32, gid: u32) -> Result<()> {
    const NO_CHANGE: u32 = u32::MAX;
    // SAFETY: integers only; -1 is never a valid id, so the second call of each pair only reads.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (
            libc::setfsuid(NO_CHANGE) as u32,
            libc::setfsgid(NO_CHANGE) as u32,
        )
    };
    if now == (uid, gid) {
        Ok(())
    } else {
        Err(Errno::PERM)
    }
}

/// Waits until a child that is referred to by its pidfd has ended, and reaps it.
///
/// Returns its exit code, or the negative number of the signal that killed it.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: siginfo_t is plain data; zero is a valid value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a valid siginfo_t to write to; `__WALL` also waits for children whose
        // exit signal is not SIGCHLD.
        let result = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd() as libc::id_t,
                &raw mut info,
                libc::WEXITED | libc::__WALL,
            )
        };
        match check(c_long::from(result)) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(()) => break,
        }
    }
    // SAFETY: waitid has filled in the SIGCHLD member of the union.
    let status = unsafe { info.si_status() };
    Ok(if info.si_code == libc::CLD_EXITED {
        status
    } else {
        -status
    })
}

/// `mount(2)` with a data string of up to one page, for what the new API cannot pass on kernels
/// before 6.5 (its values end at 255 bytes).
pub fn classic_mount(kind: &CStr, target: &CStr, data: &CStr) -> Result<()> {
    // SAFETY: NUL-terminated strings that outlive the call; the kernel copies at most a page of
    // `data` and stops at its NUL.
    let result = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            data.as_ptr().cast::<c_void>(),
        )
    };
    check(c_long::from(result))
}

fn check(result: c_long) -> Result<()> {
    if result == -1 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

fn last_errno() -> Errno {
    // SAFETY: the pointer is to this thread's errno, always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_namespaces() {
        let set = Namespaces::MOUNT | Namespaces::PID;
        assert!(set.contains(Namespaces::PID));
        assert!(!set.contains(Namespaces::PID | Namespaces::USER));
        assert_eq!(set.without(Namespaces::PID), Namespaces::MOUNT);
        assert!(Namespaces::NONE.is_empty());
    }
}
