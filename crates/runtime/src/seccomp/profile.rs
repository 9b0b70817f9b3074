//! Docker's default profile, as data.
//!
//! The facts are those of moby's `seccomp/default.json` (github.com/moby/profiles, as of 2026), which Docker
//! 29 embeds; Debian's containers-common and older Docker releases were compared with it. An allow list:
//! what it does not name fails with EPERM. Left out are calls that reach beyond the container
//! (`kexec_load`, `swapon`, …), kernel features that namespaces do not divide (`keyctl`, `add_key`,
//! `userfaultfd`), and what has been a way out again and again (`io_uring_*`, new user namespaces).
//! A capability that Docker's user adds opens the calls that go with it.

use barque_types::spec;

use super::arch::Arch;
use super::kernel::KernelVersion;

/// Allowed to all.
const ALWAYS: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod \
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr \
    flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid \
    geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid \
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl \
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat \
    mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget \
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc \
    pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd \
    signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 \
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat \
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
    writev";

/// The namespace flags of clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// Calls allowed under a condition on the container or the machine. An empty list is no condition.
struct Group {
    calls: &'static str,
    /// The container has this capability in its bounding set.
    capability: &'static str,
    /// The machine's own architecture, in Docker's names.
    arches: &'static [&'static str],
}

const fn with_capability(capability: &'static str, calls: &'static str) -> Group {
    Group {
        calls,
        capability,
        arches: &[],
    }
}

const fn on(arches: &'static [&'static str], calls: &'static str) -> Group {
    Group {
        calls,
        capability: "",
        arches,
    }
}

static GROUPS: &[Group] = &[
    on(&["ppc64le"], "sync_file_range2 swapcontext"),
    on(
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    on(&["amd64", "x32"], "arch_prctl"),
    on(&["amd64", "x32", "x86"], "modify_ldt"),
    on(
        &["s390", "s390x"],
        "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ),
    on(&["riscv64"], "riscv_flush_icache"),
    with_capability("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    with_capability(
        SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree \
         perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    with_capability("CAP_SYS_BOOT", "reboot"),
    with_capability("CAP_SYS_CHROOT", "chroot"),
    with_capability("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    with_capability("CAP_SYS_PACCT", "acct"),
    with_capability(
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    with_capability("CAP_SYS_RAWIO", "iopl ioperm"),
    with_capability(
        "CAP_SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    with_capability("CAP_SYS_TTY_CONFIG", "vhangup"),
    with_capability(
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    with_capability("CAP_SYSLOG", "syslog"),
    with_capability("CAP_BPF", "bpf"),
    with_capability("CAP_PERFMON", "perf_event_open"),
];

const SYS_ADMIN: &str = "CAP_SYS_ADMIN";

/// ptrace could be used to change a call after the filter had seen it, until the kernel looked again
/// (Linux 4.8); from then on it is harmless within a container.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";
const TRACING_SINCE: KernelVersion = KernelVersion { major: 4, minor: 8 };

/// Address families that socket(2) may be asked for, beside those below 12. Missing are DECnet (12), Econet
/// (19), ATM SVCs (20), IrDA (23), the router's (25), ISDN (34), CAIF (37), the kernel's cryptography (38,
/// AF_ALG) and VSOCK (40), which no namespace confines. Listing what is allowed, instead of one "not equal"
/// for VSOCK as Docker did until 28, leaves no way around: the kernel looks at the lower half of the
/// argument only, a filter on x86_64 at all of it, so `40 | 1 << 32` is not equal to 40.
const SOCKET_FAMILIES: &[u64] = &[
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// PER_LINUX, PER_LINUX32, UNAME26, the last two together, and "tell, do not change".
const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Docker's default profile for a container with `capabilities` in its bounding set (`CAP_*` names), on this
/// architecture and a kernel of version `kernel`.
pub fn default_profile(capabilities: &[String], kernel: KernelVersion) -> spec::Seccomp {
    default_profile_for(capabilities, kernel, Arch::native())
}

/// As [`default_profile`], for a machine of another architecture.
pub(super) fn default_profile_for(
    capabilities: &[String],
    kernel: KernelVersion,
    native: &Arch,
) -> spec::Seccomp {
    let has = |capability: &str| capabilities.iter().any(|c| c == capability);
    let mut syscalls = vec![allow(ALWAYS)];
    if kernel >= TRACING_SINCE {
        syscalls.push(allow(TRACING));
    }
    syscalls.push(allow_if("socket", 0, "SCMP_CMP_LT", 12));
    for &family in SOCKET_FAMILIES {
        syscalls.push(allow_if("socket", 0, "SCMP_CMP_EQ", family));
    }
    for &value in PERSONALITIES {
        syscalls.push(allow_if("personality", 0, "SCMP_CMP_EQ", value));
    }
    for group in GROUPS {
        let here = group.arches.is_empty() || group.arches.contains(&native.docker);
        if here && (group.capability.is_empty() || has(group.capability)) {
            syscalls.push(allow(group.calls));
        }
    }
    if !has(SYS_ADMIN) {
        // clone's first two arguments are swapped on s390 (clone(2)).
        let flags = u32::from(matches!(native.docker, "s390" | "s390x"));
        syscalls.push(allow_if(
            "clone",
            flags,
            "SCMP_CMP_MASKED_EQ",
            NEW_NAMESPACES,
        ));
        // clone3's flags lie in memory, where no filter can look. ENOSYS makes glibc fall back on clone.
        syscalls.push(spec::SyscallRule {
            action: "SCMP_ACT_ERRNO".into(),
            errno_ret: Some(ENOSYS),
            ..allow("clone3")
        });
    }
    spec::Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(EPERM),
        architectures: architectures(native),
        syscalls,
        ..spec::Seccomp::default()
    }
}

/// Docker's `archMap`: the native architecture and those whose processes its kernel also runs.
fn architectures(native: &Arch) -> Vec<String> {
    std::iter::once(&native.name)
        .chain(native.companions())
        .map(|name| format!("SCMP_ARCH_{name}"))
        .collect()
}

fn allow(calls: &str) -> spec::SyscallRule {
    spec::SyscallRule {
        names: calls.split_ascii_whitespace().map(str::to_owned).collect(),
        action: "SCMP_ACT_ALLOW".into(),
        ..spec::SyscallRule::default()
    }
}

fn allow_if(call: &str, index: u32, op: &str, value: u64) -> spec::SyscallRule {
    spec::SyscallRule {
        args: vec![spec::SyscallArg {
            index,
            value,
            value_two: 0,
            op: op.into(),
        }],
        ..allow(call)
    }
}
