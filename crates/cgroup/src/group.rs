//! One group in every hierarchy: made, joined, limited, removed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_types::spec::Resources;
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Leftover, Result};
use crate::layout::{Hierarchy, Layout, components, offers, read_proc};
use crate::limits::{self, Place, Places};
use crate::make::{Existing, Making};
use crate::tables::{self, Kind};

/// How long [`Cgroup::remove`] waits for the kernel to let go of processes that are dying.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// A group of this engine: one directory per hierarchy, all held open.
///
/// It stands for the group, it does not own it: dropping it removes nothing.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    groups: Vec<Group>,
    refused: Vec<Refused>,
}

/// The group's directory in one hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) hierarchy: Arc<Hierarchy>,
    pub(crate) parent: Dir,
    pub(crate) name: String,
    pub(crate) dir: Dir,
}

/// A controller that exists here but that this group does not have.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// Name as the hierarchy has it (`io` on v2).
    pub(crate) controller: String,
    pub(crate) why: String,
}

impl Cgroup {
    /// Makes the group `path` in every hierarchy that can be written and applies the limits.
    /// Returns, beside it, what could not be limited, in Docker's words.
    ///
    /// An absolute path starts at each hierarchy's mount point, a relative one at the group of this
    /// process. Groups on the way are made as needed and stay for the next one.
    ///
    /// # Errors
    /// [`Error::Exists`] when the group is there in some hierarchy already, [`Error::Rejected`] for
    /// a value that the kernel does not take, and others. Whatever was made is removed again.
    pub fn create(
        layout: &Layout,
        path: &str,
        resources: &Resources,
    ) -> Result<(Self, Vec<String>)> {
        Self::obtain(layout, path, resources, Existing::Refuse)
    }

    /// [`Cgroup::create`] for an OCI runtime: a group that is there already is taken as it is, in
    /// some hierarchies or in all, when it holds no process (in it or below it) and is not frozen.
    /// Engines make it beforehand, to see the limits of a container before its first process.
    ///
    /// Limits that it has and that `resources` does not name stay.
    ///
    /// # Errors
    /// [`Error::InUse`] for a group with processes or a frozen one; those of [`Cgroup::create`].
    /// What was made here is removed again then, what was there before stays.
    pub fn create_or_adopt(
        layout: &Layout,
        path: &str,
        resources: &Resources,
    ) -> Result<(Self, Vec<String>)> {
        Self::obtain(layout, path, resources, Existing::AdoptEmpty)
    }

    fn obtain(
        layout: &Layout,
        path: &str,
        resources: &Resources,
        existing: Existing,
    ) -> Result<(Self, Vec<String>)> {
        let mut making = Making::default();
        for hierarchy in layout.hierarchies() {
            if hierarchy.mounted().read_only {
                making.refuse_all(hierarchy, "is mounted read-only");
            } else {
                making.make(hierarchy, &components(hierarchy, path)?, existing)?;
            }
        }
        if making.adopted_any() {
            making.check_unused()?;
        }
        let warnings = limits::apply(&making, resources, !making.adopted_any())?;
        Ok((Self::of(path, making), warnings))
    }

    pub(crate) fn of(path: &str, making: Making) -> Self {
        let (groups, refused) = making.keep();
        Self {
            path: path.to_owned(),
            groups,
            refused,
        }
    }

    /// Opens the group `path`, which exists in at least one hierarchy.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BadPath`], and those of open(2).
    pub fn open(layout: &Layout, path: &str) -> Result<Self> {
        let mut groups = Vec::new();
        let mut refused = Vec::new();
        for hierarchy in layout.hierarchies() {
            let names = components(hierarchy, path)?;
            let Some(group) = open_in(hierarchy, &names)? else {
                continue;
            };
            if hierarchy.is_v2() {
                refused = not_enabled(&group)?;
            }
            groups.push(group);
        }
        if groups.is_empty() && layout.mode() != crate::layout::Mode::None {
            return Err(Error::NotFound {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            groups,
            refused,
        })
    }

    /// The path it was made or opened with.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its directories: by controller for v1 (and `name=systemd`), under the empty name for v2, as
    /// the OCI runtimes write them into their records.
    #[must_use]
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for group in &self.groups {
            let path = group.dir.path().to_owned();
            match &group.hierarchy.mounted().kind {
                Kind::V1(controllers) => {
                    paths.extend(controllers.iter().map(|name| (name.clone(), path.clone())));
                }
                Kind::V2 => {
                    paths.insert(String::new(), path);
                }
            }
        }
        paths
    }

