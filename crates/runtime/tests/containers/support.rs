//! A container in a few lines: a busybox root file system, an ordinary specification, its output.

use barque_runtime::{
    CgroupJoin, CreateOptions, Error, ExecOptions, Rootfs, Running, Stdio, UserSpec, create,
    defaults, exec,
};
use barque_sys::process::reap;
use barque_types::spec::{self, NamespaceKind};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where Debian's busybox-static is.
const BUSYBOX: &str = "/bin/busybox";

/// A test's own corner of the disk, with a root file system and an overlay over it.
pub struct Bench {
    pub dir: TempDir,
    pub spec: spec::Spec,
    pub user: UserSpec,
    pub join: Vec<(NamespaceKind, OwnedFd)>,
    pub overlay: bool,
    /// Files `tasks` of v1 cgroups, and a directory of v2.
    pub cgroups: (Vec<OwnedFd>, Option<OwnedFd>),
}

/// What a container did.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub warnings: Vec<String>,
}

impl Bench {
    /// A busybox root and the specification of an ordinary container.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("barque-runtime-")
            .tempdir()
            .expect("tempdir");
        for name in ["upper", "work", "rootfs"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        // The tempdir itself is 0700: a user namespace's root must get through to a bind mount.
        busybox(&dir.path().join("rootfs"));
        Self {
            dir,
            spec: ordinary(),
            user: UserSpec::Ids,
            join: Vec::new(),
            overlay: true,
            cgroups: (Vec::new(), None),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self, name: &str) -> PathBuf {
        self.path("rootfs").join(name)
    }

    pub fn process(&mut self) -> &mut spec::Process {
        self.spec.process.as_mut().expect("a process")
    }

    pub fn linux(&mut self) -> &mut spec::Linux {
        self.spec.linux.as_mut().expect("linux")
    }

    pub fn rootfs(&self) -> Rootfs {
        if self.overlay {
            Rootfs::Overlay {
                lower: vec![self.path("rootfs")],
                upper: self.path("upper"),
                work: self.path("work"),
                volatile: false,
            }
        } else {
            Rootfs::Directory(self.path("rootfs"))
        }
    }

    /// Drops one kind of namespace: the container shares the host's.
    pub fn share(&mut self, kind: NamespaceKind) {
        self.linux().namespaces.retain(|n| n.kind != kind);
    }

    /// Gives it a user namespace, ids from 100000 on.
    pub fn with_user_namespace(&mut self) {
        let linux = self.linux();
        linux.namespaces.push(spec::Namespace {
            kind: NamespaceKind::User,
            path: None,
        });
        let map = spec::IdMapping {
            container_id: 0,
            host_id: 100_000,
            size: 65536,
        };
        linux.uid_mappings = vec![map];
        linux.gid_mappings = vec![map];
    }

    pub fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) {
        self.spec.mounts.push(spec::Mount {
            destination: destination.into(),
            kind: Some("bind".into()),
            source: Some(source.into()),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..spec::Mount::default()
        });
    }

    pub fn cgroup(&self) -> CgroupJoin<'_> {
        CgroupJoin {
            v1_tasks: self.cgroups.0.iter().map(AsFd::as_fd).collect(),
            v2: self.cgroups.1.as_ref().map(AsFd::as_fd),
        }
    }

    /// Runs a shell script and waits for its end.
    pub fn sh(&mut self, script: &str) -> Outcome {
        self.run(&["/bin/sh", "-c", script])
            .expect("the container starts")
    }

    /// Runs a command and waits for its end.
    pub fn run(&mut self, args: &[&str]) -> Result<Outcome, Error> {
        let streams = Streams::new();
        let running = self.start(args, streams.stdio())?;
        let (out, err) = streams.read();
        let code = reap(running.pidfd.as_fd()).expect("waiting");
        Ok(Outcome {
            code,
            out,
            err,
            warnings: running.warnings,
        })
    }

    /// Starts a command.
    pub fn start(&mut self, args: &[&str], stdio: Stdio<'_>) -> Result<Running, Error> {
        self.process().args = args.iter().map(|a| (*a).to_owned()).collect();
        let join = std::mem::take(&mut self.join);
        create(CreateOptions {
            user: self.user.clone(),
            cgroup: self.cgroup(),
            join,
            ..CreateOptions::new("test", &self.spec, self.rootfs(), stdio)
        })?
        .start()
    }

    /// Starts `sleep` with no streams: something to look at or to enter.
    pub fn sleeper(&mut self) -> Sleeper {
        let null = null();
        let stdio = Stdio::Fds {
            stdin: null.as_fd(),
            stdout: null.as_fd(),
            stderr: null.as_fd(),
        };
        Sleeper(
            self.start(&["/bin/sleep", "1000"], stdio)
                .expect("the container starts"),
        )
    }

    /// Runs one more command in a running container.
    pub fn exec(&self, target: &Running, args: &[&str]) -> Result<Outcome, Error> {
        let mut process = self.spec.process.clone().expect("a process");
        process.args = args.iter().map(|a| (*a).to_owned()).collect();
        let streams = Streams::new();
        let running = exec(ExecOptions {
            id: "test",
            pid: target.pid,
            pidfd: target.pidfd.as_fd(),
            process: &process,
            user: self.user.clone(),
            agent: None,
            seccomp: self.spec.linux.as_ref().and_then(|l| l.seccomp.as_ref()),
            personality: self
                .spec
                .linux
                .as_ref()
                .and_then(|l| l.personality.as_ref()),
            memory_policy: self
                .spec
                .linux
                .as_ref()
                .and_then(|l| l.memory_policy.as_ref()),
            cgroup: self.cgroup(),
            stdio: streams.stdio(),
            tied_to_caller: true,
            preserve: Vec::new(),
        })?;
        let (out, err) = streams.read();
        let code = reap(running.pidfd.as_fd()).expect("waiting");
        Ok(Outcome {
            code,
            out,
            err,
            warnings: running.warnings,
        })
    }
}

