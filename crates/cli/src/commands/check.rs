//! `system check`.

use super::Verb;
use super::inspect::FORMAT_HELP;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::format::object;
use crate::output;
use barque_engine::StoreCheck;
use barque_types::size;
use clap::{ArgMatches, Args};
use std::fmt::Write;
use std::io::IsTerminal;

#[derive(Debug, Args)]
struct Flags {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// `system check`.
pub const VERB: Verb = Verb {
    name: "system check",
    long: &["system check"],
    about: "Compute all digests of images and layers again and compare what is on disk",
    usage: "[OPTIONS]",
    examples: "barque system check\nbarque system check --format '{{json .Problems}}'",
    arguments: (0, 0),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    // Gigabytes may have to be read: somebody who waits sees that it goes on.
    let watched = std::io::stderr().is_terminal();
    let report = context.engine()?.check(&|layer| {
        if watched {
            output::complain(&format!("\r\x1b[Kreading layer {}", layer.short()));
        }
    });
    if watched {
        output::complain("\r\x1b[K");
    }
    let report = report.map_err(failed)?;
    match flags.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::line(&object::formatted(format, &report)?)?,
        None => output::text(&plain(&report))?,
    }
    Ok(u8::from(!report.problems.is_empty()))
}

fn plain(report: &StoreCheck) -> String {
    let mut out = String::new();
    for problem in &report.problems {
        let _ = writeln!(out, "{}: {}", problem.subject, problem.what);
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let found = match report.problems.len() {
        0 => "no problems".to_owned(),
        n => count(n, "problem"),
    };
    let _ = writeln!(
        out,
        "{}, {}, {}, {} read: {found}",
        count(report.images, "image"),
        count(report.layers, "layer"),
        count(report.containers, "container"),
        size::decimal(report.bytes)
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_engine::Problem;

    #[test]
    fn the_last_line_says_it() {
        let mut report = StoreCheck {
            images: 1,
            layers: 4,
            bytes: 718_000_000,
            ..StoreCheck::default()
        };
        assert_eq!(
            plain(&report),
            "1 image, 4 layers, 0 containers, 718MB read: no problems\n"
        );
        report.problems.push(Problem {
            subject: "name a:1".to_owned(),
            what: "it is there twice".to_owned(),
        });
        let text = plain(&report);
        assert!(text.starts_with("name a:1: it is there twice\n"), "{text}");
        assert!(text.ends_with("read: 1 problem\n"), "{text}");
    }
}
