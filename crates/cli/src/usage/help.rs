//! Help in Docker's layout, drawn from the same table that parses.

use super::parse::is_switch;
use clap::{Arg, Command};
use std::fmt::Write;

/// Where and how the help is shown.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns to fill.
    pub width: usize,
    /// Bold headings.
    pub bold: bool,
}

impl Style {
    /// For the terminal that stdout is, or 80 columns of plain text.
    pub fn of_stdout(no_color: bool) -> Self {
        Self {
            width: crate::output::width().unwrap_or(80).clamp(40, 120),
            bold: crate::output::colour(no_color),
        }
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        if self.bold {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A command's help: usage, what it does, its names, its flags by heading, examples.
pub fn command(
    command: &Command,
    usage: &str,
    names: &[String],
    examples: &str,
    style: Style,
) -> String {
    let mut out = format!("{}  {usage}\n", style.heading("Usage:"));
    if let Some(about) = command.get_about() {
        let _ = write!(out, "\n{about}\n");
    }
    if names.len() > 1 {
        let _ = write!(
            out,
            "\n{}\n  {}\n",
            style.heading("Aliases:"),
            names.join(", ")
        );
    }
    out.push_str(&flags(command, style));
    if !examples.is_empty() {
        let _ = write!(out, "\n{}\n", style.heading("Examples:"));
        for line in examples.lines() {
            out.push_str(if line.is_empty() { "\n" } else { "  " });
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

/// All flags, under their headings, in the order in which the headings first appear; sorted by name beneath each.
pub fn flags(command: &Command, style: Style) -> String {
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .collect();
    let mut headings: Vec<&str> = Vec::new();
    for arg in &shown {
        let heading = arg.get_help_heading().unwrap_or("Options");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let left = shown.iter().map(|arg| name(arg).len()).max().unwrap_or(0);
    let mut out = String::new();
    for heading in headings {
        let _ = write!(out, "\n{}\n", style.heading(&format!("{heading}:")));
        let mut section: Vec<&&Arg> = shown
            .iter()
            .filter(|arg| arg.get_help_heading().unwrap_or("Options") == heading)
            .collect();
        section.sort_by_key(|arg| arg.get_long());
        for arg in section {
            out.push_str(&row(&name(arg), &help(arg), left, style.width));
        }
    }
    out
}

/// `  -m, --memory bytes`.
fn name(arg: &Arg) -> String {
    let mut text = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("  -{short}, --{long}"),
        (None, Some(long)) => format!("      --{long}"),
        (Some(short), None) => format!("  -{short}"),
        (None, None) => String::new(),
    };
    if !is_switch(arg) {
        let value = arg
            .get_value_names()
            .and_then(|names| names.first())
            .map_or("string", |value| value.as_str());
        let _ = write!(text, " {value}");
    }
    text
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

/// A name and its text, wrapped to the right of the widest name.
pub fn row(name: &str, text: &str, left: usize, width: usize) -> String {
    let indent = left + 3;
    let room = width.saturating_sub(indent).max(24);
    let mut out = String::new();
    let mut prefix = format!("{name:<indent$}");
    for paragraph in text.split('\n') {
        for line in wrap(paragraph, room) {
            out.push_str(&prefix);
            let _ = writeln!(out, "{line}");
            prefix = " ".repeat(indent);
        }
    }
    out
}

/// Lines of at most so many characters, broken at blanks.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("one line from the start");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    #[test]
    fn layout() {
        let table = Command::new("stop")
            .about("Stop one or more running containers")
            .arg(
                Arg::new("time")
                    .short('t')
                    .long("timeout")
                    .value_name("int")
                    .help("Seconds to wait before killing the container"),
            )
            .arg(
                Arg::new("signal")
                    .short('s')
                    .long("signal")
                    .value_name("string")
                    .help("Signal to send to the container"),
            )
            .arg(
                Arg::new("all")
                    .long("all")
                    .action(ArgAction::SetTrue)
                    .help("All"),
            )
            .arg(Arg::new("args"));
        let text = command(
            &table,
            "barque stop [OPTIONS] CONTAINER [CONTAINER...]",
            &["barque container stop".into(), "barque stop".into()],
            "barque stop web",
            Style {
                width: 60,
                bold: false,
            },
        );
        assert_eq!(
            text,
            "\
Usage:  barque stop [OPTIONS] CONTAINER [CONTAINER...]

Stop one or more running containers

Aliases:
  barque container stop, barque stop

Options:
      --all             All
  -s, --signal string   Signal to send to the container
  -t, --timeout int     Seconds to wait before killing the
                        container

Examples:
  barque stop web
"
        );
    }
}
