//! Flags as typed → a [`CreateContainer`], as a pure function of the flags and what surrounds them.

use super::flags::ContainerFlags;
use super::{isolation, limits};
use crate::errors::{Failure, io_text};
use barque_types::container::{
    AttachStreams, CreateContainer, LogConfig, MountRequest, PullPolicy, Source,
};
use barque_types::restart::{RestartMode, RestartPolicy};
use barque_types::{env, mount, signal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the flags refer to outside of themselves.
pub struct Surroundings<'a> {
    /// The caller's environment (`-e NAME`).
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The caller's working directory (`-v ./data:/data`).
    pub cwd: &'a Path,
    /// Reads the files that flags name (`--env-file`, `--label-file`, seccomp profiles).
    pub read: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// The request. `detach`: `run -d`, which attaches nothing.
pub fn resolve(
    flags: &ContainerFlags,
    args: &[String],
    detach: bool,
    around: &Surroundings<'_>,
) -> Result<CreateContainer, Failure> {
    refuse_absent(flags)?;
    let (source, command) = source(flags, args, around)?;
    let restart = restart(flags)?;
    let attach = attach(flags, detach)?;
    let (resources, nano_cpus) = limits::resources(flags)?;
    let mut request = CreateContainer {
        name: name(flags)?,
        source,
        platform: flags
            .platform
            .as_deref()
            .map(|text| {
                text.parse()
                    .map_err(|e| Failure::value("--platform", text, e))
            })
            .transpose()?,
        pull: pull(flags)?,
        entrypoint: flags.entrypoint.as_ref().map(|text| {
            if text.is_empty() {
                vec![]
            } else {
                vec![text.clone()]
            }
        }),
        command: command.to_vec(),
        env: environment(flags, around)?,
        labels: labels(flags, around)?,
        user: some_text(&flags.user),
        group_add: flags.group_add.clone(),
        workdir: workdir(flags)?,
        hostname: some_text(&flags.hostname),
        domainname: some_text(&flags.domainname),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attach.stdin,
        attach,
        auto_remove: flags.rm,
        mounts: mounts(flags, around)?,
        read_only: flags.read_only,
        resources,
        nano_cpus,
        throttles: limits::throttles(flags)?,
        ulimits: limits::ulimits(flags)?,
        oom_score_adj: limits::oom_score_adj(flags)?,
        cgroup_parent: some_text(&flags.cgroup_parent),
        shm_size: shm_size(flags)?,
        restart,
        stop_signal: stop_signal(flags)?,
        stop_timeout: flags
            .stop_timeout
            .as_deref()
            .map(|text| limits::integer("--stop-timeout", text))
            .transpose()?,
        log: log(flags)?,
        ..CreateContainer::default()
    };
    isolation::isolation(flags, &mut request)?;
    isolation::privileges(flags, &mut request, around)?;
    Ok(request)
}

/// What Docker has and this version has not: said plainly instead of being ignored.
fn refuse_absent(flags: &ContainerFlags) -> Result<(), Failure> {
    let networks = "networks come with a later version; use --network none, host or container:ID";
    let absent = [
        (!flags.publish.is_empty(), "-p, --publish", networks),
        (flags.publish_all, "-P, --publish-all", networks),
        (!flags.link.is_empty(), "--link", networks),
        (!flags.dns.is_empty(), "--dns", networks),
        (!flags.add_host.is_empty(), "--add-host", networks),
        (
            !flags.volumes_from.is_empty(),
            "--volumes-from",
            "volumes come with a later version; use -v HOST_DIR:CONTAINER_DIR",
        ),
        (
            flags.init,
            "--init",
            "an init process is not in this version",
        ),
        (
            flags.gpus.is_some(),
            "--gpus",
            "GPUs are not in this version; see --device",
        ),
        (
            flags.health_cmd.is_some(),
            "--health-cmd",
            "health checks come with a later version",
        ),
        (
            flags.runtime.is_some(),
            "--runtime",
            "the runtime is built in; there is no other",
        ),
    ];
    match absent.into_iter().find(|(used, ..)| *used) {
        Some((_, flag, why)) => Err(Failure::Absent(format!("{flag}: {why}"))),
        None => Ok(()),
    }
}

fn some_text(value: &Option<String>) -> Option<String> {
    value.clone().filter(|text| !text.is_empty())
}

/// What the root is made of, and the command: with `--rootfs` every argument is the command's.
fn source<'a>(
    flags: &ContainerFlags,
    args: &'a [String],
    around: &Surroundings<'_>,
) -> Result<(Source, &'a [String]), Failure> {
    if let Some(dir) = &flags.rootfs {
        if dir.is_empty() {
            return Err(Failure::value("--rootfs", dir, "a directory is needed"));
        }
        return Ok((Source::Rootfs(around.cwd.join(dir)), args));
    }
    match args.split_first() {
        Some((image, command)) if !image.is_empty() => Ok((Source::Image(image.clone()), command)),
        _ => Err(Failure::Refused(
            "invalid reference format: an image is needed".into(),
        )),
    }
}

