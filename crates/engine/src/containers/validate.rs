//! What can be refused before anything is made: contradictions and impossible values, in Docker's words.

use crate::error::{Error, Kind, Result};
use barque_types::container::{
    CreateContainer, MountRequest, NamespaceMode, NetworkMode, UserNsMode,
};
use barque_types::restart::RestartMode;
use barque_types::{signal, ulimit};
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// Docker's minimum: less than that a runtime cannot even start in.
const MINIMUM_MEMORY: i64 = 6 << 20;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// Refuses what cannot be; returns warnings about what is unwise.
pub(crate) fn request(request: &CreateContainer) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    lifecycle(request)?;
    namespaces(request)?;
    memory(request, &mut warnings)?;
    limits(request)?;
    cgroup_parent(request)?;
    mounts(&request.mounts)?;
    sysctls(request)?;
    log(request)?;
    Ok(warnings)
}

fn lifecycle(request: &CreateContainer) -> Result<()> {
    if request.auto_remove && request.restart.name != RestartMode::No {
        return Err(invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    if let Some(text) = &request.stop_signal
        && signal::parse(text).is_none()
    {
        return Err(invalid(format!("invalid signal: {text}")));
    }
    Ok(())
}

fn namespaces(request: &CreateContainer) -> Result<()> {
    let named = request.hostname.is_some() || request.domainname.is_some();
    if named
        && matches!(
            request.uts,
            NamespaceMode::Host | NamespaceMode::Container(_)
        )
    {
        return Err(invalid("conflicting options: hostname and the UTS mode"));
    }
    if request.hostname.is_some() && matches!(request.network, NetworkMode::Container(_)) {
        return Err(invalid(
            "conflicting options: hostname and the network mode",
        ));
    }
    if let Some(name) = request
        .hostname
        .as_deref()
        .filter(|name| name.len() > 63 || name.contains(['/', '\0', '\n']))
    {
        return Err(invalid(format!(
            "invalid hostname {name:?}: at most 63 bytes, no slash"
        )));
    }
    if request.privileged && request.userns != UserNsMode::Host {
        return Err(invalid(
            "privileged mode is incompatible with user namespaces: drop --privileged or the user namespace",
        ));
    }
    if let UserNsMode::Mapped { uid, gid } = &request.userns {
        for (what, maps) in [("--uidmap", uid), ("--gidmap", gid)] {
            if maps.iter().all(|map| map.container_id != 0) {
                return Err(invalid(format!("{what} must map id 0 of the container")));
            }
        }
    }
    Ok(())
}

fn memory(request: &CreateContainer, warnings: &mut Vec<String>) -> Result<()> {
    let Some(memory) = &request.resources.memory else {
        return Ok(());
    };
    let limit = memory.limit.unwrap_or(0);
    if limit > 0 && limit < MINIMUM_MEMORY {
        return Err(invalid("Minimum memory limit allowed is 6MB"));
    }
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        if limit == 0 {
            return Err(invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ));
        }
        if swap != -1 && swap < limit {
            return Err(invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ));
        }
    }
    if let Some(reservation) = memory.reservation.filter(|r| *r > 0) {
        if reservation < MINIMUM_MEMORY {
            return Err(invalid("Minimum memory reservation allowed is 6MB"));
        }
        if limit > 0 && limit < reservation {
            return Err(invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ));
        }
    }
    if memory.swappiness.is_some_and(|s| s > 100) {
        return Err(invalid(
            "Invalid value for memory swappiness: valid range is 0-100",
        ));
    }
    if memory.disable_oom_killer == Some(true) && limit <= 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned(),
        );
    }
    Ok(())
}

