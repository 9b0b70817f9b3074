//! Parsers of `/proc/self/mountinfo`, `/proc/self/cgroup` and `/proc/cgroups` (cgroups(7),
//! proc_pid_mountinfo(5)), and the one pure function that makes a picture of hierarchies of them.
//!
//! No I/O here: what a table says about a strange machine can be tested on any other.

use std::path::PathBuf;

/// What a hierarchy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A v1 hierarchy with these controllers; a named one without controllers has the single entry
    /// `name=…`, as in `/proc/self/cgroup`.
    V1(Vec<String>),
    /// The v2 hierarchy.
    V2,
}

/// A mounted hierarchy, as the tables tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// v1 with controllers, or v2.
    pub kind: Kind,
    /// The hierarchy's number in `/proc/self/cgroup` and `/proc/cgroups`; 0 for v2.
    pub id: u32,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which group of the hierarchy is seen at the mount point: `/`, or a group deeper down when
    /// the mount was made for a container that has no cgroup namespace of its own.
    pub mount_root: String,
    /// The group of this process, seen from the mount point (`/` is the mount point itself); `None`
    /// when it does not lie below the mount point.
    pub own: Option<String>,
    /// Mounted read-only.
    pub read_only: bool,
}

/// One line of `/proc/self/mountinfo` of a cgroup file system.
struct Mount<'a> {
    root: String,
    mount_point: PathBuf,
    read_only: bool,
    v2: bool,
    options: Vec<&'a str>,
}

/// One line of `/proc/self/cgroup`.
struct Membership<'a> {
    id: u32,
    /// Empty for v2.
    controllers: Vec<&'a str>,
    path: &'a str,
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &str) -> Vec<u8> {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4);
        match digits {
            Some(octal)
                if bytes[at] == b'\\' && octal.iter().all(|d| (b'0'..=b'7').contains(d)) =>
            {
                let value = octal
                    .iter()
                    .fold(0u32, |sum, d| sum * 8 + u32::from(d - b'0'));
                out.push((value & 0xff) as u8);
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    use std::os::unix::ffi::OsStringExt;
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, mount_point, options) = (front.next()?, front.next()?, front.next()?);
    let mut back = back.split(' ');
    let kind = back.next()?;
    let super_options = back.nth(1)?;
    if kind != "cgroup" && kind != "cgroup2" {
        return None;
    }
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        root: String::from_utf8_lossy(&unescape(root)).into_owned(),
        mount_point: PathBuf::from(std::ffi::OsString::from_vec(unescape(mount_point))),
        read_only: read_only(options) || read_only(super_options),
        v2: kind == "cgroup2",
        options: super_options.split(',').collect(),
    })
}

fn parse_membership(line: &str) -> Option<Membership<'_>> {
    let mut fields = line.splitn(3, ':');
    let id = fields.next()?.parse().ok()?;
    let controllers = fields.next()?;
    Some(Membership {
        id,
        controllers: controllers.split(',').filter(|c| !c.is_empty()).collect(),
        path: fields.next()?,
    })
}

/// `path` seen from a mount whose root is `root`; `None` when it is not below it.
pub(crate) fn below(path: &str, root: &str) -> Option<String> {
    // A mount from outside our cgroup namespace has the root `/..`: the names in between are
    // hidden from us. A process outside our namespace's root is shown as `/../…` likewise.
    if root.starts_with("/..") || path.starts_with("/..") {
        return None;
    }
    let rest = match root {
        "/" => path,
        _ => path.strip_prefix(root)?,
    };
    match rest {
        "" => Some("/".to_owned()),
        _ if rest.starts_with('/') => Some(rest.to_owned()),
        _ => None,
    }
}

impl Mount<'_> {
    fn carries(&self, member: &Membership<'_>) -> bool {
        if member.controllers.is_empty() {
            return self.v2;
        }
        !self.v2
            && member.controllers.iter().all(|c| self.options.contains(c))
            // Without prefixes (`shares` for `cpu.shares`, Android) no file has the name we know.
            && !self.options.contains(&"noprefix")
    }
}

