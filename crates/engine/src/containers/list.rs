//! `ps`: which containers, and how they are.

use super::record::Container;
use super::{Containers, ListOptions, Listed, inspect};
use crate::error::{Error, Kind, Result};
use barque_types::docker::{ContainerSummary, Status, SummaryHostConfig};
use barque_types::human;
use barque_types::time::Timestamp;

const FILTERS: [&str; 14] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume",
    "is-task", "health", "publish", "expose",
];

impl Containers<'_> {
    /// Lists, newest first. What cannot be read is told beside the rest: it must neither hide the others
    /// nor silently drop out of scripts that count.
    pub fn list(&self, options: &ListOptions) -> Result<Listed> {
        check_filters(&options.filters)?;
        let (mut containers, unreadable) = self.engine.load_all()?;
        containers.sort_by_key(|c| std::cmp::Reverse(c.config.created));
        let by_status = options
            .filters
            .iter()
            .any(|(key, _)| key == "status" || key == "exited");
        let all = options.all || options.limit.is_some() || by_status;
        containers.retain(|c| all || c.state.status.is_live());
        let ancestors = self.ancestors(&options.filters)?;
        let window = self.window(&options.filters)?;
        containers.retain(|c| {
            window.contains(c)
                && ancestors.as_ref().is_none_or(|ids| is_descendant(c, ids))
                && matches_all(c, &options.filters)
        });
        containers.truncate(options.limit.unwrap_or(usize::MAX));
        let summaries = containers.iter().map(|c| self.summary(c, options.size));
        Ok(Listed {
            containers: summaries.collect::<Result<_>>()?,
            unreadable,
        })
    }

    fn summary(&self, container: &Container, size: bool) -> Result<ContainerSummary> {
        let config = &container.config;
        let sizes = match size {
            true => Some(self.sizes(container)?),
            false => None,
        };
        Ok(ContainerSummary {
            id: config.id.to_string(),
            names: vec![format!("/{}", config.name)],
            image: match (&config.image, &config.request.source) {
                // A name that means another image by now, or none, would mislead: the id, as Docker.
                (Some(used), _) => match self.engine.store.resolve(&used.name) {
                    Ok(image) if image.id == used.id => used.name.clone(),
                    _ => used.id.to_string(),
                },
                (None, barque_types::container::Source::Rootfs(path)) => path.display().to_string(),
                (None, barque_types::container::Source::Image(name)) => name.clone(),
            },
            image_id: config
                .image
                .as_ref()
                .map(|used| used.id.to_string())
                .unwrap_or_default(),
            command: command_line(&config.process.argv()),
            created: config.created.unix_secs(),
            ports: Vec::new(),
            labels: config.process.labels.clone(),
            state: container.state.status,
            status: status_text(container, Timestamp::now()),
            host_config: SummaryHostConfig {
                network_mode: inspect::network_mode(&config.request.network),
            },
            mounts: inspect::mount_points(config),
            exit_code: container.state.exit_code,
            size_rw: sizes.map(|(own, _)| own),
            size_root_fs: sizes.map(|(_, all)| all),
        })
    }

    /// The image ids that `ancestor=` filters name; `None` without such a filter.
    fn ancestors(&self, filters: &[(String, String)]) -> Result<Option<Vec<Ancestor>>> {
        let words: Vec<_> = filters
            .iter()
            .filter(|(key, _)| key == "ancestor")
            .collect();
        if words.is_empty() {
            return Ok(None);
        }
        let resolved = words.into_iter().map(|(_, word)| Ancestor {
            word: word.clone(),
            id: self.engine.store.resolve(word).ok().map(|image| image.id),
        });
        Ok(Some(resolved.collect()))
    }

    /// The containers that `before=` and `since=` name.
    fn window(&self, filters: &[(String, String)]) -> Result<Window> {
        let mut window = Window {
            after: None,
            before: None,
        };
        for (key, word) in filters {
            match key.as_str() {
                "since" => window.after = Some(self.find(word)?.config.created),
                "before" => window.before = Some(self.find(word)?.config.created),
                _ => {}
            }
        }
        Ok(window)
    }
}

/// An image that `--filter ancestor=` names.
struct Ancestor {
    word: String,
    id: Option<barque_types::digest::Digest>,
}

fn is_descendant(container: &Container, ancestors: &[Ancestor]) -> bool {
    container.config.image.as_ref().is_some_and(|used| {
        ancestors
            .iter()
            .any(|a| a.word == used.name || a.id == Some(used.id))
    })
}

