//! One `criu swrk`: the program as our child, and the conversation with it.
//!
//! `swrk` serves one client over an inherited socket, which keeps its descriptors' numbers, its cgroups
//! and its mount namespace ours to choose: it is a fork of ourselves up to the moment of its execution.

use super::messages::{Kind, Notification, Response, notified, question};
use super::protobuf::Message;
use crate::channel::{self, FromChild, Socket};
use crate::create::Child;
use crate::error::{Context, Error, Result};
use crate::fsctx;
use crate::init::join_cgroups;
use crate::options::CgroupJoin;
use barque_sys::mount::{Change, Propagation, set_attributes};
use barque_sys::process::{
    CloneArgs, Namespaces, StringVector, clone_process, execve, reset_signals,
};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType, recvmsg, send, socketpair,
};
use std::ffi::CString;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The oldest version that is known to work.
const OLDEST: (i32, i32) = (4, 1);

/// Where CRIU finds the programs that it runs (`tar` for the contents of tmpfs, `ip`): the user's
/// environment is none of a library's business.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Larger than any response: the longest has a message of one line.
const MAX_RESPONSE: usize = 64 * 1024;

/// How CRIU is started.
#[derive(Debug, Default)]
pub(super) struct Launch<'a> {
    /// Directories that it opens, to be named in a request by [`Service::directory`].
    pub directories: Vec<&'a Path>,
    /// Descriptors that it keeps, under the numbers that they have here.
    pub inherit: Vec<BorrowedFd<'a>>,
    /// Its standard streams; `/dev/null` without them.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// Whether it stays in the session of the caller, whose terminal it may have to hand on.
    pub in_session: bool,
    /// The cgroups that it enters.
    pub cgroup: CgroupJoin<'a>,
    /// Mounts that only it sees.
    pub stage: Option<Stage<'a>>,
}

/// Mounts for a restore: in a mount namespace that ends with CRIU, so that no path of the host ever
/// shows them and nothing is left mounted, whoever is killed.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    /// Any directory; a file system of the stage's own covers it.
    pub place: &'a Path,
    /// That file system.
    pub base: BorrowedFd<'a>,
    /// Detached mounts, attached to the directories (or files) of these names in it.
    pub trees: Vec<(String, BorrowedFd<'a>, bool)>,
}

/// The running service.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    socket: OwnedFd,
    directories: Vec<i32>,
}

impl Service {
    /// Starts it, and makes sure of its version.
    ///
    /// It does not die with us: a dump that is killed half-way would leave the container's processes
    /// with CRIU's code in them. Left alone, it fails at its next notification, and undoes what it did.
    pub fn start(program: &Path, launch: &Launch<'_>) -> Result<Self> {
        let path = CString::new(program.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("the path of criu", "contains a NUL byte"))?;
        let (report, reporter) = channel::pair()?;
        let mut keep = vec![reporter.as_fd()];
        keep.extend(&launch.inherit);
        keep.extend(launch.stdio.iter().flatten());
        keep.extend(&launch.cgroup.v1_tasks);
        if let Some(stage) = &launch.stage {
            keep.push(stage.base);
            keep.extend(stage.trees.iter().map(|(_, tree, _)| *tree));
        }
        let namespaces = match launch.stage {
            Some(_) => Namespaces::MOUNT,
            None => Namespaces::NONE,
        };
        let args = CloneArgs {
            namespaces,
            into_cgroup: launch.cgroup.v2,
            sibling: false,
        };
        let cloned = clone_process(args, &keep, || {
            let error = become_criu(&path, &reporter, launch);
            let _ = reporter.send(&FromChild::Failed(error), None);
            1
        })
        .step(|| "making the process of criu")?;
        let child = Child::from(cloned);
        drop(reporter);
        let (socket, directories) = executed(&report, program)?;
        let mut service = Self {
            child,
            socket,
            directories,
        };
        service.check_version()?;
        Ok(service)
    }

    /// As a pid of the caller's namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// The descriptor that a directory of the launch has there.
    pub fn directory(&self, index: usize) -> i32 {
        self.directories.get(index).copied().unwrap_or(-1)
    }

