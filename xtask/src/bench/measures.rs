//! What is measured, and the order of the samples.

use super::peers::{Kind, Peer};
use super::pulled::Sort;
use super::setup::{Setup, Wanted};
use super::table::{Row, Unit, print};
use super::{Options, directory};
use crate::target;
use anyhow::{Context, Result};

/// One thing to measure; most are one row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// `run --rm --network none IMAGE true`; an OCI bundle or a sandbox that runs `true`.
    Run,
    /// `exec CONTAINER true`.
    Exec,
    /// `pull` of the 718 MB image.
    Pull,
    /// Images of other kinds, `load`, `save`, and the memory of a pull.
    Images,
    /// PSS of what stays behind a detached container.
    Memory,
    /// `stop` of a PID 1 that has no handler for SIGTERM.
    Stop,
    /// 100 detached containers, 8 at a time, and `rm -f` of all.
    Many,
    /// The OCI runtimes: create, start, delete, exec, peak memory.
    Oci,
    /// Size of the binary.
    Size,
}

/// Containers of the last measure.
const MANY: usize = 100;

impl Measure {
    pub(super) const ALL: [Self; 9] = [
        Self::Run,
        Self::Exec,
        Self::Memory,
        Self::Stop,
        Self::Many,
        Self::Pull,
        Self::Images,
        Self::Oci,
        Self::Size,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Exec => "exec",
            Self::Pull => "pull",
            Self::Images => "images",
            Self::Memory => "memory",
            Self::Stop => "stop",
            Self::Many => "many",
            Self::Oci => "oci",
            Self::Size => "size",
        }
    }

    /// Samples per peer unless `--runs` says otherwise.
    const fn runs(self) -> usize {
        match self {
            Self::Run | Self::Exec => 20,
            Self::Pull | Self::Images | Self::Stop => 3,
            Self::Memory => 5,
            Self::Oci => 50,
            Self::Many | Self::Size => 1,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Run => "run --rm --network none IMAGE true",
            Self::Exec => "exec CONTAINER true",
            Self::Pull => "pull, 4 gzip layers, 718 MB unpacked",
            Self::Images => "images of several kinds",
            Self::Memory => "memory per running container (PSS)",
            Self::Stop => "stop of a PID 1 without a handler",
            Self::Many => "100 detached containers, 8 at a time",
            Self::Oci => "OCI runtimes on one bundle",
            Self::Size => "size of the program",
        }
    }

    /// The images that it pulls.
    pub(super) const fn pulls(self) -> &'static [Sort] {
        match self {
            Self::Pull => &[Sort::Big],
            Self::Images => &Sort::ALL,
            _ => &[],
        }
    }

    const fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Run => true,
            _ => matches!(kind, Kind::Engine),
        }
    }
}

/// Measures and prints.
pub(super) fn run(options: &Options) -> Result<()> {
    let has = |measure| options.measures.contains(&measure);
    let wanted = Wanted {
        engines: options
            .measures
            .iter()
            .any(|m| !matches!(m, Measure::Oci | Measure::Size)),
        pulled: options
            .measures
            .iter()
            .flat_map(|m| m.pulls())
            .copied()
            .collect(),
        runtimes: has(Measure::Run) || has(Measure::Oci),
    };
    let mut setup = Setup::new(&wanted)?;
    let mut rows = Vec::new();
    for measure in &options.measures {
        eprintln!("measuring: {}", measure.title());
        rows.extend(rows_of(*measure, &mut setup, options.runs)?);
    }
    let names: Vec<&str> = setup.peers.iter().map(|peer| peer.name).collect();
    print(&names, &rows);
    for name in &setup.skipped {
        println!("skipped: {name} is not installed");
    }
    Ok(())
}

fn rows_of(measure: Measure, setup: &mut Setup, runs: Option<usize>) -> Result<Vec<Row>> {
    match measure {
        Measure::Size => Ok(vec![size()?]),
        Measure::Many => many(setup),
        Measure::Oci => oci(setup, runs.unwrap_or(measure.runs())),
        Measure::Images => super::images::rows(setup, runs.unwrap_or(measure.runs())),
        _ => Ok(vec![interleaved(
            measure,
            setup,
            runs.unwrap_or(measure.runs()),
        )?]),
    }
}

/// A sample of each peer in turn, again and again.
fn interleaved(measure: Measure, setup: &mut Setup, runs: usize) -> Result<Row> {
    let unit = match measure {
        Measure::Memory => Unit::Bytes,
        _ => Unit::Seconds,
    };
    let mut row = Row::new(measure.title(), unit, setup.peers.len());
    let target = Target {
        image: setup.image.clone(),
        big: format!("{}/big", setup.repository),
        bundle: setup.bundle.to_string_lossy().into_owned(),
    };
    let mut peers: Vec<(usize, &mut Peer)> = setup
        .peers
        .iter_mut()
        .enumerate()
        .filter(|(_, peer)| measure.takes(peer.kind))
        .collect();
    for (_, peer) in &mut peers {
        before(measure, peer, &target)?;
    }
    // The first one of each warms caches and is not counted, unless one takes seconds.
    let warm_up = usize::from(matches!(measure, Measure::Run | Measure::Exec));
    for round in 0..runs + warm_up {
        for (column, peer) in &mut peers {
            let value = sample(measure, peer, &target, round)?;
            if round >= warm_up {
                row.add(*column, value);
            }
        }
    }
    for (_, peer) in &mut peers {
        after(measure, peer)?;
    }
    Ok(row)
}

