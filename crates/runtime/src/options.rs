//! The requests: what a caller hands in to make a container or an exec session.

use crate::agent::Agent;
use crate::error::Result;
use barque_types::spec::{self, NamespaceKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the caller does for a newborn (see [`CreateOptions::on_birth`]): gets its pid.
pub type OnBirth<'a> = &'a mut dyn FnMut(i32) -> Result<()>;

/// Everything that [`create`](crate::create) needs; [`CreateOptions::new`] has the defaults.
pub struct CreateOptions<'a> {
    /// The container's id: names its session keyring and appears in messages.
    pub id: &'a str,
    /// The configuration. `root.path` is not looked at (see `rootfs`); `root.readonly` is.
    pub spec: &'a spec::Spec,
    /// Where the root file system comes from.
    pub rootfs: Rootfs,
    /// Who runs the process; `UserSpec::Ids` takes `process.user` as it stands.
    pub user: UserSpec,
    /// Where standard input, output and error come from.
    pub stdio: Stdio<'a>,
    /// The cgroups to be born in or to enter.
    pub cgroup: CgroupJoin<'a>,
    /// Namespaces to enter by descriptor. An entry here overrides the path of the same kind in
    /// `spec.linux.namespaces`: a descriptor cannot come to mean another container, a
    /// `/proc/PID/ns/net` can.
    pub join: Vec<(NamespaceKind, OwnedFd)>,
    /// Detached mounts that take the place of the source of the bind mount with this destination (see
    /// [`tree_of`](crate::tree_of)).
    pub trees: Vec<(PathBuf, OwnedFd)>,
    /// Whose death it does not survive.
    pub lifetime: Lifetime<'a>,
    /// The bundle: hooks are told of it, and relative sources of bind mounts begin there.
    pub bundle: Option<&'a Path>,
    /// Called when the first process exists (and waits) in its namespaces, with its ids mapped:
    /// for what needs its pid, such as a scope of systemd. A failure is the container's.
    pub on_birth: Option<OnBirth<'a>>,
    /// Descriptors that the program gets under the numbers that they have, beside 0, 1 and 2.
    pub preserve: Vec<BorrowedFd<'a>>,
    /// Moves the root over the host's and changes into it, for a host that cannot be pivoted away
    /// (runc's `--no-pivot`). Weaker: the host's root stays mounted below.
    pub no_pivot: bool,
    /// Leaves the session keyring as it is.
    pub no_new_keyring: bool,
}

impl<'a> CreateOptions<'a> {
    /// A container without cgroups, by the ids of the specification, that dies with its caller.
    pub fn new(id: &'a str, spec: &'a spec::Spec, rootfs: Rootfs, stdio: Stdio<'a>) -> Self {
        Self {
            id,
            spec,
            rootfs,
            user: UserSpec::Ids,
            stdio,
            cgroup: CgroupJoin::default(),
            join: Vec::new(),
            trees: Vec::new(),
            lifetime: Lifetime::Caller,
            bundle: None,
            on_birth: None,
            preserve: Vec::new(),
            no_pivot: false,
            no_new_keyring: false,
        }
    }
}

/// Whose death a container does not survive, and so who can start it.
#[derive(Debug, Clone, Copy)]
pub enum Lifetime<'a> {
    /// The caller's: the kernel kills it when the caller dies (`PR_SET_PDEATHSIG`), and
    /// [`Created::start`](crate::Created::start) starts it.
    Caller,
    /// Its own, from [`Created::let_go`](crate::Created::let_go) on: whoever connects to the door
    /// starts it ([`start_at`](crate::start_at)), later and from another process.
    Own {
        /// A listening `SOCK_SEQPACKET` socket (unix(7)), which only the owner may reach.
        door: BorrowedFd<'a>,
        /// An open file with an exclusive flock(2), which ends when the program is executed or the
        /// process dies, and not before: whoever finds it locked knows that the container is
        /// waiting to be started.
        waiting: BorrowedFd<'a>,
    },
}

