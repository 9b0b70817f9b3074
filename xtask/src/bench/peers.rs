//! The engines and runtimes that are compared: how each is called.

use super::worker::{Done, Worker};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::Duration;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pulls images and runs containers: Docker's verbs.
    Engine,
    /// Runs an OCI bundle.
    Runtime,
    /// Runs a program in namespaces.
    Sandbox,
}

/// One column of the table.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Program and global options.
    program: Vec<String>,
    /// Options that `run` needs here beyond those of Docker.
    run_options: Vec<String>,
    /// Options that `pull` needs here.
    pull_options: Vec<String>,
    worker: Worker,
}

/// Hides the v2 tree that stands beside v1, where there is one.
const V1_ONLY: &str = "umount /sys/fs/cgroup/unified 2>/dev/null";

impl Peer {
    /// Barque itself.
    pub(super) fn barque(binary: &Path, work: &Path) -> Result<Self> {
        let program = [
            text(binary),
            "--data-root".into(),
            text(&work.join("barque")),
            "--run-root".into(),
            text(&work.join("barque-run")),
        ];
        Self::new("barque", Kind::Engine, program, "")
    }

    /// Barque as an OCI runtime, with its own state directory.
    pub(super) fn own_runtime(binary: &Path, work: &Path) -> Result<Self> {
        let root = format!("--root={}", work.join("barque-oci-state").display());
        let program = [text(binary), "oci".to_owned(), root];
        Self::new("barque", Kind::Runtime, program, V1_ONLY)
    }

    /// Docker's client on a private daemon's socket.
    pub(super) fn docker(socket: &Path) -> Result<Self> {
        let host = format!("unix://{}", socket.display());
        Self::new(
            "docker",
            Kind::Engine,
            ["docker".into(), "--host".into(), host],
            "",
        )
    }

    /// Podman with its own roots, on crun when that is installed.
    pub(super) fn podman(work: &Path, runtime: &str) -> Result<Self> {
        let program = [
            "podman".into(),
            format!("--root={}", work.join("podman").display()),
            format!("--runroot={}", work.join("podman-run").display()),
            format!("--tmpdir={}", work.join("podman-tmp").display()),
            "--storage-driver=overlay".into(),
            "--cgroup-manager=cgroupfs".into(),
            "--events-backend=file".into(),
            format!("--runtime={runtime}"),
        ];
        let mut peer = Self::new("podman", Kind::Engine, program, V1_ONLY)?;
        // Its own defaults lie above the hard limits of some machines.
        peer.run_options = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
            .map(str::to_owned)
            .to_vec();
        peer.pull_options = vec!["--tls-verify=false".into()];
        Ok(peer)
    }

    /// `crun` or `runc` with its own state directory.
    pub(super) fn runtime(name: &'static str, work: &Path) -> Result<Self> {
        let root = format!("--root={}", work.join(format!("{name}-state")).display());
        Self::new(name, Kind::Runtime, [name.to_owned(), root], V1_ONLY)
    }

    /// bubblewrap.
    pub(super) fn bubblewrap() -> Result<Self> {
        Self::new("bubblewrap", Kind::Sandbox, ["bwrap".to_owned()], "")
    }

    fn new(
        name: &'static str,
        kind: Kind,
        program: impl IntoIterator<Item = String>,
        prepare: &str,
    ) -> Result<Self> {
        Ok(Self {
            name,
            kind,
            program: program.into_iter().collect(),
            run_options: Vec::new(),
            pull_options: Vec::new(),
            worker: Worker::start(prepare)?,
        })
    }

    /// A whole command line of this peer. `run` and `pull` get the options they need here.
    pub(super) fn line(&self, args: &[&str]) -> Vec<String> {
        let mut line = self.program.clone();
        let (verb, rest) = args.split_first().unwrap_or((&"", &[]));
        line.push((*verb).to_owned());
        match *verb {
            "run" if self.kind == Kind::Engine => line.extend(self.run_options.iter().cloned()),
            "pull" => line.extend(self.pull_options.iter().cloned()),
            _ => {}
        }
        line.extend(rest.iter().map(|arg| (*arg).to_owned()));
        line
    }

    /// Runs one command that must succeed.
    pub(super) fn must(&mut self, args: &[&str]) -> Result<Done> {
        let line = self.line(args);
        self.must_all(&[line], 1)
    }

    /// Runs commands that must succeed, several at a time.
    pub(super) fn must_all(&mut self, lines: &[Vec<String>], parallel: usize) -> Result<Done> {
        let done = self.worker.run(lines, parallel)?;
        if done.code != 0 {
            let line = lines.first().map(|line| line.join(" ")).unwrap_or_default();
            bail!(
                "{}: {line}: exit {}: {}{}",
                self.name,
                done.code,
                done.out,
                done.err
            );
        }
        Ok(done)
    }

    /// Runs commands, which may fail.
    pub(super) fn try_all(&mut self, lines: &[Vec<String>], parallel: usize) -> Result<Done> {
        self.worker.run(lines, parallel)
    }

    /// The time of one command that must succeed.
    pub(super) fn time(&mut self, args: &[&str]) -> Result<Duration> {
        Ok(self.must(args)?.took)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Where a program is, if it is installed.
pub(super) fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/bin"])
        .any(|dir| Path::new(dir).join(program).is_file())
}
