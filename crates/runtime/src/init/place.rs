//! The container's place in the system: its cgroups, its ids, its name.

use crate::error::{Context, Error, Result};
use crate::hierarchies::{Hierarchy, path_in};
use crate::options::CgroupJoin;
use crate::plan::Plan;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use std::path::PathBuf;

/// Enters the v1 cgroups (v2 was the place of birth).
///
/// `0` in `tasks` means the writing thread, which is the whole process here. A pid written into
/// `cgroup.procs` by the parent would take the system-wide threadgroup lock, whose writer side
/// waits for a grace period of RCU: milliseconds.
pub(crate) fn join_cgroups(cgroup: &CgroupJoin<'_>) -> Result<()> {
    for tasks in &cgroup.v1_tasks {
        rustix::io::write(tasks, b"0").map_err(|errno| {
            let error = Error::step("entering a cgroup", errno);
            match errno {
                Errno::NOSPC => {
                    error.with_hint("cpuset.cpus or cpuset.mems of the cgroup is empty")
                }
                _ => error,
            }
        })?;
    }
    Ok(())
}

/// The directories of the host's hierarchies in which we are, for the container's view of them;
/// to be asked before a cgroup namespace makes all of them `/`.
pub(super) fn own_cgroups(hierarchies: &[Hierarchy]) -> Result<Vec<(PathBuf, Hierarchy)>> {
    if hierarchies.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string("/proc/self/cgroup").step(|| "reading /proc/self/cgroup")?;
    Ok(hierarchies
        .iter()
        .filter_map(|h| {
            let path = path_in(&text, &h.controllers)?;
            // The mount may show only a part of the hierarchy; what is outside has no directory.
            let below = path.strip_prefix(&h.root).ok()?;
            Some((h.mount_point.join(below), h.clone()))
        })
        .collect())
}

/// Becomes uid 0 and gid 0 of the user namespace, with no other group. All capabilities came with
/// the namespace; they stay, because uid 0 of it keeps them.
pub(super) fn become_root() -> Result<()> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).step(|| "becoming group 0 of the user namespace")?;
    match set_thread_groups(&[]) {
        // `setgroups` is denied where the map was written without privilege.
        Ok(()) | Err(Errno::PERM) => {}
        Err(e) => return Err(Error::step("leaving the host's groups", e)),
    }
    set_thread_res_uid(uid, uid, uid).step(|| "becoming user 0 of the user namespace")
}

/// Sets hostname and domain name of the UTS namespace.
pub(super) fn name(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .step(|| format!("setting the hostname {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .step(|| format!("setting the domain name {name:?}"))?;
    }
    Ok(())
}
