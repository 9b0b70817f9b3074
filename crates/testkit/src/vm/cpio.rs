//! The initramfs: a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/
//! buffer-format.rst of the kernel).

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// Files by path; parents are made as needed and, by their order, come first.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An archive with `/dev/console`, without which the kernel gives init no stdio.
    pub(super) fn new() -> Self {
        let mut archive = Self {
            entries: BTreeMap::new(),
        };
        archive.put("/dev/console", CHARACTER | 0o600, (5, 1), Vec::new());
        archive
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        self.put(path, REGULAR | mode, (0, 0), data);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.put(path, LINK | 0o777, (0, 0), target.into());
    }

    fn put(&mut self, path: &str, mode: u32, device: (u32, u32), data: Vec<u8>) {
        // The kernel takes names relative to the root.
        let name = path.trim_start_matches('/');
        for (at, _) in name.match_indices('/') {
            self.entries.entry(name[..at].to_owned()).or_insert(Entry {
                mode: DIRECTORY | 0o755,
                device: (0, 0),
                data: Vec::new(),
            });
        }
        self.entries
            .insert(name.to_owned(), Entry { mode, device, data });
    }

    /// The archive. A parent's name is a prefix of its children's and so sorts before them.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (name, entry)) in self.entries.iter().enumerate() {
            record(&mut out, number as u32 + 1, name, entry);
        }
        let end = Entry {
            mode: 0,
            device: (0, 0),
            data: Vec::new(),
        };
        record(&mut out, 0, "TRAILER!!!", &end);
        out
    }
}

fn record(out: &mut Vec<u8>, inode: u32, name: &str, entry: &Entry) {
    let size = u32::try_from(entry.data.len()).expect("a file of an initramfs is below 4 GiB");
    let links = 1;
    let fields = [
        inode,
        entry.mode,
        0, // uid
        0, // gid
        links,
        0, // mtime
        size,
        0, // device of the file system
        0,
        entry.device.0,
        entry.device.1,
        name.len() as u32 + 1,
        0, // checksum, unused in this form
    ];
    out.extend(b"070701");
    for field in fields {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    pad(out);
    out.extend(&entry.data);
    pad(out);
}

/// Headers and data begin at multiples of four.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_records_are_aligned() {
        let mut archive = Archive::new();
        archive.file("/a/b/c", 0o644, b"12345".to_vec());
        let bytes = archive.bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| {
            text.find(name)
                .unwrap_or_else(|| panic!("{name} in {text}"))
        };
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"));
        assert!(text.contains("12345") && text.contains("TRAILER!!!"));
    }
}