fn name(flags: &ContainerFlags) -> Result<Option<String>, Failure> {
    let Some(name) = some_text(&flags.name) else {
        return Ok(None);
    };
    let bare = name.strip_prefix('/').unwrap_or(&name);
    let mut chars = bare.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && bare.len() > 1
        && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        Ok(Some(bare.to_owned()))
    } else {
        Err(Failure::Refused(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

fn pull(flags: &ContainerFlags) -> Result<PullPolicy, Failure> {
    match flags.pull.as_deref() {
        None | Some("" | "missing") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(Failure::Refused(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

fn restart(flags: &ContainerFlags) -> Result<RestartPolicy, Failure> {
    let policy: RestartPolicy = match &flags.restart {
        None => RestartPolicy::default(),
        Some(text) => text.parse().map_err(|e: String| {
            Failure::value(
                "--restart",
                text,
                e.trim_start_matches("invalid restart policy: "),
            )
        })?,
    };
    if flags.rm && policy.name != RestartMode::No {
        return Err(Failure::Refused(
            "conflicting options: cannot specify both --restart and --rm".into(),
        ));
    }
    Ok(policy)
}

fn attach(flags: &ContainerFlags, detach: bool) -> Result<AttachStreams, Failure> {
    if detach {
        return if flags.attach.is_empty() {
            Ok(AttachStreams::default())
        } else {
            Err(Failure::Refused(
                "conflicting options: cannot specify both --attach and --detach".into(),
            ))
        };
    }
    if flags.attach.is_empty() {
        return Ok(AttachStreams {
            stdin: flags.interactive,
            stdout: true,
            stderr: true,
        });
    }
    let mut streams = AttachStreams::default();
    for text in &flags.attach {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => {
                return Err(Failure::value(
                    "-a, --attach",
                    text,
                    "valid streams are STDIN, STDOUT and STDERR",
                ));
            }
        }
    }
    Ok(streams)
}

/// Reads a file that a flag names.
pub fn read(around: &Surroundings<'_>, flag: &str, path: &str) -> Result<String, Failure> {
    (around.read)(&around.cwd.join(path))
        .map_err(|e| Failure::Refused(format!("{flag}: open {path}: {}", io_text(&e))))
}

/// Files first, so that `-e` wins over them.
fn environment(flags: &ContainerFlags, around: &Surroundings<'_>) -> Result<Vec<String>, Failure> {
    variables(&flags.env, &flags.env_file, around)
}

/// The variables of `-e` and `--env-file`, of `exec` too.
pub fn variables(
    texts: &[String],
    files: &[String],
    around: &Surroundings<'_>,
) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in files {
        let content = read(around, "--env-file", path)?;
        let variables = env::file(&content, around.env)
            .map_err(|e| Failure::Refused(format!("poorly formatted environment: {path}: {e}")))?;
        all.extend(variables);
    }
    for text in texts {
        all.push(
            env::variable(text, around.env).map_err(|e| Failure::value("-e, --env", text, e))?,
        );
    }
    Ok(all)
}

fn labels(
    flags: &ContainerFlags,
    around: &Surroundings<'_>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for path in &flags.label_file {
        let content = read(around, "--label-file", path)?;
        all.extend(
            env::label_file(&content)
                .map_err(|e| Failure::Refused(format!("--label-file {path}: {e}")))?,
        );
    }
    for text in &flags.label {
        let (key, value) = env::label(text).map_err(|_| {
            Failure::value(
                "-l, --label",
                text,
                format!("invalid label '{text}': empty name"),
            )
        })?;
        all.insert(key, value);
    }
    Ok(all)
}

fn workdir(flags: &ContainerFlags) -> Result<Option<String>, Failure> {
    match some_text(&flags.workdir) {
        Some(path) if !path.starts_with('/') => Err(Failure::Refused(format!(
            "the working directory '{path}' is invalid, it needs to be an absolute path"
        ))),
        other => Ok(other),
    }
}

fn mounts(flags: &ContainerFlags, around: &Surroundings<'_>) -> Result<Vec<MountRequest>, Failure> {
    let mut all = Vec::new();
    for text in &flags.volume {
        let bind = mount::volume(text, around.cwd).map_err(|e| Failure::Refused(e.to_string()))?;
        all.push(MountRequest::Bind(bind));
    }
    for text in &flags.mount {
        all.push(mount::mount(text, around.cwd).map_err(|e| Failure::value("--mount", text, e))?);
    }
    for text in &flags.tmpfs {
        all.push(MountRequest::Tmpfs(
            mount::tmpfs(text).map_err(|e| Failure::value("--tmpfs", text, e))?,
        ));
    }
    let mut targets: Vec<&PathBuf> = Vec::new();
    for request in &all {
        let target = match request {
            MountRequest::Bind(bind) => &bind.target,
            MountRequest::Tmpfs(tmpfs) => &tmpfs.target,
        };
        if targets.contains(&target) {
            return Err(Failure::Refused(format!(
                "Duplicate mount point: {}",
                target.display()
            )));
        }
        targets.push(target);
    }
    Ok(all)
}

fn shm_size(flags: &ContainerFlags) -> Result<Option<u64>, Failure> {
    let Some(text) = flags.shm_size.as_deref() else {
        return Ok(None);
    };
    match limits::bytes("--shm-size", text)? {
        0 => Err(Failure::value(
            "--shm-size",
            text,
            "SHM size can not be less than 0 and must not be 0",
        )),
        bytes => Ok(u64::try_from(bytes).ok()),
    }
}

fn stop_signal(flags: &ContainerFlags) -> Result<Option<String>, Failure> {
    match some_text(&flags.stop_signal) {
        Some(text) if signal::parse(&text).is_none() => Err(Failure::value(
            "--stop-signal",
            &text,
            format!("invalid signal: {text}"),
        )),
        other => Ok(other),
    }
}

fn log(flags: &ContainerFlags) -> Result<LogConfig, Failure> {
    let driver = some_text(&flags.log_driver);
    if let Some(name) = driver
        .as_deref()
        .filter(|name| !matches!(*name, "json-file" | "none"))
    {
        return Err(Failure::value(
            "--log-driver",
            name,
            "this version has json-file and none",
        ));
    }
    let mut options = BTreeMap::new();
    for text in &flags.log_opt {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key, value),
            _ => return Err(Failure::value("--log-opt", text, "write KEY=VALUE")),
        };
        let valid = match key {
            "max-size" => {
                value == "-1"
                    || barque_types::size::parse_binary(value).is_ok_and(|bytes| bytes > 0)
            }
            "max-file" => value.parse::<u32>().is_ok_and(|files| files > 0),
            _ => {
                return Err(Failure::value(
                    "--log-opt",
                    text,
                    "this version has max-size and max-file",
                ));
            }
        };
        if !valid {
            return Err(Failure::value(
                "--log-opt",
                text,
                "max-size is a size such as 10m, max-file a number of files",
            ));
        }
        options.insert(key.to_owned(), value.to_owned());
    }
    Ok(LogConfig { driver, options })
}
