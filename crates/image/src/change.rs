//! The Dockerfile instructions that `import --change` (and commit) take, applied to a configuration. Pure.

use barque_types::oci::{Empty, RunConfig};

/// Applies one instruction. The error says what is wrong with it.
pub(crate) fn apply(config: &mut RunConfig, line: &str) -> Result<(), String> {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let name = name.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(format!("{name} needs an argument"));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(rest)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)?),
        "USER" => config.user = one(rest)?,
        "STOPSIGNAL" => config.stop_signal = Some(one(rest)?),
        "WORKDIR" => config.working_dir = join(&config.working_dir, &one(rest)?),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                set_env(&mut config.env, &key, &value);
            }
        }
        "LABEL" => {
            let labels = config.labels.get_or_insert_default();
            labels.extend(pairs(rest)?);
        }
        "EXPOSE" => {
            for port in words(rest)? {
                config
                    .exposed_ports
                    .get_or_insert_default()
                    .insert(expose(&port)?, Empty {});
            }
        }
        "VOLUME" => {
            let paths = match json_array(rest)? {
                Some(paths) => paths,
                None => words(rest)?,
            };
            for path in paths {
                config
                    .volumes
                    .get_or_insert_default()
                    .insert(path, Empty {});
            }
        }
        "HEALTHCHECK" | "ONBUILD" | "SHELL" => return Err(format!("{name} is not supported yet")),
        _ => return Err(format!("{name} is not a valid change command")),
    }
    Ok(())
}

/// Exec form (`["a","b"]`), or shell form, which a shell is to run.
fn command(rest: &str) -> Result<Vec<String>, String> {
    match json_array(rest)? {
        Some(argv) => Ok(argv),
        None => Ok(vec!["/bin/sh".into(), "-c".into(), rest.into()]),
    }
}

/// As in Docker, what is not valid JSON is no exec form but text.
fn json_array(rest: &str) -> Result<Option<Vec<String>>, String> {
    if !rest.starts_with('[') {
        return Ok(None);
    }
    Ok(serde_json::from_str(rest).ok())
}

fn one(rest: &str) -> Result<String, String> {
    match words(rest)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err(format!("exactly one argument is wanted, not {rest:?}")),
    }
}

/// `key=value …`, or the old form `key the rest`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{rest:?} has no value"))?;
        return Ok(vec![(key.to_owned(), words(value)?.join(" "))]);
    }
    words(rest)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("{word:?} is not of the form key=value")),
        })
        .collect()
}

/// Words with '…', "…" and backslashes, as in a Dockerfile.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("unfinished quote in {text:?}"));
    }
    out.extend(word);
    Ok(out)
}

fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    match env
        .iter_mut()
        .find(|e| e.split_once('=').is_some_and(|(k, _)| k == key))
    {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn expose(port: &str) -> Result<String, String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let valid = number.parse::<u16>().is_ok_and(|n| n > 0)
        && ["tcp", "udp", "sctp"].contains(&protocol.as_str());
    if valid {
        Ok(format!("{number}/{protocol}"))
    } else {
        Err(format!("invalid port {port:?}: want 80, 80/tcp, 80/udp"))
    }
}

/// A directory, relative to the one before.
fn join(base: &str, dir: &str) -> String {
    if dir.starts_with('/') {
        return dir.to_owned();
    }
    format!("{}/{dir}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_land_where_docker_puts_them() {
        let mut c = RunConfig::default();
        for line in [
            "CMD [\"/bin/a\", \"b c\"]",
            "entrypoint echo $HOME",
            "ENV A=1 B=\"two words\" C='x'\\ y",
            "ENV A again and",
            "EXPOSE 80 53/UDP",
            "LABEL a.b=c d=",
            "USER 1000:1000",
            "VOLUME [\"/data\"]",
            "VOLUME /x /y",
            "WORKDIR /srv/",
            "WORKDIR app",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut c, line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        assert_eq!(c.cmd.unwrap(), ["/bin/a", "b c"]);
        assert_eq!(c.entrypoint.unwrap(), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(c.env, ["A=again and", "B=two words", "C=x y"]);
        assert_eq!(
            c.exposed_ports.unwrap().into_keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(c.labels.unwrap()["d"], "");
        assert_eq!(c.volumes.unwrap().len(), 3);
        assert_eq!(
            (c.user.as_str(), c.working_dir.as_str()),
            ("1000:1000", "/srv/app")
        );
        assert_eq!(c.stop_signal.unwrap(), "SIGINT");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "CMD",
            "RUN ls",
            "ENV A",
            "ENV =x",
            "EXPOSE 0",
            "EXPOSE x",
            "USER a b",
            "LABEL \"a",
            "ONBUILD RUN x",
        ] {
            assert!(apply(&mut RunConfig::default(), line).is_err(), "{line}");
        }
    }
}
