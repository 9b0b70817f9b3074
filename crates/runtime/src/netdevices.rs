//! `linux.netDevices`: interfaces of the caller's network namespace become the container's.

use crate::birthplace::in_network;
use crate::error::{Context, Error, Result};
use crate::exec::open_namespace;
use barque_sys::netlink::{Address, Links};
use barque_types::spec::{NamespaceKind, NetDevice};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// Interfaces that are in the container, and come back when this is dropped, unless it is [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Moved {
    /// The container's namespace: it outlives the container's processes while we hold it.
    there: OwnedFd,
    home: OwnedFd,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    outside: String,
    inside: String,
    up: bool,
    addresses: Vec<Address>,
}

/// Checks the names: at most 15 bytes, no slash, no space, no colon (`dev_valid_name`).
pub(crate) fn check(devices: &BTreeMap<String, NetDevice>, own_network: bool) -> Result<()> {
    if !devices.is_empty() && !own_network {
        return Err(Error::invalid(
            "linux.netDevices",
            "need a network namespace that is not the host's",
        ));
    }
    let mut seen = Vec::new();
    for (outside, device) in devices {
        let inside = inside_name(outside, device);
        for name in [outside.as_str(), inside] {
            let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
            if name.is_empty()
                || name.len() > 15
                || name == "."
                || name == ".."
                || name.contains(bad)
            {
                return Err(Error::invalid(
                    "linux.netDevices",
                    format!("{name:?} is not the name of an interface"),
                ));
            }
        }
        if seen.contains(&inside) {
            return Err(Error::invalid(
                "linux.netDevices",
                format!("two interfaces would be {inside:?} in the container"),
            ));
        }
        seen.push(inside);
    }
    Ok(())
}

fn inside_name<'a>(outside: &'a str, device: &'a NetDevice) -> &'a str {
    match device.name.as_deref() {
        None | Some("") => outside,
        Some(name) => name,
    }
}

impl Moved {
    /// Moves them into the network namespace of the process, with their permanent addresses, and up if they
    /// were up.
    pub fn into_container(pid: i32, devices: &BTreeMap<String, NetDevice>) -> Result<Option<Self>> {
        if devices.is_empty() {
            return Ok(None);
        }
        let mut moved = Self {
            there: open_namespace(pid, NamespaceKind::Network)?,
            home: open_namespace(std::process::id().cast_signed(), NamespaceKind::Network)?,
            devices: Vec::new(),
        };
        let links = Links::open().step(|| "opening rtnetlink")?;
        for (outside, device) in devices {
            let inside = inside_name(outside, device);
            let step = || format!("moving the interface {outside:?} into the container");
            let (index, up) = links.find(outside).step(step)?;
            let addresses = links.addresses(index).step(step)?;
            let sent = links.move_to(index, moved.there.as_fd(), inside);
            // The kernel moves first and renames then: it may be there, under its old name.
            let left = sent.is_ok() || links.find(outside).is_err();
            if left {
                // From here on it has to come back when anything fails.
                moved.devices.push(Device {
                    outside: outside.clone(),
                    inside: if sent.is_ok() { inside } else { outside }.to_owned(),
                    up,
                    addresses,
                });
            }
            sent.map_err(|e| refused(step(), e))?;
        }
        in_network(moved.there.as_fd(), || {
            moved.devices.iter().try_for_each(|d| d.settle(&d.inside))
        })?;
        Ok(Some(moved))
    }

    /// They stay in the container.
    pub fn keep(mut self) {
        self.devices.clear();
    }

    fn bring_back(&mut self) -> Result<()> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let devices = std::mem::take(&mut self.devices);
        let home = self.home.as_fd();
        in_network(self.there.as_fd(), || {
            let links = Links::open().step(|| "opening rtnetlink")?;
            for device in &devices {
                let step = || format!("bringing the interface {:?} back", device.outside);
                let (index, _) = links.find(&device.inside).step(step)?;
                links.move_to(index, home, &device.outside).step(step)?;
            }
            Ok(())
        })?;
        devices.iter().try_for_each(|d| d.settle(&d.outside))
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // On the way out of an error, which is the one to report.
        let _ = self.bring_back();
    }
}

impl Device {
    /// Gives it what the move has taken, in the namespace where we are.
    fn settle(&self, name: &str) -> Result<()> {
        let step = || format!("setting up the interface {name:?}");
        let links = Links::open().step(step)?;
        let (index, _) = links.find(name).step(step)?;
        for address in self.addresses.iter().filter(|a| a.is_permanent()) {
            match links.add_address(index, address) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::step(step(), e)),
            }
        }
        match self.up {
            true => links.up(index).step(step),
            false => Ok(()),
        }
    }
}

fn refused(step: String, errno: Errno) -> Error {
    let error = Error::step(step, errno);
    match errno {
        Errno::EXIST => error.with_hint("the container has an interface of that name"),
        Errno::INVAL => error.with_hint("it is one that cannot leave its network namespace"),
        _ => error,
    }
}
