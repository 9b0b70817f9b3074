//! placeholder
use std::path::PathBuf;
/// What a container's file system stands on.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The layers of an image.
    Image(&'a crate::Image),
    /// A directory of the host (`run --rootfs`), used read-only.
    Directory(&'a std::path::Path),
}

/// A container's overlay: everything that a mount needs. Nothing is mounted by this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The container's id.
    pub id: String,
    /// Lower directories, top first (the order of overlay's `lowerdir`).
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Overlay's work directory.
    pub work: PathBuf,
    /// Where `inspect` says that the container's root is seen; an empty directory on the host.
    pub merged: PathBuf,
    /// Whether whiteouts and opaque marks are `user.overlay.*` (an unprivileged store): mount with `userxattr`.
    pub userxattr: bool,
}
