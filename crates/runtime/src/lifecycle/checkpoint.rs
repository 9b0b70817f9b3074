//! `checkpoint` and `restore`: a container's processes into an image, and out of it.

use super::create::{Claim, shares_pids};
use super::record::Record;
use super::{Container, Home, bundle, groups};
use crate::create::Running;
use crate::criu::{self, CheckpointOptions, CriuOptions, RestoreOptions};
use crate::error::{Context, Error, Result};
use crate::hooks::{self, HookPlan, Status};
use crate::options::{CgroupJoin, Rootfs, Stdio};
use barque_cgroup::Cgroup;
use barque_state::process::ProcessId;
use barque_state::{Durability, atomic};
use barque_types::spec::Spec;
use barque_types::time::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The annotation that names a configuration file of CRIU (runc's).
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Its default, as with runc; it need not exist.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// What is to be written.
pub struct CheckpointRequest<'a> {
    /// The image, and what a restore is told, too.
    pub criu: CriuOptions<'a>,
    /// See [`CheckpointOptions::leave_running`].
    pub leave_running: bool,
    /// See [`CheckpointOptions::pre_dump`].
    pub pre_dump: bool,
    /// See [`CheckpointOptions::parent_path`].
    pub parent_path: Option<&'a Path>,
    /// See [`CheckpointOptions::tcp_skip_in_flight`].
    pub tcp_skip_in_flight: bool,
    /// See [`CheckpointOptions::link_remap`].
    pub link_remap: bool,
    /// See [`CheckpointOptions::page_server`].
    pub page_server: Option<(String, u16)>,
    /// See [`CheckpointOptions::status_fd`].
    pub status_fd: Option<OwnedFd>,
}

/// What is to be restored.
pub struct RestoreRequest<'a> {
    /// The id of the container.
    pub id: &'a str,
    /// Absolute path of the bundle.
    pub bundle: &'a Path,
    /// The image, and what the checkpoint was told, too.
    pub criu: CriuOptions<'a>,
    /// Says whether the process may want a terminal, before anything is made.
    pub check: &'a dyn Fn(bool) -> std::result::Result<(), String>,
    /// Standard streams; ignored for a process that wants a terminal.
    pub stdio: Stdio<'a>,
    /// See [`RestoreOptions::lsm_profile`].
    pub lsm_profile: Option<&'a str>,
    /// See [`RestoreOptions::lsm_mount_context`].
    pub lsm_mount_context: Option<&'a str>,
}

/// A container that runs again.
#[derive(Debug)]
pub struct Restored {
    /// The container.
    pub container: Container,
    /// Its first process: a child of ours.
    pub running: Running,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
}

impl Container {
    /// Writes its processes into an image. Unless they are left running, they have ended afterwards, and the container
    /// is stopped.
    ///
    /// # Errors
    /// It is neither running nor paused; CRIU is missing or fails, and it goes on.
    pub fn checkpoint(&self, request: CheckpointRequest<'_>) -> Result<()> {
        let _lock = self.lock()?;
        let record = self.recorded()?;
        let status = self.status()?;
        if !matches!(status, Status::Running | Status::Paused) {
            return Err(self.conflict(status, "only a running container can be checkpointed"));
        }
        let gone = || self.conflict(Status::Stopped, "it has just ended");
        let init = record.init.as_ref().ok_or_else(gone)?;
        let pidfd = init.open()?.ok_or_else(gone)?;
        let spec = self.spec()?;
        let group = self.group()?;
        let stays = request.leave_running || request.pre_dump;
        let mut criu = request.criu;
        let config = config_file(&spec);
        criu.config_file = criu.config_file.or(config.as_deref());
        criu::checkpoint(CheckpointOptions {
            criu,
            pid: init.pid,
            pidfd: pidfd.as_fd(),
            spec: &spec,
            freezer: group.as_ref().and_then(freezer),
            leave_running: request.leave_running,
            pre_dump: request.pre_dump,
            parent_path: request.parent_path,
            tcp_skip_in_flight: request.tcp_skip_in_flight,
            link_remap: request.link_remap,
            page_server: request.page_server,
            status_fd: request.status_fd,
        })?;
        tracing::debug!("step: checkpointed");
        if stays {
            return Ok(());
        }
        if let Some(group) = group {
            // What CRIU has killed while it stood still dies only when it goes on (v1).
            let _ = group.thaw();
        }
        // Dead to CRIU is not yet dead to whoever looks.
        retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None))
            .step(|| format!("waiting for process {}", init.pid))?;
        Ok(())
    }
}

