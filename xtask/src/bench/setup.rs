//! Everything that has to run while it is measured: a registry, Docker's daemon, the peers.

use super::peers::{Kind, Peer, installed};
use super::{directory, kept, pulled};
use crate::target;
use anyhow::{Context, Result, bail};
use barque_testkit::image::{Image, Layer};
use barque_testkit::{Compression, Dialect, Registry};
use pulled::Sort;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is to be measured.
pub(super) struct Wanted {
    /// Docker and Podman.
    pub(super) engines: bool,
    /// Images in the registry, to be pulled.
    pub(super) pulled: Vec<Sort>,
    /// OCI runtimes and sandboxes.
    pub(super) runtimes: bool,
}

/// What the measures work with.
pub(super) struct Setup {
    pub(super) peers: Vec<Peer>,
    pub(super) skipped: Vec<&'static str>,
    /// The small image, in every engine.
    pub(super) image: String,
    /// Where the others are, in the registry only: `HOST/bench/NAME:latest`.
    pub(super) repository: String,
    /// An OCI bundle (and its root) with the small image's files, running `true`.
    pub(super) bundle: PathBuf,
    /// The same, sleeping.
    pub(super) sleeper: PathBuf,
    /// Barque as an OCI runtime.
    pub(super) own_runtime: Peer,
    /// Dropped after the peers: stops dockerd.
    _docker: Option<Daemon>,
    _registry: Option<Registry>,
}

impl Setup {
    /// Starts what is installed and needed.
    pub(super) fn new(wanted: &Wanted) -> Result<Self> {
        loopback_up()?;
        let work = directory().join("work");
        if work.exists() {
            std::fs::remove_dir_all(&work).context("remove what an earlier run left")?;
        }
        std::fs::create_dir_all(&work)?;
        if !installed("docker-registry") {
            bail!("docker-registry is not installed: `cargo xtask test` installs it");
        }
        let registry = Registry::start();
        let image = registry.name("bench/box:latest");
        registry.push(
            "bench/box",
            "latest",
            &Image::busybox(),
            Compression::Gzip,
            Dialect::Docker,
        );
        for sort in &wanted.pulled {
            let wire = pulled::wire(*sort, &kept())?;
            registry.push_wire(&format!("bench/{}", sort.name()), "latest", &wire);
        }
        let mut setup = Self {
            peers: vec![Peer::barque(&target().join("dist/barque"), &work)?],
            skipped: Vec::new(),
            image,
            repository: registry.name("bench"),
            bundle: work.join("bundle"),
            sleeper: work.join("sleeper"),
            own_runtime: Peer::own_runtime(&target().join("dist/barque"), &work)?,
            _docker: None,
            _registry: Some(registry),
        };
        if wanted.engines {
            setup.start_engines(&work)?;
        }
        if wanted.runtimes {
            make_bundle(&setup.bundle, &["true"])?;
            make_bundle(&setup.sleeper, &["sleep", "100000"])?;
            setup.start_others(&work)?;
        }
        for peer in setup
            .peers
            .iter_mut()
            .filter(|peer| peer.kind == Kind::Engine)
        {
            peer.must(&["pull", &setup.image])?;
        }
        Ok(setup)
    }

    fn start_engines(&mut self, work: &Path) -> Result<()> {
        if installed("docker") && installed("dockerd") {
            let (daemon, socket) = Daemon::docker(work)?;
            self._docker = Some(daemon);
            self.peers.push(Peer::docker(&socket)?);
        } else {
            self.skipped.push("docker");
        }
        let runtime = ["crun", "runc"].into_iter().find(|name| installed(name));
        match runtime.filter(|_| installed("podman")) {
            Some(runtime) => self.peers.push(Peer::podman(work, runtime)?),
            None => self.skipped.push("podman"),
        }
        Ok(())
    }

    fn start_others(&mut self, work: &Path) -> Result<()> {
        for name in ["crun", "runc", "youki"] {
            match installed(name) {
                true => self.peers.push(Peer::runtime(name, work)?),
                false => self.skipped.push(name),
            }
        }
        match installed("bwrap") {
            true => self.peers.push(Peer::bubblewrap()?),
            false => self.skipped.push("bubblewrap"),
        }
        Ok(())
    }
}

fn loopback_up() -> Result<()> {
    crate::must(Command::new("/bin/busybox").args(["ifconfig", "lo", "127.0.0.1", "up"]))
        .context("switch loopback on (package busybox-static)")
}

/// A root with busybox, and runc's own default configuration for it, changed to run this.
pub(crate) fn make_bundle(bundle: &Path, args: &[&str]) -> Result<()> {
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(&rootfs)?;
    let mut tar = Command::new("tar")
        .args(["-x", "-C"])
        .arg(&rootfs)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut pipe = tar.stdin.take().context("tar's stdin")?;
    std::io::Write::write_all(&mut pipe, &Layer::busybox().tar)?;
    drop(pipe);
    if !tar.wait()?.success() {
        bail!("tar could not unpack the root of the bundle");
    }
    let Some(runtime) = ["runc", "crun"].into_iter().find(|name| installed(name)) else {
        return Ok(());
    };
    crate::must(Command::new(runtime).arg("spec").current_dir(bundle))?;
    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(args);
    std::fs::write(&config, spec.to_string())?;
    Ok(())
}

/// A daemon of our own; ended by its pid when dropped.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn docker(work: &Path) -> Result<(Self, PathBuf)> {
        let dir = work.join("docker");
        std::fs::create_dir_all(&dir)?;
        let socket = dir.join("docker.sock");
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
            .args(["--storage-driver=overlay2", "--log-level=error"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let mut daemon = Self { child };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let up = Command::new("docker")
                .arg("--host")
                .arg(format!("unix://{}", socket.display()))
                .arg("version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if up.success() {
                return Ok((daemon, socket));
            }
            if daemon.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("dockerd does not come up:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its own containerd ends with it when it is asked politely.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
