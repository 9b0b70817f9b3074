//! Network interfaces: for now, the loopback device of a new network namespace.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::os::fd::AsRawFd;

/// Brings `lo` of the caller's network namespace up (netdevice(7)).
pub fn loopback_up() -> Result<(), Errno> {
    // Interface ioctls work on a socket of any family, and this one is always compiled in.
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data; zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &mut request)
}

fn ioctl(fd: i32, number: libc::Ioctl, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: both callers pass an ioctl that reads and writes exactly one ifreq, which `request`
    // is, with a NUL-terminated name.
    if unsafe { libc::ioctl(fd, number, std::ptr::from_mut(request)) } == -1 {
        // SAFETY: the pointer is to this thread's errno, always valid.
        return Err(Errno::from_raw_os_error(unsafe {
            *libc::__errno_location()
        }));
    }
    Ok(())
}
