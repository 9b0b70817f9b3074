//! Times as people say them: `2 minutes`, `About an hour`; and Go's duration texts (`1h30m`).

/// How long, in Docker's words. Negative counts as nothing.
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest; everything longer is counted in those.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago: `2 minutes ago`.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", duration(seconds))
}

/// The text is not a duration such as `300ms`, `-1.5h` or `2h45m`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl std::fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "invalid duration \"{}\": give numbers with units, such as 300ms, 90s or 2h45m",
            self.0
        )
    }
}

impl std::error::Error for InvalidDuration {}

/// Nanoseconds of a duration in Go's syntax: decimal numbers, each with a unit of `ns us µs ms s m h`; `0` needs none.
pub fn parse_duration(text: &str) -> Result<i128, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        total = total
            .checked_add(scaled(number, nanos).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        rest = tail;
    }
    Ok(if negative { -total } else { total })
}

/// A decimal number times a unit, exactly (digits beyond the nanosecond are dropped).
fn scaled(number: &str, nanos: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 18 {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<i128>().ok()
        }
    };
    let part = digits(fraction)? * nanos / 10i128.pow(u32::try_from(fraction.len()).ok()?);
    digits(whole)?.checked_mul(nanos)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_docker_says() {
        let (minute, hour, day) = (60, 3600, 86_400);
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (2 * minute - 1, "About a minute"),
            (2 * minute, "2 minutes"),
            (59 * minute + 59, "59 minutes"),
            (hour, "About an hour"),
            (hour + 29 * minute, "About an hour"),
            (hour + 30 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        assert_eq!(ago(120), "2 minutes ago");
    }

    #[test]
    fn reads_gos_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("42m", 42 * 60_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("-10ms", -10_000_000),
            ("+3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for text in [
            "",
            "-",
            "5",
            "5x",
            "s",
            ".s",
            "1.2.3s",
            "h1",
            "9999999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
