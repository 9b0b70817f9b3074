//! Ids and capabilities: the change from the privileged process that built the container to what
//! its program may be.

use crate::caps;
use crate::error::{Context, Error, Result};
use crate::plan::{CapsPlan, ProcessPlan};
use barque_types::spec::User;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Takes them on. Returns the capabilities to be set after the system call filter is loaded, when
/// loading it needs one more than the program gets.
pub(super) fn assume(
    plan: &ProcessPlan,
    ids: &User,
    warnings: &mut Vec<String>,
) -> Result<Option<CapabilitySets>> {
    // Dropping from the bounding set needs CAP_SETPCAP, so it comes first.
    if let Some(caps) = &plan.caps {
        drop_bounding(caps.bounding)?;
    }
    // Otherwise the change of uid would take everything, and with it the right to choose.
    set_keep_capabilities(true).step(|| "keeping capabilities")?;
    set_ids(ids)?;
    set_keep_capabilities(false).step(|| "no longer keeping capabilities")?;
    let late = plan
        .caps
        .as_ref()
        .map(|c| set_caps(plan, c, warnings))
        .transpose()?
        .flatten();
    if plan.no_new_privileges {
        // An unprivileged process may load a filter only with this set (seccomp(2)).
        set_no_new_privs(true).step(|| "setting no_new_privs")?;
    }
    Ok(late)
}

fn drop_bounding(keep: CapabilitySet) -> Result<()> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last capability that this kernel has.
            Err(Errno::INVAL) => break,
            Err(e) => {
                return Err(Error::step(
                    "dropping capabilities from the bounding set",
                    e,
                ));
            }
        }
    }
    Ok(())
}

fn set_ids(ids: &User) -> Result<()> {
    let unmapped = |e: Errno, what: String| {
        let error = Error::step(what, e);
        match e {
            Errno::INVAL => error.with_hint("the container's user namespace does not map it"),
            _ => error,
        }
    };
    let groups: Vec<Gid> = ids
        .additional_gids
        .iter()
        .map(|g| Gid::from_raw(*g))
        .collect();
    match set_thread_groups(&groups) {
        // Denied in a user namespace whose map was written without privilege; it has no other groups.
        Err(Errno::PERM) if ids.additional_gids.iter().all(|g| *g == ids.gid) => {}
        other => other
            .map_err(|e| unmapped(e, format!("joining the groups {:?}", ids.additional_gids)))?,
    }
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    set_thread_res_gid(gid, gid, gid)
        .map_err(|e| unmapped(e, format!("becoming group {}", ids.gid)))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| unmapped(e, format!("becoming user {}", ids.uid)))
}

fn set_caps(
    plan: &ProcessPlan,
    wanted: &CapsPlan,
    warnings: &mut Vec<String>,
) -> Result<Option<CapabilitySets>> {
    let have = capabilities(None)
        .step(|| "reading capabilities")?
        .permitted;
    warn_missing(wanted, have, warnings);
    let permitted = wanted.permitted & have;
    let last = CapabilitySets {
        permitted,
        effective: wanted.effective & permitted,
        inheritable: wanted.inheritable & have,
    };
    // Without no_new_privs, loading a filter needs CAP_SYS_ADMIN (seccomp(2)).
    let filter_needs = CapabilitySet::SYS_ADMIN & have;
    let late =
        plan.seccomp.is_some() && !plan.no_new_privileges && !last.effective.contains(filter_needs);
    let now = if late {
        CapabilitySets {
            permitted: last.permitted | filter_needs,
            effective: last.effective | filter_needs,
            ..last
        }
    } else {
        last
    };
    set_capabilities(None, now).step(|| "setting capabilities")?;
    ambient(wanted.ambient & last.permitted & last.inheritable)?;
    Ok(late.then_some(last))
}

fn ambient(wanted: CapabilitySet) -> Result<()> {
    match clear_ambient_capability_set() {
        // Before 4.3 there was no ambient set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(Error::step("clearing the ambient capabilities", e)),
    }
    for one in wanted.iter() {
        configure_capability_in_ambient_set(one, true)
            .step(|| format!("raising the ambient capability {:?}", caps::names(one)))?;
    }
    Ok(())
}

fn warn_missing(wanted: &CapsPlan, have: CapabilitySet, warnings: &mut Vec<String>) {
    let all = wanted.bounding | wanted.permitted | wanted.inheritable | wanted.ambient;
    let mut missing = caps::names(all & !have);
    missing.extend(wanted.unknown.iter().cloned());
    if !missing.is_empty() {
        warnings.push(format!(
            "capabilities that are not available here were dropped: {}",
            missing.join(", ")
        ));
    }
}
