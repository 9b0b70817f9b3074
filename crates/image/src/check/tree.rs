//! A layer's directory beside what it must look like, by fds.

use super::expect::{Attributes, Expected, Node, is_dir};
use crate::archive::Kind;
use crate::path::{join, show};
use crate::tree::open_dir;
use crate::unpack::{is_whiteout, opaque_name, privileged, wanted};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// More differences of one layer are counted, not listed.
const MAX_LISTED: usize = 10;

/// The differences, as sentences without a subject.
pub(super) fn compare(diff: OwnedFd, expected: Expected) -> Result<Vec<String>, Errno> {
    let mut comparison = Comparison {
        expected,
        inodes: HashMap::new(),
        buffer: vec![MaybeUninit::uninit(); 32 << 10],
        found: Vec::new(),
        more: 0,
    };
    let top = rustix::fs::fstat(&diff)?;
    if let Some(Node::Entry(attributes, _)) = comparison.expected.nodes.remove(&b""[..]) {
        comparison.attributes(&diff, c".", b"", &attributes, &top);
    }
    comparison.directory(&diff, b"")?;
    let missing = std::mem::take(&mut comparison.expected.nodes);
    // Without privilege there are no devices: the unpacker left them out.
    let missing = missing
        .into_iter()
        .filter(|(_, node)| privileged() || !is_device(node));
    let missing: Vec<_> = missing.map(|(path, _)| path).collect();
    for path in missing {
        comparison.tell(&path, "is missing");
    }
    Ok(comparison.end())
}

fn is_device(node: &Node) -> bool {
    let Node::Entry(attributes, _) = node else {
        return false;
    };
    matches!(attributes.kind, Kind::Char { .. } | Kind::Block { .. })
}

struct Comparison {
    expected: Expected,
    /// The inode on disk of each inode of the archive.
    inodes: HashMap<u64, (u64, u64)>,
    buffer: Vec<MaybeUninit<u8>>,
    found: Vec<String>,
    more: usize,
}

impl Comparison {
    fn tell(&mut self, path: &[u8], what: &str) {
        if self.found.len() < MAX_LISTED {
            self.found.push(format!("{} {what}", show(path)));
        } else {
            self.more += 1;
        }
    }

    fn end(mut self) -> Vec<String> {
        if self.more > 0 {
            self.found
                .push(format!("and {} more differences", self.more));
        }
        self.found
    }

    fn directory(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
        for name in self.names(dir)? {
            let at = join(path, name.to_bytes());
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let Some(node) = self.expected.nodes.remove(&at) else {
                self.tell(&at, "is not part of it");
                continue;
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_dir(&node) != is_directory {
                self.tell(&at, "is something else");
                continue;
            }
            match &node {
                Node::Whiteout if !is_whiteout(&stat) => self.tell(&at, "is no whiteout"),
                Node::Whiteout | Node::Implied => {}
                Node::Entry(attributes, inode) => {
                    self.attributes(dir, &name, &at, attributes, &stat);
                    let now = (stat.st_dev, stat.st_ino);
                    if *self.inodes.entry(*inode).or_insert(now) != now {
                        self.tell(&at, "is no hard link any more");
                    }
                }
            }
            if is_directory {
                let sub = open_dir(dir, &name)?;
                self.opaque(&sub, &at)?;
                self.directory(&sub, &at)?;
            }
        }
        Ok(())
    }

    fn names(&mut self, dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn opaque(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
        let mut value = [0u8; 8];
        let name = opaque_name(privileged());
        let is = match rustix::fs::fgetxattr(dir, name, &mut value[..]) {
            Ok(n) => value[..n] == *b"y",
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Err(e) => return Err(e),
        };
        match (self.expected.opaque.contains(path), is) {
            (true, false) => self.tell(path, "hides nothing any more"),
            (false, true) => self.tell(path, "hides what lies beneath it"),
            _ => {}
        }
        Ok(())
    }

    fn attributes(
        &mut self,
        dir: impl AsFd,
        name: &CStr,
        path: &[u8],
        want: &Attributes,
        is: &Stat,
    ) {
        let kind = FileType::from_raw_mode(is.st_mode);
        let right = match want.kind {
            Kind::File => kind == FileType::RegularFile,
            Kind::Dir => kind == FileType::Directory,
            Kind::Symlink => kind == FileType::Symlink,
            Kind::Fifo => kind == FileType::Fifo,
            Kind::Char { major, minor } => {
                kind == FileType::CharacterDevice && is.st_rdev == rustix::fs::makedev(major, minor)
            }
            Kind::Block { major, minor } => {
                kind == FileType::BlockDevice && is.st_rdev == rustix::fs::makedev(major, minor)
            }
            Kind::Hardlink => true,
        };
        if !right {
            return self.tell(path, "is something else");
        }
        if want.kind != Kind::Symlink && is.st_mode & 0o7777 != want.mode {
            let (now, then) = (is.st_mode & 0o7777, want.mode);
            self.tell(path, &format!("has the mode {now:o} instead of {then:o}"));
        }
        if (is.st_uid, is.st_gid) != (want.uid, want.gid) {
            let now = format!("{}:{}", is.st_uid, is.st_gid);
            self.tell(
                path,
                &format!("belongs to {now} instead of {}:{}", want.uid, want.gid),
            );
        }
        if want.kind == Kind::File && u64::try_from(is.st_size) != Ok(want.size) {
            self.tell(
                path,
                &format!("has {} bytes instead of {}", is.st_size, want.size),
            );
        }
        if (is.st_mtime, is.st_mtime_nsec as u32) != want.mtime {
            self.tell(path, "has another time of modification");
        }
        if want.kind == Kind::Symlink
            && rustix::fs::readlinkat(&dir, name, Vec::new()).map(CString::into_bytes)
                != Ok(want.link.clone())
        {
            self.tell(path, "leads elsewhere");
        }
        self.xattrs(dir, name, path, want);
    }

    fn xattrs(&mut self, dir: impl AsFd, name: &CStr, path: &[u8], want: &Attributes) {
        // The last one of a name counts.
        let last: HashMap<&[u8], &[u8]> = wanted(&want.xattrs).collect();
        for (key, value) in last {
            let mut by_fd = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
            by_fd.extend_from_slice(name.to_bytes());
            // One byte of room more, so that a longer value is another one.
            let mut now = vec![0; value.len() + 1];
            match rustix::fs::lgetxattr(by_fd, key, &mut now[..]) {
                Ok(n) if now[..n] == *value => {}
                // It could not be set either.
                Err(Errno::OPNOTSUPP) => {}
                Err(_) if !privileged() => {}
                _ => self.tell(
                    path,
                    &format!("has lost or changed its attribute {}", show(key)),
                ),
            }
        }
    }
}
