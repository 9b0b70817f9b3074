//! Who a container's process runs as: names looked up in the container's own `/etc/passwd` and
//! `/etc/group`, never in the host's.

use crate::error::{Error, Result};
use crate::path;
use barque_types::spec;
use rustix::fs::OFlags;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, `/` when nothing names one.
    pub home: String,
}

/// No line of a real `/etc/passwd` is near this; an image's file of another size is not read on.
const MAX_FILE: u64 = 8 << 20;

/// Ids that Docker accepts.
const MAX_ID: u32 = i32::MAX as u32;

/// Looks `user` (`name|uid[:group|gid]`, or empty for root) up in the files below `root`, and
/// returns it as the specification's user, member of `more` groups too, with its home directory.
///
/// A number needs no entry; a name does. Without a group it is that of the passwd entry, and the
/// supplementary groups are the primary one and those that list the user; with a group there are
/// none but it (Docker's rule).
pub fn resolve(root: impl AsFd, user: &str, more: &[String]) -> Result<(spec::User, String)> {
    let passwd = read(&root, "etc/passwd")?;
    let group = read(&root, "etc/group")?;
    let mut account = lookup(&passwd, &group, user)?;
    for gid in additional(&group, more)? {
        if !account.groups.contains(&gid) {
            account.groups.push(gid);
        }
    }
    let user = spec::User {
        uid: account.uid,
        gid: account.gid,
        umask: None,
        additional_gids: account.groups,
    };
    Ok((user, account.home))
}

/// The home directory of a uid, `/` when there is no entry.
pub fn home_of(root: impl AsFd, uid: u32) -> Result<String> {
    let passwd = read(&root, "etc/passwd")?;
    Ok(entries(&passwd)
        .find(|e| e.uid == uid)
        .map_or_else(|| "/".to_owned(), |e| e.home()))
}

