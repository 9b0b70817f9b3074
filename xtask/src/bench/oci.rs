//! `bench oci`: the OCI runtimes alone, on one bundle: a whole life of a container, its parts, one more process in it,
//! and how much memory the runtime needs at its peak.

use super::peers::Peer;
use super::table::{Row, Unit};
use super::worker::Done;
use anyhow::{Context, Result};

/// The container that is entered.
const BOX: &str = "bench-box";

/// The rows, in the order of the table.
const TITLES: [(&str, Unit); 6] = [
    ("oci: create + start + delete of `true`", Unit::Seconds),
    ("oci: create", Unit::Seconds),
    ("oci: start", Unit::Seconds),
    ("oci: delete", Unit::Seconds),
    ("oci: exec CONTAINER true", Unit::Seconds),
    ("oci: peak memory of create", Unit::Bytes),
];

/// Measures every peer, samples interleaved; `columns` says where each one's figures go.
pub(super) fn rows(
    peers: &mut [(usize, &mut Peer)],
    columns: usize,
    bundle: &str,
    sleeper: &str,
    runs: usize,
) -> Result<Vec<Row>> {
    let mut rows = TITLES.map(|(title, unit)| Row::new(title, unit, columns));
    for (_, peer) in peers.iter_mut() {
        peer.must(&["run", "--detach", "--bundle", sleeper, BOX])?;
    }
    // The first round warms caches and is not counted.
    for round in 0..=runs {
        for (column, peer) in peers.iter_mut() {
            let life = life(peer, bundle, round)?;
            let exec = peer.time(&["exec", BOX, "true"])?.as_secs_f64();
            if round > 0 {
                for (row, value) in rows.iter_mut().zip(life.into_iter().chain([exec])) {
                    row.add(*column, value);
                }
            }
        }
    }
    for (column, peer) in peers.iter_mut() {
        rows[5].add(*column, peak(peer, bundle)?);
        peer.must(&["delete", "--force", BOX])?;
    }
    Ok(rows.into())
}

/// Seconds of: all three commands, and each of them.
fn life(peer: &mut Peer, bundle: &str, round: usize) -> Result<[f64; 4]> {
    let id = format!("bench-{round}");
    let create = peer
        .time(&["create", "--bundle", bundle, &id])?
        .as_secs_f64();
    let start = peer.time(&["start", &id])?.as_secs_f64();
    // By force, because `true` may not have ended yet: the same for all.
    let delete = peer.time(&["delete", "--force", &id])?.as_secs_f64();
    Ok([create + start + delete, create, start, delete])
}

/// Bytes of the largest resident set that `create` had.
fn peak(peer: &mut Peer, bundle: &str) -> Result<f64> {
    let line = measured(peer.line(&["create", "--bundle", bundle, "bench-peak"]));
    let done = peer.must_all(&[line], 1)?;
    peer.must(&["delete", "--force", "bench-peak"])?;
    peak_of(peer.name, &done)
}

/// A command whose largest resident set is reported, by GNU time (getrusage(2)), which is small itself. (busybox's
/// counts kilobytes as pages.)
pub(super) fn measured(command: Vec<String>) -> Vec<String> {
    let time = ["/usr/bin/time", "-f", "peak %M"].map(str::to_owned);
    time.into_iter().chain(command).collect()
}

/// What [`measured`] reported, in bytes.
pub(super) fn peak_of(name: &str, done: &Done) -> Result<f64> {
    let kib = done
        .err
        .lines()
        .find_map(|line| line.strip_prefix("peak ")?.trim().parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{name}: no peak in {:?}", done.err))? * 1024.0)
}
