//! `create`: from a bundle to a container that waits to be started.

use super::delete::discard;
use super::record::{GroupRecord, Record};
use super::{Container, Home, bundle, groups};
use crate::create::{Created, create};
use crate::error::{Context, Error, Result};
use crate::options::{CgroupJoin, CreateOptions, Lifetime, Rootfs, Stdio};
use barque_cgroup::Cgroup;
use barque_state::lock::FileLock;
use barque_state::process::ProcessId;
use barque_state::{Durability, atomic, record};
use barque_types::spec::{NamespaceKind, Spec};
use barque_types::time::Timestamp;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to let the processes of an undone container go.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What is to be created.
pub struct CreateRequest<'a> {
    /// Its id.
    pub id: &'a str,
    /// Absolute path of the bundle.
    pub bundle: &'a Path,
    /// The configuration, instead of the bundle's `config.json`.
    pub config: Option<&'a Path>,
    /// Variables that the program gets beside those of the configuration.
    pub extra_env: Vec<String>,
    /// Whether systemd makes the cgroups.
    pub systemd: bool,
    /// Says whether the process may want a terminal, before anything is made.
    pub check: &'a dyn Fn(bool) -> std::result::Result<(), String>,
    /// Standard streams; ignored for a process that wants a terminal.
    pub stdio: Stdio<'a>,
    /// Descriptors that the program gets under the numbers that they have.
    pub preserve: Vec<BorrowedFd<'a>>,
    /// See [`CreateOptions::no_pivot`].
    pub no_pivot: bool,
    /// See [`CreateOptions::no_new_keyring`].
    pub no_new_keyring: bool,
}

/// A container that exists, and goes again when this is dropped before [`Made::let_go`].
#[derive(Debug)]
pub struct Made {
    /// The container.
    pub container: Container,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
    // Before the claim: its process has to be gone when the rest is undone.
    created: Created,
    claim: Claim,
}

impl Made {
    /// Its first process, a child of ours.
    pub fn pid(&self) -> i32 {
        self.created.pid
    }

    /// The same, readable when it has ended.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn pidfd(&self) -> Result<OwnedFd> {
        self.created
            .pidfd
            .try_clone()
            .step(|| "duplicating a pidfd")
    }

    /// The master of its terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.created.console.take()
    }

    /// The container stays, waiting to be started by whoever comes.
    ///
    /// # Errors
    /// It has died meanwhile.
    pub fn let_go(self) -> Result<Container> {
        self.created.let_go()?;
        tracing::debug!("step: let go");
        self.claim.keep();
        Ok(self.container)
    }
}

impl Home {
    /// Creates a container, up to the moment before its program is executed. The caller has to be single-threaded,
    /// and becomes the parent of the first process.
    ///
    /// # Errors
    /// The configuration, the host or a hook; nothing is left of the container then.
    pub fn create(&self, request: CreateRequest<'_>) -> Result<Made> {
        let dir = self.dir(request.id)?;
        let (mut spec, text) = bundle::load(request.bundle, request.config)?;
        let terminal = spec
            .process
            .as_ref()
            .is_some_and(|process| process.terminal);
        (request.check)(terminal).map_err(|why| Error::invalid("process.terminal", why))?;
        if let Some(process) = &mut spec.process {
            process.env.extend(request.extra_env);
        }
        tracing::debug!("step: configuration read");
        let rootfs = bundle::root(&spec, request.bundle)?;
        let place = groups::place(request.id, &spec, request.systemd)?;
        self.make_root()?;
        let mut claim = Claim::new(dir, request.id)?;
        tracing::debug!("step: id claimed");
        let mut known = Record {
            oci_version: spec.oci_version.clone(),
            bundle: request.bundle.to_owned(),
            rootfs: rootfs.clone(),
            created: Timestamp::now().to_string(),
            owner_uid: rustix::process::getuid().as_raw(),
            group: place,
            shares_pids: shares_pids(&spec),
            init: None,
        };
        claim.record(&known)?;
        atomic::write(&claim.dir.join("config.json"), &text, Durability::None)?;
        tracing::debug!("step: recorded");
        let mut warnings = Vec::new();
        if !request.systemd {
            let (group, unlimited) = groups::make(&known.group, &spec)?;
            claim.group = Some((group, known.group.clone()));
            warnings.extend(unlimited);
            tracing::debug!("step: cgroups made");
        }
        let door = door(&claim.dir)?;
        let waiting = waiting(&claim.dir)?;
        let group = claim.group.as_ref().map(|(group, _)| group);
        let tasks = group.map_or(Ok(Vec::new()), Cgroup::join_fds)?;
        let terminal = spec
            .process
            .as_ref()
            .is_some_and(|process| process.terminal);
        let stdio = if terminal {
            Stdio::Terminal
        } else {
            request.stdio
        };
        // A scope begins with a process.
        let mut unit = None;
        let mut start_unit = |pid| {
            let (group, unlimited) = groups::start_unit(&mut known.group, request.id, &spec, pid)?;
            tracing::debug!("step: unit started");
            unit = Some((group, unlimited));
            Ok(())
        };
        let options = CreateOptions {
            on_birth: match request.systemd {
                true => Some(&mut start_unit),
                false => None,
            },
            cgroup: CgroupJoin {
                v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
                v2: group.and_then(Cgroup::v2_fd),
            },
            lifetime: Lifetime::Own {
                door: door.as_fd(),
                waiting: waiting.as_fd(),
            },
            bundle: Some(request.bundle),
            preserve: request.preserve,
            no_pivot: request.no_pivot,
            no_new_keyring: request.no_new_keyring,
            ..CreateOptions::new(request.id, &spec, Rootfs::Directory(rootfs), stdio)
        };
        let created = create(options);
        if let Some((group, unlimited)) = unit {
            claim.group = Some((group, known.group.clone()));
            warnings.extend(unlimited);
        }
        let created = created?;
        tracing::debug!("step: process made");
        warnings.extend(created.warnings.iter().cloned());
        known.init = Some(ProcessId::of(created.pid)?);
        claim.record(&known)?;
        tracing::debug!("step: process recorded");
        Ok(Made {
            container: Container::known(claim.dir.clone(), request.id, known),
            warnings,
            created,
            claim,
        })
    }

