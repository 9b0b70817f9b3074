//! Signal names and numbers, as Docker accepts them: `SIGTERM`, `TERM`, `term`, `15`, `RTMIN+3`.
//!
//! The numbers are those of every Linux architecture but alpha, mips, parisc and sparc (signal(7)).

/// Names without `SIG`, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names of the same numbers.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// glibc's SIGRTMIN; the kernel's 32 and 33 are the threading library's own.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// The number of a signal by its name or number; `None` when there is no such signal.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|n| *n == name) {
        return Some(at as i32 + 1);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(n, _)| *n == name) {
        return Some(*number);
    }
    let number = match name {
        "RTMIN" => RTMIN,
        "RTMAX" => RTMAX,
        _ => {
            if let Some(up) = name.strip_prefix("RTMIN+") {
                RTMIN.checked_add(up.parse().ok()?)?
            } else {
                RTMAX.checked_sub(name.strip_prefix("RTMAX-")?.parse().ok()?)?
            }
        }
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// `SIGTERM` for 15; the number itself for one without a name.
pub fn name(number: i32) -> String {
    match usize::try_from(number - 1)
        .ok()
        .and_then(|at| NAMES.get(at))
    {
        Some(name) => format!("SIG{name}"),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("Kill", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
            ("sigio", 29),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for bad in ["", "SIG", "0", "65", "-9", "RTMIN+31", "RTMIN-1", "HUPP"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_parse_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(number)), Some(number));
        }
    }
}
