//! The cgroupfs driver: how a group comes to be in each hierarchy.
//!
//! The systemd driver ([`crate::systemd`]) has the directories that systemd made adopted here and the
//! others made: for each hierarchy the opened group and its parent, and which controllers it was not
//! given. Limits, freezer, statistics and removal work on that, whoever made it.
//!
//! Two hierarchies need more than mkdir(2):
//! - v1 `cpuset`: a new group has no processors and no memory nodes, and no process can enter it
//!   until it does.
//! - v2: a group has the controllers that its parent's `cgroup.subtree_control` lists, and so on up
//!   to the root; and a group other than the root that holds processes itself may not list any (the
//!   "no internal processes" rule of cgroup-v2.rst).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result, pid_list};
use crate::group::{Group, Refused, place, remove_groups};
use crate::layout::{Hierarchy, offers};
use crate::limits::{Place, Places};

/// The v2 controllers that limits or statistics need. `perf_event` needs no enabling.
const V2_WANTED: [&str; 8] = [
    "cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma",
];

/// The group that processes are moved into when they sit where controllers are to be handed down.
const EVACUATED: &str = "init";

/// What to do with a group that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// An error: the name is another container's.
    Refuse,
    /// Take it when it holds no process and is not frozen: engines make the group of an OCI
    /// container beforehand.
    AdoptEmpty,
    /// Take it as it is: systemd made it and put a process into it.
    Adopt,
}

/// Groups being made; dropped before [`Making::keep`], it removes them again.
#[derive(Debug, Default)]
pub(crate) struct Making {
    groups: Vec<Group>,
    /// The directories of those groups that were there before: not ours to remove.
    adopted: Vec<PathBuf>,
    /// Groups on the way that did not exist before, outermost first.
    ancestors: Vec<(Dir, String)>,
    refused: Vec<Refused>,
}

impl Places for Making {
    fn place(&self, controller: &str) -> Place<'_> {
        place(&self.groups, &self.refused, controller)
    }

    fn unified(&self) -> Option<&Dir> {
        let mut groups = self.groups.iter();
        groups
            .find(|group| group.hierarchy.is_v2())
            .map(|group| &group.dir)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.groups.is_empty() && self.ancestors.is_empty() {
            return;
        }
        // Nobody has entered them, so nothing is waited for; and there is nobody to tell: the
        // error that brings us here is the one to report.
        let made = |group: &&Group| !self.adopted.iter().any(|path| path == group.dir.path());
        let _ = remove_groups(self.groups.iter().filter(made), Duration::ZERO);
        for (parent, name) in self.ancestors.iter().rev() {
            // Refused when another group was made in it meanwhile, and rightly so.
            let _ = parent.unmake(name);
        }
    }
}

impl Making {
    /// All is well: hands the groups out.
    pub(crate) fn keep(mut self) -> (Vec<Group>, Vec<Refused>) {
        self.ancestors.clear();
        (
            std::mem::take(&mut self.groups),
            std::mem::take(&mut self.refused),
        )
    }

    /// Whether some group was there before: its files may hold anything but the kernel's defaults.
    pub(crate) fn adopted_any(&self) -> bool {
        !self.adopted.is_empty()
    }

    /// Refuses groups that were there before and that somebody uses.
    ///
    /// A frozen one is refused because the container's first process would stop in it at once and
    /// for good, before it could say why.
    pub(crate) fn check_unused(&self) -> Result<()> {
        for group in &self.groups {
            let path = group.dir.path();
            if !self.adopted.iter().any(|adopted| adopted == path) {
                continue;
            }
            let mut pids = Vec::new();
            group.dir.walk(&mut |dir| {
                pids.extend(dir.processes()?);
                Ok(())
            })?;
            let frozen = ["freezer.state", "cgroup.freeze"].iter().any(|file| {
                let text = group.dir.read(file).unwrap_or_default();
                !matches!(text.trim(), "" | "THAWED" | "0")
            });
            let why = match (pids.is_empty(), frozen) {
                (false, _) => format!("it holds {}", pid_list(&pids)),
                (true, true) => "it is frozen".to_owned(),
                (true, false) => continue,
            };
            return Err(Error::InUse {
                path: path.to_owned(),
                why,
            });
        }
        Ok(())
    }

    /// Notes that nothing of a read-only hierarchy can be had.
    pub(crate) fn refuse_all(&mut self, hierarchy: &Hierarchy, why: &str) {
        let mount_point = hierarchy.mounted().mount_point.display();
        self.refused
            .extend(hierarchy.controllers().iter().map(|name| Refused {
                controller: name.clone(),
                why: format!("limits of {name} cannot be set: {mount_point} {why}"),
            }));
    }

