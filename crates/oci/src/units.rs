//! Numbers as people write them on runc's command line.

use crate::failure::Failure;

/// Bytes: `512`, `32k`, `1.5G`, `-1` for unlimited (go-units' RAMInBytes: powers of 1024).
pub(crate) fn bytes(flag: &str, text: &str) -> Result<i64, Failure> {
    if text == "-1" {
        return Ok(-1);
    }
    let bad = || {
        Failure::usage(format!(
            "--{flag}: {text:?} is not a size; write for example 512m"
        ))
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end();
    let power = match lower[digits.len()..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    let number: f64 = digits.parse().map_err(|_| bad())?;
    let value = number * 1024f64.powi(power);
    if !number.is_finite() || number < 0.0 || value > i64::MAX as f64 {
        return Err(bad());
    }
    Ok(value as i64)
}

/// A duration of Go: `5s`, `100ms`, `1m30s`, `1h`.
pub(crate) fn duration(flag: &str, text: &str) -> Result<std::time::Duration, Failure> {
    let bad = || {
        Failure::usage(format!(
            "--{flag}: {text:?} is not a duration; write for example 5s"
        ))
    };
    let (mut rest, mut total) = (text.trim(), 0f64);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c.is_ascii_alphabetic() || c == 'µ')
            .ok_or_else(bad)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        rest = &rest[end..];
        total += number * seconds;
    }
    std::time::Duration::try_from_secs_f64(total).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, value) in [
            ("-1", -1),
            ("0", 0),
            ("1024", 1024),
            ("32k", 32768),
            ("1.5G", 1_610_612_736),
            ("2MiB", 2 << 20),
            ("7 b", 7),
        ] {
            assert_eq!(bytes("memory", text).expect(text), value, "{text}");
        }
        for text in ["", "x", "-2", "1q", "9e99", "1 k b"] {
            assert!(bytes("memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("0.5h", 1_800_000),
        ] {
            assert_eq!(
                duration("interval", text).expect(text).as_millis(),
                millis,
                "{text}"
            );
        }
        for text in ["", "5", "s", "5x", "-5s"] {
            assert!(duration("interval", text).is_err(), "{text}");
        }
    }
}
