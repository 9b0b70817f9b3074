//! Which kernel parameters a container may set: those that belong to a namespace it has.

use crate::error::{Error, Result};
use barque_sys::process::Namespaces;
use std::collections::BTreeMap;

/// Parameters of the IPC namespace outside `fs.mqueue.`.
const IPC: [&str; 12] = [
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Turns names into paths below `/proc/sys` after checking that each is the container's own:
/// `own` are the namespaces that are not the host's.
pub(super) fn parse(
    sysctl: &BTreeMap<String, String>,
    own: Namespaces,
) -> Result<Vec<(String, String)>> {
    sysctl
        .iter()
        .map(|(name, value)| Ok((path(name, own)?, value.clone())))
        .collect()
}

fn path(name: &str, own: Namespaces) -> Result<String> {
    let what = || format!("linux.sysctl: {name}");
    // sysctl(8): when the first separator is a slash, dots belong to the names (an interface eth0.1).
    let path = match name.find(['.', '/']) {
        Some(i) if name.as_bytes()[i] == b'/' => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::invalid(
            what(),
            "is not the name of a kernel parameter",
        ));
    }
    let dotted = path.replace('/', ".");
    let (needed, kind) = if path.starts_with("net/") {
        (Namespaces::NETWORK, "network")
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&dotted.as_str()) {
        (Namespaces::IPC, "IPC")
    } else if dotted == "kernel.domainname" {
        (Namespaces::UTS, "UTS")
    } else if path.starts_with("user/") {
        // Limits of the user namespace on what may be made in it (namespaces(7)).
        (Namespaces::USER, "user")
    } else if dotted == "kernel.hostname" {
        return Err(Error::invalid(what(), "use the hostname setting instead"));
    } else {
        return Err(Error::invalid(
            what(),
            "is not a parameter of a namespace: it would change the host",
        ));
    };
    if !own.contains(needed) {
        return Err(Error::invalid(
            what(),
            format!("would change the host: the container shares its {kind} namespace"),
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        let all = Namespaces::NETWORK | Namespaces::IPC;
        assert_eq!(
            path("net.ipv4.ip_forward", all).expect("ok"),
            "net/ipv4/ip_forward"
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/rp_filter", all).expect("ok"),
            "net/ipv4/conf/eth0.1/rp_filter"
        );
        assert_eq!(path("kernel.shmmax", all).expect("ok"), "kernel/shmmax");
    }

    #[test]
    fn the_hosts_parameters_are_refused() {
        let all = Namespaces::NETWORK | Namespaces::IPC | Namespaces::UTS;
        for name in [
            "kernel.panic",
            "vm.swappiness",
            "net.../../kernel.panic",
            "kernel.hostname",
        ] {
            assert!(path(name, all).is_err(), "{name}");
        }
        assert!(path("net.ipv4.ip_forward", Namespaces::IPC).is_err());
        assert!(path("user.max_net_namespaces", all).is_err());
        assert!(path("user.max_net_namespaces", all | Namespaces::USER).is_ok());
        assert!(path("kernel.domainname", Namespaces::IPC).is_err());
        assert!(path("kernel.domainname", all).is_ok());
    }
}
