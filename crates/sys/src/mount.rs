//! The parts of the new mount API (5.2) that `rustix` lacks: `mount_setattr` (5.12), and the
//! messages that a file-system context keeps for whoever configured it wrongly.

use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What the calls here return on failure: the errno.
pub type Result<T> = std::result::Result<T, Errno>;

/// Attributes of a mount (`MOUNT_ATTR_*`, mount_setattr(2)); a bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const RDONLY: Self = Self(0x1);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);
    /// The mask of the access-time mode; `relatime` is zero in it.
    pub const ATIME: Self = Self(0x70);
    /// Access times are never updated.
    pub const NOATIME: Self = Self(0x10);
    /// Access times are always updated.
    pub const STRICTATIME: Self = Self(0x20);
    /// Access times of directories are never updated.
    pub const NODIRATIME: Self = Self(0x80);
    /// Ids are mapped by a user namespace (5.12).
    pub const IDMAP: Self = Self(0x0010_0000);
    /// Symbolic links are not followed (5.14).
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Attributes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// How mount events spread (`mount_namespaces(7)`, "SHARED SUBTREES").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the master to here.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and it cannot be bind-mounted.
    Unbindable,
}

/// One change for [`set_attributes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// Attributes to set.
    pub set: Attributes,
    /// Attributes to clear first; setting an access-time mode clears [`Attributes::ATIME`].
    pub clear: Attributes,
    /// A new propagation type.
    pub propagation: Option<Propagation>,
    /// The user namespace whose map is used, with [`Attributes::IDMAP`].
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` is the root of, and with `recursive` those below it, at once or
/// not at all (mount_setattr(2), 5.12).
pub fn set_attributes(mount: impl AsFd, recursive: bool, change: Change<'_>) -> Result<()> {
    let attr = MountAttr {
        attr_set: change.set.bits(),
        attr_clr: change.clear.bits(),
        propagation: match change.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: change.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal and `attr` is a mount_attr of the size given;
    // the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags as u32,
            &raw const attr,
            std::mem::size_of::<MountAttr>(),
        )
    };
    if result == -1 {
        // SAFETY: the pointer is to this thread's errno, always valid.
        return Err(Errno::from_raw_os_error(unsafe {
            *libc::__errno_location()
        }));
    }
    Ok(())
}

/// What the kernel has to say about a failed configuration of a file-system context (fsopen(2)):
/// its messages, without their `e `, `w ` or `i ` prefix, joined by `; `.
pub fn context_messages(context: impl AsFd) -> String {
    let mut messages = Vec::new();
    let mut buffer = [0u8; 1024];
    // One message a read; ENODATA when there is none left.
    while let Ok(n @ 1..) = rustix::io::read(context.as_fd(), &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]);
        messages.push(text.trim_end().get(2..).unwrap_or_default().to_owned());
    }
    messages.join("; ")
}
