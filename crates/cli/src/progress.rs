//! Progress of a pull: a bar per layer on a terminal, Docker's plain lines elsewhere.
//!
//! Events come from the pull's worker threads; a lock puts them in order. There is no thread that ticks: bars are
//! drawn by the events, because the process may fork afterwards and must have one thread then.

use crate::errors::Failure;
use crate::output;
use barque_engine::images::{LayerStatus, PullEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Nowhere,
    Stdout,
    Stderr,
}

/// The display of one pull.
pub struct Progress {
    target: Target,
    state: Mutex<State>,
}

/// What is on the screen.
struct State {
    bars: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
    /// What was last said of a layer, without a terminal.
    said: BTreeMap<String, &'static str>,
}

impl Progress {
    /// For `pull`: on stdout.
    pub fn for_pull(quiet: bool) -> Self {
        Self::new(if quiet {
            Target::Nowhere
        } else {
            Target::Stdout
        })
    }

    /// For `run` and `create`: on stderr, stdout is the container's.
    pub fn for_run(quiet: bool) -> Self {
        Self::new(if quiet {
            Target::Nowhere
        } else {
            Target::Stderr
        })
    }

    fn new(target: Target) -> Self {
        let draw = match target {
            Target::Stdout if io::stdout().is_terminal() => Some(ProgressDrawTarget::stdout()),
            Target::Stderr if io::stderr().is_terminal() => Some(ProgressDrawTarget::stderr()),
            _ => None,
        };
        let bars = draw.map(MultiProgress::with_draw_target);
        Self {
            target,
            state: Mutex::new(State {
                bars,
                layers: BTreeMap::new(),
                said: BTreeMap::new(),
            }),
        }
    }

    /// Shows an event. May be called from any thread.
    pub fn tell(&self, event: &PullEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::Started { repository, tag } => {
                self.put(&state, &format!("{tag}: Pulling from {repository}"));
            }
            PullEvent::Warning(text) => self.put(&state, &format!("WARNING: {text}")),
            PullEvent::Layer { blob, status } => {
                let name = short(&blob.to_string());
                if self.target == Target::Nowhere {
                } else if state.bars.is_some() {
                    state.draw(&name, *status);
                } else if let Some(line) = state.line(&name, *status) {
                    self.put(&state, &line);
                }
            }
        }
    }

    /// A line, above the bars if there are some. What cannot be written shows when the result is.
    fn put(&self, state: &State, line: &str) {
        match (&state.bars, self.target) {
            (_, Target::Nowhere) => {}
            (Some(bars), _) => drop(bars.println(line)),
            (None, Target::Stdout) => drop(writeln!(io::stdout(), "{line}")),
            (None, Target::Stderr) => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    /// Leaves the bars as they are.
    pub fn finish(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in state.layers.values() {
            bar.abandon();
        }
    }

    /// A text after the bars.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        match self.target {
            Target::Nowhere => Ok(()),
            Target::Stdout => output::text(text),
            Target::Stderr => {
                output::complain(text);
                Ok(())
            }
        }
    }
}

/// The first twelve digits of a blob's digest.
fn short(digest: &str) -> String {
    crate::format::short_id(digest).to_owned()
}

/// Docker's words. Layers are unpacked while they come, so "Extracting" begins when the download is complete.
const fn words(status: LayerStatus) -> &'static str {
    match status {
        LayerStatus::Pending => "Pulling fs layer",
        LayerStatus::Exists => "Already exists",
        LayerStatus::Downloading { .. } => "Downloading",
        LayerStatus::Extracting => "Extracting",
        LayerStatus::Complete => "Pull complete",
    }
}

impl State {
    /// The plain line for a layer's new state, if it has one that was not said yet.
    fn line(&mut self, name: &str, status: LayerStatus) -> Option<String> {
        let words = match status {
            LayerStatus::Downloading { .. } => return None,
            LayerStatus::Extracting => "Download complete",
            other => words(other),
        };
        let before = self.said.insert(name.to_owned(), words);
        (before != Some(words)).then(|| format!("{name}: {words}"))
    }

    /// Moves the layer's bar.
    fn draw(&mut self, name: &str, status: LayerStatus) {
        let Some(bars) = &self.bars else { return };
        let bar = self.layers.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0).with_style(style("{prefix}: {msg}")));
            bar.set_prefix(name.to_owned());
            bar
        });
        if let LayerStatus::Downloading { current, total } = status {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(style(
                    "{prefix}: {msg:12} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}",
                ));
            }
            bar.set_position(current.min(total));
        }
        bar.set_message(words(status));
        match status {
            LayerStatus::Complete | LayerStatus::Exists => {
                bar.set_style(style("{prefix}: {msg}"));
                bar.abandon();
            }
            _ => bar.tick(),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours and tested; a plain bar would do as well.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines() {
        let mut state = State {
            bars: None,
            layers: BTreeMap::new(),
            said: BTreeMap::new(),
        };
        let mut said = |status| state.line("0123456789ab", status);
        assert_eq!(
            said(LayerStatus::Pending).as_deref(),
            Some("0123456789ab: Pulling fs layer")
        );
        assert_eq!(
            said(LayerStatus::Downloading {
                current: 1,
                total: 2
            }),
            None
        );
        assert_eq!(
            said(LayerStatus::Extracting).as_deref(),
            Some("0123456789ab: Download complete")
        );
        assert_eq!(said(LayerStatus::Extracting), None);
        assert_eq!(
            said(LayerStatus::Complete).as_deref(),
            Some("0123456789ab: Pull complete")
        );
        assert_eq!(
            said(LayerStatus::Exists).as_deref(),
            Some("0123456789ab: Already exists")
        );
    }

    #[test]
    fn templates_of_bars() {
        for template in [
            "{prefix}: {msg}",
            "{prefix}: {msg:12} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
