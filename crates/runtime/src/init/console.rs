//! The pseudo-terminal: one of the container's own devpts, so that its name (`/dev/pts/0`) is true
//! inside. The master goes to the parent, the slave becomes the standard streams.

use super::{cover, devices::file_to_cover};
use crate::channel::{FromChild, Socket};
use crate::error::{Context, Error, Result};
use crate::path::{self, Make};
use crate::plan::ProcessPlan;
use rustix::fs::{FileType, OFlags, makedev};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens one if the process wants it, and sends the master away; with `console`, it also becomes
/// `/dev/console`.
pub(super) fn open(
    plan: &ProcessPlan,
    root: &OwnedFd,
    socket: &Socket,
    console: bool,
) -> Result<Option<OwnedFd>> {
    let Some(size) = plan.terminal else {
        return Ok(None);
    };
    let master = master(root)?;
    unlockpt(&master).step(|| "unlocking the terminal")?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, peer).step(|| "opening the terminal")?;
    if (size.width, size.height) != (0, 0) {
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).step(|| "setting the size of the terminal")?;
    }
    if console {
        bind_console(root, &slave)?;
    }
    socket
        .send(&FromChild::Console, Some(master.as_fd()))
        .step(|| "handing over the terminal")?;
    Ok(Some(slave))
}

fn master(root: &OwnedFd) -> Result<OwnedFd> {
    let path = Path::new("/dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = path::open_in(root, path, flags).map_err(|e| {
        Error::step("opening /dev/pts/ptmx of the container", e)
            .with_hint("a terminal needs a devpts mounted at /dev/pts")
    })?;
    // An image, or a process of the container, may have put something else there.
    let stat = rustix::fs::fstat(&master).step(|| "looking at /dev/pts/ptmx")?;
    let real = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(5, 2);
    if real {
        Ok(master)
    } else {
        Err(Error::invalid(
            "/dev/pts/ptmx",
            "the container's is not the terminal multiplexer",
        ))
    }
}

/// `/dev/console` is the slave, bound by its descriptor and not by the name `/dev/pts/0`, which
/// another process might have pointed elsewhere (CVE-2025-52565).
fn bind_console(root: &OwnedFd, slave: &OwnedFd) -> Result<()> {
    let step = || "binding the terminal to /dev/console";
    let dev = path::make_in(root.as_fd(), Path::new("/dev"), Make::Directory)?;
    let place = file_to_cover(&dev, OsStr::new("console")).step(step)?;
    cover(slave, place).step(step)
}
