//! The mounts of a container, as `/proc/PID/mountinfo` (proc_pid_mountinfo(5)) lists them.

use crate::error::{Context, Error, Result};
use crate::hierarchies::{unescape, v1_controllers};
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its id, and that of the mount that it is on.
    pub id: u64,
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// Which part of the file system is mounted.
    pub root: PathBuf,
    /// Where, from the root of the reader or of the process.
    pub mount_point: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// The controllers of a v1 hierarchy, empty for v2; `None` for all else.
    pub controllers: Option<String>,
    /// Whether events come in from a peer group (`master:N`).
    pub slave: bool,
    /// Whether it is in a peer group (`shared:N`).
    pub shared: bool,
}

/// Those of a process.
pub(super) fn of(pid: i32) -> Result<Vec<Entry>> {
    let path = format!("/proc/{pid}/mountinfo");
    match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Gone { pid }),
        other => Ok(parse(&other.step(|| format!("reading {path}"))?)),
    }
}

/// All of them, in their order.
pub(super) fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let id = head.next()?.parse().ok()?;
    let parent = head.next()?.parse().ok()?;
    let device = head.next()?.to_owned();
    let (root, mount_point) = (unescape(head.next()?), unescape(head.next()?));
    let optional: Vec<&str> = head.skip(1).collect();
    let tagged = |tag: &str| optional.iter().any(|field| field.starts_with(tag));
    let mut tail = tail.split(' ');
    let kind = tail.next()?.to_owned();
    let controllers = match kind.as_str() {
        "cgroup2" => Some(String::new()),
        "cgroup" => Some(v1_controllers(tail.nth(1).unwrap_or_default())),
        _ => None,
    };
    Some(Entry {
        id,
        parent,
        device,
        root,
        mount_point,
        kind,
        controllers,
        slave: tagged("master:"),
        shared: tagged("shared:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_container_is_read() {
        let entries = parse(
            "500 400 0:70 / / rw,relatime - overlay overlay rw\n\
             501 500 254:0 /srv/a\\040b /data rw,relatime shared:7 master:1 - ext4 /dev/vda rw\n\
             502 500 0:29 /x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
             not a mount\n",
        );
        assert_eq!(entries.len(), 3);
        assert_eq!((entries[1].id, entries[1].parent), (501, 500));
        assert_eq!(entries[1].root, Path::new("/srv/a b"));
        assert!(entries[1].slave && entries[1].shared && !entries[0].slave);
        assert_eq!(entries[2].controllers.as_deref(), Some("cpu,cpuacct"));
    }
}
