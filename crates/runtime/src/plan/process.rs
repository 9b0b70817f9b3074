//! The program of a container or an exec session, parsed: what its first instruction will find.

use super::Attributes;
use crate::caps;
use crate::error::{Error, Result};
use crate::options::UserSpec;
use crate::seccomp::{self, Program};
use barque_types::spec;
use rustix::process::Resource;
use rustix::thread::CapabilitySet;
use std::ffi::CString;

/// What to run, and as what.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    /// Argument vector; empty for a container that is never started.
    pub args: Vec<CString>,
    /// Environment.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: String,
    /// By name or by number.
    pub user: UserSpec,
    /// Numbers, supplementary groups and umask of the specification.
    pub ids: spec::User,
    /// Capabilities; absent for "leave them as they are".
    pub caps: Option<CapsPlan>,
    /// Limits: which, its name, soft, hard.
    pub rlimits: Vec<RlimitPlan>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// To be written before the process loses the privilege to.
    pub oom_score_adj: Option<i32>,
    /// Whether it gets a pseudo-terminal, and of which size.
    pub terminal: Option<spec::ConsoleSize>,
    /// The compiled system call filter.
    pub seccomp: Option<Program>,
    /// Scheduling, policies, labels.
    pub attributes: Attributes,
}

/// One limit.
#[derive(Debug, Clone)]
pub(crate) struct RlimitPlan {
    /// `RLIMIT_NOFILE`, for messages.
    pub name: String,
    /// Which.
    pub resource: Resource,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

/// The five sets, and the names that no capability has.
#[derive(Debug, Clone)]
pub(crate) struct CapsPlan {
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub permitted: CapabilitySet,
    pub ambient: CapabilitySet,
    pub unknown: Vec<String>,
}

impl ProcessPlan {
    /// Parses `process`.
    pub fn new(
        process: &spec::Process,
        user: &UserSpec,
        filter: Option<&spec::Seccomp>,
        terminal: bool,
    ) -> Result<Self> {
        if process.args.is_empty() || process.args[0].is_empty() {
            return Err(Error::invalid("process.args", "no command is given"));
        }
        Self::parse(process, user, filter, terminal)
    }

    /// Of a configuration without `process`: its container can be made, and not be started (runtime-spec,
    /// config.md "Process": required only when start is called).
    pub fn absent(filter: Option<&spec::Seccomp>) -> Result<Self> {
        let nothing = spec::Process {
            cwd: "/".to_owned(),
            ..spec::Process::default()
        };
        Self::parse(&nothing, &UserSpec::Ids, filter, false)
    }

    fn parse(
        process: &spec::Process,
        user: &UserSpec,
        filter: Option<&spec::Seccomp>,
        terminal: bool,
    ) -> Result<Self> {
        if !process.cwd.starts_with('/') {
            return Err(Error::invalid(
                "process.cwd",
                format!("{:?} is not an absolute path", process.cwd),
            ));
        }
        Ok(Self {
            args: c_strings("process.args", &process.args)?,
            env: c_strings("process.env", &process.env)?,
            cwd: process.cwd.clone(),
            user: user.clone(),
            ids: process.user.clone(),
            caps: process.capabilities.as_ref().map(CapsPlan::new),
            rlimits: process
                .rlimits
                .iter()
                .map(RlimitPlan::new)
                .collect::<Result<_>>()?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj: process.oom_score_adj,
            terminal: terminal.then(|| process.console_size.unwrap_or_default()),
            seccomp: filter
                .map(|f| {
                    seccomp::compile(f).map_err(|e| Error::invalid("linux.seccomp", e.to_string()))
                })
                .transpose()?,
            attributes: Attributes::new(process)?,
        })
    }

    /// A variable of the environment; the last one of that name counts.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.env.iter().rev().find_map(|e| {
            e.as_bytes()
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
        })
    }
}

fn c_strings(what: &str, strings: &[String]) -> Result<Vec<CString>> {
    strings
        .iter()
        .map(|s| {
            CString::new(s.as_str())
                .map_err(|_| Error::invalid(what, format!("{s:?} contains a NUL byte")))
        })
        .collect()
}

