//! Profiles in Docker's file format (`--security-opt seccomp=FILE`).
//!
//! docs.docker.com/engine/security/seccomp: the runtime specification's `linux.seccomp`, whose architectures
//! may be given as a map from the machine's own to those it also runs, and whose rules may be bound to
//! capabilities, architectures and a kernel version. Podman's variant, which adds errnos by name, is read as
//! well: it always carries the numbers too.

use std::path::PathBuf;

use barque_types::spec;
use serde::Deserialize;

use super::Error;
use super::arch::Arch;
use super::kernel::KernelVersion;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The oldest format: one name.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<spec::SyscallArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What a filter is asked about.
struct Machine<'a> {
    capabilities: &'a [String],
    kernel: KernelVersion,
    arch: &'static Arch,
}

/// Reads a profile in Docker's format for a container with `capabilities` in its bounding set (`CAP_*` names) on a
/// kernel of version `kernel`. `None` when it asks for nothing, neither default nor rules: no filter then.
///
/// Pure: the caller has read the file, and names it in its own error. The result is completely checked: it
/// compiles.
///
/// # Errors
/// [`Error::Syntax`] for what is not JSON or not of this shape, and what [`compile`](super::compile) returns.
pub fn load_profile(
    json: &str,
    capabilities: &[String],
    kernel: KernelVersion,
) -> Result<Option<spec::Seccomp>, Error> {
    let machine = Machine {
        capabilities,
        kernel,
        arch: Arch::native(),
    };
    let Some(spec) = load_for(json, &machine)? else {
        return Ok(None);
    };
    super::compile(&spec)?;
    Ok(Some(spec))
}

fn load_for(json: &str, machine: &Machine<'_>) -> Result<Option<spec::Seccomp>, Error> {
    let profile: Profile = serde_json::from_str(json).map_err(|e| Error::Syntax {
        reason: e.to_string(),
    })?;
    let rules = profile.syscalls.unwrap_or_default();
    if profile.default_action.is_empty() {
        if rules.is_empty() {
            return Ok(None);
        }
        return Err(Error::invalid(
            "defaultAction",
            "missing; most profiles say SCMP_ACT_ERRNO",
        ));
    }
    let architectures = architectures(profile.architectures, profile.arch_map, machine.arch)?;
    let mut syscalls = Vec::with_capacity(rules.len());
    for (position, rule) in rules.into_iter().enumerate() {
        syscalls.extend(rule.resolve(machine, position)?);
    }
    Ok(Some(spec::Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

fn architectures(
    plain: Option<Vec<String>>,
    map: Option<Vec<ArchMap>>,
    native: &Arch,
) -> Result<Vec<String>, Error> {
    let plain = plain.unwrap_or_default();
    let map = map.unwrap_or_default();
    if map.is_empty() {
        return Ok(plain);
    }
    if !plain.is_empty() {
        return Err(Error::invalid(
            "archMap",
            "stands beside \"architectures\"; use one of the two",
        ));
    }
    let own = map
        .into_iter()
        .find(|m| m.architecture.strip_prefix("SCMP_ARCH_") == Some(native.name));
    Ok(own.map_or_else(Vec::new, |m| {
        let mut all = vec![m.architecture];
        all.extend(m.sub_architectures.unwrap_or_default());
        all
    }))
}

impl Rule {
    /// The plain rule, or nothing if it is not for this container and machine.
    fn resolve(
        self,
        machine: &Machine<'_>,
        position: usize,
    ) -> Result<Option<spec::SyscallRule>, Error> {
        let place = || format!("rule {} of \"syscalls\"", position + 1);
        let mut names = self.names.unwrap_or_default();
        match self.name.filter(|n| !n.is_empty()) {
            Some(_) if !names.is_empty() => {
                return Err(Error::invalid(
                    place(),
                    "has both \"name\" and \"names\"; use one of the two",
                ));
            }
            Some(name) => names.push(name),
            None => {}
        }
        let includes = self.includes.unwrap_or_default();
        let excludes = self.excludes.unwrap_or_default();
        let kernel = |f: &Filter| match &f.min_kernel {
            None => Ok(None),
            Some(text) => match text.parse::<KernelVersion>() {
                Ok(version) => Ok(Some(machine.kernel >= version)),
                Err(()) => Err(Error::invalid(
                    place(),
                    format!("minKernel {text:?} is not a version such as \"4.8\""),
                )),
            },
        };
        let applies = kernel(&includes)? != Some(false)
            && kernel(&excludes)? != Some(true)
            && includes.includes(machine)
            && !excludes.excludes(machine);
        Ok(applies.then_some(spec::SyscallRule {
            names,
            action: self.action,
            errno_ret: self.errno_ret,
            args: self.args.unwrap_or_default(),
        }))
    }
}

impl Filter {
    /// Of capabilities all must be there, of architectures ours must be among them.
    fn includes(&self, machine: &Machine<'_>) -> bool {
        let caps = self.caps.as_deref().unwrap_or_default();
        let arches = self.arches.as_deref().unwrap_or_default();
        caps.iter().all(|c| machine.capabilities.contains(c))
            && (arches.is_empty() || arches.iter().any(|a| a == machine.arch.docker))
    }

    /// One capability or our architecture is enough.
    fn excludes(&self, machine: &Machine<'_>) -> bool {
        let caps = self.caps.as_deref().unwrap_or_default();
        let arches = self.arches.as_deref().unwrap_or_default();
        caps.iter().any(|c| machine.capabilities.contains(c))
            || arches.iter().any(|a| a == machine.arch.docker)
    }
}
