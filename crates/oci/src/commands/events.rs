//! `events`: what a container uses, again and again, and when it runs out of memory.

use super::*;
use crate::args::switch;
use crate::{output, stats, units};
use barque_runtime::lifecycle::{Container, OomWatch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use serde::Serialize;
use serde_json::Value;
use std::time::{Duration, Instant};

pub(super) const COMMAND: Command = Command {
    name: "events",
    usage: "<container-id>",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    details: "One line of JSON for each event: {\"type\":\"stats\",\"id\":…,\"data\":{…}} at every interval, and
{\"type\":\"oom\",\"id\":…} when the memory limit is hit beyond remedy. Ends with the container.",
    flags: &[
        value(
            "interval",
            "",
            "DURATION",
            "time between statistics (default: 5s)",
        ),
        switch("stats", "", "display the container's stats then exit"),
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let interval = match call.args.last("interval") {
        Some(text) => units::duration("interval", text)?,
        None => Duration::from_secs(5),
    };
    if interval.is_zero() {
        return Err(Failure::usage("--interval must be greater than 0"));
    }
    let container = call.globals.home.open(id(call))?;
    if call.args.has("stats") {
        return event(&container, "stats", Some(stats::data(&container.stats()?)));
    }
    follow(&container, interval)
}

/// One line, its members in runc's order.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn event(container: &Container, kind: &str, data: Option<Value>) -> Result<u8, Failure> {
    let line = Event {
        kind,
        id: container.id(),
        data,
    };
    output::json(&line, false)
}

/// Until its end. What the kernel told of its memory before is told first.
fn follow(container: &Container, interval: Duration) -> Result<u8, Failure> {
    let pidfd = container.running()?;
    let mut oom = container.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let left =
            Timespec::try_from(next.saturating_duration_since(Instant::now())).unwrap_or_default();
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(oom.as_ref().map(|watch| PollFd::new(watch, PollFlags::IN)));
        retry_on_intr(|| poll(&mut fds, Some(&left))).while_(|| "waiting for events".to_owned())?;
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        if let Some(watch) = &mut oom
            && tell(container, watch)?
        {
            // The group is gone: there is no more to be told of its memory.
            oom = None;
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            next += interval;
            // It may end at any moment; then the next look says so.
            if let Ok(now) = container.stats() {
                event(container, "stats", Some(stats::data(&now)))?;
            }
        }
    }
}

/// Tells of every time; whether the group is gone.
fn tell(container: &Container, watch: &mut OomWatch) -> Result<bool, Failure> {
    let news = watch.news().map_err(|e| Failure::usage(e.to_string()))?;
    for _ in 0..news.ooms {
        event(container, "oom", None)?;
    }
    Ok(news.gone)
}
