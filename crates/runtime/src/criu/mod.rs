//! Checkpoint and restore, by CRIU (<https://criu.org>), the one program that the runtime runs.
//!
//! [`checkpoint`] writes a container's processes, with their memory, open files and pipes, into a
//! directory; [`restore`] makes them again from it, where they were. What CRIU does stands in its own
//! documentation; what is here is what a container adds: which mounts, namespaces and streams are from
//! outside, the root file system, the cgroups.
//!
//! Reading order: `checkpoint`, `restore`; what both need: `mounts` and `streams` (what is from outside),
//! `image` (what is remembered of it), `service` (the program and the conversation with it), `messages` and
//! `protobuf` (what is said), `log` (why it failed).

mod checkpoint;
mod image;
mod log;
mod messages;
mod mountinfo;
mod mounts;
mod options;
mod protobuf;
mod restore;
mod service;
mod streams;

pub use checkpoint::checkpoint;
pub use options::{CheckpointOptions, CriuOptions, ManageCgroups, RestoreOptions};
pub use restore::restore;

use crate::error::{Context, Error, Result};
use barque_types::spec::{self, NamespaceKind};
use messages::{Response, opts};
use protobuf::Message;
use service::Service;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where systems keep their programs; CRIU is an administrator's tool.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// `CLONE_NEWNET`: of a network namespace only its existence is kept; what is in it is the business of
/// whoever configured it (as with runc).
const EMPTY_NAMESPACES: u32 = 0x4000_0000;

/// Everything: the log is read when something fails.
const LOG_LEVEL: i32 = 4;

/// Where CRIU works: its log is there.
struct Directories {
    /// Its working directory.
    work: PathBuf,
    log: PathBuf,
}

impl Directories {
    fn new(options: &CriuOptions<'_>, log: &str) -> Result<Self> {
        if let Some(path) = options.work_path {
            make_directory(path)?;
        }
        let work = options.work_path.unwrap_or(options.image_path).to_owned();
        let log = work.join(log);
        // What an earlier attempt says is not to be taken for this one's.
        match std::fs::remove_file(&log) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).step(|| format!("removing {}", log.display()))?;
            }
            _ => {}
        }
        Ok(Self { work, log })
    }
}

fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(path)
        .step(|| format!("making {}", path.display()))
}

/// What is said in both directions.
fn common(
    options: &CriuOptions<'_>,
    directories: &Directories,
    service: &Service,
    joined: &[NamespaceKind],
) -> Message {
    let mut message = Message::default();
    message
        .int(opts::IMAGES_DIR_FD, service.directory(0))
        .int(opts::WORK_DIR_FD, service.directory(1))
        .int(opts::LOG_LEVEL, LOG_LEVEL)
        .text(
            opts::LOG_FILE,
            directories.log.file_name().unwrap_or_default().as_bytes(),
        )
        .flag(opts::NOTIFY_SCRIPTS, true)
        .flag(opts::TCP_ESTABLISHED, options.tcp_established)
        .flag(opts::EXT_UNIX_SK, options.ext_unix_sk)
        .flag(opts::SHELL_JOB, options.shell_job)
        .flag(opts::FILE_LOCKS, options.file_locks)
        .flag(opts::AUTO_DEDUP, options.auto_dedup)
        .flag(opts::LAZY_PAGES, options.lazy_pages)
        .flag(opts::ORPHAN_PTS_MASTER, true)
        .number(opts::MANAGE_CGROUPS_MODE, options.cgroups.code())
        .number(opts::EMPTY_NS, EMPTY_NAMESPACES)
        .number(opts::NETWORK_LOCK, network_lock(options, joined));
    if let Some(file) = options.config_file {
        message.text(opts::CONFIG_FILE, file.as_os_str().as_bytes());
    }
    message
}

/// How packets are kept away while sockets are taken down or set up. In a namespace that others use, too,
/// only for the sake of connections: there CRIU's table of rules would stay, and be in the way of the
/// restore.
fn network_lock(options: &CriuOptions<'_>, joined: &[NamespaceKind]) -> u32 {
    match joined.contains(&NamespaceKind::Network) && !options.tcp_established {
        true => messages::NO_LOCK,
        false => messages::LOCK_BY_NFTABLES,
    }
}

/// The path of a program that may be named without one.
fn program(name: &Path) -> Result<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    DIRECTORIES
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| service::missing(&name.display().to_string()))
}

/// What failed, why, and where more stands.
fn failed(doing: &str, response: &Response, log: &Path) -> Error {
    let errno = (response.errno > 0).then(|| crate::error::errno_text(response.errno));
    let why = log::errors(log)
        .or_else(|| response.message.clone().filter(|m| !m.is_empty()))
        .or(errno)
        .unwrap_or_else(|| "it does not say why".to_owned());
    Error::Criu(format!(
        "criu failed to {doing}: {}: the log is {}",
        why.trim(),
        log.display()
    ))
}

/// An error of the conversation, with what the log tells about it.
fn explain(error: Error, log: &Path) -> Error {
    match (error, log::errors(log)) {
        (Error::Criu(what), Some(line)) => {
            Error::Criu(format!("{what}: {line}: the log is {}", log.display()))
        }
        (error, _) => error,
    }
}

/// The name that CRIU knows a namespace by which it does not restore but is given.
fn external_namespace(kind: NamespaceKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// The kinds that the container did not make but joined.
fn joined(options: &CriuOptions<'_>, spec: &spec::Spec) -> Vec<NamespaceKind> {
    let mut kinds = options.joined.clone();
    for namespace in spec.linux.iter().flat_map(|l| &l.namespaces) {
        if namespace.path.is_some() && !kinds.contains(&namespace.kind) {
            kinds.push(namespace.kind);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere() {
        let error = program(Path::new("no-such-criu")).expect_err("it is nowhere");
        let text = error.to_string();
        assert!(text.contains("no-such-criu: not found"), "{text}");
        assert!(text.contains("CRIU 4.1 or later"), "{text}");
        let path = Path::new("/x/criu");
        assert_eq!(program(path).expect("a path is taken as it is"), path);
    }
}
