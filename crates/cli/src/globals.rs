//! Global options, the configuration file and the environment → where the engine is and how it reaches the outside.
//!
//! The only place that reads the user's environment; below it everything is handed down as values.

use crate::errors::{Failure, io_text};
use barque_engine::{Options, Proxies};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The options before the command, as typed.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalFlags {
    /// Where images, containers and layers are kept (default "/var/lib/barque")
    #[arg(long, value_name = "dir")]
    pub data_root: Option<PathBuf>,
    /// Where state of this boot is kept (default "/run/barque")
    #[arg(long, value_name = "dir")]
    pub run_root: Option<PathBuf>,
    /// Location of client config files (default "~/.docker")
    #[arg(long, value_name = "dir")]
    pub config: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")
    #[arg(short, long, value_name = "string")]
    pub log_level: Option<String>,
    /// Allow plain http, and certificates that do not verify, with this registry (host[:port])
    #[arg(long, value_name = "host")]
    pub insecure_registry: Vec<String>,
    /// Print version information and quit
    #[arg(short, long)]
    pub version: bool,
}

/// `barque.json` in the folder of client configuration.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct ConfigFile {
    insecure_registries: Vec<String>,
    data_root: Option<PathBuf>,
    run_root: Option<PathBuf>,
}

/// How much is logged to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Docker's words
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// What the options, the file and the environment come to.
#[derive(Debug, Clone)]
pub struct Globals {
    /// For the engine.
    pub options: Options,
    /// What is logged.
    pub log_level: LogLevel,
    /// Keys that detach from a container, from Docker's `config.json` (`detachKeys`).
    pub detach_keys: Option<String>,
}

/// A look-up in the environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process's environment; one that is not UTF-8 counts as unset.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether the user wants no colour (<https://no-color.org>).
pub fn no_color(env: Lookup<'_>) -> bool {
    env("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// A file's text; `None` when there is no such file.
type Read<'a> = &'a dyn Fn(&Path) -> std::io::Result<Option<String>>;

/// Reads a file of configuration.
pub fn read_file(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // A path that leads through something that is no folder holds no file either.
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Puts flags, file and environment together: a flag wins over the environment, which wins over the file.
pub fn resolve(
    flags: GlobalFlags,
    root: bool,
    env: Lookup<'_>,
    read: Read<'_>,
) -> Result<Globals, Failure> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from);
    let config_dir = flags
        .config
        .or_else(|| set("DOCKER_CONFIG").map(PathBuf::from))
        .or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let file = match &config_dir {
        Some(dir) => config_file(&dir.join("barque.json"), read)?,
        None => ConfigFile::default(),
    };
    let detach_keys = config_dir
        .as_ref()
        .and_then(|dir| docker_detach_keys(&dir.join("config.json"), read));
    let (default_data, default_run) =
        default_roots(root, home, set("XDG_RUNTIME_DIR"), set("XDG_DATA_HOME"));
    let data_root = flags
        .data_root
        .or_else(|| set("BARQUE_DATA_ROOT").map(PathBuf::from));
    let run_root = flags
        .run_root
        .or_else(|| set("BARQUE_RUN_ROOT").map(PathBuf::from));
    let mut insecure_registries = flags.insecure_registry;
    insecure_registries.extend(file.insecure_registries);
    // Both spellings are in use; as with curl the lower-case one wins.
    let proxy = |name: &str| set(&name.to_lowercase()).or_else(|| set(name));
    Ok(Globals {
        options: Options {
            data_root: absolute(
                "--data-root",
                data_root.or(file.data_root).unwrap_or(default_data),
            )?,
            run_root: absolute(
                "--run-root",
                run_root.or(file.run_root).unwrap_or(default_run),
            )?,
            config_dir,
            insecure_registries,
            proxies: Proxies {
                https: proxy("HTTPS_PROXY"),
                http: proxy("HTTP_PROXY"),
                no_proxy: proxy("NO_PROXY"),
            },
        },
        log_level: log_level(flags.debug, flags.log_level.as_deref())?,
        detach_keys,
    })
}

/// The monitor outlives the folder we were called in: paths are made absolute here.
fn absolute(flag: &str, path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path)
        .map_err(|_| Failure::value(flag, &path.to_string_lossy(), "not a usable path"))
}

fn default_roots(
    root: bool,
    home: Option<PathBuf>,
    runtime_dir: Option<String>,
    data_home: Option<String>,
) -> (PathBuf, PathBuf) {
    if root {
        return ("/var/lib/barque".into(), "/run/barque".into());
    }
    let home = home.unwrap_or_else(|| "/".into());
    let data = data_home.map_or_else(|| home.join(".local/share"), PathBuf::from);
    let run = runtime_dir.map_or_else(|| home.join(".local/run"), PathBuf::from);
    (data.join("barque"), run.join("barque"))
}