    /// Makes the group with these names in one hierarchy, or takes the one that is there.
    pub(crate) fn make(
        &mut self,
        hierarchy: &Arc<Hierarchy>,
        names: &[String],
        existing: Existing,
    ) -> Result<()> {
        let (last, way) = names
            .split_last()
            .expect("components() gives at least one name");
        // A parent may be removed under us by whoever thinks it is empty: then make it again.
        let mut attempts = 3;
        let chain = loop {
            attempts -= 1;
            let chain = self.descend(hierarchy, way)?;
            let parent = chain.last().expect("the chain begins with the root");
            match parent.make(last) {
                Ok(()) => break chain,
                Err(Errno::EXIST) if existing == Existing::Refuse => {
                    return Err(Error::Exists {
                        path: parent.path().join(last),
                    });
                }
                Err(Errno::EXIST) => {
                    self.adopted.push(parent.path().join(last));
                    break chain;
                }
                Err(Errno::NOENT | Errno::NODEV) if attempts > 0 => {}
                Err(source) => {
                    return Err(Error::io("create cgroup", parent.path().join(last), source));
                }
            }
        };
        self.opened(hierarchy, chain, last)
    }

    /// Opens the group just made and does what its hierarchy needs beyond mkdir.
    fn opened(
        &mut self,
        hierarchy: &Arc<Hierarchy>,
        mut chain: Vec<Dir>,
        last: &str,
    ) -> Result<()> {
        let parent = chain.last().expect("the chain begins with the root");
        let dir = match parent.child(last) {
            Ok(dir) => dir,
            Err(source) => {
                let path = parent.path().join(last);
                if !self.adopted.contains(&path) {
                    let _ = parent.unmake(last);
                }
                return Err(Error::io("open", path, source));
            }
        };
        let prepared = if hierarchy.is_v2() {
            enable(hierarchy, &chain)
        } else if offers(hierarchy, "cpuset") {
            fill_cpuset(&chain, &dir).map(|()| Vec::new())
        } else {
            Ok(Vec::new())
        };
        // Registered before the result is looked at, so that it is removed in any case.
        self.groups.push(Group {
            hierarchy: hierarchy.clone(),
            parent: chain.pop().expect("the chain begins with the root"),
            name: last.to_owned(),
            dir,
        });
        let refused = prepared?;
        if !refused.is_empty() {
            check_domain(&self.groups.last().expect("just pushed").dir)?;
        }
        self.refused.extend(refused);
        Ok(())
    }

    /// Opens the groups on the way, from the mount point on, and makes those that do not exist.
    fn descend(&mut self, hierarchy: &Hierarchy, way: &[String]) -> Result<Vec<Dir>> {
        let root = hierarchy.root();
        let again = |dir: &Dir| {
            dir.again()
                .map_err(|source| Error::io("open", dir.path(), source))
        };
        let mut chain = Vec::with_capacity(way.len() + 1);
        chain.push(again(root)?);
        for name in way {
            let parent = chain.last().expect("just pushed");
            let path = parent.path().join(name);
            let dir = match parent.child(name) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => {
                    match parent.make(name) {
                        Ok(()) => self.ancestors.push((again(parent)?, name.clone())),
                        // Another start made it at this moment.
                        Err(Errno::EXIST) => {}
                        Err(source) => return Err(Error::io("create cgroup", path, source)),
                    }
                    parent
                        .child(name)
                        .map_err(|source| Error::io("open", path, source))?
                }
                Err(source) => return Err(Error::io("open", path, source)),
            };
            chain.push(dir);
        }
        Ok(chain)
    }
}

/// Gives a new v1 cpuset what its parent has, and its parent first where that has nothing.
///
/// With `cgroup.clone_children` the kernel does it at mkdir; a parent of ours gets that flag when
/// it is filled, so that later groups come ready and cost one read.
fn fill_cpuset(chain: &[Dir], dir: &Dir) -> Result<()> {
    let Some((parent, above)) = chain.split_last() else {
        return Ok(());
    };
    let empty = |file| dir.text(file).map(|text| text.trim().is_empty());
    // The kernel clones both or none, and processors are always the harder to come by.
    if !empty("cpuset.cpus")? {
        return Ok(());
    }
    if !above.is_empty() {
        let filled = parent.text("cpuset.cpus")?;
        if filled.trim().is_empty() {
            fill_cpuset(above, parent)?;
        }
        // Best effort: without it, the next group is filled by hand as this one is.
        let _ = parent.write("cgroup.clone_children", "1");
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if empty(file)? {
            dir.set(file, parent.text(file)?.trim())?;
        }
    }
    Ok(())
}

