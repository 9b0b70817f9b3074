//! Tests of the parser of mounts.

use super::*;

fn parse(kind: &str, source: &str, options: &[&str]) -> MountPlan {
    let mount = spec::Mount {
        destination: "/x".into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..spec::Mount::default()
    };
    MountPlan::parse(&mount, None, None).expect("valid")
}

#[test]
fn the_last_of_two_contradicting_options_counts() {
    let plan = parse("tmpfs", "tmpfs", &["ro", "rw", "noatime", "strictatime"]);
    assert_eq!(plan.set, Attributes::STRICTATIME);
}

#[test]
fn options_fall_into_attributes_propagation_and_parameters() {
    let plan = parse(
        "tmpfs",
        "shm",
        &["nosuid", "rshared", "size=64m", "mode=1777"],
    );
    assert_eq!(plan.set, Attributes::NOSUID);
    assert_eq!(plan.propagation, [(Propagation::Shared, true)]);
    let What::Filesystem(Filesystem { parameters, .. }) = plan.what else {
        panic!("not a file system")
    };
    assert_eq!(parameters[0], ("size".to_owned(), Some("64m".to_owned())));
}

#[test]
fn a_recursively_read_only_bind_keeps_its_two_sets_apart() {
    let plan = parse("bind", "/srv", &["rbind", "rro", "nosuid"]);
    assert_eq!(plan.recursive_set, Attributes::RDONLY);
    assert_eq!(plan.set, Attributes::NOSUID);
    assert_eq!(
        plan.what,
        What::Bind {
            source: "/srv".into(),
            recursive: true
        }
    );
}

#[test]
fn tmpfs_options_on_a_bind_mount_are_tolerated() {
    let plan = parse("bind", "/srv", &["bind", "size=64m", "mode=755"]);
    assert_eq!(
        plan.what,
        What::Bind {
            source: "/srv".into(),
            recursive: false
        }
    );
}

#[test]
fn the_root_is_no_destination() {
    let mount = spec::Mount {
        destination: "/./".into(),
        ..spec::Mount::default()
    };
    assert!(MountPlan::parse(&mount, None, None).is_err());
}

#[test]
fn an_unmapped_terminal_group_is_dropped() {
    let maps = IdMaps {
        uid: Vec::new(),
        gid: vec![spec::IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 1,
        }],
    };
    let mount = spec::Mount {
        destination: "/dev/pts".into(),
        kind: Some("devpts".into()),
        options: vec!["gid=5".into(), "mode=0620".into()],
        ..spec::Mount::default()
    };
    let plan = MountPlan::parse(&mount, Some(&maps), None).expect("valid");
    let What::Filesystem(Filesystem { parameters, .. }) = plan.what else {
        panic!("not a file system")
    };
    assert_eq!(parameters, [("mode".to_owned(), Some("0620".to_owned()))]);
}

#[test]
fn a_relative_source_begins_at_the_bundle() {
    let mount = spec::Mount {
        destination: "x/./y".into(),
        source: Some("data".into()),
        ..spec::Mount::default()
    };
    let plan = MountPlan::parse(&mount, None, Some(Path::new("/bundle"))).expect("valid");
    assert_eq!(plan.destination, Path::new("/x/y"));
    assert_eq!(
        plan.what,
        What::Bind {
            source: "/bundle/data".into(),
            recursive: true
        }
    );
    assert!(MountPlan::parse(&mount, None, None).is_err());
}

#[test]
fn flags_of_the_superblock_are_told_from_attributes_and_parameters() {
    let plan = parse(
        "ext4",
        "/dev/vda",
        &["sync,dirsync,async", "acl", "lazytime", "data=journal"],
    );
    let What::Filesystem(f) = plan.what else {
        panic!("not a file system")
    };
    assert_eq!(
        f.flags,
        [("dirsync", true), ("sync", false), ("lazytime", true)]
    );
    assert_eq!(f.switches, ["acl"]);
    assert_eq!(
        f.parameters,
        [("data".to_owned(), Some("journal".to_owned()))]
    );
    assert!(plan.set.is_empty());
}

#[test]
fn recursive_attributes_of_a_new_file_system_are_its_own() {
    let plan = parse("tmpfs", "tmpfs", &["rro", "rnoatime", "rnosymfollow"]);
    assert_eq!(
        plan.set,
        Attributes::RDONLY | Attributes::NOATIME | Attributes::NOSYMFOLLOW
    );
}

#[test]
fn a_remount_with_bind_leaves_the_file_system_alone() {
    assert_eq!(
        parse("none", "", &["bind", "remount", "ro"]).what,
        What::Remount(None)
    );
    let plan = parse("tmpfs", "", &["remount", "size=1m"]);
    let What::Remount(Some(f)) = plan.what else {
        panic!("no remount")
    };
    assert_eq!((f.kind.as_str(), f.parameters.len()), ("tmpfs", 1));
}

#[test]
fn contradictions_of_maps_and_types_are_told() {
    let map = vec![spec::IdMapping {
        container_id: 0,
        host_id: 1000,
        size: 1,
    }];
    let maps = IdMaps {
        uid: map.clone(),
        gid: map.clone(),
    };
    let mut mount = spec::Mount {
        destination: "/x".into(),
        kind: Some("tmpfs".into()),
        uid_mappings: map.clone(),
        ..spec::Mount::default()
    };
    let refused = |mount: &spec::Mount, maps| {
        let e = MountPlan::parse(mount, maps, None).expect_err("refused");
        e.to_string()
    };
    assert!(refused(&mount, None).ends_with("uidMappings and gidMappings go together"));
    mount.gid_mappings = map;
    assert!(
        MountPlan::parse(&mount, None, None)
            .expect("valid")
            .idmap
            .is_some()
    );
    assert!(refused(&mount, Some(&maps)).contains("only a bind mount can have a map of its own"));
    mount.kind = Some("cgroup".into());
    assert!(refused(&mount, None).contains("can map ids"));
    mount.kind = Some("proc".into());
    mount.options.push("tmpcopyup".into());
    assert!(refused(&mount, None).ends_with("tmpcopyup is for a tmpfs"));
}
