//! Making detached mounts with the new mount API (5.2): a file system or a part of the tree that is
//! mounted nowhere yet, held by a descriptor, and gone with it.

use crate::error::{Error, Result};
use barque_sys::mount::{self, Attributes, Change, Propagation};
use rustix::io::Errno;
use rustix::mount as api;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A file-system context (fsopen(2)) that turns the kernel's messages into advice.
pub(crate) struct Context {
    fd: OwnedFd,
    step: String,
}

impl Context {
    /// Opens one for a type of file system; `step` names the whole operation in errors.
    pub fn open(kind: &str, step: impl Into<String>) -> Result<Self> {
        let step = step.into();
        match api::fsopen(kind, api::FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Self { fd, step }),
            Err(Errno::NODEV) => Err(Error::step(step, Errno::NODEV)
                .with_hint(format!("this kernel has no file system {kind:?}"))),
            Err(e) => Err(Error::step(step, e)),
        }
    }

    /// Opens that of the file system which is mounted where `mount` points to, to change it.
    pub fn pick(mount: impl AsFd, step: impl Into<String>) -> Result<Self> {
        let step = step.into();
        let flags = api::FsPickFlags::FSPICK_CLOEXEC | api::FsPickFlags::FSPICK_EMPTY_PATH;
        match api::fspick(mount, "", flags) {
            Ok(fd) => Ok(Self { fd, step }),
            Err(e) => Err(Error::step(step, e)),
        }
    }

    fn check(&self, result: rustix::io::Result<()>) -> Result<()> {
        result.map_err(|e| self.explain(e))
    }

    fn explain(&self, errno: Errno) -> Error {
        let error = Error::step(self.step.clone(), errno);
        match mount::context_messages(&self.fd) {
            text if text.is_empty() => error,
            text => error.with_hint(text),
        }
    }

    /// Sets `key=value`.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.check(api::fsconfig_set_string(&self.fd, key, value))
    }

    /// Sets a parameter without a value.
    pub fn flag(&self, key: &str) -> Result<()> {
        self.check(api::fsconfig_set_flag(&self.fd, key))
    }

    /// Sets a parameter without a value that this file system may not know, for what it does then is
    /// all that it can.
    pub fn switch(&self, key: &str) -> Result<()> {
        match api::fsconfig_set_flag(&self.fd, key) {
            Err(Errno::INVAL) => {
                // "Unknown parameter": not to be read as the reason of a later failure.
                mount::context_messages(&self.fd);
                Ok(())
            }
            other => self.check(other),
        }
    }

    /// Sets a parameter to a file.
    pub fn set_fd(&self, key: &str, fd: impl AsFd) -> Result<()> {
        self.check(api::fsconfig_set_fd(&self.fd, key, fd))
    }

    /// Applies what was set to a file system that exists.
    pub fn reconfigure(self) -> Result<()> {
        self.check(api::fsconfig_reconfigure(&self.fd))
    }

    /// Makes the file system and a detached mount of it.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd> {
        self.check(api::fsconfig_create(&self.fd))?;
        api::fsmount(
            &self.fd,
            api::FsMountFlags::FSMOUNT_CLOEXEC,
            api::MountAttrFlags::from_bits_retain(attributes.bits() as u32),
        )
        .map_err(|e| self.explain(e))
    }
}

/// A detached copy of the mount that `path` is on, from `path` down: what a bind mount is made of.
pub(crate) fn clone_tree(
    dir: impl AsFd,
    path: &Path,
    recursive: bool,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = api::OpenTreeFlags::OPEN_TREE_CLONE
        | api::OpenTreeFlags::OPEN_TREE_CLOEXEC
        | api::OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= api::OpenTreeFlags::AT_RECURSIVE;
    }
    api::open_tree(dir, path, flags)
}

/// Attaches a detached mount to the place that a descriptor refers to.
pub(crate) fn attach(mount: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    api::move_mount(
        mount,
        "",
        place,
        "",
        api::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | api::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Sets attributes of one mount.
pub(crate) fn set(mount: impl AsFd, attributes: Attributes) -> rustix::io::Result<()> {
    mount::set_attributes(
        mount,
        false,
        Change {
            set: attributes,
            ..Change::default()
        },
    )
}

/// Sets the propagation of a mount, in the order of the list: a shared mount that is a slave first has
/// both.
pub(crate) fn propagate(mount: impl AsFd, list: &[(Propagation, bool)]) -> rustix::io::Result<()> {
    list.iter().try_for_each(|(propagation, recursive)| {
        let change = Change {
            propagation: Some(*propagation),
            ..Change::default()
        };
        mount::set_attributes(&mount, *recursive, change)
    })
}