/// A file of the container; an absent one is empty, and so is one that is not a regular file (a
/// FIFO would block us for ever).
fn read(root: &impl AsFd, name: &str) -> Result<String> {
    let path = Path::new(name);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match path::open_in(root, path, flags) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(Error::step(format!("opening /{name} of the container"), e)),
    };
    if path::file_type(&fd) != Ok(rustix::fs::FileType::RegularFile) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            Error::step(
                format!("reading /{name} of the container"),
                e.raw_os_error()
                    .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error),
            )
        })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A usable line of `/etc/passwd` (passwd(5)).
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Entry<'_> {
    fn home(&self) -> String {
        if self.home.is_empty() {
            "/".to_owned()
        } else {
            self.home.to_owned()
        }
    }
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Entry {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// A line of `/etc/group` (group(5)): name, gid, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// The numbers of groups that are named, or numbered: a number needs no entry.
fn additional(group: &str, wanted: &[String]) -> Result<Vec<u32>> {
    wanted
        .iter()
        .map(|wanted| {
            let gid = groups(group)
                .find(|(name, ..)| name == wanted)
                .map(|(_, gid, _)| gid)
                .or_else(|| wanted.parse().ok())
                .ok_or_else(|| {
                    Error::UnknownUser(format!(
                        "unable to find group {wanted}: no matching entries in group file"
                    ))
                })?;
            match gid {
                0..=MAX_ID => Ok(gid),
                _ => Err(Error::UnknownUser(format!(
                    "uids and gids must be in range 0-{MAX_ID}"
                ))),
            }
        })
        .collect()
}

/// The lookup itself, on the texts of the two files.
pub fn lookup(passwd: &str, group: &str, user: &str) -> Result<Account> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let number = user.parse::<u32>().ok();
    // A name that looks like a number is a name first (moby/sys/user).
    let entry = if user.is_empty() {
        entries(passwd).find(|e| e.uid == 0)
    } else {
        entries(passwd)
            .find(|e| e.name == user)
            .or_else(|| entries(passwd).find(|e| Some(e.uid) == number))
    };
    let mut account = match (&entry, number) {
        (Some(e), _) => Account {
            uid: e.uid,
            gid: e.gid,
            groups: Vec::new(),
            home: e.home(),
        },
        (None, Some(uid)) => Account {
            uid,
            home: "/".into(),
            ..Account::default()
        },
        (None, None) if user.is_empty() => Account {
            home: "/".into(),
            ..Account::default()
        },
        (None, None) => {
            return Err(Error::UnknownUser(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    match wanted_group {
        Some(wanted) => {
            account.gid = groups(group)
                .find(|(name, ..)| *name == wanted)
                .map(|(_, gid, _)| gid)
                .or_else(|| wanted.parse().ok())
                .ok_or_else(|| {
                    Error::UnknownUser(format!(
                        "unable to find group {wanted}: no matching entries in group file"
                    ))
                })?;
            account.groups = vec![account.gid];
        }
        None => {
            // The primary group is among the supplementary ones (CVE-2022-36109): a process that
            // drops it by a set-group-id program does not lose what was denied to that group.
            account.groups = vec![account.gid];
            if let Some(entry) = &entry {
                let listed = groups(group)
                    .filter(|(_, _, members)| members.split(',').any(|m| m.trim() == entry.name))
                    .map(|(_, gid, _)| gid);
                for gid in listed {
                    if !account.groups.contains(&gid) {
                        account.groups.push(gid);
                    }
                }
            }
        }
    }
    if account.uid > MAX_ID || account.gid > MAX_ID {
        return Err(Error::UnknownUser(format!(
            "uids and gids must be in range 0-{MAX_ID}"
        )));
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34::/var/www:/bin/sh\n1000:x:7:8::/seven:\nnohome:x:9:9:::\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\naudio:x:29:web,root\nvideo:x:44:other, web\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let a = lookup(PASSWD, GROUP, user).expect(user);
        (a.uid, a.gid, a.groups, a.home)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids(""), (0, 0, vec![0, 29], "/root".into()));
        assert_eq!(ids("root"), (0, 0, vec![0, 29], "/root".into()));
        assert_eq!(ids("web"), (33, 34, vec![34, 29, 44], "/var/www".into()));
        assert_eq!(ids("33"), (33, 34, vec![34, 29, 44], "/var/www".into()));
        assert_eq!(ids("5000"), (5000, 0, vec![0], "/".into()));
        assert_eq!(ids("nohome").3, "/");
    }

    #[test]
    fn a_name_that_is_a_number_is_a_name_first() {
        assert_eq!(ids("1000"), (7, 8, vec![8], "/seven".into()));
    }

    #[test]
    fn more_groups_by_name_or_number() {
        let more = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&w| w.to_owned()).collect();
            additional("audio:x:29:web\n77:x:78:\n", &wanted)
        };
        assert_eq!(more(&["audio", "9", "77"]).unwrap(), [29, 9, 78]);
        assert!(
            more(&["nosuch"])
                .unwrap_err()
                .to_string()
                .contains("unable to find group nosuch")
        );
        assert!(more(&["2147483648"]).is_err());
    }

    #[test]
    fn a_group_replaces_the_supplementary_ones() {
        assert_eq!(ids("web:audio"), (33, 29, vec![29], "/var/www".into()));
        assert_eq!(ids("web:4711"), (33, 4711, vec![4711], "/var/www".into()));
        assert_eq!(ids("web:"), (33, 34, vec![34, 29, 44], "/var/www".into()));
    }

    #[test]
    fn unknown_names_say_which_file_lacks_them() {
        let user = lookup(PASSWD, GROUP, "nobody")
            .expect_err("unknown")
            .to_string();
        assert_eq!(
            user,
            "unable to find user nobody: no matching entries in passwd file"
        );
        let group = lookup(PASSWD, GROUP, "web:none")
            .expect_err("unknown")
            .to_string();
        assert_eq!(
            group,
            "unable to find group none: no matching entries in group file"
        );
        assert!(lookup(PASSWD, GROUP, "4294967295").is_err());
    }
}
