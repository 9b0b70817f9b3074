//! `logs`: what the monitor wrote, across rotated files, and on while the container runs.

use super::record::Container;
use super::{Containers, LogLine, LogOptions, Stream, logging};
use crate::error::{Error, Kind, Result};
use barque_monitor::log::{ReadOptions, Reader, Wake};
use barque_monitor::{Client, WaitCondition};
use std::os::fd::AsFd;

impl Containers<'_> {
    /// Reads its log; calls `each` for every line, and stops when `each` returns false.
    pub fn logs(
        &self,
        name: &str,
        options: &LogOptions,
        each: &mut dyn FnMut(LogLine) -> bool,
    ) -> Result<()> {
        let container = self.find(name)?;
        if logging::options(&container.config.request.log)?.is_none() {
            return Err(Error::new(
                Kind::Invalid,
                format!("container {name} has no log: it was made with --log-driver none"),
            ));
        }
        let path = self.engine.data.container_log(container.id());
        let read = ReadOptions {
            tail: options.tail.map(|lines| lines as u64),
            since: options.since,
            until: options.until,
        };
        let mut reader = Reader::open(&path, read)?;
        // Asked before the log is read: nothing that is written before the end is missed.
        let mut end = match options.follow {
            true => self.end_of(&container)?,
            false => None,
        };
        loop {
            while let Some(entry) = reader.next_entry()? {
                let stream = match entry.stream {
                    barque_monitor::log::Stream::Stdout => Stream::Stdout,
                    barque_monitor::log::Stream::Stderr => Stream::Stderr,
                };
                if !each(LogLine {
                    time: entry.time,
                    stream,
                    bytes: entry.bytes,
                }) {
                    return Ok(());
                }
            }
            let Some(client) = end.as_ref().filter(|_| !reader.is_over()) else {
                return Ok(());
            };
            if let Wake::Other(_) = reader.wait(&[client.as_fd()])? {
                // It ended: what it wrote last is read once more, then this is over.
                end = None;
            }
        }
    }

    /// A conversation that becomes readable when the container ends for good; `None` when it does not run.
    fn end_of(&self, container: &Container) -> Result<Option<Client>> {
        if !container.state.status.is_live() {
            return Ok(None);
        }
        let asked = Client::connect(&self.engine.run_dir(container.id())).and_then(|mut client| {
            // A question answered at once takes the monitor's greeting with it, which would look like the end.
            client.status()?;
            client.begin_wait(WaitCondition::NotRunning)?;
            Ok(client)
        });
        match asked {
            Ok(client) => Ok(Some(client)),
            Err(barque_monitor::Error::NotRunning { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
