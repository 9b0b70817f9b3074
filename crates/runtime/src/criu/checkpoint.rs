//! From a running container to an image.

use super::messages::{Kind, Notification, opts, page_server, pair, request};
use super::options::CheckpointOptions;
use super::protobuf::Message;
use super::service::{Launch, Service};
use super::{Directories, common, explain, external_namespace, failed, image::Image};
use super::{joined, make_directory, mountinfo, mounts, program, streams};
use crate::error::{Context, Error, Result};
use crate::exec::ended;
use barque_types::spec::NamespaceKind;
use rustix::fs::{CWD, Mode, OFlags, openat, stat};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Field of `criu_features`: memory that was written since can be told from other.
const MEM_TRACK: u32 = 1;
/// Field of `criu_features`: memory can be served when it is touched.
const LAZY_PAGES: u32 = 2;

/// Writes a container's processes into `image_path`. Unless it is left running (or `pre_dump`), they are
/// gone afterwards, killed by `SIGKILL`: the caller has to reap the first, if it is its child.
///
/// A failure leaves the container running.
///
/// # Errors
/// [`Error::Criu`] when CRIU is missing, too old or fails (with the last error of its log);
/// [`Error::Gone`]; those of looking at the container.
pub fn checkpoint(mut options: CheckpointOptions<'_>) -> Result<()> {
    let criu = program(options.criu.program)?;
    make_directory(options.criu.image_path)?;
    let directories = Directories::new(&options.criu, "dump.log")?;
    let launch = Launch {
        directories: vec![options.criu.image_path, &directories.work],
        ..Launch::default()
    };
    let mut service = Service::start(&criu, &launch)?;
    check_features(&mut service, &options)?;
    let joined = joined(&options.criu, options.spec);
    let mut message = common(&options.criu, &directories, &service, &joined);
    let image = outside(&options, &joined, &mut message)?;
    // What was looked at above was the container's only if it is still alive.
    if ended(options.pidfd) {
        return Err(Error::Gone { pid: options.pid });
    }
    asked(&options, &mut message);
    let kind = match options.pre_dump {
        true => Kind::SinglePreDump,
        false => Kind::Dump,
    };
    if !options.pre_dump {
        image.write(options.criu.image_path)?;
    }
    let mut status = options.status_fd.take();
    let mut notify = |notification: Notification| {
        if notification.script == "status-ready"
            && let Some(fd) = status.take()
        {
            rustix::io::write(&fd, &[0]).step(|| "writing to the status descriptor")?;
        }
        Ok(())
    };
    let outcome = service.carry_out(&request(kind, Some(&message)), &mut notify);
    service.end();
    let response = outcome.map_err(|error| explain(error, &directories.log))?;
    match response.success {
        true => Ok(()),
        false => Err(failed("dump the container", &response, &directories.log)),
    }
}

/// Finds what is from outside, and says it.
fn outside(
    options: &CheckpointOptions<'_>,
    joined: &[NamespaceKind],
    message: &mut Message,
) -> Result<Image> {
    let pid = options.pid;
    let entries = mountinfo::of(pid)?;
    let root = root_of(pid)?;
    let found = mounts::find(options.spec, &root, &entries)?;
    for mount in &found {
        let map = pair(mount.mount_point.as_os_str().as_bytes(), &mount.cookie);
        message.message(opts::EXT_MNT, &map);
    }
    // Mounts that events come into from the host, or that a host's mount is a peer of.
    message
        .flag(opts::EXT_MASTERS, entries.iter().any(|e| e.slave))
        .flag(opts::EXT_SHARING, entries.iter().any(|e| e.shared));
    for kind in joined {
        let Some((file, key)) = external_namespace(*kind) else {
            continue;
        };
        let path = format!("/proc/{pid}/ns/{file}");
        let inode = stat(path.as_str())
            .step(|| format!("looking at {path}"))?
            .st_ino;
        message.text(opts::EXTERNAL, format!("{file}[{inode}]:{key}"));
    }
    let streams = streams::of(pid, &entries)?;
    for stream in streams.iter().flatten().filter(|s| s.declare) {
        message.text(opts::EXTERNAL, &stream.key);
    }
    Ok(Image::new(found, streams.map(|s| s.map(|s| s.key))))
}

fn root_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    openat(
        CWD,
        path.as_str(),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| format!("opening {path}"))
}

/// What the caller wants.
fn asked(options: &CheckpointOptions<'_>, message: &mut Message) {
    message
        .int(opts::PID, options.pid)
        .flag(opts::LEAVE_RUNNING, options.leave_running)
        .flag(opts::LINK_REMAP, options.link_remap)
        .flag(opts::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight);
    if let Some(freezer) = &options.freezer {
        message.text(opts::FREEZE_CGROUP, freezer.as_os_str().as_bytes());
    }
    if let Some(parent) = options.parent_path {
        message
            .text(opts::PARENT_IMG, parent.as_os_str().as_bytes())
            .flag(opts::TRACK_MEM, true);
    }
    if let Some((address, port)) = &options.page_server {
        message.message(opts::PAGE_SERVER, &page_server(address, *port));
    }
}

fn check_features(service: &mut Service, options: &CheckpointOptions<'_>) -> Result<()> {
    let tracked = options.pre_dump || options.parent_path.is_some();
    if tracked && !service.has_feature(MEM_TRACK)? {
        return Err(Error::Criu(
            "a pre-dump needs a kernel that tracks written memory (CONFIG_MEM_SOFT_DIRTY)"
                .to_owned(),
        ));
    }
    if options.criu.lazy_pages && !service.has_feature(LAZY_PAGES)? {
        return Err(Error::Criu(
            "lazy pages need a kernel with userfaultfd (CONFIG_USERFAULTFD)".to_owned(),
        ));
    }
    Ok(())
}