/// Open interval of creation times.
struct Window {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Window {
    fn contains(&self, container: &Container) -> bool {
        let created = container.config.created;
        self.after.is_none_or(|after| created > after)
            && self.before.is_none_or(|before| created < before)
    }
}

/// Docker's way to show a command: an argument that holds a space stands in quotes, the program never does.
fn command_line<S: AsRef<str>>(argv: &[S]) -> String {
    let mut shown = String::new();
    for (n, word) in argv.iter().map(AsRef::as_ref).enumerate() {
        match (n, word.contains(' ')) {
            (0, _) => shown.push_str(word),
            (_, true) => shown.push_str(&format!(" '{word}'")),
            (_, false) => shown.push_str(&format!(" {word}")),
        }
    }
    shown
}

fn check_filters(filters: &[(String, String)]) -> Result<()> {
    for (key, value) in filters {
        if !FILTERS.contains(&key.as_str()) {
            return Err(Error::new(
                Kind::Invalid,
                format!("invalid filter '{key}': use one of {}", FILTERS.join(", ")),
            ));
        }
        let valid = match key.as_str() {
            "status" => [
                "created",
                "restarting",
                "running",
                "removing",
                "paused",
                "exited",
                "dead",
            ]
            .contains(&value.as_str()),
            "exited" => value.parse::<i32>().is_ok(),
            "health" => ["none", "starting", "healthy", "unhealthy"].contains(&value.as_str()),
            _ => true,
        };
        if !valid {
            return Err(Error::new(
                Kind::Invalid,
                format!("invalid filter '{key}={value}'"),
            ));
        }
    }
    Ok(())
}

/// One value of a key is enough, except for labels, which must all match.
fn matches_all(container: &Container, filters: &[(String, String)]) -> bool {
    FILTERS.iter().all(|key| {
        let mut values = filters
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .peekable();
        match *key {
            _ if values.peek().is_none() => true,
            "label" => values.all(|v| matches(container, key, v)),
            _ => values.any(|v| matches(container, key, v)),
        }
    })
}

fn matches(container: &Container, key: &str, value: &str) -> bool {
    let config = &container.config;
    match key {
        "id" => container.id().starts_with(value),
        // Docker takes a regular expression; a part of the name, `^` and `$` are what is used of it.
        "name" => name_matches(container.name(), value),
        "label" => match value.split_once('=') {
            Some((name, wanted)) => config
                .process
                .labels
                .get(name)
                .is_some_and(|have| have == wanted),
            None => config.process.labels.contains_key(value),
        },
        "status" => container.state.status.as_str() == value,
        "exited" => {
            container.state.status == Status::Exited
                && value.parse() == Ok(container.state.exit_code)
        }
        "network" => inspect::network_mode(&config.request.network) == value,
        "volume" => inspect::mount_points(config)
            .iter()
            .any(|m| m.source == value || m.destination == value),
        "is-task" => value != "true" && value != "1",
        // No container has a health check or a port here.
        "health" => value == "none",
        "publish" | "expose" => false,
        _ => true,
    }
}

fn name_matches(name: &str, pattern: &str) -> bool {
    let (pattern, from_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest.strip_prefix('/').unwrap_or(rest), true),
        None => (pattern.strip_prefix('/').unwrap_or(pattern), false),
    };
    match (from_start, pattern.strip_suffix('$')) {
        (true, Some(exact)) => name == exact,
        (true, None) => name.starts_with(pattern),
        (false, Some(end)) => name.ends_with(end),
        (false, None) => name.contains(pattern),
    }
}

/// `Up 2 minutes`, `Exited (0) 5 seconds ago`, …
fn status_text(container: &Container, now: Timestamp) -> String {
    let state = &container.state;
    let since = |then: Timestamp| human::duration(now.unix_secs() - then.unix_secs());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(state.started_at)),
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        Status::Exited => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, matching) in [
            ("web", true),
            ("^web", true),
            ("^/web-1$", true),
            ("1$", true),
            ("^eb", false),
            ("web$", false),
            ("", true),
        ] {
            assert_eq!(name_matches("web-1", pattern), matching, "{pattern}");
        }
    }

    #[test]
    fn unknown_filters_and_values_are_refused() {
        let filter = |key: &str, value: &str| check_filters(&[(key.to_owned(), value.to_owned())]);
        assert!(filter("status", "running").is_ok());
        assert!(filter("status", "jogging").is_err());
        assert!(filter("exited", "x").is_err());
        assert!(filter("colour", "red").is_err());
    }
}
