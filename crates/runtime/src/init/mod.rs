//! The child's side: how a container makes itself, step by step, from its first instruction to
//! the execution of its program.
//!
//! The order below is the documentation: each step says why it stands where it does. What a step
//! does is in the file of its name. Everything happens in one single-threaded process; nothing of
//! it outlives `execve` but what the program is meant to have.

mod attributes;
mod cgroups;
mod console;
mod copyup;
mod credentials;
mod destination;
mod devices;
mod guard;
mod masks;
mod mounts;
mod place;
mod process;
mod program;
mod root;

pub(crate) use attributes::affinity_failed;

use crate::channel::{self, FromChild, FromParent, Socket};
use crate::error::{Context, Error, Result};
use crate::hierarchies::Hierarchy;
use crate::hooks::{self, Status};
use crate::labels::Labels;
use crate::options::{CgroupJoin, Lifetime, Rootfs, Stdio};
use crate::plan::{Plan, ProcessPlan};
use crate::rootfs;
use crate::sources::{self, Source};
use barque_sys::process::{CloneArgs, Namespaces, clone_process};
use rustix::fs::{Mode, OFlags};
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(crate) use place::join_cgroups;

/// What the parent has prepared for the child before its birth.
#[derive(Clone, Copy)]
pub(crate) struct Birth<'a> {
    pub plan: &'a Plan,
    pub socket: &'a Socket,
    pub stdio: Stdio<'a>,
    pub cgroup: &'a CgroupJoin<'a>,
    /// The sources of the bind mounts, in the order of the plan's mounts.
    pub sources: &'a [Option<Source>],
    /// The cgroup hierarchies of the host; empty when no cgroup mount is asked for.
    pub hierarchies: &'a [Hierarchy],
    pub lifetime: Lifetime<'a>,
    /// Descriptors that the program gets.
    pub preserve: &'a [BorrowedFd<'a>],
    /// Where the root is attached before it is entered; anywhere will do when absent.
    pub place: Option<&'a Path>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub labels: Option<&'a Labels>,
    /// The directory of the root, when the child is to mount it and the sources itself: what the
    /// parent sees or may do is not what counts.
    pub furnishes_itself: Option<&'a Path>,
    /// Whether the parent is another user than root.
    pub unprivileged: bool,
}

/// Runs in the first process of a new container; returns only after a failure, which it has
/// reported, with an exit code.
pub(crate) fn container(birth: &Birth<'_>) -> u8 {
    match build(birth) {
        Ok(code) => code,
        Err(error) => report(birth.socket, Err(error)),
    }
}

/// What the process of an exec session gets from its caller.
pub(crate) struct Session<'a> {
    pub id: &'a str,
    pub plan: &'a ProcessPlan,
    pub socket: &'a Socket,
    pub stdio: Stdio<'a>,
    /// Whether it is in a user namespace that is not the caller's.
    pub new_user_namespace: bool,
    /// Whether it dies with the caller.
    pub tied_to_caller: bool,
    /// Descriptors that the program gets.
    pub preserve: &'a [BorrowedFd<'a>],
    pub labels: Option<&'a Labels>,
}

/// Runs in the first child of an exec session: enters the container and makes the second, which
/// becomes the program. Returns the exit code of whichever of the two has to end here.
pub(crate) fn guide(
    session: &Session<'_>,
    pidfd: BorrowedFd<'_>,
    namespaces: Namespaces,
    cgroup: &CgroupJoin<'_>,
) -> u8 {
    match lead(session, pidfd, namespaces, cgroup) {
        Ok(()) => 0,
        Err(error) => report(session.socket, Err(error)),
    }
}

fn lead(
    session: &Session<'_>,
    pidfd: BorrowedFd<'_>,
    namespaces: Namespaces,
    cgroup: &CgroupJoin<'_>,
) -> Result<()> {
    let mut warnings = Vec::new();
    guard::oom_score(session.plan.oom_score_adj, &mut warnings);
    guard::arm(true)?;
    // The cgroups first: their files are the host's, and the second child inherits them.
    place::join_cgroups(cgroup)?;
    attributes::final_affinity(&session.plan.attributes)?;
    crate::exec::enter(pidfd, namespaces)?;
    let mut keep = vec![session.socket.as_fd()];
    keep.extend(session.preserve);
    keep.extend(session.labels.map(AsFd::as_fd));
    if let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = session.stdio
    {
        keep.extend([stdin, stdout, stderr]);
    }
    let args = CloneArgs {
        sibling: true,
        ..CloneArgs::default()
    };
    let sibling = clone_process(args, &keep, || {
        let outcome = join(session, warnings);
        report(session.socket, outcome)
    })
    .step(|| "making the process in the container")?;
    session
        .socket
        .send(
            &FromChild::Sibling { pid: sibling.pid },
            Some(sibling.pidfd.as_fd()),
        )
        .step(|| "handing over the process in the container")
}