/// What the samples are taken with.
struct Target {
    image: String,
    big: String,
    bundle: String,
}

const NAME: &str = "bench-box";

fn before(measure: Measure, peer: &mut Peer, target: &Target) -> Result<()> {
    if matches!(measure, Measure::Exec | Measure::Memory) {
        detached(peer, NAME, &target.image)?;
    }
    if measure == Measure::Memory {
        // What it costs to have a container, not to start one.
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    Ok(())
}

fn after(measure: Measure, peer: &mut Peer) -> Result<()> {
    if matches!(measure, Measure::Exec | Measure::Memory) {
        peer.must(&["rm", "-f", NAME])?;
    }
    Ok(())
}

fn detached(peer: &mut Peer, name: &str, image: &str) -> Result<()> {
    peer.must(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        image,
        "sleep",
        "100000",
    ])?;
    Ok(())
}

fn sample(measure: Measure, peer: &mut Peer, target: &Target, round: usize) -> Result<f64> {
    match measure {
        Measure::Run => run_once(peer, target, round),
        Measure::Exec => Ok(peer.time(&["exec", NAME, "true"])?.as_secs_f64()),
        Measure::Pull => {
            // Dirty pages of the one before are not this one's work.
            rustix::fs::sync();
            let took = peer.time(&["pull", &target.big])?;
            peer.must(&["rmi", "-f", &target.big])?;
            Ok(took.as_secs_f64())
        }
        Measure::Memory => memory(peer),
        Measure::Stop => {
            detached(peer, NAME, &target.image)?;
            let took = peer.time(&["stop", NAME])?;
            peer.must(&["rm", "-f", NAME])?;
            Ok(took.as_secs_f64())
        }
        Measure::Many | Measure::Images | Measure::Oci | Measure::Size => Ok(0.0),
    }
}

fn run_once(peer: &mut Peer, target: &Target, round: usize) -> Result<f64> {
    let id = format!("bench-{}-{round}", peer.name);
    let rootfs = format!("{}/rootfs", target.bundle);
    let took = match peer.kind {
        Kind::Engine => peer.time(&["run", "--rm", "--network", "none", &target.image, "true"])?,
        Kind::Runtime => peer.time(&["run", "--bundle", &target.bundle, &id])?,
        Kind::Sandbox => peer.time(&[
            "--bind",
            &rootfs,
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--unshare-all",
            "true",
        ])?,
    };
    Ok(took.as_secs_f64())
}

/// The proportional set size of the process that watches the container: its parent.
fn memory(peer: &mut Peer) -> Result<f64> {
    let format = ["inspect", "--format", "{{.State.Pid}}", NAME];
    let pid: i32 = peer
        .must(&format)?
        .out
        .trim()
        .parse()
        .context("the container's pid")?;
    let watcher = barque_testkit::proc::parent(pid);
    let path = format!("/proc/{watcher}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let pss = barque_testkit::proc::field_of(&text, "Pss").context("no Pss")?;
    let kib: f64 = pss.trim_end_matches(" kB").trim().parse().context("Pss")?;
    Ok(kib * 1024.0)
}

/// Starting them all, and removing them all.
fn many(setup: &mut Setup) -> Result<Vec<Row>> {
    let image = setup.image.clone();
    let columns = setup.peers.len();
    let mut started = Row::new(Measure::Many.title(), Unit::Seconds, columns);
    let mut removed = Row::new("rm -f of those 100", Unit::Seconds, columns);
    for (column, peer) in setup.peers.iter_mut().enumerate() {
        if peer.kind != Kind::Engine {
            continue;
        }
        let names: Vec<String> = (0..MANY).map(|n| format!("bench-{n}")).collect();
        let lines: Vec<Vec<String>> = names
            .iter()
            .map(|name| {
                let args = ["run", "-d", "--name", name, "--network", "none", &image];
                let all: Vec<&str> = args.into_iter().chain(["sleep", "100000"]).collect();
                peer.line(&all)
            })
            .collect();
        started.add(column, peer.must_all(&lines, 8)?.took.as_secs_f64());
        let all: Vec<&str> = ["rm", "-f"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        removed.add(column, peer.time(&all)?.as_secs_f64());
    }
    Ok(vec![started, removed])
}

/// Barque's own runtime stands in the column of its engine.
fn oci(setup: &mut Setup, runs: usize) -> Result<Vec<Row>> {
    let columns = setup.peers.len();
    let bundle = setup.bundle.to_string_lossy().into_owned();
    let sleeper = setup.sleeper.to_string_lossy().into_owned();
    let others = setup.peers.iter_mut().enumerate();
    let mut peers: Vec<(usize, &mut Peer)> = std::iter::once((0, &mut setup.own_runtime))
        .chain(others.filter(|(_, peer)| peer.kind == Kind::Runtime))
        .collect();
    super::oci::rows(&mut peers, columns, &bundle, &sleeper, runs)
}

/// Barque's alone: the others are many programs and packages.
fn size() -> Result<Row> {
    let path = target().join("dist/barque");
    let bytes = std::fs::metadata(&path)
        .with_context(|| format!("{} ({})", path.display(), directory().display()))?
        .len();
    let mut row = Row::new(Measure::Size.title(), Unit::Bytes, 1);
    row.add(0, bytes as f64);
    Ok(row)
}
