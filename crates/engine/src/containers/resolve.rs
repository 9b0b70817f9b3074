//! Lays a request over its image's defaults: pure, Docker's rules.

use super::record::ResolvedProcess;
use crate::error::{Error, Kind, Result};
use barque_types::container::{CreateContainer, NetworkMode};
use barque_types::id::ContainerId;
use barque_types::oci::RunConfig;

/// The process that a request and an image's configuration together ask for.
pub(crate) fn process(
    request: &CreateContainer,
    image: &RunConfig,
    id: &ContainerId,
) -> Result<ResolvedProcess> {
    let (entrypoint, cmd) = command(request, image);
    if entrypoint.iter().flatten().next().is_none() && cmd.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "no command specified: the image has no default one, so name it after the image",
        ));
    }
    let mut labels = image.labels.clone().unwrap_or_default();
    labels.extend(request.labels.clone());
    let workdir = request
        .workdir
        .clone()
        .unwrap_or_else(|| image.working_dir.clone());
    if !workdir.is_empty() && !workdir.starts_with('/') {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the working directory '{workdir}' is invalid, it needs to be an absolute path"
            ),
        ));
    }
    Ok(ResolvedProcess {
        entrypoint,
        cmd,
        env: environment(&image.env, &request.env),
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        workdir,
        labels,
        stop_signal: request
            .stop_signal
            .clone()
            .or_else(|| image.stop_signal.clone()),
        hostname: match (&request.hostname, &request.network) {
            (Some(name), _) => name.clone(),
            // The name of the host or of the other container; it is asked for at each start.
            (None, NetworkMode::Host | NetworkMode::Container(_)) => String::new(),
            (None, NetworkMode::None) => id.short().to_owned(),
        },
        exposed_ports: image
            .exposed_ports
            .iter()
            .flatten()
            .map(|(port, _)| port.clone())
            .collect(),
        volumes: image
            .volumes
            .iter()
            .flatten()
            .map(|(path, _)| path.clone())
            .collect(),
    })
}

/// An entrypoint of the request's own drops the image's command; an empty one drops the image's entrypoint.
fn command(request: &CreateContainer, image: &RunConfig) -> (Option<Vec<String>>, Vec<String>) {
    match &request.entrypoint {
        Some(own) => {
            let own: Vec<_> = own
                .iter()
                .filter(|word| !word.is_empty())
                .cloned()
                .collect();
            ((!own.is_empty()).then_some(own), request.command.clone())
        }
        None if request.command.is_empty() => (
            image.entrypoint.clone(),
            image.cmd.clone().unwrap_or_default(),
        ),
        None => (image.entrypoint.clone(), request.command.clone()),
    }
}

/// Overrides by name keep their place; a bare `NAME` removes; the image's order comes first.
pub(crate) fn environment(base: &[String], overrides: &[String]) -> Vec<String> {
    let name = |entry: &str| {
        entry
            .split_once('=')
            .map_or(entry, |(name, _)| name)
            .to_owned()
    };
    let mut env: Vec<String> = Vec::with_capacity(base.len() + overrides.len());
    for entry in base.iter().chain(overrides) {
        let at = env.iter().position(|have| name(have) == name(entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> RunConfig {
        RunConfig {
            entrypoint: Some(words("/entry")),
            cmd: Some(words("serve --fast")),
            env: words("PATH=/bin A=1"),
            ..RunConfig::default()
        }
    }

    fn resolved(request: &CreateContainer, image: &RunConfig) -> Result<ResolvedProcess> {
        process(request, image, &ContainerId::from_random([7; 32]))
    }

    #[test]
    fn commands() {
        let of = |entrypoint: Option<&str>, command: &str| {
            let request = CreateContainer {
                entrypoint: entrypoint.map(words),
                command: words(command),
                ..CreateContainer::default()
            };
            resolved(&request, &image())
                .map(|p| p.argv().join(" "))
                .ok()
        };
        assert_eq!(of(None, "").as_deref(), Some("/entry serve --fast"));
        assert_eq!(of(None, "x y").as_deref(), Some("/entry x y"));
        assert_eq!(of(Some("/own"), "").as_deref(), Some("/own"));
        assert_eq!(of(Some("/own"), "x").as_deref(), Some("/own x"));
        assert_eq!(of(Some(""), "x").as_deref(), Some("x"));
        assert_eq!(of(Some(""), ""), None);
    }

    #[test]
    fn environments() {
        let of = |own: &str| environment(&image().env, &words(own)).join(" ");
        assert_eq!(of(""), "PATH=/bin A=1");
        assert_eq!(of("A=2 B="), "PATH=/bin A=2 B=");
        assert_eq!(of("A Z"), "PATH=/bin");
    }

    #[test]
    fn a_relative_workdir_is_refused() {
        let request = CreateContainer {
            workdir: Some("tmp".into()),
            ..CreateContainer::default()
        };
        assert_eq!(
            resolved(&request, &image()).unwrap_err().kind(),
            Kind::Invalid
        );
    }
}
