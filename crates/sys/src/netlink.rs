//! Interfaces by rtnetlink(7): moving one to another network namespace, and what it loses by that.

use crate::process::Result;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An address of an interface, as the kernel tells it: enough of it to give it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    scope: u8,
    /// The attributes that describe it, as they came.
    attributes: Vec<u8>,
}

impl Address {
    /// Whether it was given by somebody and lasts: not one that came by autoconfiguration, nor a
    /// link-local one of the kernel's, which the new place makes by itself.
    pub fn is_permanent(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0 && self.scope != libc::RT_SCOPE_LINK
    }
}

/// A connection to the rtnetlink of the network namespace in which it is made.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
}

const HEADER: usize = 16;
const IFINFO: usize = 16;
const IFADDR: usize = 8;

impl Links {
    /// Opens one.
    pub fn open() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )?;
        Ok(Self { socket })
    }

    /// The index of an interface, and whether it is up; `ENODEV` when there is none of the name.
    pub fn find(&self, name: &str) -> Result<(u32, bool)> {
        let mut body = vec![0u8; IFINFO];
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        let reply = self.ask(libc::RTM_GETLINK, libc::NLM_F_ACK as u16, &body)?;
        let info = reply
            .iter()
            .find(|(kind, body)| *kind == libc::RTM_NEWLINK && body.len() >= IFINFO)
            .ok_or(Errno::NODEV)?;
        let flags = u32_at(&info.1, 8);
        Ok((u32_at(&info.1, 4), flags & libc::IFF_UP as u32 != 0))
    }

    /// Moves an interface to another network namespace, where it has the name `name`. It is down
    /// afterwards and has no addresses.
    pub fn move_to(&self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut body = ifinfo(index, 0, 0);
        let fd = namespace.as_raw_fd().to_ne_bytes();
        attribute(&mut body, libc::IFLA_NET_NS_FD, &fd);
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        self.ask(libc::RTM_NEWLINK, libc::NLM_F_ACK as u16, &body)
            .map(drop)
    }

    /// Brings an interface up.
    pub fn up(&self, index: u32) -> Result<()> {
        let up = libc::IFF_UP as u32;
        self.ask(
            libc::RTM_NEWLINK,
            libc::NLM_F_ACK as u16,
            &ifinfo(index, up, up),
        )
        .map(drop)
    }

    /// The addresses of an interface.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let flags = libc::NLM_F_DUMP as u16;
        let all = self.ask(libc::RTM_GETADDR, flags, &[0u8; IFADDR])?;
        Ok(all
            .iter()
            .filter(|(kind, body)| {
                *kind == libc::RTM_NEWADDR && body.len() >= IFADDR && u32_at(body, 4) == index
            })
            .map(|(_, body)| address(body))
            .collect())
    }

    /// Gives an interface an address.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(index.to_ne_bytes());
        body.extend(&address.attributes);
        let flags = (libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        self.ask(libc::RTM_NEWADDR, flags, &body).map(drop)
    }

    /// Sends a request; collects what comes until it is acknowledged or the dump is done.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        message.extend([0u8; 8]);
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut collected = Vec::new();
        // Dumps come in parts of at most 32 kB (`NLMSG_GOODSIZE`, netlink_dump()).
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let (length, _) = rustix::io::retry_on_intr(|| {
                recv(&self.socket, &mut buffer[..], RecvFlags::empty())
            })?;
            let mut rest = &buffer[..length];
            while rest.len() >= HEADER {
                let size = u32_at(rest, 0) as usize;
                if size < HEADER || size > rest.len() {
                    return Err(Errno::BADMSG);
                }
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let body = &rest[HEADER..size];
                match c_int::from(kind) {
                    libc::NLMSG_ERROR => {
                        let error = u32_at(body, 0).cast_signed();
                        return match error {
                            0 => Ok(collected),
                            _ => Err(Errno::from_raw_os_error(-error)),
                        };
                    }
                    libc::NLMSG_DONE => return Ok(collected),
                    _ => collected.push((kind, body.to_vec())),
                }
                rest = &rest[size.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

/// `struct ifaddrmsg` with its attributes; the lifetime (`IFA_CACHEINFO`) is not one to give back.
fn address(body: &[u8]) -> Address {
    let mut flags = u32::from(body[2]);
    let mut attributes = Vec::new();
    let mut rest = &body[IFADDR..];
    while rest.len() >= 4 {
        let size = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        if size < 4 || size > rest.len() {
            break;
        }
        match kind {
            libc::IFA_CACHEINFO => {}
            // The label is made of the interface's name, which may change.
            libc::IFA_LABEL => {}
            libc::IFA_FLAGS if size >= 8 => {
                flags = u32_at(rest, 4);
                attribute(&mut attributes, kind, &rest[4..size]);
            }
            _ => attribute(&mut attributes, kind, &rest[4..size]),
        }
        rest = &rest[size.next_multiple_of(4).min(rest.len())..];
    }
    Address {
        family: body[0],
        prefix: body[1],
        flags,
        scope: body[3],
        attributes,
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(((4 + value.len()) as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// Zero where the message is too short for it.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let links = Links::open().unwrap();
        assert_eq!(links.find("lo").map(|(index, _)| index), Ok(1));
        assert_eq!(links.find("none-such"), Err(Errno::NODEV));
        for address in links.addresses(1).unwrap() {
            assert!(address.is_permanent(), "{address:?}");
        }
    }
}