/// The source of the root file system.
///
/// It is mounted as a detached mount and enters only the container's mount namespace: no path of
/// the host ever shows it, and a killed engine leaves nothing mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A directory, bind-mounted with what is mounted below it. Its files are expected to belong
    /// to the ids that the container's user namespace maps (the OCI rule): it is not idmapped.
    Directory(PathBuf),
    /// An overlay. In a container with a user namespace every layer is idmapped with the
    /// container's own map: on disk, files are owned by the ids that the container sees (its root
    /// writes files of uid 0 into `upper`), so layers are shared between containers of different
    /// maps and nothing is ever chowned.
    Overlay {
        /// The read-only layers, the topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// The kernel's scratch directory: empty, on the same file system as `upper`.
        work: PathBuf,
        /// Overlay's `volatile` (5.10): never sync the upper layer, not even at unmount. For a
        /// container whose changes are thrown away (`--rm`); after a crash such an upper layer
        /// cannot be mounted again until `work/incompat/volatile` is removed.
        volatile: bool,
    },
}

/// Who runs the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserSpec {
    /// `process.user` of the specification, numerically. `HOME` is still looked up by uid when
    /// the environment has none.
    #[default]
    Ids,
    /// Looked up in the container's own `/etc/passwd` and `/etc/group`. Supplementary groups are
    /// those that list the user, then `groups`, then `process.user.additionalGids`; the umask is
    /// that of `process.user`.
    Named {
        /// Docker's `-u`: `name|uid[:group|gid]`, or empty for root.
        user: String,
        /// Docker's `--group-add`: names or numbers.
        groups: Vec<String>,
    },
}

/// Where standard input, output and error come from.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// Three descriptors, duplicated onto 0, 1 and 2.
    Fds {
        /// Standard input.
        stdin: BorrowedFd<'a>,
        /// Standard output.
        stdout: BorrowedFd<'a>,
        /// Standard error.
        stderr: BorrowedFd<'a>,
    },
    /// A new pseudo-terminal of the container's own devpts; the master comes back in
    /// [`Created::console`](crate::Created::console). Its size is `process.consoleSize`.
    Terminal,
}

/// The cgroups of the container, as descriptors.
#[derive(Debug, Clone, Default)]
pub struct CgroupJoin<'a> {
    /// `tasks` files of v1 hierarchies, open for writing: the new process writes `0` into each
    /// itself, which (unlike a pid in `cgroup.procs`) takes no system-wide lock.
    pub v1_tasks: Vec<BorrowedFd<'a>>,
    /// A directory of the v2 tree: the process is born in it (`CLONE_INTO_CGROUP`, 5.7).
    pub v2: Option<BorrowedFd<'a>>,
}

/// Everything that [`exec`](crate::exec) needs.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// The container's id (its session keyring is joined).
    pub id: &'a str,
    /// The container's first process, as a pid of the caller's pid namespace.
    pub pid: i32,
    /// A pidfd of the same process: what is joined is what this refers to; `pid` is only used
    /// while the pidfd proves that it is still alive.
    pub pidfd: BorrowedFd<'a>,
    /// What to run.
    pub process: &'a spec::Process,
    /// Who runs it.
    pub user: UserSpec,
    /// The container's system call filter, if it has one.
    pub seccomp: Option<&'a spec::Seccomp>,
    /// Who answers for the system calls of which the filter says so.
    pub agent: Option<Agent>,
    /// `linux.personality` of the container.
    pub personality: Option<&'a spec::Personality>,
    /// `linux.memoryPolicy` of the container.
    pub memory_policy: Option<&'a spec::MemoryPolicy>,
    /// The container's cgroups.
    pub cgroup: CgroupJoin<'a>,
    /// Where standard input, output and error come from.
    pub stdio: Stdio<'a>,
    /// Whether the process is killed when the caller dies (`PR_SET_PDEATHSIG`).
    pub tied_to_caller: bool,
    /// Descriptors that the program gets under the numbers that they have, beside 0, 1 and 2.
    pub preserve: Vec<BorrowedFd<'a>>,
}