/// A container that is killed at the end of its scope.
pub struct Sleeper(pub Running);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.0.pidfd, rustix::process::Signal::KILL);
        let _ = reap(self.0.pidfd.as_fd());
    }
}

/// Standard input from nowhere, output and error into pipes.
pub struct Streams {
    null: OwnedFd,
    out: (OwnedFd, OwnedFd),
    err: (OwnedFd, OwnedFd),
}

impl Streams {
    pub fn new() -> Self {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        Self {
            null: null(),
            out: pipe(),
            err: pipe(),
        }
    }

    pub fn stdio(&self) -> Stdio<'_> {
        Stdio::Fds {
            stdin: self.null.as_fd(),
            stdout: self.out.1.as_fd(),
            stderr: self.err.1.as_fd(),
        }
    }

    /// Reads both to their ends; what a test writes fits into a pipe.
    pub fn read(self) -> (String, String) {
        let Self { out, err, .. } = self;
        drop((out.1, err.1));
        let read = |fd: OwnedFd| {
            let mut text = String::new();
            fs::File::from(fd)
                .read_to_string(&mut text)
                .expect("reading a pipe");
            text
        };
        (read(out.0), read(err.0))
    }
}

pub fn null() -> OwnedFd {
    rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .expect("/dev/null")
}

/// Fills a directory with busybox and the usual files.
pub fn busybox(root: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .expect("/bin/busybox is missing: apt-get install busybox-static");
    let applets = [
        "sh",
        "ls",
        "cat",
        "ps",
        "echo",
        "id",
        "hostname",
        "sleep",
        "true",
        "false",
        "mount",
        "touch",
        "stat",
        "readlink",
        "pwd",
        "env",
        "ip",
        "ifconfig",
        "tty",
        "stty",
        "mkdir",
        "rm",
        "grep",
        "ln",
        "umount",
        "mknod",
        "chown",
        "dnsdomainname",
        "wc",
        "head",
        "test",
        "kill",
        "uname",
        "nice",
        "taskset",
        "ionice",
    ];
    for applet in applets {
        symlink("busybox", root.join("bin").join(applet)).expect("symlink");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("write");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwww:x:34:\naudio:x:29:web\n",
    )
    .expect("write");
}

/// What Docker would ask for.
pub fn ordinary() -> spec::Spec {
    let caps: Vec<String> = defaults::CAPABILITIES.map(str::to_owned).to_vec();
    spec::Spec {
        oci_version: spec::SPEC_VERSION.into(),
        process: Some(spec::Process {
            env: vec![defaults::PATH.to_owned()],
            cwd: "/".into(),
            capabilities: Some(defaults::capability_sets(&caps)),
            ..spec::Process::default()
        }),
        root: Some(spec::Root::default()),
        hostname: Some("inside".into()),
        mounts: defaults::mounts(64 << 20),
        linux: Some(spec::Linux {
            namespaces: defaults::namespaces(),
            devices: defaults::devices(),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            ..spec::Linux::default()
        }),
        ..spec::Spec::default()
    }
}