/// The hierarchies that are mounted and that this process is a member of.
///
/// `mountinfo` and `membership` are the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. A
/// hierarchy that is mounted more than once is taken where it can be written, and there where most
/// of it is seen.
#[must_use]
pub fn hierarchies(mountinfo: &str, membership: &str) -> Vec<Mounted> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(parse_mount).collect();
    membership
        .lines()
        .filter_map(parse_membership)
        .filter_map(|member| {
            let mount = mounts
                .iter()
                .filter(|mount| mount.carries(&member))
                // min_by_key keeps the first of equals: the mount that was made first.
                .min_by_key(|mount| {
                    let hidden = below(member.path, &mount.root).is_none();
                    (mount.read_only, hidden, mount.root.len())
                })?;
            Some(Mounted {
                kind: if mount.v2 {
                    Kind::V2
                } else {
                    Kind::V1(member.controllers.iter().map(ToString::to_string).collect())
                },
                id: member.id,
                mount_point: mount.mount_point.clone(),
                mount_root: mount.root.clone(),
                own: below(member.path, &mount.root),
                read_only: mount.read_only,
            })
        })
        .collect()
}

/// The v2 path in a text of `/proc/PID/cgroup`.
pub(crate) fn v2_membership(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(parse_membership)
        .find(|member| member.controllers.is_empty())
        .map(|member| member.path)
}

/// One line of `/proc/cgroups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subsystem {
    /// `memory`, `cpu`, …
    pub name: String,
    /// The hierarchy's number; 0 when it is not mounted as v1 (it may be used by v2).
    pub hierarchy: u32,
    /// Groups in that hierarchy.
    pub num_cgroups: u64,
    /// Not switched off by `cgroup_disable=`.
    pub enabled: bool,
}

/// Parses `/proc/cgroups`. Lines that are not understood are passed over.
#[must_use]
pub fn subsystems(text: &str) -> Vec<Subsystem> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            Some(Subsystem {
                name: fields.next()?.to_owned(),
                hierarchy: fields.next()?.parse().ok()?,
                num_cgroups: fields.next()?.parse().ok()?,
                enabled: fields.next()? == "1",
            })
        })
        .collect()
}

/// `name value` lines (`memory.stat`, `cpu.stat`, `memory.events`, …); others are passed over.
pub(crate) fn flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