impl CapsPlan {
    fn new(sets: &spec::Capabilities) -> Self {
        let mut unknown: Vec<String> = Vec::new();
        let mut set = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match caps::number(name) {
                    Some(number) => bits |= 1 << number,
                    None if unknown.contains(name) => {}
                    None => unknown.push(name.clone()),
                }
            }
            CapabilitySet::from_bits_retain(bits)
        };
        Self {
            bounding: set(&sets.bounding),
            effective: set(&sets.effective),
            inheritable: set(&sets.inheritable),
            permitted: set(&sets.permitted),
            ambient: set(&sets.ambient),
            unknown,
        }
    }
}

impl RlimitPlan {
    fn new(limit: &spec::Rlimit) -> Result<Self> {
        let resource = match limit.kind.as_str() {
            "RLIMIT_CPU" => Resource::Cpu,
            "RLIMIT_FSIZE" => Resource::Fsize,
            "RLIMIT_DATA" => Resource::Data,
            "RLIMIT_STACK" => Resource::Stack,
            "RLIMIT_CORE" => Resource::Core,
            "RLIMIT_RSS" => Resource::Rss,
            "RLIMIT_NPROC" => Resource::Nproc,
            "RLIMIT_NOFILE" => Resource::Nofile,
            "RLIMIT_MEMLOCK" => Resource::Memlock,
            "RLIMIT_AS" => Resource::As,
            "RLIMIT_LOCKS" => Resource::Locks,
            "RLIMIT_SIGPENDING" => Resource::Sigpending,
            "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
            "RLIMIT_NICE" => Resource::Nice,
            "RLIMIT_RTPRIO" => Resource::Rtprio,
            "RLIMIT_RTTIME" => Resource::Rttime,
            other => {
                return Err(Error::invalid(
                    "process.rlimits",
                    format!("{other:?} is unknown"),
                ));
            }
        };
        if limit.soft > limit.hard {
            return Err(Error::invalid(
                format!("process.rlimits: {}", limit.kind),
                format!(
                    "the soft limit {} is above the hard limit {}",
                    limit.soft, limit.hard
                ),
            ));
        }
        // RLIM_INFINITY is the largest number; the kernel's 64-bit ABI has no other "unlimited".
        let value = |n: u64| (n != u64::MAX).then_some(n);
        Ok(Self {
            name: limit.kind.clone(),
            resource,
            soft: value(limit.soft),
            hard: value(limit.hard),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> spec::Process {
        spec::Process {
            args: vec!["/bin/true".into()],
            env: vec!["A=1".into(), "AB=2".into(), "A=3".into()],
            cwd: "/".into(),
            ..spec::Process::default()
        }
    }

    fn plan(process: &spec::Process) -> Result<ProcessPlan> {
        ProcessPlan::new(process, &UserSpec::Ids, None, false)
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let plan = plan(&process()).expect("valid");
        assert_eq!(plan.variable("A"), Some(&b"3"[..]));
        assert_eq!(plan.variable("B"), None);
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        let mut p = process();
        p.cwd = "tmp".into();
        assert!(
            plan(&p)
                .expect_err("relative")
                .to_string()
                .contains("process.cwd")
        );
        let mut p = process();
        p.args.clear();
        assert!(
            plan(&p)
                .expect_err("empty")
                .to_string()
                .contains("no command")
        );
        let mut p = process();
        p.rlimits = vec![spec::Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            hard: 1,
            soft: 2,
        }];
        assert!(
            plan(&p)
                .expect_err("soft > hard")
                .to_string()
                .contains("RLIMIT_NOFILE")
        );
    }

    #[test]
    fn unknown_capabilities_are_kept_for_a_warning() {
        let mut p = process();
        p.capabilities = Some(crate::defaults::capability_sets(&[
            "CAP_CHOWN".into(),
            "CAP_NEWER_THAN_US".into(),
        ]));
        let caps = plan(&p).expect("valid").caps.expect("set");
        assert_eq!(caps.bounding, CapabilitySet::CHOWN);
        assert_eq!(caps.unknown, ["CAP_NEWER_THAN_US"]);
    }
}
