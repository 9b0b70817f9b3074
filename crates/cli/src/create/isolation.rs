//! Namespaces and privileges among the flags.

use super::flags::ContainerFlags;
use super::resolve::Surroundings;
use crate::errors::{Failure, io_text};
use barque_types::container::{CreateContainer, SeccompMode};
use barque_types::{caps, device, netmode};

/// Namespaces.
pub fn isolation(flags: &ContainerFlags, request: &mut CreateContainer) -> Result<(), Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let in_flag = |flag: &'static str| {
        move |e: netmode::InvalidMode| Failure::Refused(format!("{flag}: {e}"))
    };
    if flags.network.as_deref() == Some("") {
        return Err(Failure::Refused("no name set for network".into()));
    }
    request.network = netmode::network(&text(&flags.network)).map_err(in_flag("--network"))?;
    request.pid = netmode::pid(&text(&flags.pid)).map_err(in_flag("--pid"))?;
    request.ipc = netmode::ipc(&text(&flags.ipc)).map_err(in_flag("--ipc"))?;
    request.uts = netmode::uts(&text(&flags.uts)).map_err(in_flag("--uts"))?;
    request.cgroupns = netmode::cgroupns(&text(&flags.cgroupns)).map_err(in_flag("--cgroupns"))?;
    request.userns = netmode::userns(flags.userns.as_deref(), &flags.uidmap, &flags.gidmap)
        .map_err(in_flag("--userns"))?;
    for setting in &flags.sysctl {
        match setting.split_once('=') {
            Some((key, value)) if !key.is_empty() => request
                .sysctls
                .insert(key.trim().to_owned(), value.to_owned()),
            _ => return Err(Failure::value("--sysctl", setting, "write NAME=VALUE")),
        };
    }
    Ok(())
}

/// Capabilities, devices, security options.
pub fn privileges(
    flags: &ContainerFlags,
    request: &mut CreateContainer,
    around: &Surroundings<'_>,
) -> Result<(), Failure> {
    let normalised = |flag: &str, texts: &[String]| -> Result<Vec<String>, Failure> {
        // One flag may name several, parted by commas, as Podman's users write it.
        let names = texts.iter().flat_map(|text| text.split(','));
        names
            .map(|text| caps::normalise(text).map_err(|e| Failure::value(flag, text, e)))
            .collect()
    };
    request.privileged = flags.privileged;
    request.cap_add = normalised("--cap-add", &flags.cap_add)?;
    request.cap_drop = normalised("--cap-drop", &flags.cap_drop)?;
    for text in &flags.device {
        request
            .devices
            .push(device::device(text).map_err(|e| Failure::value("--device", text, e))?);
    }
    flags
        .security_opt
        .iter()
        .try_for_each(|option| security_option(option, request, around))
}

fn security_option(
    option: &str,
    request: &mut CreateContainer,
    around: &Surroundings<'_>,
) -> Result<(), Failure> {
    // Docker still takes the colon of its first versions.
    let (key, value) = option
        .split_once('=')
        .or_else(|| option.split_once(':'))
        .unwrap_or((option, ""));
    let refuse = |why: &str| Err(Failure::value("--security-opt", option, why));
    match (key, value) {
        ("no-new-privileges", "" | "true" | "1") => request.no_new_privileges = true,
        ("no-new-privileges", "false" | "0") => request.no_new_privileges = false,
        ("seccomp", "unconfined") => request.seccomp = SeccompMode::Unconfined,
        ("seccomp", "builtin" | "default") => request.seccomp = SeccompMode::Default,
        ("seccomp", "") => return refuse("name a profile's file, builtin or unconfined"),
        ("seccomp", path) => {
            let profile = (around.read)(&around.cwd.join(path)).map_err(|e| {
                Failure::Refused(format!(
                    "opening seccomp profile ({path}) failed: open {path}: {}",
                    io_text(&e)
                ))
            })?;
            if let Err(e) = serde_json::from_str::<serde_json::Value>(&profile) {
                return Err(Failure::Refused(format!(
                    "seccomp profile {path} is not valid JSON: {e}"
                )));
            }
            request.seccomp = SeccompMode::Profile(profile);
        }
        ("systempaths", "unconfined") => request.systempaths_unconfined = true,
        // Neither AppArmor nor SELinux confines anything here: to ask for none is to ask for what is.
        ("apparmor", "unconfined") | ("label", "disable") => {}
        ("apparmor" | "label", _) => {
            return refuse("AppArmor and SELinux profiles are not in this version");
        }
        _ => {
            return refuse(
                "use no-new-privileges, seccomp=unconfined|builtin|FILE, systempaths=unconfined, apparmor=unconfined or label=disable",
            );
        }
    }
    Ok(())
}
