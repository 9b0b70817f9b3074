//! `--log-driver` and `--log-opt`: where output is kept, and how much of it.

use crate::error::{Error, Kind, Result};
use barque_types::container::LogConfig;
use barque_types::size;
use std::collections::BTreeMap;

/// How much of a container's output is kept. The default keeps 30 MiB, so that a chatty container
/// cannot fill the disk (Docker's own default is no limit at all: moby#40207).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// Bytes per file; `None` is no limit, for whoever says `max-size=-1`.
    pub max_size: Option<u64>,
    /// Files, the current one included.
    pub max_files: u32,
}

const DEFAULT_SIZE: u64 = 10 << 20;
const DEFAULT_FILES: u32 = 3;

/// The options as `inspect` shows them: with what holds when nothing was said.
pub(crate) fn shown(config: &LogConfig) -> BTreeMap<String, String> {
    let mut options = config.options.clone();
    if config.driver.as_deref() != Some("none") {
        options
            .entry("max-size".to_owned())
            .or_insert_with(|| format!("{}m", DEFAULT_SIZE >> 20));
        options
            .entry("max-file".to_owned())
            .or_insert_with(|| DEFAULT_FILES.to_string());
    }
    options
}

/// What the options say; `None` with `--log-driver none`.
pub(crate) fn options(config: &LogConfig) -> Result<Option<LogLimits>> {
    let invalid = |key: &str, value: &str, want: &str| {
        Error::new(
            Kind::Invalid,
            format!("invalid value {value:?} for --log-opt {key}: {want}"),
        )
    };
    let mut limits = LogLimits {
        max_size: Some(DEFAULT_SIZE),
        max_files: DEFAULT_FILES,
    };
    for (key, value) in &config.options {
        match key.as_str() {
            "max-size" if value == "-1" => limits.max_size = None,
            "max-size" => {
                let bytes = size::parse_binary(value).ok().filter(|bytes| *bytes > 0);
                let bytes = bytes
                    .ok_or_else(|| invalid(key, value, "a size such as 10m, or -1 for no limit"))?;
                limits.max_size = Some(bytes as u64);
            }
            "max-file" => {
                let files = value
                    .parse()
                    .ok()
                    .filter(|files| (1..=1000).contains(files));
                limits.max_files =
                    files.ok_or_else(|| invalid(key, value, "a number from 1 to 1000"))?;
            }
            _ => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "unknown log opt '{key}' for json-file log driver; max-size and max-file are known"
                    ),
                ));
            }
        }
    }
    Ok((config.driver.as_deref() != Some("none")).then_some(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pairs: &[(&str, &str)]) -> Result<Option<LogLimits>> {
        let options = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        options_of(LogConfig {
            driver: None,
            options,
        })
    }

    fn options_of(config: LogConfig) -> Result<Option<LogLimits>> {
        options(&config)
    }

    #[test]
    fn values() {
        assert_eq!(
            limits(&[]).unwrap(),
            Some(LogLimits {
                max_size: Some(DEFAULT_SIZE),
                max_files: 3
            })
        );
        let own = limits(&[("max-size", "1m"), ("max-file", "2")]).unwrap();
        assert_eq!(
            own,
            Some(LogLimits {
                max_size: Some(1 << 20),
                max_files: 2
            })
        );
        assert_eq!(
            limits(&[("max-size", "-1")]).unwrap().unwrap().max_size,
            None
        );
        for bad in [
            ("max-size", "0"),
            ("max-size", "many"),
            ("max-file", "0"),
            ("tag", "x"),
        ] {
            assert!(limits(&[bad]).is_err(), "{bad:?}");
        }
        let none = LogConfig {
            driver: Some("none".into()),
            ..LogConfig::default()
        };
        assert_eq!(options_of(none).unwrap(), None);
    }
}
