//! What a layer's directory must look like, by its archive: the unpacker's rules played in memory. Pure.

use crate::archive::{Entry, Kind};
use crate::path::{clean, join, show, split, within};
use std::collections::BTreeMap;
use std::ops::Bound;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";
/// As the kernel's limit for one walk (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// One name in a layer's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// An entry of the archive made it. Hard links share the number of the inode.
    Entry(Box<Attributes>, u64),
    /// A directory that the archive implied, which may look as it likes.
    Implied,
    /// A whiteout.
    Whiteout,
}

/// What can be seen of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    pub link: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The whole directory, by clean path; the top is the empty path.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub nodes: BTreeMap<Vec<u8>, Node>,
    /// Directories that hide what lies beneath them.
    pub opaque: std::collections::BTreeSet<Vec<u8>>,
    inodes: u64,
}

impl Expected {
    /// Takes the archive's next entry.
    pub fn add(&mut self, entry: Entry) -> Result<(), String> {
        let about = |why: &str| format!("entry {} {why}", show(&entry.path));
        let path = clean(&entry.path).map_err(about)?;
        let (dir, name) = split(&path);
        if path.is_empty() {
            self.place(path, entry);
            return Ok(());
        }
        // In the unpacker's order: what makes no file makes no directory for it either.
        if name.starts_with(RESERVED) && name != OPAQUE {
            return Ok(());
        }
        let linked = match entry.kind {
            Kind::Hardlink if !name.starts_with(WHITEOUT) => {
                let target = clean(&entry.link).map_err(about)?;
                if target == path {
                    return Ok(());
                }
                let (dir, name) = split(&target);
                let target = self.directory(dir).map(|dir| join(&dir, name));
                let node = target.and_then(|target| self.nodes.get(&target).cloned());
                Some(node.ok_or_else(|| about("is a hard link to nothing"))?)
            }
            _ => None,
        };
        let dir = self.directory(dir).ok_or_else(|| about("leads nowhere"))?;
        if name.starts_with(WHITEOUT) {
            self.whiteout(dir, name);
            return Ok(());
        }
        let path = join(&dir, name);
        if let Some(node) = linked {
            self.forget(&path);
            self.nodes.insert(path, node);
            return Ok(());
        }
        let there = self.nodes.get(&path);
        let stays = entry.kind == Kind::Dir && there.is_some_and(is_dir);
        if !stays {
            // A directory over a whiteout replaces what the whiteout hid.
            let opaque = entry.kind == Kind::Dir && matches!(there, Some(Node::Whiteout));
            self.forget(&path);
            if opaque {
                self.opaque.insert(path.clone());
            }
        }
        self.place(path, entry);
        Ok(())
    }

    fn place(&mut self, path: Vec<u8>, entry: Entry) {
        let attributes = Attributes {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: entry.mtime,
            link: entry.link,
            xattrs: entry.xattrs,
        };
        self.inodes += 1;
        let node = Node::Entry(Box::new(attributes), self.inodes);
        self.nodes.insert(path, node);
    }

    fn whiteout(&mut self, dir: Vec<u8>, name: &[u8]) {
        if name == OPAQUE {
            if !dir.is_empty() {
                self.opaque.insert(dir);
            }
            return;
        }
        let path = join(&dir, &name[WHITEOUT.len()..]);
        match self.nodes.get(&path) {
            None => {
                self.nodes.insert(path, Node::Whiteout);
            }
            Some(node) if is_dir(node) => {
                self.opaque.insert(path);
            }
            Some(_) => {}
        }
    }

    /// Removes a path and all beneath it.
    fn forget(&mut self, path: &[u8]) {
        self.nodes.remove(path);
        self.opaque.remove(path);
        let above = (Bound::Excluded(path.to_vec()), Bound::Unbounded);
        let near = self.nodes.range::<Vec<u8>, _>(above);
        let doomed: Vec<_> = near
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(path))
            .filter(|name| within(name, path))
            .cloned()
            .collect();
        for name in doomed {
            self.opaque.remove(&name);
            self.nodes.remove(&name);
        }
    }

    /// Where a directory really is, made if it is missing. Links lead as in a chroot.
    fn directory(&mut self, dir: &[u8]) -> Option<Vec<u8>> {
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        let mut left: Vec<Vec<u8>> = parts(dir);
        while let Some(part) = left.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(split(&at).0.len());
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            match self.nodes.get(&next) {
                None => {
                    self.nodes.insert(next.clone(), Node::Implied);
                }
                Some(Node::Whiteout) => {
                    self.nodes.insert(next.clone(), Node::Implied);
                    self.opaque.insert(next.clone());
                }
                Some(Node::Entry(attributes, _)) if attributes.kind == Kind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if attributes.link.starts_with(b"/") {
                        at.clear();
                    }
                    left.extend(parts(&attributes.link));
                    continue;
                }
                Some(node) if is_dir(node) => {}
                Some(_) => return None,
            }
            at = next;
        }
        Some(at)
    }
}

pub(super) fn is_dir(node: &Node) -> bool {
    match node {
        Node::Implied => true,
        Node::Whiteout => false,
        Node::Entry(attributes, _) => attributes.kind == Kind::Dir,
    }
}

/// The parts of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind, link: &str) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            link: link.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        }
    }

    fn played(entries: &[(&str, Kind, &str)]) -> (Vec<String>, Vec<String>) {
        let mut expected = Expected::default();
        for (path, kind, link) in entries {
            expected.add(entry(path, *kind, link)).unwrap();
        }
        let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
        (
            expected.nodes.keys().map(text).collect(),
            expected.opaque.iter().map(text).collect(),
        )
    }

    #[test]
    fn links_lead_and_later_entries_replace() {
        use Kind::*;
        let (nodes, opaque) = played(&[
            ("usr/bin/", Dir, ""),
            ("bin", Symlink, "usr/bin"),
            ("bin/ls", File, ""),
            ("up", Symlink, "../../usr/./bin/.."),
            ("up/lib/x", File, ""),
            ("gone/a", File, ""),
            ("gone.not", File, ""),
            ("gone", File, ""),
        ]);
        let want = [
            "bin",
            "gone",
            "gone.not",
            "up",
            "usr",
            "usr/bin",
            "usr/bin/ls",
            "usr/lib",
            "usr/lib/x",
        ];
        assert_eq!(nodes, want);
        assert_eq!(opaque, [""; 0]);
    }

    #[test]
    fn whiteouts_and_what_the_archive_brings_itself() {
        use Kind::*;
        let (nodes, opaque) = played(&[
            ("a/.wh.x", File, ""),
            ("a/.wh..wh..opq", File, ""),
            ("d/", Dir, ""),
            (".wh.d", File, ""),
            (".wh.e", File, ""),
            ("e/", Dir, ""),
            (".wh.f", File, ""),
            ("f/g", File, ""),
            (".wh..wh.plnk", File, ""),
        ]);
        assert_eq!(nodes, ["a", "a/x", "d", "e", "f", "f/g"]);
        assert_eq!(opaque, ["a", "d", "e", "f"]);
    }

    #[test]
    fn endless_links_end() {
        let mut expected = Expected::default();
        expected.add(entry("l", Kind::Symlink, "l")).unwrap();
        assert!(expected.add(entry("l/x", Kind::File, "")).is_err());
    }
}
