//! `mounts`: the kernel's file systems, the three files of the network, what the user asked for.

use super::{DEFAULT_SHM, Facts};
use crate::containers::record::Config;
use barque_runtime::defaults;
use barque_types::container::{
    BindMount, CreateContainer, MountRequest, NamespaceMode, TmpfsMount,
};
use barque_types::spec::Mount;
use std::path::{Path, PathBuf};

/// All mounts, parents before children.
pub(super) fn mounts(config: &Config, facts: &Facts) -> Vec<Mount> {
    let request = &config.request;
    let mut mounts = system(request);
    mounts.extend(etc_files(request, facts));
    let mut own: Vec<Mount> = request
        .mounts
        .iter()
        .map(|mount| match mount {
            MountRequest::Bind(bind) => bind_mount(bind),
            MountRequest::Tmpfs(tmpfs) => tmpfs_mount(tmpfs),
        })
        .collect();
    // What the user puts at a place of ours is what the user gets there.
    mounts.retain(|ours| {
        own.iter()
            .all(|theirs| theirs.destination != ours.destination)
    });
    // A stable sort by depth: `/a` before `/a/b`, whatever the order of the flags.
    own.sort_by_key(|mount| mount.destination.components().count());
    mounts.extend(own);
    mounts
}

/// `/proc`, `/dev`, `/sys`, …, changed where a namespace is shared.
fn system(request: &CreateContainer) -> Vec<Mount> {
    let shm = request.shm_size.unwrap_or(DEFAULT_SHM);
    let mut mounts = match request.privileged {
        true => defaults::privileged_mounts(shm),
        false => defaults::mounts(shm),
    };
    match request.ipc {
        // Message queues come with the namespace; shared memory is files. Another container's replace the
        // source named here when it is started.
        NamespaceMode::Host | NamespaceMode::Container(_) => {
            replace(&mut mounts, "/dev/shm", Some(host_bind("/dev/shm")));
        }
        NamespaceMode::None => replace(&mut mounts, "/dev/shm", None),
        _ => {}
    }
    if request.pid == NamespaceMode::Host && request.userns != Default::default() {
        // A fresh proc of a pid namespace that our user namespace does not own is EPERM.
        replace(&mut mounts, "/proc", Some(host_bind("/proc")));
    }
    mounts
}

fn replace(mounts: &mut Vec<Mount>, destination: &str, by: Option<Mount>) {
    let at = mounts
        .iter()
        .position(|m| m.destination == Path::new(destination));
    match (at, by) {
        (Some(at), Some(by)) => mounts[at] = by,
        (Some(at), None) => drop(mounts.remove(at)),
        (None, _) => {}
    }
}

fn host_bind(path: &str) -> Mount {
    Mount {
        destination: PathBuf::from(path),
        kind: Some("bind".to_owned()),
        source: Some(PathBuf::from(path)),
        options: ["rbind", "nosuid", "noexec", "nodev", "rprivate"]
            .map(str::to_owned)
            .to_vec(),
        ..Mount::default()
    }
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: written by us, changeable inside, kept out of
/// the layer. With `--rootfs DIR` too: another machine's files would tell the container lies.
fn etc_files(request: &CreateContainer, facts: &Facts) -> Vec<Mount> {
    let names_itself = !matches!(
        request.uts,
        NamespaceMode::Host | NamespaceMode::Container(_)
    );
    let mut files = vec![
        ("resolv.conf", &facts.network_dir),
        ("hosts", &facts.network_dir),
    ];
    if names_itself {
        files.push(("hostname", &facts.dir));
    }
    files
        .into_iter()
        .map(|(name, dir)| Mount {
            destination: Path::new("/etc").join(name),
            kind: Some("bind".to_owned()),
            source: Some(dir.join(name)),
            options: match request.read_only {
                true => ["rbind", "rprivate", "ro"].map(str::to_owned).to_vec(),
                false => ["rbind", "rprivate"].map(str::to_owned).to_vec(),
            },
            ..Mount::default()
        })
        .collect()
}

fn bind_mount(bind: &BindMount) -> Mount {
    let mut options = vec![if bind.non_recursive { "bind" } else { "rbind" }.to_owned()];
    options.push(
        bind.propagation
            .clone()
            .unwrap_or_else(|| "rprivate".to_owned()),
    );
    if bind.read_only {
        // Docker ≥ 25: read-only means recursively so, where the kernel can (5.12).
        options.push(if bind.non_recursive { "ro" } else { "rro" }.to_owned());
    }
    Mount {
        destination: bind.target.clone(),
        kind: Some("bind".to_owned()),
        source: Some(bind.source.clone()),
        options,
        ..Mount::default()
    }
}

fn tmpfs_mount(tmpfs: &TmpfsMount) -> Mount {
    // Docker's defaults; what the user says comes later and wins.
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for option in &tmpfs.options {
        options.retain(|have| Some(have.as_str()) != opposite(option));
        options.push(option.clone());
    }
    Mount {
        destination: tmpfs.target.clone(),
        kind: Some("tmpfs".to_owned()),
        source: Some(PathBuf::from("tmpfs")),
        options,
        ..Mount::default()
    }
}

fn opposite(option: &str) -> Option<&'static str> {
    match option {
        "exec" => Some("noexec"),
        "suid" => Some("nosuid"),
        "dev" => Some("nodev"),
        _ => None,
    }
}
