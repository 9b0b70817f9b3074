//! The options before the command.

use crate::args::{Flag, Parsed, switch, value};
use crate::failure::Failure;
use crate::log::{Format, LogTarget};
use barque_runtime::lifecycle::Home;
use std::path::PathBuf;

pub(crate) const FLAGS: [Flag; 9] = [
    switch("debug", "", "enable debug logging"),
    value(
        "log",
        "",
        "FILE",
        "set the log file to write logs to (default: stderr)",
    ),
    value(
        "log-format",
        "",
        "FORMAT",
        "set the log format ('text' (default), or 'json')",
    ),
    value(
        "root",
        "",
        "DIR",
        "root directory for storage of container state (default: /run/barque-oci, or $XDG_RUNTIME_DIR/barque-oci for an ordinary user)",
    ),
    switch(
        "systemd-cgroup",
        "",
        "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\"",
    ),
    value(
        "rootless",
        "",
        "VALUE",
        "ignore cgroup permission errors ('true', 'false', or 'auto' (default))",
    ),
    value(
        "cgroup-manager",
        "",
        "NAME",
        "'cgroupfs' (default) or 'systemd' (crun's spelling of --systemd-cgroup)",
    ),
    value("criu", "", "PATH", "the criu program (default: from $PATH)"),
    switch("version", "v", "print the version"),
];

/// What they mean.
#[derive(Debug)]
pub(crate) struct Globals {
    pub home: Home,
    pub log: LogTarget,
    pub systemd: bool,
    /// The criu program; a name when it is not found.
    pub criu: PathBuf,
}

impl Globals {
    /// `env` looks a variable of the environment up.
    pub fn resolve(parsed: &Parsed, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let format = match parsed.last("log-format") {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "unknown log-format {other:?}: 'text' and 'json' are known"
                )));
            }
        };
        let systemd = match parsed.last("cgroup-manager") {
            None | Some("cgroupfs") => parsed.has("systemd-cgroup"),
            Some("systemd") => true,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "unknown cgroup-manager {other:?}: 'cgroupfs' and 'systemd' are known"
                )));
            }
        };
        match parsed.last("rootless") {
            None | Some("true" | "false" | "auto") => {}
            Some(other) => {
                return Err(Failure::usage(format!(
                    "--rootless: {other:?} is none of 'true', 'false', 'auto'"
                )));
            }
        }
        Ok(Self {
            home: Home::new(root(parsed, env)?),
            log: LogTarget {
                path: parsed
                    .last("log")
                    .filter(|p| !p.is_empty())
                    .map(PathBuf::from),
                format,
                debug: parsed.has("debug"),
            },
            systemd,
            criu: criu(parsed, env),
        })
    }
}

/// As the shell would find it.
fn criu(parsed: &Parsed, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(path) = parsed.last("criu").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let directories = env("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join("criu"))
        .find(|path| path.is_absolute() && path.is_file())
        .unwrap_or_else(|| PathBuf::from("criu"))
}

/// Never runc's own directory: what lies there is runc's, and ours would puzzle it.
fn root(parsed: &Parsed, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, Failure> {
    let given = parsed
        .last("root")
        .filter(|p| !p.is_empty())
        .map(PathBuf::from);
    let runtime_dir = env("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let path = match (given, runtime_dir) {
        (Some(path), _) => path,
        (None, Some(dir)) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(dir).join("barque-oci")
        }
        _ => PathBuf::from("/run/barque-oci"),
    };
    std::path::absolute(&path)
        .map_err(|e| Failure::usage(format!("--root {}: {e}", path.display())))
}