/// The directory of the cgroup by which its processes are held still.
fn freezer(group: &Cgroup) -> Option<PathBuf> {
    let mut paths = group.paths();
    paths.remove("freezer").or_else(|| paths.remove(""))
}

fn config_file(spec: &Spec) -> Option<PathBuf> {
    match spec.annotations.get(CONFIG_ANNOTATION).map(String::as_str) {
        Some("") => None,
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(CONFIG_FILE)).filter(|path| path.exists()),
    }
}

impl Home {
    /// Makes a container again from an image. The caller has to be single-threaded, and becomes the parent of the
    /// first process, which outlives it.
    ///
    /// # Errors
    /// The id is taken, the image or the bundle is bad, CRIU is missing or fails; nothing is left of it then.
    pub fn restore(&self, request: RestoreRequest<'_>) -> Result<Restored> {
        let dir = self.dir(request.id)?;
        let (spec, text) = bundle::load(request.bundle, None)?;
        let process = spec.process.as_ref();
        let terminal = process.is_some_and(|process| process.terminal);
        (request.check)(terminal).map_err(|why| Error::invalid("process.terminal", why))?;
        let rootfs = bundle::root(&spec, request.bundle)?;
        self.make_root()?;
        let mut claim = Claim::new(dir, request.id)?;
        let mut known = Record {
            oci_version: spec.oci_version.clone(),
            bundle: request.bundle.to_owned(),
            rootfs: rootfs.clone(),
            created: Timestamp::now().to_string(),
            owner_uid: rustix::process::getuid().as_raw(),
            group: groups::place(request.id, &spec, false)?,
            shares_pids: shares_pids(&spec),
            init: None,
        };
        claim.record(&known)?;
        atomic::write(&claim.dir.join("config.json"), &text, Durability::None)?;
        let (group, mut warnings) = groups::make(&known.group, &spec)?;
        let (group, _) = claim.group.insert((group, known.group.clone()));
        let tasks = group.join_fds()?;
        let place = claim.dir.join("criu");
        std::fs::create_dir(&place).step(|| format!("making {}", place.display()))?;
        let hooks = HookPlan::new(request.id, Some(request.bundle), &spec)?;
        let mut on_namespaces = |pid| {
            let state = hooks.state(Status::Created, pid);
            hooks::run("prestart", &hooks.prestart, &state)?;
            hooks::run("createRuntime", &hooks.create_runtime, &state)
        };
        let mut criu = request.criu;
        let config = config_file(&spec);
        criu.config_file = criu.config_file.or(config.as_deref());
        let restored = criu::restore(RestoreOptions {
            criu,
            spec: &spec,
            rootfs: Rootfs::Directory(rootfs),
            place: &place,
            stdio: match terminal {
                true => Stdio::Terminal,
                false => request.stdio,
            },
            cgroup: CgroupJoin {
                v1_tasks: tasks.iter().map(AsFd::as_fd).collect(),
                v2: group.v2_fd(),
            },
            join: Vec::new(),
            trees: Vec::new(),
            on_namespaces: Some(&mut on_namespaces),
            lsm_profile: request.lsm_profile,
            lsm_mount_context: request.lsm_mount_context,
        })?;
        tracing::debug!("step: restored");
        // Nothing is mounted there but in a namespace that has ended.
        let _ = std::fs::remove_dir(&place);
        warnings.extend(restored.warnings.iter().cloned());
        known.init = Some(ProcessId::of(restored.pid)?);
        claim.record(&known)?;
        let container = Container::known(claim.dir.clone(), request.id, known);
        claim.keep();
        Ok(Restored {
            container,
            running: restored,
            warnings,
        })
    }
}
