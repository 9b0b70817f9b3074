//! Owners, modes, times and extended attributes, and who may set them.

use crate::path::show;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

pub(super) fn times((secs, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The attributes to set. An archive has no business with overlayfs's own: they would redirect lookups between layers.
pub(crate) fn wanted(xattrs: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = xattrs
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()));
    all.filter(|(key, _)| {
        !key.starts_with(b"trusted.overlay.") && !key.starts_with(b"user.overlay.")
    })
}

/// File systems differ in the attributes they know: as under Docker that is a warning, but a lost capability is an error.
pub(super) fn tolerate_xattr(set: Result<(), Errno>, key: &[u8]) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) => {}
        Err(Errno::PERM) if !privileged() => {}
        other => return other,
    }
    tracing::warn!(attribute = %show(key), "extended attribute left out: the file system does not take it");
    Ok(())
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) const fn opaque_name(privileged: bool) -> &'static str {
    if privileged {
        "trusted.overlay.opaque"
    } else {
        "user.overlay.opaque"
    }
}

/// Whether this process may set `trusted.` attributes: CAP_SYS_ADMIN in the first user namespace.
pub(crate) fn privileged() -> bool {
    static PRIVILEGED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *PRIVILEGED.get_or_init(|| {
        let capable = rustix::thread::capabilities(None).is_ok_and(|sets| {
            sets.effective
                .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
        });
        // The first namespace maps all of the 32 bits onto themselves; no other map is as long.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        capable && map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// The process's umask, read without changing it: it belongs to all threads.
pub(super) fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Umask:"));
    // Unknown (no /proc): as if it took all bits, so that every mode is set explicitly.
    line.and_then(|l| u32::from_str_radix(l.trim(), 8).ok())
        .unwrap_or(0o777)
}

/// Opens the directory to unpack into, free of what the directory above would pass on to new files.
pub(crate) fn prepare_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let ours = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_uid, stat.st_gid) != ours {
        rustix::fs::fchown(
            &fd,
            Some(Uid::from_raw(ours.0)),
            Some(Gid::from_raw(ours.1)),
        )?;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
    // A default ACL would replace the umask in what creation gives.
    match rustix::fs::fremovexattr(fd.as_fd(), "system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(fd),
        Err(e) => Err(e),
    }
}