/// Tells the parent; when it is gone, there is nobody left to tell.
fn report(socket: &Socket, outcome: Result<Infallible>) -> u8 {
    let Err(error) = outcome;
    let code = error.exit_code();
    let _ = socket.send(&FromChild::Failed(error), None);
    code
}

/// The makings of a container. An exit code means a failure that is reported already.
fn build(birth: &Birth<'_>) -> Result<u8> {
    let plan = birth.plan;
    let process = &plan.process;
    let mut warnings = Vec::new();

    // First of all, so that no orphan can be left behind: die with the parent, and be of no use
    // to anybody who might see us.
    guard::oom_score(process.oom_score_adj, &mut warnings);
    match birth.unprivileged {
        // A parent without privilege may write the id maps only of a process that it could trace.
        true => guard::tie()?,
        false => guard::arm(true)?,
    }
    rustix::process::umask(Mode::empty());

    // While the parent writes the id maps and mounts the root file system, enter the cgroups: from
    // here on, everything that is allocated for the container is charged to it.
    place::join_cgroups(birth.cgroup)?;

    // The answer also proves that the parent was alive after the guard was armed.
    let (root, pid) = supplies(birth.socket)?;
    // Only now: a scope of systemd is entered by the parent's hand.
    let cgroup_paths = place::own_cgroups(birth.hierarchies)?;
    attributes::reset_affinity();

    // Ids are mapped now: become the root of our user namespace before owning anything in it.
    if plan.id_maps.is_some() {
        place::become_root()?;
        guard::arm(true)?;
    }
    // Only now: a cgroup namespace is rooted where its creator is (cgroup_namespaces(7)).
    if plan.new.contains(Namespaces::CGROUP) {
        barque_sys::process::unshare(Namespaces::CGROUP).step(|| "making the cgroup namespace")?;
    }
    place::name(plan)?;
    if plan.new.contains(Namespaces::NETWORK) {
        barque_sys::net::loopback_up().step(|| "bringing up the loopback interface")?;
    }

    // The file systems. Nothing of it may reach the host, hence propagation first.
    let in_chroot = root::cut_propagation()?;
    let own = match (root, birth.furnishes_itself) {
        (None, Some(path)) => furnish_itself(plan, path)?,
        (Some(root), None) => (root, Vec::new()),
        _ => return Err(orphaned()),
    };
    let root = own.0;
    let birth = &match birth.furnishes_itself {
        Some(_) => Birth {
            sources: &own.1,
            ..*birth
        },
        None => *birth,
    };
    root::attach(&root, birth.place)?;
    root::spread(&root, plan)?;
    let late = mounts::all(birth, &root, &cgroup_paths)?;
    devices::all(plan, &root)?;
    // Hooks come here: the file systems are there to be changed, at the path that the hooks know the
    // root by, and the host's programs still can be executed. Before the kernel parameters, because a
    // network that a hook makes has some.
    if plan.hooks.before_the_root() {
        let state = plan.hooks.state(Status::Created, pid);
        furnished(birth, &root, &state)?;
    }
    // The terminal is one of the container's own devpts, so it comes after the mounts.
    let terminal = console::open(process, &root, birth.socket, true)?;
    // Parameters before their directory becomes read-only.
    masks::sysctl(&plan.sysctl)?;
    // Names are those of the container, and a missing working directory is made by root while the
    // root is still writable.
    let who = process::look_up(process, &root)?;
    process::make_cwd(process, &root)?;
    // Last of the mounts: they cover what the others have made.
    masks::hide(&plan.masked, &root)?;
    masks::protect(&plan.readonly, &root)?;
    mounts::finish(late)?;
    root::enter(&root, plan, birth.no_pivot, in_chroot, &mut warnings)?;

    let ready = process::settle(
        process::Settle {
            id: &plan.id,
            plan: process,
            who,
            stdio: birth.stdio,
            terminal,
            tied_to_caller: matches!(birth.lifetime, Lifetime::Caller),
            preserve: birth.preserve,
            new_keyring: !birth.no_new_keyring,
            labels: birth.labels,
        },
        &mut warnings,
    )?;
    if let Lifetime::Own { .. } = birth.lifetime {
        // Until it is let go, the end of the socket tells of the parent's death.
        guard::disarm()?;
    }
    // Everything that can fail early has failed by now. Stop, until the caller says go.
    let ours = birth.furnishes_itself.map(|_| root.as_fd());
    birth
        .socket
        .send(&FromChild::Ready { warnings }, ours)
        .step(|| "answering the parent")?;
    drop(root);
    let door = wait_for_start(birth)?;
    let socket = door.as_ref().unwrap_or(birth.socket);
    let executed = hooks::run_as_program(
        &plan.hooks.start_container,
        &plan.hooks.state(Status::Created, pid),
        process.seccomp.as_ref(),
    )
    .and_then(|()| program::execute(process, ready, socket));
    match door {
        // Whoever started it is told, not whoever made it, who is long gone.
        Some(_) => Ok(report(socket, executed)),
        None => executed.map(|never| match never {}),
    }
}

