//! `bench images`: pulls of images of several kinds, `save` and `load`, and the memory of a pull.
//!
//! Beside the engines stands what a shell does with the same bytes, one layer after the other: `curl | gzip -d | tar x`. It
//! checks no digest and keeps nothing to remove again.

use super::peers::{Kind, Peer};
use super::pulled::Sort;
use super::setup::Setup;
use super::table::{Row, Unit};
use super::{directory, kept};
use anyhow::{Context, Result};

/// The rows, in the order of the table.
pub(super) fn rows(setup: &mut Setup, runs: usize) -> Result<Vec<Row>> {
    let columns = setup.peers.len();
    let repository = setup.repository.clone();
    let name = |sort: Sort| format!("{repository}/{}", sort.name());
    let titles = [
        (Sort::Big, "pull: 4 gzip layers, 718 MB unpacked"),
        (Sort::Single, "pull: its first layer alone, 287 MB"),
        (Sort::Zstd, "pull: the 4 layers, zstd"),
        (Sort::Shared, "pull: 3 of the 4 layers are there already"),
        (Sort::Small, "pull: 100,000 small files"),
    ];
    let mut rows = Vec::new();
    for (sort, title) in titles {
        let mut row = Row::new(title, Unit::Seconds, columns);
        let image = name(sort);
        for round in 0..runs {
            for (column, peer) in engines(setup) {
                if let Some(seconds) = pull(peer, sort, &image, &name_of_big(&image))? {
                    row.add(column, seconds);
                }
            }
            if round == 0 {
                eprintln!("  {title}");
            }
        }
        rows.push(row);
        if sort != Sort::Shared && sort != Sort::Zstd {
            rows.push(shell(sort, columns, runs, &image)?);
        }
    }
    rows.extend(archives(setup, runs, &name(Sort::Big))?);
    rows.push(peak(setup, &name(Sort::Big))?);
    Ok(rows)
}

fn name_of_big(image: &str) -> String {
    let repository = image
        .rsplit_once('/')
        .map_or("", |(repository, _)| repository);
    format!("{repository}/{}", Sort::Big.name())
}

fn engines(setup: &mut Setup) -> impl Iterator<Item = (usize, &mut Peer)> {
    let all = setup.peers.iter_mut().enumerate();
    all.filter(|(_, peer)| peer.kind == Kind::Engine)
}

/// Seconds of one pull; none where the engine does not know the format.
fn pull(peer: &mut Peer, sort: Sort, image: &str, big: &str) -> Result<Option<f64>> {
    if sort == Sort::Shared {
        peer.must(&["pull", big])?;
    }
    // Dirty pages of the one before are not this one's work.
    rustix::fs::sync();
    let line = peer.line(&["pull", image]);
    let done = peer.try_all(&[line], 1)?;
    if sort == Sort::Shared {
        peer.must(&["rmi", "-f", big])?;
    }
    if done.code != 0 && sort == Sort::Zstd {
        eprintln!("  {}: cannot pull zstd: {}", peer.name, done.err.trim());
        return Ok(None);
    }
    anyhow::ensure!(done.code == 0, "{}: pull {image}: {}", peer.name, done.err);
    peer.must(&["rmi", "-f", image])?;
    Ok(Some(done.took.as_secs_f64()))
}

/// `curl | gzip -d | tar x`, layer by layer, in the first column of a row of its own.
fn shell(sort: Sort, columns: usize, runs: usize, image: &str) -> Result<Row> {
    let mut row = Row::new(
        "  the same by curl | gzip -d | tar x",
        Unit::Seconds,
        columns,
    );
    let (host, repository) = image.split_once('/').context("a registry's name")?;
    let dir = directory().join("work/shell");
    for _ in 0..runs {
        std::fs::create_dir_all(&dir)?;
        rustix::fs::sync();
        let began = std::time::Instant::now();
        for blob in sort.blobs(&kept())? {
            let digest = blob
                .file_name()
                .context("a digest")?
                .to_string_lossy()
                .replace('-', ":");
            let script = format!(
                "curl -sf http://{host}/v2/{repository}/blobs/{digest} | gzip -d | tar -x -C {}",
                dir.display()
            );
            crate::must(std::process::Command::new("/bin/sh").args(["-c", &script]))?;
        }
        row.add(0, began.elapsed().as_secs_f64());
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(row)
}

/// `save` to a file, and `load` of what this engine saved.
fn archives(setup: &mut Setup, runs: usize, image: &str) -> Result<Vec<Row>> {
    let columns = setup.peers.len();
    let mut saved = Row::new("save -o FILE of the 718 MB", Unit::Seconds, columns);
    let mut loaded = Row::new("load -i of that file", Unit::Seconds, columns);
    for (column, peer) in engines(setup) {
        let file = directory().join(format!("work/{}.tar", peer.name));
        let file = file.to_string_lossy().into_owned();
        peer.must(&["pull", image])?;
        for _ in 0..runs {
            let _ = std::fs::remove_file(&file);
            rustix::fs::sync();
            let line = peer.line(&["save", "-o", &file, image]);
            let done = peer.try_all(&[line], 1)?;
            if done.code != 0 {
                eprintln!("  {}: cannot save: {}", peer.name, done.err.trim());
                break;
            }
            saved.add(column, done.took.as_secs_f64());
            peer.must(&["rmi", "-f", image])?;
            rustix::fs::sync();
            loaded.add(column, peer.time(&["load", "-i", &file])?.as_secs_f64());
        }
        peer.must(&["rmi", "-f", image])?;
        let _ = std::fs::remove_file(&file);
    }
    Ok(vec![saved, loaded])
}

/// The largest resident set of a pull, of engines that pull in the command itself.
fn peak(setup: &mut Setup, image: &str) -> Result<Row> {
    let columns = setup.peers.len();
    let mut row = Row::new("peak memory of that pull", Unit::Bytes, columns);
    for (column, peer) in engines(setup).filter(|(_, peer)| peer.name != "docker") {
        let line = super::oci::measured(peer.line(&["pull", image]));
        let done = peer.must_all(&[line], 1)?;
        row.add(column, super::oci::peak_of(peer.name, &done)?);
        peer.must(&["rmi", "-f", image])?;
    }
    Ok(row)
}
