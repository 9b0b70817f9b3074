//! When a container is started again, and after which pause: Docker's rules, as pure functions.

use barque_types::restart::{RestartMode, RestartPolicy};
use std::time::Duration;

/// First pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long counts as success: the pause starts anew.
const SETTLED: Duration = Duration::from_secs(10);

/// The growing pause between restarts: 100 ms, doubling up to a minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after a run that lasted `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if ran < SETTLED => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

/// Whether the policy restarts a container whose PID 1 ended with `code`, after `restarts` restarts.
pub fn should_restart(
    policy: RestartPolicy,
    code: i32,
    stop_requested: bool,
    restarts: u32,
) -> bool {
    if stop_requested {
        return false;
    }
    match policy.name {
        RestartMode::No => false,
        RestartMode::Always | RestartMode::UnlessStopped => true,
        RestartMode::OnFailure => {
            let max = policy.maximum_retry_count;
            code != 0 && (max == 0 || restarts < max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_start_anew() {
        let short = Duration::from_secs(1);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[9..], [51_200, 60_000, 60_000]);
        assert_eq!(backoff.next(SETTLED), FIRST);
        assert_eq!(backoff.next(short), FIRST * 2);
    }

    #[test]
    fn policies() {
        for (policy, code, requested, restarts, want) in [
            ("no", 1, false, 0, false),
            ("always", 0, false, 1000, true),
            ("always", 0, true, 0, false),
            ("unless-stopped", 137, false, 0, true),
            ("unless-stopped", 137, true, 0, false),
            ("on-failure", 0, false, 0, false),
            ("on-failure", 1, false, 1000, true),
            ("on-failure:2", 1, false, 1, true),
            ("on-failure:2", 1, false, 2, false),
            ("on-failure:2", 1, true, 0, false),
        ] {
            let parsed = policy.parse().unwrap();
            assert_eq!(
                should_restart(parsed, code, requested, restarts),
                want,
                "{policy} {code}"
            );
        }
    }
}
