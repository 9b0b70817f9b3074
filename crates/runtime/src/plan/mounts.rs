//! One mount of the specification, parsed: mount(8) options become mount attributes, propagation
//! and parameters of the file system.

use super::IdMaps;
use super::options::{self, Meaning};
use crate::error::{Error, Result};
use barque_sys::mount::{Attributes, Propagation};
use barque_types::spec;
use std::path::{Component, Path, PathBuf};

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A file or directory of the host.
    Bind {
        /// Its path on the host.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// The container's own part of the cgroup hierarchies.
    Cgroup {
        /// Of the v2 hierarchy alone, even beside v1 ones.
        v2_only: bool,
    },
    /// A new instance of a file system.
    Filesystem(Filesystem),
    /// A change of what is mounted there already: of the mount, and of its file system where one
    /// is given.
    Remount(Option<Filesystem>),
}

/// How a file system is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filesystem {
    /// Type.
    pub kind: String,
    /// Device or name.
    pub source: String,
    /// Parameters, with or without a value.
    pub parameters: Vec<(String, Option<String>)>,
    /// Flags of the superblock (`sync`, `lazytime`, …), on or off.
    pub flags: Vec<(&'static str, bool)>,
    /// Parameters that a file system may not have.
    pub switches: Vec<&'static str>,
    /// Whether it begins with the content of the directory that it covers (tmpfs).
    pub copy_up: bool,
}

/// The map of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdmapSource {
    /// That of the container's user namespace.
    Container,
    /// One of its own.
    Own(IdMaps),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub what: What,
    /// Attributes of the mount itself.
    pub set: Attributes,
    /// Attributes to take away from a bind mount.
    pub clear: Attributes,
    /// The same for everything below a bind mount (`rro` and its kin).
    pub recursive_set: Attributes,
    /// See `recursive_set`.
    pub recursive_clear: Attributes,
    /// Propagation types in their order; `true` is for everything below, too.
    pub propagation: Vec<(Propagation, bool)>,
    /// Ids mapped by the mount, and whether everything below is mapped too.
    pub idmap: Option<(IdmapSource, bool)>,
    /// SELinux label of the files of a new file system (`linux.mountLabel`).
    pub label: Option<String>,
}

/// What a mount's options have to say, beside attributes and propagation.
#[derive(Debug, Default)]
struct Words {
    bind: Option<bool>,
    idmap: Option<bool>,
    remount: bool,
    filesystem: Filesystem,
}

/// `private`, `rslave`, …: the type, and whether it is recursive.
pub(crate) fn propagation(option: &str) -> Option<(Propagation, bool)> {
    match options::meaning(option) {
        Some(Meaning::Propagation(kind, recursive)) => Some((kind, recursive)),
        _ => None,
    }
}

impl MountPlan {
    /// Parses one entry. `maps` are those of the container's new user namespace; a relative source
    /// of a bind mount begins at `bundle`.
    pub fn parse(
        mount: &spec::Mount,
        maps: Option<&IdMaps>,
        bundle: Option<&Path>,
    ) -> Result<Self> {
        let mut plan = Self {
            destination: absolute(&mount.destination),
            what: What::Remount(None),
            set: Attributes::NONE,
            clear: Attributes::NONE,
            recursive_set: Attributes::NONE,
            recursive_clear: Attributes::NONE,
            propagation: Vec::new(),
            idmap: None,
            label: None,
        };
        let mut words = Words::default();
        for option in mount.options.iter().flat_map(|entry| options::split(entry)) {
            plan.read(&option, &mut words);
        }
        let kind = mount.kind.as_deref().unwrap_or("none");
        if words.bind.is_none() && matches!(kind, "bind" | "none" | "") {
            // crun and runc take the type alone for a bind mount, recursive as mount --rbind.
            words.bind = Some(true);
        }
        plan.what = plan.what(mount, kind, &mut words, bundle)?;
        if plan.destination == Path::new("/") && !matches!(plan.what, What::Remount(_)) {
            return Err(plan.invalid("the destination is the root"));
        }
        if let What::Filesystem(filesystem) | What::Remount(Some(filesystem)) = &mut plan.what {
            drop_unmapped_group(filesystem, maps);
        }
        plan.idmap = plan.idmap_source(mount, words.idmap, maps)?;
        Ok(plan)
    }