    /// Changes the limits that are set in `resources`; the others stay. Returns what could not be
    /// limited, in Docker's words.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Unsupported`] and others; limits written before stay changed.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>> {
        limits::apply(self, resources, false)
    }

    /// The `tasks` file of every v1 group, open for writing: a new process joins by writing `0` to
    /// each **itself**, right after its fork.
    ///
    /// Why so and not by writing its pid to `cgroup.procs` from outside: that moves a whole thread
    /// group, for which the kernel takes `cgroup_threadgroup_rwsem` for writing, which waits for an
    /// RCU grace period: milliseconds. Moving the calling thread alone (`0`, and
    /// `tasks`) skips the lock (`cgroup_procs_write_start`), and a process that was just forked has
    /// no other thread. Measured (Linux 6.18, nine hierarchies, after a pause):
    /// 0.06 ms against 8 to 11 ms; `examples/cost.rs` measures it.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        self.groups
            .iter()
            .filter(|group| !group.hierarchy.is_v2())
            .map(|group| writer(&group.dir, "tasks"))
            .collect()
    }

    /// The v2 group's directory, for `CLONE_INTO_CGROUP` (Linux 5.7): the child is born in it, and
    /// nothing is moved. `None` when v2 is not mounted.
    #[must_use]
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|group| group.dir.as_fd())
    }

    /// The v2 group's `cgroup.procs`, open for writing, for kernels without `CLONE_INTO_CGROUP`: the
    /// child writes `0`. `None` when v2 is not mounted.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn v2_join_fd(&self) -> Result<Option<OwnedFd>> {
        self.v2()
            .map(|group| writer(&group.dir, "cgroup.procs"))
            .transpose()
    }

    /// Where a further process of the container is to be born on v2: in the group itself, or, when
    /// the container's first process `init` has moved on into a group below and handed controllers
    /// down (as systemd does), where that is; a group with such children may hold no process.
    ///
    /// # Errors
    /// Those of reading `/proc` and of open(2).
    pub fn v2_fd_beside(&self, init: i32) -> Result<Option<OwnedFd>> {
        let Some(group) = self.v2() else {
            return Ok(None);
        };
        let own = |source| Error::io("open", group.dir.path(), source);
        let mut dir = group.dir.again().map_err(own)?;
        if !dir.text("cgroup.subtree_control")?.trim().is_empty() {
            let membership = read_proc(format!("/proc/{init}/cgroup"))?;
            for name in self.way_down(&group.hierarchy, &membership) {
                let path = dir.path().join(&name);
                dir = dir
                    .child(&name)
                    .map_err(|source| Error::io("open", path, source))?;
            }
        }
        Ok(Some(dir.into_fd()))
    }

    /// The names from this group down to the one that a `/proc/PID/cgroup` shows for v2.
    fn way_down(&self, hierarchy: &Hierarchy, membership: &str) -> Vec<String> {
        let names = |path: &str| -> Vec<String> {
            path.split('/')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let theirs = tables::v2_membership(membership)
            .and_then(|path| tables::below(path, &hierarchy.mounted().mount_root))
            .map(|path| names(&path))
            .unwrap_or_default();
        match components(hierarchy, &self.path) {
            Ok(ours) if theirs.starts_with(&ours) => theirs[ours.len()..].to_vec(),
            _ => Vec::new(),
        }
    }

    /// Moves an existing process, with its threads, into every group. Slow on v1 (see
    /// [`Cgroup::join_fds`]); for processes that were not started by us.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `ESRCH` when there is no such process, `EBUSY` on v2 when the group
    /// hands controllers down.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let pid = pid.to_string();
        self.groups
            .iter()
            .try_for_each(|group| group.dir.set("cgroup.procs", &pid))
    }

    /// [`Cgroup::attach`] in those hierarchies where the process is not in the group yet: a user may
    /// not even write what changes nothing where somebody else manages the group.
    pub(crate) fn attach_where_missing(&self, pid: i32) -> Result<()> {
        for group in &self.groups {
            if !group.dir.processes()?.contains(&pid) {
                group.dir.set("cgroup.procs", &pid.to_string())?;
            }
        }
        Ok(())
    }

    /// The processes in the group and in the groups below it, in ascending order.
    ///
    /// # Errors
    /// Those of reading the hierarchies.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        // A process may be in v2 only or in v1 only if somebody else put it there: ask one of each.
        for group in [self.v2(), self.v1_any()].into_iter().flatten() {
            group.dir.walk(&mut |dir| {
                pids.extend(dir.processes()?);
                Ok(())
            })?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes the group and all groups below it, in every hierarchy. It kills nothing: see
    /// [`Cgroup::kill_all`]. Processes that are dying are waited for; a group that is gone already is
    /// no error.
    ///
    /// # Errors
    /// [`Error::Left`] with everything that could not be removed, and the processes in it.
    pub fn remove(&self) -> Result<()> {
        remove_groups(&self.groups, REMOVE_PATIENCE)
    }

    pub(crate) fn v2(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.hierarchy.is_v2())
    }

    /// A v1 group to ask for processes: all know the same ones, and the freezer's acts on them.
    fn v1_any(&self) -> Option<&Group> {
        self.v1_of("freezer")
            .or_else(|| self.groups.iter().find(|group| !group.hierarchy.is_v2()))
    }

    pub(crate) fn v1_of(&self, controller: &str) -> Option<&Group> {
        self.groups
            .iter()
            .find(|group| !group.hierarchy.is_v2() && offers(&group.hierarchy, controller))
    }
}

