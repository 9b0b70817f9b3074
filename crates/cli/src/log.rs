//! What the libraries tell by `tracing`, on stderr, in Docker's key=value form.

use crate::globals::LogLevel;
use barque_types::time::Timestamp;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Prints events; spans are not used.
struct Stderr(Level);

/// Begins to print events of this level and above.
pub fn install(level: LogLevel) {
    let least = match level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
        // Nothing below us is fatal by itself: what is, is reported in any case.
        LogLevel::Fatal => return,
    };
    // A second one is not installed; that is the first one's business.
    drop(tracing::subscriber::set_global_default(Stderr(least)));
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Ours alone: what an HTTP client has to tell helps nobody.
        metadata.is_event()
            && *metadata.level() <= self.0
            && metadata.target().starts_with("barque")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        crate::output::complain(&line(
            Timestamp::now(),
            *event.metadata().level(),
            |visit| event.record(visit),
        ));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `time="…" level=warning msg="…" key=value`.
fn line(time: Timestamp, level: Level, record: impl FnOnce(&mut dyn Visit)) -> String {
    let mut fields = Fields::default();
    record(&mut fields);
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    };
    format!(
        "time=\"{time}\" level={level} msg={:?}{}\n",
        fields.message, fields.rest
    )
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            let _ = write!(self.rest, " {}={:?}", field.name(), format!("{value:?}"));
        }
    }
}
