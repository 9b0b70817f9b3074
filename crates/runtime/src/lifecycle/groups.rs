//! The cgroups of a container: where its configuration wants them, and who makes them.

use super::record::GroupRecord;
use crate::defaults;
use crate::error::{Error, Result};
use barque_cgroup::systemd::{Manager, Property, Start, UnitName};
use barque_cgroup::{Cgroup, Layout};
use barque_types::spec::{IdMapping, NamespaceKind, Resources, Spec};

/// Annotations with this prefix are properties of the container's unit.
pub(super) const PROPERTY: &str = "org.systemd.property.";
/// Where a unit is that names no slice.
const DEFAULT_SLICE: &str = "system.slice";

/// Where the cgroups of a container are to be.
///
/// Without systemd, `linux.cgroupsPath` as it stands: absolute from the mount point of each hierarchy, relative from
/// the runtime's own group (config-linux.md, "Cgroups Path"). Without one, at the top under the container's id, which
/// is where crun puts it: below our own group no v2 controller could be handed down, for we are in it.
///
/// With systemd, `slice:prefix:name`, and what systemd will make of it.
pub(super) fn place(id: &str, spec: &Spec, systemd: bool) -> Result<GroupRecord> {
    let linux = spec.linux.as_ref();
    let path = linux
        .and_then(|linux| linux.cgroups_path.clone())
        .filter(|p| !p.is_empty());
    if !systemd {
        return Ok(GroupRecord {
            path: path.unwrap_or_else(|| format!("/{id}")),
            unit: None,
        });
    }
    let text = path.unwrap_or_else(|| format!(":barque:{id}"));
    let name = UnitName::parse(&text, DEFAULT_SLICE)?;
    if name.is_slice() {
        return Err(Error::invalid(
            "linux.cgroupsPath",
            format!("{text:?} names a slice, in which no process can be: a container is a scope"),
        ));
    }
    // Here, before anything is made, a bad property is told.
    properties(spec)?;
    Ok(GroupRecord {
        path: format!("{}/{}", slice_path(name.slice()), name.unit()),
        unit: Some(text),
    })
}

/// systemd.slice(5): `a-b.slice` is within `a.slice`; `-.slice` is the root.
fn slice_path(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem
        .char_indices()
        .filter(|(_, c)| *c == '-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    ends.filter(|end| *end > 0 && !stem.starts_with('-'))
        .map(|end| format!("/{}.slice", &stem[..end]))
        .collect()
}

fn properties(spec: &Spec) -> Result<Vec<Property>> {
    let named = spec.annotations.iter();
    let asked = named.filter_map(|(name, text)| Some((name.strip_prefix(PROPERTY)?, text)));
    Ok(asked
        .map(|(name, text)| Property::parse(name, text))
        .collect::<std::result::Result<_, _>>()?)
}

/// Makes them and sets the limits; returns what could not be limited, too. A group that is there already and empty is
/// taken as it is: engines make it beforehand.
pub(super) fn make(record: &GroupRecord, spec: &Spec) -> Result<(Cgroup, Vec<String>)> {
    let made = Cgroup::create_or_adopt(&Layout::detect()?, &record.path, &resources(spec))?;
    delegate(&made.0, spec)?;
    Ok(made)
}

/// The limits of a configuration. Whoever restricts the devices still gets those that the runtime supplies
/// (config-linux.md, "Default Devices"), as with runc: its callers' rules do not name them all.
fn resources(spec: &Spec) -> Resources {
    let asked = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone());
    let mut resources = asked.unwrap_or_default();
    if !resources.devices.is_empty() {
        resources.devices.extend(defaults::supplied_device_rules());
    }
    resources
}

/// Has systemd make them, for the first process, which waits.
pub(super) fn start_unit(
    record: &mut GroupRecord,
    id: &str,
    spec: &Spec,
    pid: i32,
) -> Result<(Cgroup, Vec<String>)> {
    let (mut manager, name) = unit(record)?.ok_or_else(|| {
        Error::invalid(
            "--systemd-cgroup",
            "the container is not recorded as a unit",
        )
    })?;
    let start = Start {
        pid: Some(pid),
        description: &format!("container {id} (barque)"),
        resources: &resources(spec),
        properties: &properties(spec)?,
    };
    let (group, warnings) = manager.start(&Layout::detect()?, &name, &start)?;
    group.path().clone_into(&mut record.path);
    delegate(&group, spec)?;
    Ok((group, warnings))
}

/// The unit of a container, if it has one, and who manages it.
fn unit(record: &GroupRecord) -> Result<Option<(Manager, UnitName)>> {
    let Some(text) = &record.unit else {
        return Ok(None);
    };
    let name = UnitName::parse(text, DEFAULT_SLICE)?;
    Ok(Some((Manager::system()?, name)))
}