/// The root and the sources, looked up from where we are and mounted with our own rights.
fn furnish_itself(plan: &Plan, path: &Path) -> Result<(OwnedFd, Vec<Option<Source>>)> {
    let sources = sources::open(&plan.mounts, plan.root_propagation, Vec::new())?;
    if plan.id_maps.is_some() {
        let own = rustix::fs::open(
            "/proc/self/ns/user",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .step(|| "opening our own user namespace")?;
        sources::map_to_container(&plan.mounts, &sources, Some(own.as_fd()))?;
    }
    let root = rootfs::mount_for(plan, &Rootfs::Directory(path.to_owned()), None)?;
    Ok((root, sources))
}

/// The hooks between the mounts and the root.
fn furnished(birth: &Birth<'_>, root: &OwnedFd, state: &hooks::State) -> Result<()> {
    let hooks = &birth.plan.hooks;
    if hooks.of_the_runtime() {
        say(birth.socket, &FromChild::Furnished)?;
        match birth.socket.receive::<FromParent>()? {
            Some((FromParent::GoOn, _)) => {}
            _ => return Err(orphaned()),
        }
    }
    // In the container's root, as a working directory: the one name for it that needs no looking up.
    hooks::run_in(root, "createContainer", &hooks.create_container, state)
}

/// The makings of an exec session: it is in its namespaces already.
fn join(session: &Session<'_>, mut warnings: Vec<String>) -> Result<Infallible> {
    if session.new_user_namespace {
        place::become_root()?;
    }
    guard::arm(session.tied_to_caller)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| "opening the container's root")?;
    let terminal = console::open(session.plan, &root, session.socket, false)?;
    let who = process::look_up(session.plan, &root)?;
    let ready = process::settle(
        process::Settle {
            id: session.id,
            plan: session.plan,
            who,
            stdio: session.stdio,
            terminal,
            tied_to_caller: session.tied_to_caller,
            preserve: session.preserve,
            new_keyring: true,
            labels: session.labels,
        },
        &mut warnings,
    )?;
    say(session.socket, &FromChild::Ready { warnings })?;
    program::execute(session.plan, ready, session.socket)
}

fn say(socket: &Socket, message: &FromChild) -> Result<()> {
    socket.send(message, None).step(|| "answering the parent")
}

/// The root file system, and our own pid outside.
fn supplies(socket: &Socket) -> Result<(Option<OwnedFd>, i32)> {
    match socket.receive::<FromParent>()? {
        Some((FromParent::Supplies { pid }, root)) => Ok((root, pid)),
        _ => Err(orphaned()),
    }
}

/// Waits for the order to start. It comes from the parent, or from whoever comes to the door: then
/// that connection is returned, and is the one to report to.
fn wait_for_start(birth: &Birth<'_>) -> Result<Option<Socket>> {
    match (birth.socket.receive::<FromParent>()?, birth.lifetime) {
        (Some((FromParent::Start, _)), _) => Ok(None),
        (Some((FromParent::LetGo, _)), Lifetime::Own { door, .. }) => loop {
            let visitor = channel::accept(door)?;
            // Whoever connects and leaves again was killed before he could say it.
            if let Ok(Some((FromParent::Start, _))) = visitor.receive() {
                return Ok(Some(visitor));
            }
        },
        _ => Err(orphaned()),
    }
}

/// The parent has ended or given up; nobody reads this.
fn orphaned() -> Error {
    Error::invalid("container", "its parent gave it up")
}

/// Opens a path of the host, as the child still sees it before it enters its root.
fn open_host(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The host's null device, verified: what covers a secret must not be a file that an earlier
/// container, or a host's mistake, put there (CVE-2025-31133).
fn null_device() -> Result<OwnedFd> {
    let fd = open_host("/dev/null").step(|| "opening the host's /dev/null")?;
    let stat = rustix::fs::fstat(&fd).step(|| "looking at the host's /dev/null")?;
    let is_null = rustix::fs::FileType::from_raw_mode(stat.st_mode)
        == rustix::fs::FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null {
        Ok(fd)
    } else {
        Err(Error::invalid(
            "/dev/null",
            "the host's is not the null device (character 1:3)",
        ))
    }
}

/// A copy of a file of the host's mount tree over `place`.
fn cover(source: &OwnedFd, place: impl AsFd) -> rustix::io::Result<()> {
    let tree = crate::fsctx::clone_tree(source, std::path::Path::new(""), false)?;
    crate::fsctx::attach(tree, place)
}