/// The value of one key of a flat keyed file.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    flat_keyed(text)
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(names: &[&str]) -> Kind {
        Kind::V1(names.iter().map(ToString::to_string).collect())
    }

    struct Case {
        what: &'static str,
        mountinfo: &'static str,
        membership: &'static str,
        /// kind, mount point, mount root, own, read-only
        expected: Vec<(Kind, &'static str, &'static str, Option<&'static str>, bool)>,
    }

    fn cases() -> Vec<Case> {
        vec![
            Case {
                what: "systemd host, v1 with co-mounted controllers and a v2 tree without any",
                mountinfo: "\
25 1 8:1 / / rw - ext4 /dev/sda1 rw
31 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
33 31 0:28 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
36 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
37 31 0:32 / /sys/fs/cgroup/net_cls,net_prio rw - cgroup cgroup rw,net_cls,net_prio
",
                membership: "\
4:cpu,cpuacct:/user.slice
3:net_cls,net_prio:/
1:name=systemd:/user.slice/user-0.slice/session-1.scope
0::/user.slice/user-0.slice/session-1.scope
",
                expected: vec![
                    (
                        v1(&["cpu", "cpuacct"]),
                        "/sys/fs/cgroup/cpu,cpuacct",
                        "/",
                        Some("/user.slice"),
                        false,
                    ),
                    (
                        v1(&["net_cls", "net_prio"]),
                        "/sys/fs/cgroup/net_cls,net_prio",
                        "/",
                        Some("/"),
                        false,
                    ),
                    (
                        v1(&["name=systemd"]),
                        "/sys/fs/cgroup/systemd",
                        "/",
                        Some("/user.slice/user-0.slice/session-1.scope"),
                        false,
                    ),
                    (
                        Kind::V2,
                        "/sys/fs/cgroup/unified",
                        "/",
                        Some("/user.slice/user-0.slice/session-1.scope"),
                        false,
                    ),
                ],
            },
            Case {
                what: "pure v2",
                mountinfo: "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
                membership: "0::/init.scope\n",
                expected: vec![(Kind::V2, "/sys/fs/cgroup", "/", Some("/init.scope"), false)],
            },
            Case {
                what: "net_cls mounted somewhere unexpected, an unknown named hierarchy, one not mounted",
                mountinfo: "\
36 31 0:31 / /mnt/my\\040net rw - cgroup none rw,net_cls
37 31 0:32 / /opt/odd rw - cgroup odd rw,name=elogind
",
                membership: "7:name=elogind:/3\n5:net_cls:/\n4:memory:/x\n0::/\n",
                expected: vec![
                    (v1(&["name=elogind"]), "/opt/odd", "/", Some("/3"), false),
                    (v1(&["net_cls"]), "/mnt/my net", "/", Some("/"), false),
                ],
            },
            Case {
                what: "inside a Docker container without a cgroup namespace: the root is ours, read-only",
                mountinfo: "36 31 0:31 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
                membership: "4:memory:/docker/abc/sub\n",
                expected: vec![(
                    v1(&["memory"]),
                    "/sys/fs/cgroup/memory",
                    "/docker/abc",
                    Some("/sub"),
                    true,
                )],
            },
            Case {
                what: "the same with a sibling's prefix, which is not below",
                mountinfo: "36 31 0:31 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
                membership: "4:memory:/docker/abc\n",
                expected: vec![(
                    v1(&["memory"]),
                    "/sys/fs/cgroup/memory",
                    "/docker/ab",
                    None,
                    false,
                )],
            },
            Case {
                what: "a mount from outside the cgroup namespace",
                mountinfo: "30 25 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                membership: "0::/\n",
                expected: vec![(Kind::V2, "/sys/fs/cgroup", "/../..", None, false)],
            },
            Case {
                what: "mounted three times: writable and whole wins",
                mountinfo: "\
30 25 0:26 / /ro ro - cgroup2 cgroup2 rw
31 25 0:26 /a /part rw - cgroup2 cgroup2 rw
32 25 0:26 / /whole rw - cgroup2 cgroup2 rw
33 25 0:26 / /later rw - cgroup2 cgroup2 rw
",
                membership: "0::/a\n",
                expected: vec![(Kind::V2, "/whole", "/", Some("/a"), false)],
            },
            Case {
                what: "a path with a colon, garbage lines, noprefix",
                mountinfo: "\
garbage
36 31 0:31 / /cg rw - cgroup cgroup rw,pids
37 31 0:32 / /cpuset rw - cgroup cgroup rw,cpuset,noprefix
",
                membership: "no\n3:cpuset:/\n2:pids:/a:b\n",
                expected: vec![(v1(&["pids"]), "/cg", "/", Some("/a:b"), false)],
            },
        ]
    }

    #[test]
    fn hierarchies_of_many_machines() {
        for case in cases() {
            let found: Vec<_> = hierarchies(case.mountinfo, case.membership)
                .into_iter()
                .map(|m| {
                    let point = m.mount_point.to_str().unwrap().to_owned();
                    (m.kind, point, m.mount_root, m.own, m.read_only)
                })
                .collect();
            let expected: Vec<_> = case
                .expected
                .into_iter()
                .map(|(kind, point, root, own, ro)| {
                    (
                        kind,
                        point.to_owned(),
                        root.to_owned(),
                        own.map(str::to_owned),
                        ro,
                    )
                })
                .collect();
            assert_eq!(found, expected, "{}", case.what);
        }
    }

    #[test]
    fn proc_cgroups() {
        let text =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nrdma\t0\t1\t0\n";
        assert_eq!(
            subsystems(text),
            [
                Subsystem {
                    name: "cpuset".into(),
                    hierarchy: 3,
                    num_cgroups: 1,
                    enabled: true
                },
                Subsystem {
                    name: "rdma".into(),
                    hierarchy: 0,
                    num_cgroups: 1,
                    enabled: false
                },
            ]
        );
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\040b\134c\9"), br"a b\c\9");
    }
}