    fn check_version(&mut self) -> Result<()> {
        let version = self.ask(&question(Kind::Version, &[]))?.version;
        match version {
            Some(version) if version >= OLDEST => Ok(()),
            Some((major, minor)) => Err(Error::Criu(format!(
                "criu {major}.{minor} is too old: checkpoint and restore need CRIU {}.{} or later",
                OLDEST.0, OLDEST.1
            ))),
            None => Err(Error::Criu("criu does not say its version".to_owned())),
        }
    }

    /// Whether the kernel and CRIU have a feature (a field of `criu_features`).
    pub fn has_feature(&mut self, feature: u32) -> Result<bool> {
        let response = self.ask(&question(Kind::FeatureCheck, &[feature]))?;
        Ok(response.features.contains(&feature))
    }

    fn ask(&mut self, question: &Message) -> Result<Response> {
        self.send(question)?;
        let response = self.receive()?;
        match response.success {
            true => Ok(response),
            false => Err(Error::Criu(format!(
                "criu refuses a question: {}",
                response.message.unwrap_or_default()
            ))),
        }
    }

    /// Has a request carried out. `notify` is called at each notification: CRIU goes on when it returns,
    /// and gives up when it fails.
    pub fn carry_out(
        &mut self,
        request: &Message,
        notify: &mut dyn FnMut(Notification) -> Result<()>,
    ) -> Result<Response> {
        self.send(request)?;
        let mut failure = None;
        loop {
            let response = match self.receive() {
                // What made it give up says more than that it did.
                Err(error) => return Err(failure.unwrap_or(error)),
                Ok(response) => response,
            };
            if response.kind != Kind::Notify as u32 {
                return match failure {
                    Some(error) => Err(error),
                    None => Ok(response),
                };
            }
            let outcome = notify(response.notification.unwrap_or_default());
            let answer = notified(outcome.is_ok());
            failure = failure.or(outcome.err());
            self.send(&answer)?;
        }
    }

    /// Waits for its end, and says how it came.
    pub fn end(mut self) -> String {
        drop(self.socket);
        self.child.end()
    }

    fn send(&self, message: &Message) -> Result<()> {
        match send(&self.socket, message.bytes(), SendFlags::NOSIGNAL) {
            // Its last words, if any, can still be read.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(Error::step("talking to criu", errno)),
        }
    }

