//! `process`: arguments, environment, limits.

use super::Facts;
use crate::containers::record::Config;
use barque_runtime::defaults;
use barque_types::spec::{Process, Rlimit};

/// The process of the specification; its user is resolved inside the container by the runtime.
pub(super) fn process(
    config: &Config,
    _facts: &Facts,
    capabilities: &[String],
    hostname: &str,
) -> Process {
    let request = &config.request;
    Process {
        terminal: request.tty,
        args: config.process.argv(),
        env: environment(config, hostname),
        cwd: match config.process.workdir.as_str() {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        },
        capabilities: Some(defaults::capability_sets(capabilities)),
        rlimits: request
            .ulimits
            .iter()
            .map(|u| Rlimit {
                kind: format!("RLIMIT_{}", u.name.to_ascii_uppercase()),
                hard: u.hard,
                soft: u.soft,
            })
            .collect(),
        no_new_privileges: request.no_new_privileges,
        oom_score_adj: request.oom_score_adj,
        ..Process::default()
    }
}

/// Docker's order: PATH, HOSTNAME, TERM with a terminal, then the image's and the user's. `HOME` is
/// the runtime's, which knows the user.
fn environment(config: &Config, hostname: &str) -> Vec<String> {
    let mut base = vec![defaults::PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if config.request.tty {
        base.push("TERM=xterm".to_owned());
    }
    crate::containers::resolve::environment(&base, &config.process.env)
}

/// What `inspect` shows: the image's and the user's variables, and `PATH`.
pub(crate) fn environment_without_host(config: &Config) -> Vec<String> {
    crate::containers::resolve::environment(&[defaults::PATH.to_owned()], &config.process.env)
}
