//! The parent's side of making a container.

use crate::agent::Agent;
use crate::birthplace::{Birthplace, by_midwife};
use crate::channel::{self, FromChild, FromParent, Socket};
use crate::error::{Context, Error, Result};
use crate::hooks::{self, Status};
use crate::init::{self, Birth};
use crate::labels::Labels;
use crate::namespaces::Joined;
use crate::netdevices::Moved;
use crate::options::{CreateOptions, Lifetime, OnBirth, Rootfs, Stdio};
use crate::plan::{Plan, What};
use crate::sources::{self, Source};
use crate::{hierarchies, rootfs, userns};
use barque_sys::process::{CloneArgs, Cloned, Namespaces, clone_process, reap};
use barque_types::spec::NamespaceKind;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A container that is complete but for the execution of its program.
///
/// Dropping it kills the container.
#[derive(Debug)]
pub struct Created {
    /// The first process, as a pid of the caller's pid namespace.
    pub pid: i32,
    /// The same process, as a descriptor: readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master of its pseudo-terminal, with [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
    /// See [`Running::rootfs`].
    pub rootfs: OwnedFd,
    /// Holds a pidfd of its own: whatever becomes of the public one, an unstarted container is
    /// killed.
    child: Child,
    socket: Socket,
    agent: Option<Agent>,
}

/// A running process, child of the caller, who has to reap it.
#[derive(Debug)]
pub struct Running {
    /// As a pid of the caller's pid namespace.
    pub pid: i32,
    /// Readable when it has ended; `waitid(P_PIDFD)` reaps it.
    pub pidfd: OwnedFd,
    /// The master of its pseudo-terminal, with [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
    /// The container's root file system (`O_PATH`), absent for an exec session.
    ///
    /// Keep it until the exit of the container is recorded and announced, and drop it before the
    /// same upper layer is mounted again. Whoever lets go of an overlay last unmounts it, and with
    /// that syncs the whole file system of its upper layer (unless it is `volatile`): milliseconds
    /// on an idle disk, a second on a busy one. Without this descriptor, that is the container's
    /// last process, in the middle of its exit.
    pub rootfs: Option<OwnedFd>,
}

/// A child that is killed and reaped unless somebody takes it over.
#[derive(Debug)]
pub(crate) struct Child {
    pub pid: i32,
    pidfd: Option<OwnedFd>,
}

impl From<Cloned> for Child {
    fn from(cloned: Cloned) -> Self {
        Self {
            pid: cloned.pid,
            pidfd: Some(cloned.pidfd),
        }
    }
}

impl Child {
    /// Ends the guard: from now on the process lives.
    pub fn release(mut self) -> Result<OwnedFd> {
        self.pidfd.take().ok_or(Error::Gone { pid: self.pid })
    }

    /// One more descriptor of it.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        let pidfd = self.pidfd.as_ref().ok_or(Error::Gone { pid: self.pid })?;
        rustix::io::fcntl_dupfd_cloexec(pidfd, 3).step(|| "duplicating a pidfd")
    }

    /// Waits for its end, and says how it came.
    pub fn end(&mut self) -> String {
        match self.pidfd.take().map(|fd| reap(fd.as_fd())) {
            Some(Ok(code @ 0..)) => format!("exit code {code}"),
            Some(Ok(signal)) => format!("killed by signal {}", -signal),
            Some(Err(errno)) => crate::error::errno_text(errno.raw_os_error()),
            None => "already reaped".to_owned(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            // Already dead is as good.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let _ = reap(pidfd.as_fd());
        }
    }
}