    pub(super) fn make_root(&self) -> Result<()> {
        match mkdirat(CWD, &self.root, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::step(format!("making {:?}", self.root), e)),
        }
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.root)
            .step(|| format!("making {:?}", self.root))
    }
}

/// Whether the container's processes are in a pid namespace that outlives its first process.
pub(super) fn shares_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    !namespaces
        .filter(|n| n.kind == NamespaceKind::Pid)
        .any(|n| n.path.as_ref().is_none_or(|p| p.as_os_str().is_empty()))
}

/// An id that is ours, with all that stands behind it; undone when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub dir: PathBuf,
    _lock: FileLock,
    /// With how it is to be removed.
    pub group: Option<(Cgroup, GroupRecord)>,
    kept: bool,
}

impl Claim {
    pub fn new(dir: PathBuf, id: &str) -> Result<Self> {
        match mkdirat(CWD, &dir, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::Exists { id: id.to_owned() }),
            Err(e) => return Err(Error::step(format!("making {dir:?}"), e)),
        }
        // Somebody may take it for left by a killed runtime and delete it right now: then this fails.
        let lock = FileLock::exclusive(&dir.join("lock"))?;
        Ok(Self {
            dir,
            _lock: lock,
            group: None,
            kept: false,
        })
    }

    pub fn record(&self, known: &Record) -> Result<()> {
        // No fsync: a power cut ends the container, and the root is on a tmpfs.
        Ok(record::store(
            &self.dir.join("state.json"),
            known,
            Durability::None,
        )?)
    }

    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The error that brings us here is the one to report; what cannot be undone, `delete --force` finds.
        let removed = self.group.as_ref().map_or(Ok(()), |(group, record)| {
            group.kill_all(KILL_PATIENCE)?;
            groups::remove(record, group)
        });
        if let Err(error) = removed {
            tracing::warn!("the cgroup of the failed container is left: {error}");
            return;
        }
        let _ = discard(&self.dir);
    }
}

/// The path of a file of a directory, short enough for a socket's address (108 bytes, unix(7)).
fn through(dir: &OwnedFd, name: &str) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    SocketAddrUnix::new(path).step(|| "naming the container's door")
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, dir, flags, Mode::empty()).step(|| format!("opening {dir:?}"))
}

fn seqpacket() -> Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .step(|| "making a socket")
}

/// The socket at which the container waits.
fn door(dir: &Path) -> Result<OwnedFd> {
    let dir = open_dir(dir)?;
    let address = through(&dir, "door")?;
    let socket = seqpacket()?;
    bind(&socket, &address).step(|| "making the container's door")?;
    listen(&socket, 1).step(|| "making the container's door")?;
    Ok(socket)
}

/// Connects to it. `ECONNREFUSED`: nobody waits there any more.
pub(super) fn knock(dir: &Path) -> Result<OwnedFd> {
    let dir = open_dir(dir)?;
    let address = through(&dir, "door")?;
    let socket = seqpacket()?;
    rustix::net::connect(&socket, &address)
        .step(|| "reaching the container, which waits to be started")?;
    Ok(socket)
}

/// The lock that the first process holds while it waits.
fn waiting(dir: &Path) -> Result<OwnedFd> {
    let path = dir.join("waiting");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let step = || format!("locking {path:?}");
    let file = openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR).step(step)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).step(step)?;
    Ok(file)
}
