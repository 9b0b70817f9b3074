//! `cargo xtask bench`: Barque beside whatever of Docker, Podman, crun, runc and bubblewrap is installed.
//!
//! ```text
//! xtask bench ── unshare (mount, net and pid namespace) ──→ xtask bench --inside
//!                      docker-registry on its own loopback, dockerd on its own roots,
//!                      a worker per peer in which commands are started and timed
//! ```
//! All of it lives in namespaces of its own and ends with them, whatever happens: no daemon of the
//! machine is used, none is left, no port of the machine is touched. Samples are interleaved, so that
//! whatever else the machine does meets all alike; the median is printed.

mod images;
mod measures;
mod oci;
mod peers;
mod pulled;
mod setup;
mod table;
mod worker;

use crate::{dist, target};
use anyhow::{Context, Result, bail};
use measures::Measure;
pub(crate) use setup::make_bundle;
use std::path::PathBuf;
use std::process::Command;

/// What was asked for.
#[derive(Debug)]
struct Options {
    measures: Vec<Measure>,
    runs: Option<usize>,
}

/// Dispatches between the outer process, the one within the namespaces, and its workers.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("--worker") => worker::serve(),
        Some("--inside") => measures::run(&parse(&args[1..])?),
        _ => {
            let options = parse(args)?;
            enclosed(args, &options)
        }
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut measures = Vec::new();
    let mut runs = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => {
                let value = args.next().context("--runs needs a number")?;
                runs = Some(value.parse().with_context(|| format!("--runs {value}"))?);
            }
            "all" => measures.extend(Measure::ALL),
            name => match Measure::ALL.iter().find(|measure| measure.name() == name) {
                Some(measure) => measures.push(*measure),
                None => bail!("{name}: know only {}", names()),
            },
        }
    }
    if measures.is_empty() {
        measures.extend(Measure::ALL);
    }
    Ok(Options { measures, runs })
}

fn names() -> String {
    Measure::ALL.map(Measure::name).join(" ")
}

/// Builds what is measured, then goes into the namespaces.
fn enclosed(args: &[String], options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("containers, daemons and namespaces: run this as root");
    }
    dist::run()?;
    for sort in options.measures.iter().flat_map(|measure| measure.pulls()) {
        pulled::make(*sort, &kept())?;
    }
    let status = Command::new("/usr/bin/unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(["bench", "--inside"])
        .args(args)
        .status()
        .context("run unshare (package util-linux)")?;
    // What a daemon left on disk goes with it; its processes and mounts went with the namespaces.
    let _ = std::fs::remove_dir_all(directory().join("work"));
    if !status.success() {
        bail!("bench: {status}");
    }
    Ok(())
}

/// Where the measured engines have their roots, and the big image is kept between runs.
fn directory() -> PathBuf {
    target().join("bench")
}

/// Where the images to pull are kept between runs.
fn kept() -> PathBuf {
    directory().join("images")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let options = parse(&words("run exec --runs 5")).unwrap();
        assert_eq!(options.measures, [Measure::Run, Measure::Exec]);
        assert_eq!(options.runs, Some(5));
        assert_eq!(parse(&[]).unwrap().measures.len(), Measure::ALL.len());
        assert!(parse(&words("speed")).is_err() && parse(&words("run --runs x")).is_err());
    }
}
