//! What the kernel says of a container's mounts: `/proc/PID/mountinfo` (proc(5)), as it is seen from
//! inside and from outside.

use crate::support::{Bench, Sleeper};
use barque_types::spec;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::fs;
use std::path::Path;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub id: u32,
    pub parent: u32,
    pub root: String,
    pub point: String,
    /// Of the mount.
    pub options: String,
    /// Propagation: `shared`, `master`, `unbindable`, without the numbers of peer groups.
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Of the superblock.
    pub superblock: String,
}

impl Info {
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|o| o == option)
    }

    pub fn superblock_has(&self, option: &str) -> bool {
        self.superblock.split(',').any(|o| o == option)
    }
}

/// Parses a whole file.
pub fn parse(text: &str) -> Vec<Info> {
    text.lines()
        .map(|line| {
            let (head, tail) = line.split_once(" - ").expect("mountinfo");
            let head: Vec<&str> = head.split(' ').collect();
            let tail: Vec<&str> = tail.split(' ').collect();
            let name = |field: &&str| field.split(':').next().expect("a field").to_owned();
            Info {
                id: head[0].parse().expect("an id"),
                parent: head[1].parse().expect("an id"),
                root: head[3].into(),
                point: head[4].into(),
                options: head[5].into(),
                propagation: head[6..].iter().map(name).collect(),
                kind: tail[0].into(),
                source: tail[1].into(),
                superblock: tail[2].into(),
            }
        })
        .collect()
}

/// The topmost mount at a place: the one that is covered by none. The order of the lines tells nothing
/// (since 6.8 it is that of the making, which for a bind mount is before the container).
pub fn at<'m>(mounts: &'m [Info], point: &str) -> &'m Info {
    let here = || mounts.iter().filter(|m| m.point == point);
    here()
        .find(|m| !here().any(|other| other.parent == m.id))
        .unwrap_or_else(|| panic!("nothing is mounted at {point}: {mounts:#?}"))
}

impl Sleeper {
    /// Its mounts, read from outside.
    pub fn mounts(&self) -> Vec<Info> {
        let path = format!("/proc/{}/mountinfo", self.0.pid);
        parse(&fs::read_to_string(path).expect("mountinfo"))
    }
}

impl Bench {
    /// One more mount.
    pub fn mount(
        &mut self,
        kind: &str,
        source: &str,
        destination: &str,
        options: &[&str],
    ) -> &mut spec::Mount {
        self.spec.mounts.push(spec::Mount {
            destination: destination.into(),
            kind: Some(kind.into()),
            source: Some(source.into()),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..spec::Mount::default()
        });
        self.spec.mounts.last_mut().expect("just added")
    }

    /// The mounts as the container sees them, and as we do: the same.
    pub fn seen(&mut self) -> Vec<Info> {
        let sleeper = self.sleeper();
        let inside = self
            .exec(&sleeper.0, &["/bin/cat", "/proc/self/mountinfo"])
            .expect("exec");
        let outside = sleeper.mounts();
        // What of a cgroup hierarchy is mounted, each names relative to its own cgroup namespace.
        let same = |mount: &Info| Info {
            root: match mount.kind.as_str() {
                "cgroup" | "cgroup2" => String::new(),
                _ => mount.root.clone(),
            },
            ..mount.clone()
        };
        let inside: Vec<Info> = parse(&inside.out).iter().map(same).collect();
        assert_eq!(inside, outside.iter().map(same).collect::<Vec<_>>());
        outside
    }
}

/// A mount namespace of our own, in which nothing reaches the host and which ends with us.
pub fn own_namespace() {
    barque_sys::process::unshare(barque_sys::process::Namespaces::MOUNT).expect("unshare");
    change(Path::new("/"), MountPropagationFlags::PRIVATE);
}

/// Changes propagation, with everything below.
pub fn change(path: &Path, flags: MountPropagationFlags) {
    rustix::mount::mount_change(path, flags | MountPropagationFlags::REC).expect("propagation");
}

/// A tmpfs of the host; `own_namespace` first.
pub fn tmpfs(path: &Path, flags: MountFlags) {
    fs::create_dir_all(path).expect("mkdir");
    rustix::mount::mount("host", path, "tmpfs", flags, None::<&std::ffi::CStr>).expect("tmpfs");
}

/// Unmounts what hides a temporary directory from its removal.
pub fn unmount(path: &Path) {
    rustix::mount::unmount(path, UnmountFlags::DETACH).expect("umount");
}
