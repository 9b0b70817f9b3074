//! Where the cgroup hierarchies are mounted on the host, for a container's view of its own part.
//!
//! This is the runtime's own small reader of `/proc/self/mountinfo` (proc(5)): it wants mount
//! points and names, not limits.

use std::path::{Path, PathBuf};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where.
    pub mount_point: PathBuf,
    /// Which directory of the hierarchy appears there, `/` outside containers.
    pub root: PathBuf,
    /// Its controllers as `/proc/PID/cgroup` names them (`cpu,cpuacct`, `name=systemd`); empty for v2.
    pub controllers: String,
}

/// Reads the hierarchies of this mount namespace.
pub(crate) fn mounted() -> std::io::Result<Vec<Hierarchy>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// Parses mountinfo; a mount point that appears again hides the earlier one.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let mut head = head.split(' ').skip(3);
        let (Some(root), Some(mount_point)) = (head.next(), head.next()) else {
            continue;
        };
        let mut tail = tail.split(' ');
        let kind = tail.next().unwrap_or_default();
        let options = tail.nth(1).unwrap_or_default();
        let controllers = match kind {
            "cgroup2" => String::new(),
            "cgroup" => v1_controllers(options),
            _ => continue,
        };
        let hierarchy = Hierarchy {
            mount_point: unescape(mount_point),
            root: unescape(root),
            controllers,
        };
        found.retain(|h| h.mount_point != hierarchy.mount_point);
        // The same hierarchy elsewhere again adds nothing.
        if !found.iter().any(|h| h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

/// The superblock options of a v1 hierarchy, without those that name no controller.
pub(crate) fn v1_controllers(options: &str) -> String {
    const OTHERS: [&str; 9] = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "seclabel",
        "none",
        "favordynmods",
    ];
    options
        .split(',')
        .filter(|o| !OTHERS.contains(o) && !o.starts_with("release_agent="))
        .collect::<Vec<_>>()
        .join(",")
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\040` and so on.
pub(crate) fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).and_then(|d| {
            std::str::from_utf8(d)
                .ok()
                .and_then(|d| u8::from_str_radix(d, 8).ok())
        });
        match octal {
            Some(byte) if bytes[i] == b'\\' => {
                out.push(byte);
                i += 4;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The path of a process in the hierarchy with these controllers, from its `/proc/PID/cgroup`.
pub(crate) fn path_in<'t>(proc_cgroup: &'t str, controllers: &str) -> Option<&'t Path> {
    proc_cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        (fields.next()? == controllers)
            .then(|| fields.next().map(Path::new))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 /in\\040side /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_is_read() {
        let found = parse(MOUNTINFO);
        let names: Vec<&str> = found.iter().map(|h| h.controllers.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "name=systemd", ""]);
        assert_eq!(found[2].root, Path::new("/in side"));
        assert_eq!(found[2].mount_point, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn the_path_in_each_hierarchy() {
        let text = "5:cpu,cpuacct:/barque/x\n1:name=systemd:/y:z\n0::/v2\n";
        assert_eq!(path_in(text, "cpu,cpuacct"), Some(Path::new("/barque/x")));
        assert_eq!(path_in(text, "name=systemd"), Some(Path::new("/y:z")));
        assert_eq!(path_in(text, ""), Some(Path::new("/v2")));
        assert_eq!(path_in(text, "memory"), None);
    }
}
