//! The options of mount(8) and runtime-spec's `mounts[].options`, one by one: what each means, as a
//! table. Whatever is not in it is a parameter of the file system.

use barque_sys::mount::{Attributes, Propagation};

/// What one option asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Attributes to set and to clear, of the mount itself or of everything below it too.
    Attributes {
        set: Attributes,
        clear: Attributes,
        recursive: bool,
    },
    /// A propagation type, of the mount itself or of everything below it too.
    Propagation(Propagation, bool),
    /// A flag of the superblock, on or off; a bind mount has none of its own.
    Superblock(&'static str, bool),
    /// A switch that some file systems have as a parameter, and others have always or never.
    Switch(&'static str),
    /// A bind mount, recursive or not.
    Bind(bool),
    /// Ids are mapped, of the mount itself or of everything below it too.
    Idmap(bool),
    /// What is mounted there already is changed.
    Remount,
    /// The new tmpfs begins with the content of the directory that it covers.
    CopyUp,
    /// The default, or what mount(8) keeps for itself.
    Nothing,
}

/// Attribute options: name, what is set, what is cleared. Each also exists with an `r` in front,
/// for the mount and everything below it.
///
/// The mode of access times is one field of three values; the kernel replaces it only as a whole
/// (mount_setattr(2): clearing a part of `MOUNT_ATTR__ATIME` is `EINVAL`). "Not that mode" is
/// therefore the kernel's default, `relatime`.
const ATTRIBUTES: [(&str, Attributes, Attributes); 18] = [
    ("ro", Attributes::RDONLY, Attributes::NONE),
    ("rw", Attributes::NONE, Attributes::RDONLY),
    ("nosuid", Attributes::NOSUID, Attributes::NONE),
    ("suid", Attributes::NONE, Attributes::NOSUID),
    ("nodev", Attributes::NODEV, Attributes::NONE),
    ("dev", Attributes::NONE, Attributes::NODEV),
    ("noexec", Attributes::NOEXEC, Attributes::NONE),
    ("exec", Attributes::NONE, Attributes::NOEXEC),
    ("nosymfollow", Attributes::NOSYMFOLLOW, Attributes::NONE),
    ("symfollow", Attributes::NONE, Attributes::NOSYMFOLLOW),
    ("nodiratime", Attributes::NODIRATIME, Attributes::NONE),
    ("diratime", Attributes::NONE, Attributes::NODIRATIME),
    ("noatime", Attributes::NOATIME, Attributes::ATIME),
    ("strictatime", Attributes::STRICTATIME, Attributes::ATIME),
    ("relatime", Attributes::NONE, Attributes::ATIME),
    ("atime", Attributes::NONE, Attributes::ATIME),
    ("norelatime", Attributes::NONE, Attributes::ATIME),
    ("nostrictatime", Attributes::NONE, Attributes::ATIME),
];

/// All others.
///
/// `silent` and `loud` are about the kernel's log, and have no equivalent in fsconfig(2). What
/// `noiversion` would switch off, no file system lets itself be switched off.
const OTHERS: [(&str, Meaning); 33] = [
    ("private", Meaning::Propagation(Propagation::Private, false)),
    ("rprivate", Meaning::Propagation(Propagation::Private, true)),
    ("slave", Meaning::Propagation(Propagation::Slave, false)),
    ("rslave", Meaning::Propagation(Propagation::Slave, true)),
    ("shared", Meaning::Propagation(Propagation::Shared, false)),
    ("rshared", Meaning::Propagation(Propagation::Shared, true)),
    (
        "unbindable",
        Meaning::Propagation(Propagation::Unbindable, false),
    ),
    (
        "runbindable",
        Meaning::Propagation(Propagation::Unbindable, true),
    ),
    ("sync", Meaning::Superblock("sync", true)),
    ("async", Meaning::Superblock("sync", false)),
    ("dirsync", Meaning::Superblock("dirsync", true)),
    ("lazytime", Meaning::Superblock("lazytime", true)),
    ("nolazytime", Meaning::Superblock("lazytime", false)),
    ("mand", Meaning::Superblock("mand", true)),
    ("nomand", Meaning::Superblock("mand", false)),
    ("acl", Meaning::Switch("acl")),
    ("noacl", Meaning::Switch("noacl")),
    ("iversion", Meaning::Switch("i_version")),
    ("noiversion", Meaning::Nothing),
    ("bind", Meaning::Bind(false)),
    ("rbind", Meaning::Bind(true)),
    ("idmap", Meaning::Idmap(false)),
    ("ridmap", Meaning::Idmap(true)),
    ("remount", Meaning::Remount),
    ("tmpcopyup", Meaning::CopyUp),
    ("defaults", Meaning::Nothing),
    ("silent", Meaning::Nothing),
    ("loud", Meaning::Nothing),
    ("auto", Meaning::Nothing),
    ("noauto", Meaning::Nothing),
    ("nofail", Meaning::Nothing),
    ("_netdev", Meaning::Nothing),
    ("user", Meaning::Nothing),
];

/// Looks an option up; `None` is a parameter of the file system.
pub(super) fn meaning(option: &str) -> Option<Meaning> {
    if let Some((_, meaning)) = OTHERS.iter().find(|(name, _)| *name == option) {
        return Some(*meaning);
    }
    let attribute = |name: &str, recursive| {
        let (_, set, clear) = ATTRIBUTES.iter().find(|(n, ..)| *n == name)?;
        Some(Meaning::Attributes {
            set: *set,
            clear: *clear,
            recursive,
        })
    };
    attribute(option, false).or_else(|| attribute(option.strip_prefix('r')?, true))
}

/// The options of mounts that are understood by the runtime and not passed to a file system, sorted:
/// what `features` lists as `mountOptions`.
pub fn mount_options() -> Vec<String> {
    // What only fstab(5) has a use for is tolerated, not offered.
    const TOLERATED: [&str; 5] = ["auto", "noauto", "nofail", "_netdev", "user"];
    let mut names: Vec<String> = OTHERS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .filter(|name| !TOLERATED.contains(&name.as_str()))
        .collect();
    for (name, ..) in ATTRIBUTES {
        names.push(name.to_owned());
        names.push(format!("r{name}"));
    }
    names.sort_unstable();
    names
}

/// The options of one entry, which may hold several with commas between them. A value in double
/// quotes (a label, `context="…:c1,c2"`) may have commas of its own; the quotes go.
pub(super) fn split(entry: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    for c in entry.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => options.push(String::new()),
            c => options.last_mut().expect("never empty").push(c),
        }
    }
    options.retain(|o| !o.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_the_specification_is_known() {
        // config.md, "Linux mount options", 1.3; and those that 1.0 had beyond them.
        let listed = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand \
            noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime \
            nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime \
            rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate \
            rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared \
            silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap acl noacl";
        let known = mount_options();
        for name in listed.split_whitespace() {
            assert!(meaning(name).is_some(), "{name}");
            assert!(known.iter().any(|k| k == name), "{name}");
        }
        assert!(known.is_sorted());
        assert_eq!(meaning("size=1m"), None);
        assert_eq!(meaning("rsize=4096"), None);
    }

    #[test]
    fn a_quoted_value_keeps_its_commas() {
        assert_eq!(
            split("ro,context=\"u:object_r:t:s0:c1,c2\",size=1m"),
            ["ro", "context=u:object_r:t:s0:c1,c2", "size=1m"]
        );
        assert_eq!(split("a,,b"), ["a", "b"]);
        assert!(split("").is_empty());
    }
}