/// Makes a container, up to the moment before its program is executed.
///
/// The caller must be single-threaded and becomes the parent; when it dies, the kernel kills the
/// container (`PR_SET_PDEATHSIG`), unless the container has been [let go](Created::let_go). A failure
/// leaves nothing behind: no process, no mount.
pub fn create(mut options: CreateOptions<'_>) -> Result<Created> {
    // Everything that can be checked and opened without a container, first.
    let join = std::mem::take(&mut options.join);
    let joined = Joined::open(options.spec.linux.as_ref(), join)?;
    let plan = Plan::new(&options, &joined)?;
    let labels = Labels::prepare(&plan.process.attributes)?;
    let unprivileged = !rustix::process::geteuid().is_root();
    // Where only the child has the privilege to mount, or the right sight, it looks for itself.
    let furnishes_itself = match &options.rootfs {
        Rootfs::Directory(path) if joined.has(NamespaceKind::Mount) || unprivileged => {
            Some(path.as_path())
        }
        _ => None,
    };
    let mut sources = match furnishes_itself {
        Some(_) => Vec::new(),
        None => sources::open(
            &plan.mounts,
            plan.root_propagation,
            std::mem::take(&mut options.trees),
        )?,
    };
    if plan.id_maps.is_some() {
        sources::lock(&plan.mounts, plan.root_propagation, &mut sources)?;
    }
    let hierarchies = if plan
        .mounts
        .iter()
        .any(|m| matches!(m.what, What::Cgroup { .. }))
    {
        hierarchies::mounted().step(|| "reading /proc/self/mountinfo")?
    } else {
        Vec::new()
    };
    let (ours, theirs) = channel::pair()?;
    let birth = Birth {
        plan: &plan,
        socket: &theirs,
        stdio: options.stdio,
        cgroup: &options.cgroup,
        sources: &sources,
        hierarchies: &hierarchies,
        lifetime: options.lifetime,
        preserve: &options.preserve,
        place: match &options.rootfs {
            Rootfs::Directory(path) => Some(path),
            Rootfs::Overlay { .. } => None,
        },
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        labels: labels.as_ref(),
        furnishes_itself,
        unprivileged,
    };
    let child = give_birth(&birth, &joined)?;
    // The child has its own copy; while ours is open, its death would not be an end of file.
    drop(theirs);
    let on_birth = options.on_birth.take();
    let rootfs = furnishes_itself.is_none().then_some(&options.rootfs);
    let moved = Moved::into_container(child.pid, &plan.net_devices)?;
    let root = supply(&plan, rootfs, &sources, on_birth, child.pid, &ours)?;
    // The bind mounts are the child's now.
    drop(sources);
    let state = plan.hooks.state(Status::Created, child.pid);
    let linux = options.spec.linux.as_ref();
    let agent = Agent::of(linux.and_then(|linux| linux.seccomp.as_ref()), state);
    let mut created = await_ready(child, ours, root, &plan)?;
    created.agent = agent;
    if let Some(moved) = moved {
        moved.keep();
    }
    Ok(created)
}

/// Clones the child. What it keeps of our descriptors is named here, one by one.
fn give_birth(birth: &Birth<'_>, joined: &Joined) -> Result<Child> {
    let mut keep: Vec<BorrowedFd<'_>> = vec![birth.socket.as_fd()];
    keep.extend(birth.sources.iter().flatten().map(Source::fd));
    keep.extend(&birth.cgroup.v1_tasks);
    keep.extend(birth.preserve);
    if let Lifetime::Own { door, waiting } = birth.lifetime {
        keep.extend([door, waiting]);
    }
    keep.extend(birth.labels.map(AsFd::as_fd));
    if let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = birth.stdio
    {
        keep.extend([stdin, stdout, stderr]);
    }
    let args = CloneArgs {
        // The cgroup namespace has to wait until the child is in its cgroups, and the time
        // namespace was made by the birthplace.
        namespaces: birth
            .plan
            .new
            .without(Namespaces::CGROUP | Namespaces::TIME),
        into_cgroup: birth.cgroup.v2,
        sibling: false,
    };
    if joined.is_one_way() {
        return by_midwife(birth.plan, joined, args, &keep, || init::container(birth));
    }
    let place = Birthplace::enter(birth.plan, joined)?;
    let cloned = clone_process(args, &keep, || init::container(birth));
    let returned = place.leave();
    let child = Child::from(cloned.map_err(clone_failed)?);
    returned.map(|()| child)
}

pub(crate) fn clone_failed(errno: Errno) -> Error {
    let error = Error::step("making the container's process", errno);
    match errno {
        Errno::NOSPC | Errno::USERS => error
            .with_hint("the limits in /proc/sys/user, or the nesting of namespaces, are reached"),
        Errno::BUSY => error.with_hint("the cgroup has controllers enabled for its children"),
        // user_namespaces(7): also "the caller is in a chroot environment".
        Errno::PERM => error.with_hint(
            "the kernel refuses namespaces to a caller without privilege, \
             and user namespaces within a chroot or where they are switched off",
        ),
        Errno::AGAIN => error.with_hint("a limit on the number of processes is reached"),
        Errno::NOSYS => error.with_hint("Linux 5.10 or newer is needed"),
        _ => error,
    }
}

