//! Restart policies: what happens when a container's process ends by itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `--restart`, as `HostConfig.RestartPolicy` shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// Which policy.
    #[serde(default)]
    pub name: RestartMode,
    /// For `on-failure`: give up after so many restarts; 0 is never.
    #[serde(default)]
    pub maximum_retry_count: u32,
}

/// The name of the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // Docker's words
pub enum RestartMode {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure,
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name, self.maximum_retry_count) {
            (RestartMode::No, _) => f.write_str("no"),
            (RestartMode::Always, _) => f.write_str("always"),
            (RestartMode::UnlessStopped, _) => f.write_str("unless-stopped"),
            (RestartMode::OnFailure, 0) => f.write_str("on-failure"),
            (RestartMode::OnFailure, n) => write!(f, "on-failure:{n}"),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = String;

    /// `no`, `always`, `unless-stopped` or `on-failure[:N]`.
    fn from_str(s: &str) -> Result<Self, String> {
        let (name, count) = s.split_once(':').map_or((s, None), |(n, c)| (n, Some(c)));
        let mode = match name {
            "" | "no" => RestartMode::No,
            "always" => RestartMode::Always,
            "unless-stopped" => RestartMode::UnlessStopped,
            "on-failure" => RestartMode::OnFailure,
            _ => {
                return Err(format!(
                    "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure' or 'unless-stopped'"
                ));
            }
        };
        let maximum_retry_count = match count {
            None => 0,
            Some(_) if mode != RestartMode::OnFailure => {
                return Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned());
            }
            Some(n) => n.parse().map_err(|_| {
                format!("invalid restart policy: maximum retry count must be a number, not '{n}'")
            })?,
        };
        Ok(Self {
            name: mode,
            maximum_retry_count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for text in [
            "no",
            "always",
            "unless-stopped",
            "on-failure",
            "on-failure:3",
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refusals() {
        for bad in ["sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_is_dockers() {
        let policy: RestartPolicy = "on-failure:3".parse().unwrap();
        assert_eq!(
            serde_json::to_string(&policy).unwrap(),
            r#"{"Name":"on-failure","MaximumRetryCount":3}"#
        );
    }
}