fn limits(request: &CreateContainer) -> Result<()> {
    if let Some(weight) = request.resources.block_io.as_ref().and_then(|b| b.weight)
        && weight != 0
        && !(10..=1000).contains(&weight)
    {
        return Err(invalid("Range of blkio weight is from 10 to 1000"));
    }
    if request
        .oom_score_adj
        .is_some_and(|adj| !(-1000..=1000).contains(&adj))
    {
        return Err(invalid(
            "Invalid value for oom score adj: the range is [-1000, 1000]",
        ));
    }
    if let Some(cpu) = &request.resources.cpu
        && let Some(period) = cpu.period
        && period != 0
        && !(1000..=1_000_000).contains(&period)
    {
        return Err(invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    cpus(request.nano_cpus, crate::info::cpus())?;
    for limit in &request.ulimits {
        if !ulimit::NAMES.contains(&limit.name.as_str()) {
            return Err(invalid(format!("invalid ulimit type: {}", limit.name)));
        }
        if limit.soft > limit.hard {
            return Err(invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    Ok(())
}

/// `--cpus`, in billionths: a share of more than there is would promise what nobody gets.
fn cpus(nanos: i64, online: u64) -> Result<()> {
    if nanos != 0 && !(10_000_000..=i128::from(online) * 1_000_000_000).contains(&i128::from(nanos))
    {
        return Err(invalid(format!(
            "Range of CPUs is from 0.01 to {online}.00, as there are only {online} CPUs available"
        )));
    }
    Ok(())
}

/// A parent that no group can have would leave a container that can be neither started nor cleaned up.
fn cgroup_parent(request: &CreateContainer) -> Result<()> {
    let Some(parent) = &request.cgroup_parent else {
        return Ok(());
    };
    // The root of the hierarchies is a parent, too, although it is no group of its own.
    if parent.chars().all(|c| c == '/') {
        return Ok(());
    }
    barque_cgroup::check_path(parent).map_err(|e| invalid(format!("--cgroup-parent: {e}")))
}

fn mounts(mounts: &[MountRequest]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for mount in mounts {
        let target = match mount {
            MountRequest::Bind(bind) => {
                if !bind.source.is_absolute() {
                    return Err(invalid(format!(
                        "invalid mount path: '{}' mount path must be absolute",
                        bind.source.display()
                    )));
                }
                &bind.target
            }
            MountRequest::Tmpfs(tmpfs) => &tmpfs.target,
        };
        check_target(target)?;
        if !seen.insert(normal(target)) {
            return Err(invalid(format!(
                "Duplicate mount point: {}",
                target.display()
            )));
        }
    }
    Ok(())
}

fn check_target(target: &Path) -> Result<()> {
    if !target.is_absolute() {
        return Err(invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            target.display()
        )));
    }
    if normal(target) == Path::new("/") {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    Ok(())
}

/// Without `.` and `..` (which cannot leave the root).
fn normal(path: &Path) -> std::path::PathBuf {
    let mut out = std::path::PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Only parameters that a namespace of the container's own has: others would change the host.
fn sysctls(request: &CreateContainer) -> Result<()> {
    for name in request.sysctls.keys() {
        let ipc = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ]
        .contains(&name.as_str())
            || name.starts_with("fs.mqueue.");
        let net = name.starts_with("net.");
        let uts = name == "kernel.domainname";
        if !(ipc || net || uts) {
            return Err(invalid(format!(
                "sysctl '{name}' is not whitelisted: it is not of a namespace of the container's own"
            )));
        }
        if net && request.network == NetworkMode::Host {
            return Err(invalid(format!(
                "sysctl '{name}' not allowed in host network namespace"
            )));
        }
        if ipc && request.ipc == NamespaceMode::Host {
            return Err(invalid(format!(
                "sysctl '{name}' not allowed in host ipc namespace"
            )));
        }
    }
    Ok(())
}

fn log(request: &CreateContainer) -> Result<()> {
    match request.log.driver.as_deref() {
        None | Some("json-file" | "none") => {}
        Some(other) => {
            return Err(invalid(format!(
                "logger: no log driver named '{other}' is registered; json-file and none are"
            )));
        }
    }
    super::logging::options(&request.log).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_types::container::{BindMount, TmpfsMount, Ulimit};
    use barque_types::restart::RestartPolicy;
    use barque_types::spec::{MemoryLimits, Resources};

    fn refused(change: impl FnOnce(&mut CreateContainer)) -> String {
        let mut r = CreateContainer::default();
        change(&mut r);
        request(&r).unwrap_err().to_string()
    }

    fn with_memory(memory: MemoryLimits) -> impl FnOnce(&mut CreateContainer) {
        |r| {
            r.resources = Resources {
                memory: Some(memory),
                ..Resources::default()
            }
        }
    }

    #[test]
    fn defaults_are_fine() {
        assert_eq!(
            request(&CreateContainer::default()).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let memory = |limit, swap, reservation| MemoryLimits {
            limit,
            swap,
            reservation,
            ..MemoryLimits::default()
        };
        assert!(refused(with_memory(memory(Some(1 << 20), None, None))).contains("6MB"));
        assert!(
            refused(with_memory(memory(None, Some(1 << 30), None)))
                .contains("always set the Memory limit")
        );
        assert!(
            refused(with_memory(memory(Some(1 << 30), Some(1 << 20), None)))
                .contains("larger than memory limit")
        );
        assert!(
            refused(with_memory(memory(Some(8 << 20), None, Some(9 << 20))))
                .contains("reservation")
        );
        assert!(refused(|r| r.stop_signal = Some("SIGNOPE".into())).contains("SIGNOPE"));
        assert!(
            refused(|r| {
                r.auto_remove = true;
                r.restart = RestartPolicy {
                    name: RestartMode::Always,
                    maximum_retry_count: 0,
                };
            })
            .contains("AutoRemove")
        );
        assert!(
            refused(|r| r.ulimits.push(Ulimit {
                name: "nofiles".into(),
                soft: 1,
                hard: 1
            }))
            .contains("nofiles")
        );
        assert!(
            refused(|r| r.ulimits.push(Ulimit {
                name: "nofile".into(),
                soft: 2,
                hard: 1
            }))
            .contains("2 > 1")
        );
        assert!(
            refused(|r| drop(r.sysctls.insert("kernel.panic".into(), "1".into())))
                .contains("kernel.panic")
        );
        assert!(refused(|r| r.log.driver = Some("syslog".into())).contains("syslog"));
    }

    #[test]
    fn shares_of_the_cpus_there_are() {
        for nanos in [0, 10_000_000, 2_000_000_000] {
            assert!(cpus(nanos, 2).is_ok(), "{nanos}");
        }
        for nanos in [-1, 9_999_999, 2_000_000_001] {
            let said = cpus(nanos, 2).unwrap_err().to_string();
            assert!(said.contains("from 0.01 to 2.00"), "{nanos}: {said}");
        }
    }

    #[test]
    fn mount_targets() {
        let tmpfs = |target: &str| {
            MountRequest::Tmpfs(TmpfsMount {
                target: target.into(),
                options: vec![],
            })
        };
        assert!(refused(|r| r.mounts.push(tmpfs("tmp"))).contains("absolute"));
        assert!(refused(|r| r.mounts.push(tmpfs("/a/.."))).contains("'/'"));
        assert!(
            refused(|r| r.mounts = vec![tmpfs("/a/b"), tmpfs("/a/../a/b/")]).contains("Duplicate")
        );
        let bind = MountRequest::Bind(BindMount {
            source: "x".into(),
            target: "/x".into(),
            ..BindMount::default()
        });
        assert!(refused(|r| r.mounts.push(bind)).contains("absolute"));
    }
}
