//! What an OCI runtime does that an engine does not: take a group that is there, hand it on.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use barque_cgroup::{Cgroup, Error};
use barque_types::spec::Resources;

use crate::support::*;

const LIMIT: &str = r#"{"pids":{"limit":9}}"#;

#[test]
fn an_empty_group_is_adopted_and_a_missing_one_made() {
    let layout = layout();
    let before = Group::new(r#"{"memory":{"limit":67108864}}"#);
    let (adopted, warnings) =
        Cgroup::create_or_adopt(&layout, before.path(), &resources(LIMIT)).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(adopted.paths(), before.paths());
    let stats = adopted.stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, Some(9));
    assert_eq!(
        stats.memory.unwrap().limit,
        Some(67_108_864),
        "what is not named stays"
    );
    let (status, out, stderr) = before.shell("echo in").finish();
    assert!(status.success() && out == "in\n", "{stderr}");

    // There in one hierarchy only: the others are made.
    let path = unique();
    let directories = layout.paths_of(&path).unwrap();
    std::fs::create_dir(&directories[0]).unwrap();
    let (made, _) = Cgroup::create_or_adopt(&layout, &path, &resources(LIMIT)).unwrap();
    let made = Group(made);
    assert!(directories.iter().all(|directory| directory.is_dir()));
    let (status, _, stderr) = made.shell("true").finish();
    assert!(status.success(), "{stderr}");
}

#[test]
fn a_group_in_use_is_refused_and_left_alone() {
    let layout = layout();
    let group = Group::new("{}");
    // Also when it is used further down.
    let below = format!("{}/below", group.path());
    let (child, _) = Cgroup::create(&layout, &below, &Resources::default()).unwrap();
    let child = Group(child);
    let member = child.shell("sleep 1000");
    let error = Cgroup::create_or_adopt(&layout, group.path(), &resources(LIMIT)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(group.path()) && text.contains(&format!("process {}", member.pid())),
        "{text}"
    );
    assert_eq!(group.stats().unwrap().pids.unwrap().limit, None);
    assert_eq!(child.pids().unwrap(), [member.pid()]);
}

#[test]
fn a_frozen_group_is_refused() {
    let group = Group::new("{}");
    group.freeze(PATIENCE).unwrap();
    let error = Cgroup::create_or_adopt(&layout(), group.path(), &Resources::default());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("frozen"), "{text}");
    group.thaw().unwrap();
    Cgroup::create_or_adopt(&layout(), group.path(), &Resources::default()).unwrap();
}

#[test]
fn a_failed_adoption_removes_only_what_it_made() {
    let layout = layout();
    let path = unique();
    let directories = layout.paths_of(&path).unwrap();
    std::fs::create_dir(&directories[0]).unwrap();
    let bad = resources(r#"{"cpu":{"cpus":"4094"}}"#);
    let result = Cgroup::create_or_adopt(&layout, &path, &bad);
    let there: Vec<&PathBuf> = directories.iter().filter(|d| d.exists()).collect();
    std::fs::remove_dir(&directories[0]).unwrap();
    assert!(matches!(result, Err(Error::Rejected { .. })), "{result:?}");
    assert_eq!(there, [&directories[0]]);
}

#[test]
fn the_v2_group_is_handed_to_the_containers_user_and_nothing_else() {
    let group = Group::new(LIMIT);
    group.delegate(12_345, Some(23_456)).unwrap();
    let owner = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    for (controller, directory) in group.paths() {
        if !controller.is_empty() {
            assert_eq!(owner(directory), (0, 0), "v1 stays root's: {controller}");
            continue;
        }
        let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
        let delegated: Vec<&str> = list.lines().collect();
        assert_eq!(owner(directory.clone()), (12_345, 23_456));
        let mut handed = 0;
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let expected = if delegated.contains(&name.as_str()) {
                handed += 1;
                (12_345, 23_456)
            } else {
                (0, 0)
            };
            assert_eq!(owner(entry.path()), expected, "{name}");
        }
        assert!(handed >= 3, "{handed}");
        // runc's way: the group owner stays.
        group.delegate(54_321, None).unwrap();
        assert_eq!(owner(directory), (54_321, 23_456));
    }
}