/// What only the parent can do for the newborn: its id maps, and mounts with the host's rights.
fn supply(
    plan: &Plan,
    rootfs: Option<&Rootfs>,
    sources: &[Option<Source>],
    on_birth: Option<OnBirth<'_>>,
    pid: i32,
    socket: &Socket,
) -> Result<Option<OwnedFd>> {
    let user_namespace = match &plan.id_maps {
        Some(maps) => {
            if plan.new.contains(Namespaces::USER) {
                userns::write_maps(pid, maps)?;
            }
            Some(userns::of_process(pid)?)
        }
        None => None,
    };
    let idmap = user_namespace
        .as_ref()
        .zip(plan.id_maps.as_ref())
        .map(|(fd, maps)| rootfs::Idmap {
            user_namespace: fd.as_fd(),
            root: maps.root(),
        });
    if let Some(on_birth) = on_birth {
        on_birth(pid)?;
    }
    sources::map_to_container(&plan.mounts, sources, idmap.map(|i| i.user_namespace))?;
    let root = rootfs
        .map(|rootfs| rootfs::mount_for(plan, rootfs, idmap))
        .transpose()?;
    match socket.send(
        &FromParent::Supplies { pid },
        root.as_ref().map(AsFd::as_fd),
    ) {
        // It has failed already, and says why.
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(root),
        Err(e) => Err(Error::step(
            "sending the root file system to the container",
            e,
        )),
    }
}

/// Waits until the child is complete.
fn await_ready(
    mut child: Child,
    socket: Socket,
    rootfs: Option<OwnedFd>,
    plan: &Plan,
) -> Result<Created> {
    let mut console = None;
    loop {
        match socket.receive::<FromChild>()? {
            Some((FromChild::Console, master)) => console = master,
            Some((FromChild::Furnished, _)) => {
                // Both kinds run here, the deprecated one first (runtime-spec, config.md "POSIX-platform Hooks").
                let state = plan.hooks.state(Status::Created, child.pid);
                hooks::run("prestart", &plan.hooks.prestart, &state)?;
                hooks::run("createRuntime", &plan.hooks.create_runtime, &state)?;
                match socket.send(&FromParent::GoOn, None) {
                    Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                    Err(e) => return Err(Error::step("answering the container", e)),
                }
            }
            Some((FromChild::Ready { warnings }, own_root)) => {
                let rootfs = rootfs.or(own_root).ok_or_else(|| {
                    Error::invalid("control socket", "a container without a root")
                })?;
                return Ok(Created {
                    pid: child.pid,
                    pidfd: child.duplicate()?,
                    console,
                    warnings,
                    rootfs,
                    child,
                    socket,
                    agent: None,
                });
            }
            Some((FromChild::Failed(error), _)) => {
                child.end();
                return Err(error);
            }
            Some((
                FromChild::Sibling { .. }
                | FromChild::Listener
                | FromChild::Mounted
                | FromChild::Service { .. },
                _,
            )) => {}
            None => {
                return Err(Error::Died {
                    doing: "making the container".to_owned(),
                    how: child.end(),
                });
            }
        }
    }
}

impl Created {
    /// Lets the container execute its program; returns when it has.
    pub fn start(mut self) -> Result<Running> {
        let watch = self
            .agent
            .as_ref()
            .map(|agent| (agent, self.pid, self.pidfd.as_fd()));
        match order_start(&self.socket, watch) {
            Ok(()) => {
                self.child.release()?;
                Ok(Running {
                    pid: self.pid,
                    pidfd: self.pidfd,
                    console: self.console,
                    warnings: self.warnings,
                    rootfs: Some(self.rootfs),
                })
            }
            Err(error) => {
                self.child.end();
                Err(error)
            }
        }
    }

    /// Ends the container's tie to the caller, for one with a lifetime of its own: it waits at its
    /// door from now on. To be called when its existence is recorded.
    pub fn let_go(self) -> Result<()> {
        self.socket
            .send(&FromParent::LetGo, None)
            .step(|| "letting the container go")?;
        self.child.release().map(drop)
    }
}

/// Starts a container that waits at its door; `connection` is a connected `SOCK_SEQPACKET` socket.
/// Returns when its program is executed. `agent`: who answers for its system calls, and the process, as a pid
/// and as a descriptor.
pub fn start_at(connection: OwnedFd, agent: Option<(&Agent, i32, BorrowedFd<'_>)>) -> Result<()> {
    order_start(&Socket::from(connection), agent)
}

fn order_start(socket: &Socket, agent: Option<(&Agent, i32, BorrowedFd<'_>)>) -> Result<()> {
    match socket.send(&FromParent::Start, None) {
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(e) => return Err(Error::step("starting the container", e)),
    }
    let mut said = socket.receive::<FromChild>()?;
    if let (Some((FromChild::Listener, _)), Some((agent, pid, pidfd))) = (&said, agent) {
        agent.serve(socket, pid, pidfd)?;
        said = socket.receive::<FromChild>()?;
    }
    match said {
        // The socket was closed by execve, or by the death of the program right after.
        None => Ok(()),
        Some((FromChild::Failed(error), _)) => Err(error),
        Some(_) => Err(Error::invalid("control socket", "an unexpected message")),
    }
}