impl Places for Cgroup {
    fn place(&self, controller: &str) -> Place<'_> {
        place(&self.groups, &self.refused, controller)
    }

    fn unified(&self) -> Option<&Dir> {
        self.v2().map(|group| &group.dir)
    }
}

/// Where a controller (v1 name) is, among groups and refusals.
pub(crate) fn place<'a>(groups: &'a [Group], refused: &[Refused], controller: &str) -> Place<'a> {
    let wanted = [controller, crate::layout::v2_name(controller)];
    if let Some(refused) = refused
        .iter()
        .find(|r| wanted.contains(&r.controller.as_str()))
    {
        return Place::Refused(refused.why.clone());
    }
    let holds = |group: &&Group| offers(&group.hierarchy, controller);
    match groups.iter().find(holds) {
        Some(group) if group.hierarchy.is_v2() => Place::V2(&group.dir),
        Some(group) => Place::V1(&group.dir),
        // No controller on v2, but BPF programs on any group.
        None if controller == "devices" => groups
            .iter()
            .find(|group| group.hierarchy.is_v2())
            .map_or(Place::Nowhere, |group| Place::V2(&group.dir)),
        None => Place::Nowhere,
    }
}

fn writer(dir: &Dir, file: &str) -> Result<OwnedFd> {
    dir.writer(file)
        .map_err(|source| Error::io("open", dir.path().join(file), source))
}

fn open_in(hierarchy: &Arc<Hierarchy>, names: &[String]) -> Result<Option<Group>> {
    let (last, way) = names
        .split_last()
        .expect("components() gives at least one name");
    let open = |parent: &Dir, name: &str| match parent.child(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(source) => Err(Error::io("open", parent.path().join(name), source)),
    };
    let root = hierarchy.root();
    let mut parent = root
        .again()
        .map_err(|source| Error::io("open", root.path(), source))?;
    for name in way {
        match open(&parent, name)? {
            Some(dir) => parent = dir,
            None => return Ok(None),
        }
    }
    Ok(open(&parent, last)?.map(|dir| Group {
        hierarchy: hierarchy.clone(),
        parent,
        name: last.clone(),
        dir,
    }))
}

/// The controllers that the v2 tree has and this existing group has not been given.
fn not_enabled(group: &Group) -> Result<Vec<Refused>> {
    let given = group.dir.text("cgroup.controllers")?;
    let given: Vec<&str> = given.split_ascii_whitespace().collect();
    let missing = group
        .hierarchy
        .controllers()
        .iter()
        .filter(|name| !given.contains(&name.as_str()));
    Ok(missing
        .map(|name| Refused {
            controller: name.clone(),
            why: format!(
                "the controller {name} is not enabled for {}: its parent's cgroup.subtree_control does not list it",
                group.dir.path().display()
            ),
        })
        .collect())
}

/// Removes trees, waiting up to `patience` for dying processes; everything is tried before the
/// first failure is reported.
pub(crate) fn remove_groups<'a>(
    groups: impl IntoIterator<Item = &'a Group>,
    patience: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut left = Vec::new();
    for group in groups {
        let mut pause = Duration::from_micros(100);
        loop {
            match remove_tree(&group.parent, &group.name, &group.dir) {
                Ok(()) => break,
                Err((_, Errno::BUSY)) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err((path, errno)) => {
                    let pids = group.dir.processes().unwrap_or_default();
                    left.push(Leftover { path, errno, pids });
                    break;
                }
            }
        }
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(Error::Left { left })
    }
}

/// rmdir, children first; the path and the answer of the first that failed.
fn remove_tree(parent: &Dir, name: &str, dir: &Dir) -> Result<(), (PathBuf, Errno)> {
    // Nearly every group has no children: try the one call first.
    match parent.unmake(name) {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(errno) => return Err((dir.path().to_owned(), errno)),
    }
    let mut failed = None;
    for child in dir.children().unwrap_or_default() {
        let Ok(below) = dir.child(&child) else {
            continue;
        };
        if let Err(error) = remove_tree(dir, &child, &below) {
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    match parent.unmake(name) {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err((dir.path().to_owned(), errno)),
    }
}
