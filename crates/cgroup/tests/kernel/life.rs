//! Made, opened, joined, frozen, killed, removed.

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use barque_cgroup::{Cgroup, Error, Layout};
use barque_types::spec::Resources;

use crate::support::*;

#[test]
fn a_group_is_in_every_hierarchy_and_removed_from_every_one() {
    let layout = layout();
    let path = unique();
    let (cgroup, _) = Cgroup::create(&layout, &path, &Resources::default()).unwrap();
    let directories = layout.paths_of(&path).unwrap();
    assert_eq!(directories.len(), layout.hierarchies().len());
    assert!(
        directories.iter().all(|directory| directory.is_dir()),
        "{directories:?}"
    );

    let taken = Cgroup::create(&layout, &path, &Resources::default());
    assert!(matches!(taken, Err(Error::Exists { .. })), "{taken:?}");
    assert!(
        directories.iter().all(|directory| directory.is_dir()),
        "the first one stays whole"
    );

    let opened = Cgroup::open(&layout, &path).unwrap();
    assert_eq!(opened.paths(), cgroup.paths());
    // Groups that somebody made inside go too.
    for directory in &directories {
        std::fs::create_dir_all(directory.join("inner/most")).unwrap();
    }
    opened.remove().unwrap();
    assert!(!directories.iter().any(|directory| directory.exists()));
    cgroup.remove().unwrap();
    let gone = Cgroup::open(&layout, &path);
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[test]
fn a_failed_creation_leaves_nothing_not_even_the_way_there() {
    let layout = layout();
    let parent = unique();
    let path = format!("{parent}/a/b");
    let error =
        Cgroup::create(&layout, &path, &resources(r#"{"cpu":{"cpus":"4094"}}"#)).unwrap_err();
    match &error {
        Error::Rejected { file, value, .. } => {
            assert!(file.ends_with("b/cpuset.cpus"), "{error}");
            assert_eq!(value, "4094");
        }
        other => panic!("{other}"),
    }
    for directory in layout.paths_of(&parent).unwrap() {
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn paths_that_cannot_be_used_are_refused() {
    for path in [
        "/",
        "",
        "/a/../b",
        "/./x",
        "/a\nb",
        &format!("/{}", "x".repeat(256)),
    ] {
        let result = Cgroup::create(&layout(), path, &Resources::default());
        assert!(
            matches!(result, Err(Error::BadPath { .. })),
            "{path:?}: {result:?}"
        );
    }
}

#[test]
fn a_process_joins_by_itself() {
    let group = Group::new("{}");
    let mut fds = group.join_fds().unwrap();
    fds.extend(group.v2_join_fd().unwrap());
    assert_eq!(
        fds.len(),
        group
            .paths()
            .values()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    );
    let us = std::process::id();
    let joins: String = fds
        .iter()
        .map(|fd| format!("echo 0 > /proc/{us}/fd/{} || exit 9\n", fd.as_raw_fd()))
        .collect();
    let mut member = Member::outside(&format!("{joins} echo joined; sleep 1000"));
    member.go();
    let pid = member.pid();
    until("the shell joins", || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        layout().hierarchies().iter().all(|hierarchy| {
            let line = format!("{}:", hierarchy.mounted().id);
            text.lines()
                .any(|l| l.starts_with(&line) && l.ends_with(group.path()))
        })
    });
    assert!(group.pids().unwrap().contains(&pid));
}

#[test]
fn a_frozen_group_stands_still_until_it_is_thawed() {
    let group = Group::new("{}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ticks");
    std::fs::write(&file, "").unwrap();
    let mut member = group.shell(&format!("while :; do echo x >> {}; done", file.display()));
    member.go();
    let size = || std::fs::metadata(&file).unwrap().len();
    until("the first ticks", || size() > 0);
    assert!(!group.is_frozen().unwrap());

    group.freeze(PATIENCE).unwrap();
    assert!(group.is_frozen().unwrap());
    let frozen = size();
    // Thousands of ticks would fit in here.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(size(), frozen);
    assert_eq!(group.pids().unwrap(), [member.pid()]);

    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    until("ticks after thawing", || size() > frozen);
    group.thaw().unwrap();
}

#[test]
fn a_group_that_somebody_removed_is_thawed_and_killed_already() {
    let group = Group::new("{}");
    for directory in layout().paths_of(group.path()).unwrap() {
        std::fs::remove_dir(&directory).unwrap();
    }
    group.thaw().unwrap();
    group.kill_all(PATIENCE).unwrap();
    assert!(group.freeze(PATIENCE).is_err());
}

fn families(group: &Group) -> Vec<Member> {
    let script = "i=0; while [ $i -lt 8 ]; do sleep 1000 & i=$((i+1)); done; wait";
    let mut members: Vec<Member> = (0..2).map(|_| group.shell(script)).collect();
    members.iter_mut().for_each(Member::go);
    until("all to be there", || group.pids().unwrap().len() == 18);
    members
}

#[test]
fn everything_is_killed_frozen_or_not() {
    for freeze in [false, true] {
        let group = Group::new("{}");
        let mut members = families(&group);
        if freeze {
            group.freeze(PATIENCE).unwrap();
        }
        group.kill_all(PATIENCE).unwrap();
        assert!(group.is_empty().unwrap());
        for member in &mut members {
            assert_eq!(member.wait().signal(), Some(9));
        }
        group.kill_all(PATIENCE).unwrap();
    }
}

#[test]
fn everything_is_killed_without_v2_too() {
    let tables = |path| std::fs::read_to_string(path).unwrap();
    let membership: String = tables("/proc/self/cgroup")
        .lines()
        .filter(|line| !line.starts_with("0::"))
        .map(|line| format!("{line}\n"))
        .collect();
    let layout = Layout::from_tables(&tables("/proc/self/mountinfo"), &membership).unwrap();
    if layout.hierarchies().is_empty() {
        // Pure v2: there is no v1 to look at, and the group is without any hierarchy.
        let (cgroup, _) = Cgroup::create(&layout, &unique(), &Resources::default()).unwrap();
        assert!(cgroup.paths().is_empty());
        return;
    }
    let (cgroup, _) = Cgroup::create(&layout, &unique(), &Resources::default()).unwrap();
    let group = Group(cgroup);
    assert!(group.v2_fd().is_none());
    let mut members = families(&group);
    group.kill_all(PATIENCE).unwrap();
    for member in &mut members {
        assert_eq!(member.wait().signal(), Some(9));
    }
}

#[test]
fn what_cannot_be_removed_is_named() {
    let group = Group::new("{}");
    let member = group.shell("sleep 1000");
    let error = group.remove().unwrap_err();
    match &error {
        Error::Left { left } => {
            assert!(left.iter().all(|l| l.pids == [member.pid()]), "{error}");
            assert_eq!(left.len(), layout().hierarchies().len());
        }
        other => panic!("{other}"),
    }
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", member.pid())),
        "{error}"
    );
}

#[test]
fn a_dying_process_is_waited_for() {
    let group = Group::new("{}");
    let mut member = group.shell("exit 0");
    member.go();
    // Neither waited for nor certain to have exited.
    group.remove().unwrap();
    assert!(Cgroup::open(&layout(), group.path()).is_err());
    assert!(member.wait().success());
}
