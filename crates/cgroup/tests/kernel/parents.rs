//! Groups below other groups: parents made on the way, parents with processes, roots that are not
//! the real one.

use std::path::{Path, PathBuf};

use barque_cgroup::{Cgroup, Error, Layout};
use barque_types::spec::Resources;

use crate::support::*;

#[test]
fn groups_below_a_new_parent_can_be_entered_and_limited() {
    let layout = layout();
    let parent = unique();
    let json = r#"{"pids":{"limit":10},"memory":{"limit":67108864}}"#;
    let make = |name: &str| {
        let (cgroup, warnings) =
            Cgroup::create(&layout, &format!("{parent}/{name}"), &resources(json)).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        Group(cgroup)
    };
    {
        // The second finds the parent made, its cpuset filled and its controllers enabled.
        let (first, second) = (make("one"), make("two"));
        for group in [&first, &second] {
            let (status, out, stderr) = group.shell("echo in").finish();
            assert!(status.success() && out == "in\n", "{stderr}");
            assert_eq!(group.stats().unwrap().pids.unwrap().limit, Some(10));
        }
    }
    Cgroup::open(&layout, &parent).unwrap().remove().unwrap();
}

/// A limit whose controller is on v2, if there is one.
fn limit_on_v2(group: &Group) -> Option<&'static str> {
    group.v2_fd()?;
    if !group.on_v1("memory") {
        Some(r#"{"memory":{"limit":33554432}}"#)
    } else if !group.on_v1("hugetlb") {
        Some(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":2097152}]}"#)
    } else {
        None
    }
}

/// A bind mount that is taken away at the end.
struct Bind(PathBuf);

impl Bind {
    fn new(from: &Path, to: PathBuf) -> Self {
        rustix::mount::mount_bind(from, &to).unwrap();
        Self(to)
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// What a process in a container without a cgroup namespace sees: a group as the root of all.
#[test]
fn a_visible_root_that_is_not_the_real_one() {
    let outer = Group::new("{}");
    if outer.v2_fd().is_none() {
        // Pure v1 has no rule about processes in the root; only the prefix is to be minded.
        return visible_root_of_v1(&outer);
    }
    let directory = tempfile::tempdir().unwrap();
    let bind = Bind::new(&outer.dir(""), directory.path().to_owned());
    let mountinfo = format!(
        "40 30 0:26 {} {} rw - cgroup2 cgroup2 rw\n",
        outer.path(),
        bind.0.display()
    );
    let layout = Layout::from_tables(&mountinfo, &format!("0::{}/own\n", outer.path())).unwrap();
    // The container's own processes sit in the root, which so cannot hand controllers down.
    let mut member = outer.shell("exec sleep 1000");
    member.go();
    let limit = limit_on_v2(&outer);
    let (inner, warnings) =
        Cgroup::create(&layout, "/barque/x", &resources(limit.unwrap_or("{}"))).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let full = outer.dir("").join("barque/x");
    assert!(full.is_dir());
    if limit.is_some() {
        // They were moved aside, and are still in the container's group.
        let moved = std::fs::read_to_string(outer.dir("").join("init/cgroup.procs")).unwrap();
        assert_eq!(moved.trim(), member.pid().to_string());
    }
    assert!(outer.pids().unwrap().contains(&member.pid()));
    // A relative path is below the group of this process.
    let (relative, _) = Cgroup::create(&layout, "rel", &Resources::default()).unwrap();
    assert!(outer.dir("").join("own/rel").is_dir());
    relative.remove().unwrap();
    inner.remove().unwrap();
    assert!(!full.exists());
}

fn visible_root_of_v1(outer: &Group) {
    let directory = tempfile::tempdir().unwrap();
    let bind = Bind::new(&outer.dir("memory"), directory.path().to_owned());
    let mountinfo = format!(
        "40 30 0:26 {} {} rw - cgroup x rw,memory\n",
        outer.path(),
        bind.0.display()
    );
    let layout = Layout::from_tables(&mountinfo, &format!("3:memory:{}\n", outer.path())).unwrap();
    let (inner, _) = Cgroup::create(&layout, "/barque/x", &Resources::default()).unwrap();
    assert!(outer.dir("memory").join("barque/x").is_dir());
    inner.remove().unwrap();
}

/// A parent that the user chose and that holds processes: those are not ours to move.
#[test]
fn a_parent_with_processes_is_explained() {
    let parent = Group::new("{}");
    let member = parent.shell("sleep 1000");
    let path = format!("{}/child", parent.path());
    let layout = layout();
    // Without limits nothing is needed from it.
    {
        let (child, _) = Cgroup::create(&layout, &path, &Resources::default()).unwrap();
        let (status, _, stderr) = Group(child).shell("true").finish();
        assert!(status.success(), "{stderr}");
    }

    let Some(limit) = limit_on_v2(&parent) else {
        // v1 does not mind.
        let limit = resources(r#"{"memory":{"limit":33554432}}"#);
        let (child, _) = Cgroup::create(&layout, &path, &limit).unwrap();
        return child.remove().unwrap();
    };
    let result = Cgroup::create(&layout, &path, &resources(limit));
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", member.pid())),
        "{text}"
    );
    assert!(
        layout
            .paths_of(&path)
            .unwrap()
            .iter()
            .all(|directory| !directory.exists())
    );
}

#[test]
fn a_threaded_parent_is_explained() {
    let parent = Group::new("{}");
    let path = format!("{}/child", parent.path());
    if parent.on_v1("cpu") || parent.v2_fd().is_none() {
        // Only v2 controllers that divide threads make one; on v1 the parent is as good as any.
        let (child, _) = Cgroup::create(&layout(), &path, &Resources::default()).unwrap();
        return child.remove().unwrap();
    }
    let _member = parent.shell("sleep 1000");
    std::fs::write(parent.dir("").join("cgroup.subtree_control"), "+cpu").unwrap();
    let error = Cgroup::create(&layout(), &path, &Resources::default()).unwrap_err();
    assert!(error.to_string().contains("threaded"), "{error}");
    assert!(!parent.dir("").join("child").exists());
}

#[test]
fn a_process_is_born_beside_an_init_that_moved_on() {
    let group = Group::new("{}");
    if group.v2_fd().is_none() {
        assert!(group.v2_fd_beside(1).unwrap().is_none());
        return;
    }
    let root = group.dir("");
    let identity = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd).unwrap().st_ino;
    let own = identity(&group.v2_fd().unwrap());
    let init = Member::outside("sleep 1000");
    let beside = |group: &Group| identity(&group.v2_fd_beside(init.pid()).unwrap().unwrap());
    assert_eq!(beside(&group), own);

    std::fs::create_dir(root.join("scope")).unwrap();
    std::fs::write(root.join("scope/cgroup.procs"), init.pid().to_string()).unwrap();
    assert_eq!(beside(&group), own, "nothing is handed down yet");
    if limit_on_v2(&group).is_none() {
        // Nor can it be, without a controller.
        return;
    }
    std::fs::write(root.join("cgroup.subtree_control"), "+hugetlb").unwrap();
    let scope = std::fs::File::open(root.join("scope")).unwrap();
    assert_eq!(beside(&group), identity(&scope));
}