fn config_file(path: &Path, read: Read<'_>) -> Result<ConfigFile, Failure> {
    let text = read(path).map_err(|e| {
        Failure::Refused(format!("cannot read {}: {}", path.display(), io_text(&e)))
    })?;
    match text {
        None => Ok(ConfigFile::default()),
        Some(text) => serde_json::from_str(&text).map_err(|e| {
            Failure::Refused(format!(
                "{}: {e}: correct the file or use --config",
                path.display()
            ))
        }),
    }
}

/// Docker's own file may hold anything; what cannot be read there does not keep a container from running.
fn docker_detach_keys(path: &Path, read: Read<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(rename = "detachKeys")]
        detach_keys: Option<String>,
    }
    let text = read(path).ok().flatten()?;
    serde_json::from_str::<Keys>(&text).ok()?.detach_keys
}

fn log_level(debug: bool, level: Option<&str>) -> Result<LogLevel, Failure> {
    if debug {
        return Ok(LogLevel::Debug);
    }
    match level.unwrap_or("info") {
        "debug" | "trace" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" => Ok(LogLevel::Error),
        "fatal" | "panic" => Ok(LogLevel::Fatal),
        other => Err(Failure::value(
            "-l, --log-level",
            other,
            "use one of debug, info, warn, error, fatal",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(
        flags: GlobalFlags,
        root: bool,
        env: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Globals, String> {
        let lookup = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        let read = |path: &Path| {
            Ok(files
                .iter()
                .find(|(p, _)| Path::new(p) == path)
                .map(|(_, text)| (*text).to_owned()))
        };
        resolve(flags, root, &lookup, &read).map_err(|f| f.report("").text)
    }

    #[test]
    fn defaults() {
        let root = resolved(GlobalFlags::default(), true, &[("HOME", "/root")], &[]).unwrap();
        assert_eq!(root.options.data_root.to_str(), Some("/var/lib/barque"));
        assert_eq!(root.options.run_root.to_str(), Some("/run/barque"));
        assert_eq!(
            root.options.config_dir.unwrap().to_str(),
            Some("/root/.docker")
        );
        assert_eq!(root.log_level, LogLevel::Info);
        let user = resolved(
            GlobalFlags::default(),
            false,
            &[("HOME", "/home/me"), ("XDG_RUNTIME_DIR", "/run/user/1000")],
            &[],
        )
        .unwrap();
        assert_eq!(
            user.options.data_root.to_str(),
            Some("/home/me/.local/share/barque")
        );
        assert_eq!(
            user.options.run_root.to_str(),
            Some("/run/user/1000/barque")
        );
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let files = [(
            "/c/barque.json",
            r#"{"data-root":"/file","insecure-registries":["a:1"]}"#,
        )];
        let env = [("DOCKER_CONFIG", "/c"), ("https_proxy", "p")];
        let from_file = resolved(GlobalFlags::default(), true, &env, &files).unwrap();
        assert_eq!(from_file.options.data_root.to_str(), Some("/file"));
        assert_eq!(from_file.options.insecure_registries, ["a:1"]);
        assert_eq!(from_file.options.proxies.https.as_deref(), Some("p"));
        assert!(no_color(&|_| Some("1".into())) && !no_color(&|_| None));
        let env = [("DOCKER_CONFIG", "/c"), ("BARQUE_DATA_ROOT", "/env")];
        let from_env = resolved(GlobalFlags::default(), true, &env, &files).unwrap();
        assert_eq!(from_env.options.data_root.to_str(), Some("/env"));
        let flags = GlobalFlags {
            data_root: Some("/flag".into()),
            insecure_registry: vec!["b".into()],
            ..GlobalFlags::default()
        };
        let from_flag = resolved(flags, true, &env, &files).unwrap();
        assert_eq!(from_flag.options.data_root.to_str(), Some("/flag"));
        assert_eq!(from_flag.options.insecure_registries, ["b", "a:1"]);
    }

    #[test]
    fn faults_name_the_file_or_the_flag() {
        let env = [("DOCKER_CONFIG", "/c")];
        let text = resolved(
            GlobalFlags::default(),
            true,
            &env,
            &[("/c/barque.json", "{\"x\":1}")],
        )
        .unwrap_err();
        assert!(
            text.starts_with("barque: /c/barque.json: unknown field `x`"),
            "{text}"
        );
        let flags = GlobalFlags {
            log_level: Some("loud".into()),
            ..GlobalFlags::default()
        };
        let text = resolved(flags, true, &env, &[]).unwrap_err();
        assert!(
            text.starts_with("invalid argument \"loud\" for \"-l, --log-level\" flag"),
            "{text}"
        );
    }

    #[test]
    fn dockers_config() {
        let files = [("/c/config.json", r#"{"auths":{},"detachKeys":"ctrl-x"}"#)];
        let globals = resolved(
            GlobalFlags::default(),
            true,
            &[("DOCKER_CONFIG", "/c")],
            &files,
        )
        .unwrap();
        assert_eq!(globals.detach_keys.as_deref(), Some("ctrl-x"));
        let broken = [("/c/config.json", "{")];
        assert!(
            resolved(
                GlobalFlags::default(),
                true,
                &[("DOCKER_CONFIG", "/c")],
                &broken
            )
            .is_ok()
        );
    }
}
