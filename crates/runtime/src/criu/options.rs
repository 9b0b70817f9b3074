//! The requests: what a caller hands in to checkpoint or to restore a container.

use crate::options::{CgroupJoin, OnBirth, Rootfs, Stdio};
use barque_types::spec::{self, NamespaceKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a checkpoint and a restore have in common (criu(8) tells what each option means).
#[derive(Debug, Clone)]
pub struct CriuOptions<'a> {
    /// The program. A name without a slash is looked for in the directories where systems keep their
    /// programs.
    pub program: &'a Path,
    /// The directory of the image.
    pub image_path: &'a Path,
    /// The directory of the log and of CRIU's other working files; that of the image without it.
    pub work_path: Option<&'a Path>,
    /// A configuration file of CRIU that overrides what is asked for here (the annotation
    /// `org.criu.config`).
    pub config_file: Option<&'a Path>,
    /// Allow established TCP connections.
    pub tcp_established: bool,
    /// Allow UNIX sockets that are connected to the outside.
    pub ext_unix_sk: bool,
    /// Allow a session or terminal from outside of the container.
    pub shell_job: bool,
    /// Allow file locks.
    pub file_locks: bool,
    /// Remove from a parent image what this one has, too (at a restore: what is in memory again).
    pub auto_dedup: bool,
    /// Leave the memory to a server of pages.
    pub lazy_pages: bool,
    /// What becomes of cgroups and their limits.
    pub cgroups: ManageCgroups,
    /// Kinds whose namespace was joined, by descriptor or by a path that is not in the specification.
    /// Network and PID namespaces can be such.
    pub joined: Vec<NamespaceKind>,
}

impl<'a> CriuOptions<'a> {
    /// Everything as it is when nothing is said.
    pub fn new(program: &'a Path, image_path: &'a Path) -> Self {
        Self {
            program,
            image_path,
            work_path: None,
            config_file: None,
            tcp_established: false,
            ext_unix_sk: false,
            shell_job: false,
            file_locks: false,
            auto_dedup: false,
            lazy_pages: false,
            cgroups: ManageCgroups::default(),
            joined: Vec::new(),
        }
    }
}

/// CRIU's `--manage-cgroups`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ManageCgroups {
    /// Leave cgroups alone.
    Ignore,
    /// Restore those that CRIU has to make.
    #[default]
    Soft,
    /// Restore the limits of all.
    Full,
    /// Restore all, and fail when one exists.
    Strict,
}

impl ManageCgroups {
    /// `criu_cg_mode`.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
        }
    }
}

impl std::str::FromStr for ManageCgroups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ignore" => Self::Ignore,
            "soft" => Self::Soft,
            "full" => Self::Full,
            "strict" => Self::Strict,
            _ => {
                return Err(format!("{text:?} is none of soft, full, strict and ignore"));
            }
        })
    }
}

/// Everything that [`checkpoint`](crate::criu::checkpoint) needs.
#[derive(Debug)]
pub struct CheckpointOptions<'a> {
    /// What a restore is told, too.
    pub criu: CriuOptions<'a>,
    /// The container's first process, as a pid of the caller's pid namespace.
    pub pid: i32,
    /// A pidfd of the same process.
    pub pidfd: BorrowedFd<'a>,
    /// The container's specification.
    pub spec: &'a spec::Spec,
    /// The directory of its freezer cgroup, to hold it still; without it CRIU stops the processes one
    /// by one. A container that is frozen already is dumped as it is.
    pub freezer: Option<PathBuf>,
    /// Let it go on afterwards.
    pub leave_running: bool,
    /// Only the memory, and let it go on: the next checkpoint writes what has changed since.
    pub pre_dump: bool,
    /// The image of the pre-dump before, relative to the image.
    pub parent_path: Option<&'a Path>,
    /// Leave out connections that are being established.
    pub tcp_skip_in_flight: bool,
    /// Allow open files without a name, by giving them one.
    pub link_remap: bool,
    /// Where the memory is sent to, or served from with `lazy_pages`.
    pub page_server: Option<(String, u16)>,
    /// Gets a zero byte when the server of pages is ready.
    pub status_fd: Option<OwnedFd>,
}

/// Everything that [`restore`](crate::criu::restore) needs.
pub struct RestoreOptions<'a> {
    /// What the checkpoint was told, too.
    pub criu: CriuOptions<'a>,
    /// The container's specification: sources of bind mounts and paths of namespaces are taken from
    /// here, the rest from the image.
    pub spec: &'a spec::Spec,
    /// Where the root file system comes from; it must be in the state in which it was.
    pub rootfs: Rootfs,
    /// Any existing directory: in CRIU's mount namespace the root file system and other mounts are
    /// attached below it, and nothing of it is seen outside.
    pub place: &'a Path,
    /// Standard input, output and error: they take the place of those that it had. With
    /// [`Stdio::Terminal`] the terminal is restored and its master comes back.
    pub stdio: Stdio<'a>,
    /// The cgroups in which it is restored.
    pub cgroup: CgroupJoin<'a>,
    /// As [`CreateOptions::join`](crate::CreateOptions::join).
    pub join: Vec<(NamespaceKind, OwnedFd)>,
    /// As [`CreateOptions::trees`](crate::CreateOptions::trees).
    pub trees: Vec<(PathBuf, OwnedFd)>,
    /// Called when its namespaces exist and nothing in them runs yet, with the pid of its first process:
    /// for its network, and the hooks `prestart` and `createRuntime`. A failure is the restore's.
    pub on_namespaces: Option<OnBirth<'a>>,
    /// A label of a security module in place of that of the image, `type:label`.
    pub lsm_profile: Option<&'a str>,
    /// A context in place of that of the mounts of the image.
    pub lsm_mount_context: Option<&'a str>,
}