/// Opens them; `None` when they are gone, or were never made.
pub(super) fn open(record: &GroupRecord) -> Result<Option<Cgroup>> {
    match Cgroup::open(&Layout::detect()?, &record.path) {
        Err(barque_cgroup::Error::NotFound { .. }) => Ok(None),
        other => Ok(other.map(Some)?),
    }
}

/// Changes limits; returns what could not be limited.
pub(super) fn update(
    record: &GroupRecord,
    group: &Cgroup,
    resources: &Resources,
) -> Result<Vec<String>> {
    Ok(match unit(record)? {
        Some((mut manager, name)) => manager.update(&Layout::detect()?, &name, group, resources)?,
        None => group.apply(resources)?,
    })
}

/// Removes them. Their processes have been killed before.
pub(super) fn remove(record: &GroupRecord, group: &Cgroup) -> Result<()> {
    match unit(record)? {
        Some((mut manager, name)) => Ok(manager.stop(&name, group)?),
        None => Ok(group.remove()?),
    }
}

/// Gives the v2 group to the user of a container that can manage it: it has a user namespace, a cgroup namespace and
/// a writable cgroup mount of its own, as runc decides (and the kernel's cgroup-v2.rst, "Delegation", explains).
fn delegate(group: &Cgroup, spec: &Spec) -> Result<()> {
    match delegate_to(spec) {
        Some(uid) => Ok(group.delegate(uid, None)?),
        None => Ok(()),
    }
}

fn delegate_to(spec: &Spec) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let own = |kind: NamespaceKind| {
        let of_kind = linux.namespaces.iter().find(|n| n.kind == kind);
        of_kind.is_some_and(|n| n.path.as_ref().is_none_or(|p| p.as_os_str().is_empty()))
    };
    let writable = spec.mounts.iter().any(|mount| {
        let kind = mount.kind.as_deref().unwrap_or_default();
        matches!(kind, "cgroup" | "cgroup2") && !mount.options.iter().any(|o| o == "ro")
    });
    if !own(NamespaceKind::User) || !own(NamespaceKind::Cgroup) || !writable {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    outside(&linux.uid_mappings, uid)
}

/// What an id of the container is on the host.
fn outside(map: &[IdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|m| {
        let offset = id.checked_sub(m.container_id)?;
        (offset < m.size).then(|| m.host_id.checked_add(offset))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_types::spec::{Linux, Mount, Namespace};

    fn spec(path: &str) -> Spec {
        Spec {
            linux: Some(Linux {
                cgroups_path: Some(path.to_owned()),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    #[test]
    fn where_they_are() {
        let of = |path: &str, systemd| place("id", &spec(path), systemd).map(|record| record.path);
        assert_eq!(of("/a/b", false).as_deref(), Ok("/a/b"));
        assert_eq!(of("a", false).as_deref(), Ok("a"));
        assert_eq!(of("", false).as_deref(), Ok("/id"));
        for (text, path) in [
            ("", "/system.slice/barque-id.scope"),
            ("user-7.slice:x:y", "/user.slice/user-7.slice/x-y.scope"),
            ("a-b-c.slice::y", "/a.slice/a-b.slice/a-b-c.slice/y.scope"),
            ("-:x:y", "/x-y.scope"),
        ] {
            assert_eq!(of(text, true).as_deref(), Ok(path), "{text}");
        }
        for bad in ["/a/b", "x:y", "a.slice:x:y.slice", "nope:x:y"] {
            assert!(of(bad, true).is_err(), "{bad}");
        }
        let mut annotated = spec("");
        annotated
            .annotations
            .insert(format!("{PROPERTY}TimeoutStopSec"), "what".to_owned());
        let error = place("id", &annotated, true).expect_err("no value");
        assert!(error.to_string().contains("TimeoutStopSec"), "{error}");
        assert!(place("id", &annotated, false).is_ok(), "nobody looks");
    }

    #[test]
    fn whom_the_group_is_given_to() {
        let mut it = spec("/x");
        let linux = it.linux.get_or_insert_default();
        linux.uid_mappings = vec![IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 10,
        }];
        let namespace = |kind| Namespace { kind, path: None };
        linux.namespaces = vec![
            namespace(NamespaceKind::User),
            namespace(NamespaceKind::Cgroup),
        ];
        it.mounts = vec![Mount {
            kind: Some("cgroup".to_owned()),
            ..Mount::default()
        }];
        assert_eq!(delegate_to(&it), Some(1000));
        it.process.get_or_insert_default().user.uid = 5;
        assert_eq!(delegate_to(&it), Some(1005));
        it.process.get_or_insert_default().user.uid = 10;
        assert_eq!(delegate_to(&it), None, "nobody outside");
        it.process = None;
        it.mounts[0].options = vec!["ro".to_owned()];
        assert_eq!(delegate_to(&it), None, "it could not write");
    }
}