    /// Notes what one option asks for.
    fn read(&mut self, option: &str, words: &mut Words) {
        let filesystem = &mut words.filesystem;
        let Some(meaning) = options::meaning(option) else {
            filesystem.parameters.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            });
            return;
        };
        match meaning {
            Meaning::Attributes {
                set,
                clear,
                recursive: false,
            } => self.add(set, clear),
            Meaning::Attributes { set, clear, .. } => self.add_recursive(set, clear),
            Meaning::Propagation(kind, recursive) => self.propagation.push((kind, recursive)),
            Meaning::Superblock(name, on) => {
                filesystem.flags.retain(|(n, _)| *n != name);
                filesystem.flags.push((name, on));
            }
            Meaning::Switch(name) => filesystem.switches.push(name),
            Meaning::Bind(recursive) => words.bind = Some(recursive),
            Meaning::Idmap(recursive) => words.idmap = Some(recursive),
            Meaning::Remount => words.remount = true,
            Meaning::CopyUp => filesystem.copy_up = true,
            Meaning::Nothing => {}
        }
    }

    fn add(&mut self, set: Attributes, clear: Attributes) {
        // The last word counts: `ro,rw` is writable, `noatime,relatime` is relatime.
        self.set = self.set.without(clear) | set;
        self.clear = self.clear.without(set) | clear;
    }

    fn add_recursive(&mut self, set: Attributes, clear: Attributes) {
        self.recursive_set = self.recursive_set.without(clear) | set;
        self.recursive_clear = self.recursive_clear.without(set) | clear;
    }

    fn what(
        &mut self,
        mount: &spec::Mount,
        kind: &str,
        words: &mut Words,
        bundle: Option<&Path>,
    ) -> Result<What> {
        if words.remount && words.bind.is_some() {
            // mount(8): with `bind`, a remount is about the mount and not about its file system.
            return Ok(What::Remount(None));
        }
        if let Some(recursive) = words.bind {
            // Options of a file system mean nothing for a bind mount; engines leave them there.
            let mut source = mount.source.clone().unwrap_or_default();
            if !source.is_absolute() {
                // "For bind mounts: path, absolute or relative to the bundle" (config.md).
                source = match bundle {
                    Some(bundle) if !source.as_os_str().is_empty() => bundle.join(source),
                    _ => {
                        return Err(
                            self.invalid(&format!("the source {source:?} is not an absolute path"))
                        );
                    }
                };
            }
            return Ok(What::Bind { source, recursive });
        }
        let mut filesystem = std::mem::take(&mut words.filesystem);
        if filesystem.copy_up && kind != "tmpfs" {
            return Err(self.invalid("tmpcopyup is for a tmpfs"));
        }
        kind.clone_into(&mut filesystem.kind);
        if words.remount {
            return Ok(What::Remount(Some(filesystem)));
        }
        // A new file system has nothing below it.
        self.add(self.recursive_set, self.recursive_clear);
        if matches!(kind, "cgroup" | "cgroup2") {
            return Ok(What::Cgroup {
                v2_only: kind == "cgroup2",
            });
        }
        let source = mount.source.as_deref().unwrap_or(Path::new(kind));
        filesystem.source = source.to_string_lossy().into_owned();
        Ok(What::Filesystem(filesystem))
    }

    fn idmap_source(
        &self,
        mount: &spec::Mount,
        option: Option<bool>,
        maps: Option<&IdMaps>,
    ) -> Result<Option<(IdmapSource, bool)>> {
        let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        if option.is_none() && !own {
            return Ok(None);
        }
        match self.what {
            What::Bind { .. } => {}
            // What is made within a user namespace is owned by its ids already, and the kernel
            // refuses to map by the very namespace that owns the file system (can_idmap_mount()).
            // It takes no other either from there: maps are given by whoever is privileged above.
            What::Filesystem(_) if maps.is_some() && !own => return Ok(None),
            What::Filesystem(_) if maps.is_some() => {
                return Err(self.invalid(
                    "in a container with a user namespace, only a bind mount can have a map of its own",
                ));
            }
            What::Filesystem(_) => {}
            _ => return Err(self.invalid("only a bind mount or a new file system can map ids")),
        }
        let source = if own {
            if mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty() {
                return Err(self.invalid("uidMappings and gidMappings go together"));
            }
            IdmapSource::Own(IdMaps {
                uid: mount.uid_mappings.clone(),
                gid: mount.gid_mappings.clone(),
            })
        } else {
            IdmapSource::Container
        };
        Ok(Some((source, option.unwrap_or(false))))
    }

    fn invalid(&self, why: &str) -> Error {
        Error::invalid(format!("mount at {:?}", self.destination), why)
    }

    /// `mounting "proc" at "/proc"`, for messages.
    pub fn describe(&self) -> String {
        let what = match &self.what {
            What::Bind { source, .. } => source.to_string_lossy().into_owned(),
            What::Cgroup { v2_only: false } => "cgroup".to_owned(),
            What::Cgroup { v2_only: true } => "cgroup2".to_owned(),
            What::Filesystem(filesystem) => filesystem.kind.clone(),
            What::Remount(_) => return format!("remounting {:?}", self.destination),
        };
        format!("mounting {what:?} at {:?}", self.destination)
    }
}

/// devpts refuses a group that the user namespace does not map; the terminals then belong to root's
/// group, as they do where there is no group 5.
fn drop_unmapped_group(filesystem: &mut Filesystem, maps: Option<&IdMaps>) {
    let (Some(maps), "devpts") = (maps, filesystem.kind.as_str()) else {
        return;
    };
    filesystem.parameters.retain(|(key, value)| {
        let gid = value.as_deref().and_then(|v| v.parse().ok());
        key != "gid" || gid.is_none_or(|gid| maps.maps_gid(gid))
    });
}

/// The destination as a clean absolute path; a relative one (which the specification tolerates)
/// is taken from the root. `..` is left to the resolution inside the root.
fn absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => clean.push(".."),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
