//! `logs`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::output;
use barque_engine::containers::{LogLine, LogOptions, Stream};
use barque_types::human;
use barque_types::time::Timestamp;
use clap::{ArgMatches, Args};
use std::io::{self, Write};

#[derive(Debug, Args)]
struct Flags {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(short = 'n', long, value_name = "string")]
    tail: Option<String>,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    /// Show extra details provided to logs (this version's drivers have none: a space before each line, as Docker)
    #[arg(long)]
    details: bool,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `logs`.
pub const VERB: Verb = Verb {
    name: "logs",
    long: &["container logs"],
    about: "Fetch the logs of a container",
    usage: "[OPTIONS] CONTAINER",
    examples: "barque logs -f --tail 100 web\nbarque logs -t --since 10m web",
    arguments: (1, 1),
    flags: Flags::augment_args,
    run,
    common: true,
};

/// A moment: a duration back from now, an RFC 3339 time (UTC when it has no zone), or Unix seconds.
fn moment(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(back) = human::parse_duration(text) {
        return Ok(Timestamp::from_unix_nanos(now.unix_nanos() - back));
    }
    if let Some(nanos) = unix(text) {
        return Ok(Timestamp::from_unix_nanos(nanos));
    }
    // Docker's engine, not its parser of flags, refuses these: hence another code than for a flag.
    text.parse().map_err(|_| {
        Failure::Refused(format!(
            "invalid value for \"{flag}\": \"{text}\": give a time such as 2013-01-02T13:23:37Z, Unix seconds, or a duration such as 42m"
        ))
    })
}

/// Nanoseconds of `1136073845` or `1136073845.000000001`.
fn unix(text: &str) -> Option<i128> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(i128::from(seconds.parse::<u64>().ok()?) * 1_000_000_000 + nanos)
}

fn tail(text: Option<&str>) -> Result<Option<usize>, Failure> {
    match text {
        None | Some("all" | "") => Ok(None),
        // As with Docker, a negative number means all of them.
        Some(text) => match text.parse::<i64>() {
            Ok(count) => Ok(usize::try_from(count).ok()),
            Err(_) => Err(Failure::Refused(format!(
                "invalid value for \"--tail\": \"{text}\": give a number of lines, or all"
            ))),
        },
    }
}

/// RFC 3339 with all nine digits, so that lines align and sort.
fn stamp(time: Timestamp) -> String {
    let text = time.to_string();
    let bare = text.trim_end_matches('Z');
    let (seconds, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    format!("{seconds}.{fraction:0<9}Z ")
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let now = Timestamp::now();
    let options = LogOptions {
        follow: flags.follow,
        tail: tail(flags.tail.as_deref())?,
        since: flags
            .since
            .as_deref()
            .map(|text| moment("--since", text, now))
            .transpose()?,
        until: flags
            .until
            .as_deref()
            .map(|text| moment("--until", text, now))
            .transpose()?,
    };
    let engine = context.engine()?;
    let mut printer = Printer::new(&flags);
    let mut broken = None;
    let read =
        engine.containers().logs(
            &flags.args[0],
            &options,
            &mut |line| match printer.print(&line) {
                Ok(()) => true,
                Err(e) => {
                    broken = Some(e);
                    false
                }
            },
        );
    let flushed = printer.out.flush();
    if let Some(e) = broken.or(flushed.err()) {
        return Err(output::write_failure(e));
    }
    read.map_err(failed)?;
    Ok(0)
}

/// Puts the pieces of a log on the streams that they came from.
struct Printer {
    out: io::BufWriter<io::Stdout>,
    stamps: bool,
    details: bool,
    /// Somebody is watching: nothing may wait in a buffer.
    live: bool,
    /// The last piece of each stream did not end its line.
    inside: [bool; 2],
}

impl Printer {
    fn new(flags: &Flags) -> Self {
        Self {
            out: io::BufWriter::with_capacity(64 * 1024, io::stdout()),
            stamps: flags.timestamps,
            details: flags.details,
            live: flags.follow,
            inside: [false; 2],
        }
    }

    fn print(&mut self, line: &LogLine) -> io::Result<()> {
        let inside = &mut self.inside[usize::from(line.stream == Stream::Stderr)];
        let mut start = String::new();
        if self.stamps && !*inside {
            start.push_str(&stamp(line.time));
        }
        if self.details && !*inside {
            start.push(' ');
        }
        *inside = !line.bytes.ends_with(b"\n");
        match line.stream {
            Stream::Stdout => {
                self.out.write_all(start.as_bytes())?;
                self.out.write_all(&line.bytes)?;
                if self.live { self.out.flush() } else { Ok(()) }
            }
            Stream::Stderr => {
                // In a terminal both streams are seen together: keep their order.
                self.out.flush()?;
                let mut err = io::stderr().lock();
                err.write_all(start.as_bytes())?;
                err.write_all(&line.bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now = Timestamp::from_unix_nanos(1_700_000_000_000_000_000);
        let at = |text: &str| {
            moment("--since", text, now)
                .map(|time| time.to_string())
                .map_err(|f| f.report("logs").text)
        };
        assert_eq!(at("10m").unwrap(), "2023-11-14T22:03:20Z");
        assert_eq!(at("2013-01-02T13:23:37Z").unwrap(), "2013-01-02T13:23:37Z");
        assert_eq!(at("2013-01-02").unwrap(), "2013-01-02T00:00:00Z");
        assert_eq!(at("1136073845").unwrap(), "2006-01-01T00:04:05Z");
        assert_eq!(
            at("1136073845.000000001").unwrap(),
            "2006-01-01T00:04:05.000000001Z"
        );
        assert!(
            at("yesterday")
                .unwrap_err()
                .starts_with("barque: invalid value for \"--since\": \"yesterday\"")
        );
    }

    #[test]
    fn tails_and_stamps() {
        assert_eq!(tail(Some("all")).unwrap(), None);
        assert_eq!(tail(Some("10")).unwrap(), Some(10));
        assert_eq!(tail(Some("-1")).unwrap(), None);
        assert!(tail(Some("x")).is_err());
        assert_eq!(
            stamp(Timestamp::from_unix_nanos(1_700_000_000_120_000_000)),
            "2023-11-14T22:13:20.120000000Z "
        );
        assert_eq!(
            stamp(Timestamp::from_unix_nanos(0)),
            "1970-01-01T00:00:00.000000000Z "
        );
    }
}
