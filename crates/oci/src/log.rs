//! The log that callers read: containerd and Podman take the last line with `level` `error` of a JSON log for the
//! reason of a failure, and show stderr to their users.

use crate::failure::{Failure, While};
use barque_types::time::Timestamp;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, span};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct LogTarget {
    /// stderr when absent.
    pub path: Option<PathBuf>,
    pub format: Format,
    pub debug: bool,
}

#[derive(Debug)]
struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens it; before, lines go to stderr.
pub(crate) fn open(target: &LogTarget) -> Result<(), Failure> {
    let file = target.path.as_ref().map(|path| {
        let mut options = File::options();
        // O_SYNC as runc: what is written is there when the caller looks, whatever happens to us.
        options
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(rustix::fs::OFlags::SYNC.bits() as i32);
        options
            .open(path)
            .while_(|| format!("opening the log {}", path.display()))
    });
    let log = Log {
        file: file.transpose()?,
        format: target.format,
        debug: target.debug,
    };
    let debug = log.debug;
    if LOG.set(log).is_ok() && debug {
        // Nobody listens otherwise, and events cost next to nothing then.
        let _ = tracing::subscriber::set_global_default(Listener);
    }
    Ok(())
}

/// Writes why the command has failed: into the log, and for people to stderr.
pub(crate) fn error(message: &str) {
    line("error", message);
    if LOG.get().is_some_and(|log| log.file.is_some()) {
        let _ = writeln!(std::io::stderr(), "{message}");
    }
}

/// Writes what does not end the command.
pub(crate) fn warn(message: &str) {
    line("warning", message);
}

fn line(level: &str, message: &str) {
    let format = LOG.get().map_or(Format::Text, |log| log.format);
    let text = rendered(format, level, message, &Timestamp::now().to_string());
    // Nobody is left to tell when this fails.
    let _ = match LOG.get().and_then(|log| log.file.as_ref()) {
        Some(mut file) => file.write_all(text.as_bytes()),
        None => std::io::stderr().write_all(text.as_bytes()),
    };
}

fn rendered(format: Format, level: &str, message: &str, time: &str) -> String {
    match format {
        Format::Json => {
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            format!(
                "{{\"level\":{},\"msg\":{},\"time\":{}}}\n",
                quoted(level),
                quoted(message),
                quoted(time)
            )
        }
        Format::Text => format!("time={time:?} level={level} msg={message:?}\n"),
    }
}

/// What the library says while it works, under `--debug`.
struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        line(level, &text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_can_be_read_back() {
        let json = rendered(Format::Json, "error", "a \"b\"\nc", "2026-01-02T03:04:05Z");
        assert_eq!(
            json,
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            rendered(Format::Text, "debug", "x y", "t"),
            "time=\"t\" level=debug msg=\"x y\"\n"
        );
    }
}