/// Makes every wanted controller available below the last of `chain`, and says which could not be.
fn enable(hierarchy: &Hierarchy, chain: &[Dir]) -> Result<Vec<Refused>> {
    let wanted: Vec<&str> = hierarchy
        .controllers()
        .iter()
        .map(String::as_str)
        .filter(|name| V2_WANTED.contains(name))
        .collect();
    let parent = chain.last().expect("the chain begins with the root");
    // The second group below a parent finds everything done: one read.
    if missing(parent, &wanted)?.is_empty() {
        return Ok(Vec::new());
    }
    let mut refused: Vec<Refused> = Vec::new();
    for (depth, dir) in chain.iter().enumerate() {
        let mut todo = missing(dir, &wanted)?;
        todo.retain(|name| refused.iter().all(|refused| refused.controller != *name));
        for name in switch_on(dir, &todo, depth == 0) {
            refused.push(name);
        }
    }
    Ok(refused)
}

/// Whether processes can enter a new v2 group: not when its parent is a threaded domain.
fn check_domain(dir: &Dir) -> Result<()> {
    if dir
        .read("cgroup.type")
        .is_ok_and(|text| text.trim() == "domain invalid")
    {
        return Err(Error::unsupported(format!(
            "no process can enter {}: its parent is the root of a threaded subtree (cgroup.type \"domain threaded\"); choose another parent",
            dir.path().display()
        )));
    }
    Ok(())
}

/// Those of `wanted` that `dir` does not hand down yet.
fn missing<'a>(dir: &Dir, wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let given = dir.text("cgroup.subtree_control")?;
    let given: Vec<&str> = given.split_ascii_whitespace().collect();
    Ok(wanted
        .iter()
        .copied()
        .filter(|name| !given.contains(name))
        .collect())
}

/// Enables controllers in one group: all in one write, or each for itself when that fails.
fn switch_on(dir: &Dir, names: &[&str], visible_root: bool) -> Vec<Refused> {
    if names.is_empty() {
        return Vec::new();
    }
    let all: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    // Looked at before anything is written: alone, the controllers that can divide the threads of a
    // process (cpu, cpuset, pids) would be accepted, and turn the group into the root of a
    // threaded subtree, in which an ordinary group like ours may hold no process at all.
    if holds_processes(dir) && !(visible_root && evacuate(dir)) {
        return refuse(dir, names, &why_internal(dir));
    }
    let subtree = |value: &str| dir.write("cgroup.subtree_control", value);
    if subtree(&all.join(" ")).is_ok() {
        return Vec::new();
    }
    let one = |(name, value): (&&str, &String)| match subtree(value) {
        Ok(()) => Vec::new(),
        // Somebody entered just now.
        Err(Errno::BUSY) => refuse(dir, &[*name], &why_internal(dir)),
        Err(errno) => refuse(dir, &[*name], &errno.to_string()),
    };
    names.iter().zip(&all).flat_map(one).collect()
}

/// Whether the "no internal processes" rule bites: the real root is exempt, and is the only group
/// without `cgroup.type`.
fn holds_processes(dir: &Dir) -> bool {
    // Processes of other PID namespaces are shown as 0 and count as well.
    dir.read("cgroup.procs").is_ok_and(|text| !text.is_empty()) && dir.has("cgroup.type")
}

fn why_internal(dir: &Dir) -> String {
    format!(
        "it holds {} itself, and cgroup v2 hands controllers down only from groups without processes of their own; choose another parent, or move them into a group below",
        pid_list(&dir.processes().unwrap_or_default())
    )
}

fn refuse(dir: &Dir, names: &[&str], why: &str) -> Vec<Refused> {
    let path = dir.path().display();
    let refused = |name: &&str| Refused {
        controller: (*name).to_owned(),
        why: format!("the controller {name} cannot be enabled below {path}: {why}"),
    };
    names.iter().map(refused).collect()
}

/// Moves the processes of the topmost group that we can see into a group below it, so that it may
/// hand controllers down.
///
/// The real root is exempt from the rule and never comes here. What does is the root of a cgroup
/// namespace: this engine runs in a container whose processes sit in its topmost group, and without
/// this no limit works in there at all. Everything in that group belongs to the container that we
/// run in, and a process does not notice the move. A parent further down that somebody chose is
/// left alone: its processes are not ours to move.
fn evacuate(root: &Dir) -> bool {
    match root.make(EVACUATED) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(_) => return false,
    }
    let Ok(shelter) = root.child(EVACUATED) else {
        return false;
    };
    // Processes fork while we move them: again, until none is left or it is hopeless.
    for _ in 0..16 {
        for pid in root.processes().unwrap_or_default() {
            // It may have exited meanwhile.
            let _ = shelter.write("cgroup.procs", &pid.to_string());
        }
        if !holds_processes(root) {
            return true;
        }
    }
    false
}
