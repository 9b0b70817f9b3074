//! Sizes in bytes: what users type (`512m`, always binary) and what tables show (`13.3MB` decimal, `1.5GiB` binary).

use std::fmt;

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidSize {
    /// No number, a negative one, or one that does not fit.
    Number(String),
    /// An unknown unit.
    Suffix(String),
}

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text) => write!(f, "invalid size: '{text}'"),
            Self::Suffix(suffix) => write!(f, "invalid suffix: '{suffix}'"),
        }
    }
}

impl std::error::Error for InvalidSize {}

/// Bytes from a text such as `512m`, `1.5g`, `64MiB`, `1024`. Units are powers of 1024 whatever their spelling
/// (`k`, `kb`, `kib`), up to petabytes, as with Docker's memory flags; one blank may stand before the unit.
pub fn parse_binary(text: &str) -> Result<i64, InvalidSize> {
    let number = || InvalidSize::Number(text.to_owned());
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(number)?;
    let (digits, unit) = match text.as_bytes()[split] {
        b' ' => (&text[..split], &text[split + 1..]),
        _ => text.split_at(split + 1),
    };
    // `f64::from_str` also reads "inf", "nan" and "1e9", which nobody means by a size.
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(number());
    }
    let value: f64 = digits.parse().map_err(|_| number())?;
    let bytes = value * multiplier(unit)?;
    if bytes < i64::MAX as f64 {
        Ok(bytes as i64)
    } else {
        Err(number())
    }
}

/// What a unit stands for.
fn multiplier(unit: &str) -> Result<f64, InvalidSize> {
    let lower = unit.to_ascii_lowercase();
    let exponent = match lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower)
    {
        "" if lower != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(InvalidSize::Suffix(lower)),
    };
    Ok(1024f64.powi(exponent))
}

/// `%.<digits>g` for values that need no exponent: that many significant digits, without trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let integer_digits = if value < 1.0 {
        1
    } else {
        value.log10().floor() as usize + 1
    };
    let text = format!("{value:.*}", digits.saturating_sub(integer_digits));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn human(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // Rounding may carry: 999.9 kB with three digits is 1 MB, not "1e+03kB".
    while unit + 1 < units.len()
        && significant(value, digits).parse::<f64>().unwrap_or(value) >= base
    {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Decimal, three significant digits: the SIZE of `images` and `ps -s` (`13.3MB`).
pub fn decimal(bytes: u64) -> String {
    human(bytes, 1000.0, &DECIMAL, 3)
}

/// Decimal, four significant digits: progress of a transfer (`3.145MB`).
pub fn decimal4(bytes: u64) -> String {
    human(bytes, 1000.0, &DECIMAL, 4)
}

/// Binary, four significant digits: memory in `info` (`7.764GiB`).
pub fn binary(bytes: u64) -> String {
    human(bytes, 1024.0, &BINARY, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_docker_parses() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("2 GB", 2 << 30),
            ("1t", 1 << 40),
            ("3p", 3 << 50),
        ] {
            assert_eq!(parse_binary(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_with_dockers_words() {
        for (text, message) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            ("5x", "invalid suffix: 'x'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32mbx", "invalid suffix: 'mbx'"),
            ("32ib", "invalid suffix: 'ib'"),
            ("1e3", "invalid size: '1e3'"),
            ("9999999p", "invalid size: '9999999p'"),
            ("1.2.3", "invalid size: '1.2.3'"),
            ("3 2 k", "invalid size: '3 2 k'"),
        ] {
            assert_eq!(
                parse_binary(text).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }

    #[test]
    fn shows_what_docker_shows() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (999_949, "1MB"),
            (4_261_550, "4.26MB"),
            (13_256_622, "13.3MB"),
            (718_000_000, "718MB"),
            (1_230_000_000, "1.23GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(decimal(bytes), text);
        }
        assert_eq!(decimal4(3_145_728), "3.146MB");
        assert_eq!(binary(8_336_117_760), "7.764GiB");
        assert_eq!(binary(1 << 20), "1MiB");
        assert_eq!(binary(1023), "1023B");
    }
}