    fn receive(&mut self) -> Result<Response> {
        let mut bytes = vec![0; MAX_RESPONSE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(
                &self.socket,
                &mut parts,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => break 0,
                other => break other.step(|| "listening to criu")?.bytes,
            }
        };
        if received == 0 {
            return Err(Error::Criu(format!(
                "criu ended without an answer: {}",
                self.child.end()
            )));
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let mut response = Response::parse(&bytes[..received])
            .ok_or_else(|| Error::Criu("criu sent something unreadable".to_owned()))?;
        if let Some(notification) = &mut response.notification {
            notification.fd = fd;
        }
        Ok(response)
    }
}

/// What the child says before it is CRIU; the end of file is the execution of the program.
fn executed(report: &Socket, program: &Path) -> Result<(OwnedFd, Vec<i32>)> {
    let mut ready = None;
    loop {
        match report.receive::<FromChild>()? {
            Some((FromChild::Service { directories }, Some(socket))) => {
                ready = Some((socket, directories));
            }
            Some((FromChild::Failed(error), _)) if error.errno() == Some(Errno::NOENT) => {
                return Err(match ready {
                    Some(_) => missing(&program.display().to_string()),
                    None => error,
                });
            }
            Some((FromChild::Failed(error), _)) => return Err(error),
            Some(_) => return Err(Error::invalid("control socket", "an unexpected message")),
            None => {
                return ready.ok_or_else(|| Error::Died {
                    doing: "starting criu".to_owned(),
                    how: "without a word".to_owned(),
                });
            }
        }
    }
}

/// The one error of a machine without CRIU.
pub(super) fn missing(what: &str) -> Error {
    Error::Criu(format!(
        "{what}: not found: checkpoint and restore need CRIU {}.{} or later (the package criu of Debian 13)",
        OLDEST.0, OLDEST.1
    ))
}

/// The child: returns only to say why it could not.
fn become_criu(path: &CString, reporter: &Socket, launch: &Launch<'_>) -> Error {
    let socket = match prepare(reporter, launch) {
        Ok(socket) => socket,
        Err(error) => return error,
    };
    let argument = |text: &str| CString::new(text).unwrap_or_default();
    let number = socket.as_raw_fd().to_string();
    let argv = StringVector::new(vec![path.clone(), argument("swrk"), argument(&number)]);
    let env = StringVector::new(vec![argument(PATH)]);
    let errno = execve(path, &argv, &env);
    Error::step(format!("executing {}", path.to_string_lossy()), errno)
}

/// Everything up to the execution; returns CRIU's end of the conversation.
fn prepare(reporter: &Socket, launch: &Launch<'_>) -> Result<OwnedFd> {
    // What is restored is a descendant, born in these.
    join_cgroups(&launch.cgroup)?;
    if let Some(stage) = &launch.stage {
        build(stage)?;
    }
    if !launch.in_session {
        // A ^C of the caller's terminal must not end a dump half-way.
        rustix::process::setsid().step(|| "starting a session")?;
    }
    streams(launch)?;
    let socket = introduce(reporter, &launch.directories)?;
    for fd in launch.inherit.iter().chain([&socket.as_fd()]) {
        fcntl_setfd(fd, FdFlags::empty()).step(|| "handing over a descriptor")?;
    }
    rustix::process::chdir("/").step(|| "entering /")?;
    reset_signals();
    Ok(socket)
}

/// Sends the parent a socket to us.
///
/// CRIU takes descriptors of directories as those of the process that has made the socket pair
/// (`SO_PEERCRED`) and mounts in them. So both are made here: what the parent opens is on mounts of its
/// namespace, where CRIU cannot mount anything if it is in another.
fn introduce(reporter: &Socket, directories: &[&Path]) -> Result<OwnedFd> {
    let mut numbers = Vec::new();
    for path in directories {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = openat(CWD, *path, flags, Mode::empty())
            .step(|| format!("opening {}", path.display()))?;
        // It stays open, here and in what this becomes.
        numbers.push(std::os::fd::IntoRawFd::into_raw_fd(fd));
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .step(|| "making a socket pair")?;
    let directories = numbers;
    reporter
        .send(&FromChild::Service { directories }, Some(theirs.as_fd()))
        .step(|| "answering the parent")?;
    Ok(ours)
}

fn streams(launch: &Launch<'_>) -> Result<()> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
    let step = || "setting up the standard streams of criu";
    let null = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(step)?;
    let [stdin, stdout, stderr] = launch.stdio.unwrap_or([null.as_fd(); 3]);
    // Out of the way of 0 to 2 first: they may be these numbers in another order.
    let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).step(step);
    let (stdin, stdout, stderr) = (high(stdin)?, high(stdout)?, high(stderr)?);
    dup2_stdin(&stdin).step(step)?;
    dup2_stdout(&stdout).step(step)?;
    dup2_stderr(&stderr).step(step)
}

/// The mounts of a restore, in this process's own mount namespace.
fn build(stage: &Stage<'_>) -> Result<()> {
    let step = || "making the mounts that criu restores from";
    let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // Nothing of it may reach the host; what the host mounts later may be wanted by a container.
    let slave = Change {
        propagation: Some(Propagation::Slave),
        ..Change::default()
    };
    set_attributes(open(Path::new("/")).step(step)?, true, slave).step(step)?;
    let place = open(stage.place).step(|| format!("opening {}", stage.place.display()))?;
    fsctx::attach(stage.base, place).step(step)?;
    for (name, tree, directory) in &stage.trees {
        let make = match directory {
            true => mkdirat(stage.base, name, Mode::from_raw_mode(0o700)),
            false => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                openat(stage.base, name, flags, Mode::from_raw_mode(0o600)).map(drop)
            }
        };
        make.step(step)?;
        let place = openat(
            stage.base,
            name,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        );
        fsctx::attach(tree, place.step(step)?).step(step)?;
    }
    Ok(())
}
