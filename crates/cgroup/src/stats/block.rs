//! Block I/O in both versions.

use std::collections::BTreeMap;

use super::types::{BlockEntry, BlockStats, BlockTables};
use crate::dir::Dir;
use crate::error::{Error, Result};

pub(super) fn v1(dir: &Dir) -> Result<Vec<BlockStats>> {
    // The throttling layer sees all I/O; the schedulers' own counters only what passes them. The
    // recursive ones came with 4.13.
    let pick = |what: &str| {
        dir.read(&format!("blkio.throttle.{what}_recursive"))
            .or_else(|_| dir.read(&format!("blkio.throttle.{what}")))
            .map_err(|source| {
                Error::io(
                    "read",
                    dir.path().join(format!("blkio.throttle.{what}")),
                    source,
                )
            })
    };
    Ok(parse_blkio(
        &pick("io_service_bytes")?,
        &pick("io_serviced")?,
    ))
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096` lines; the totals are left out.
fn parse_blkio(bytes: &str, ops: &str) -> Vec<BlockStats> {
    let mut devices: BTreeMap<(u32, u32), BlockStats> = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (ops, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(op), Some(value)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Some((major, minor)), Ok(value)) = (device_number(device), value.parse()) else {
                continue;
            };
            let stats = devices.entry((major, minor)).or_insert(BlockStats {
                major,
                minor,
                ..BlockStats::default()
            });
            match (op, is_bytes) {
                ("Read", true) => stats.read_bytes = value,
                ("Read", false) => stats.read_ops = value,
                ("Write", true) => stats.write_bytes = value,
                ("Write", false) => stats.write_ops = value,
                ("Discard", true) => stats.discard_bytes = value,
                ("Discard", false) => stats.discard_ops = value,
                // Sync and Async cut the same sum another way.
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

/// `8:0 rbytes=… wbytes=… rios=… wios=… dbytes=… dios=…` lines.
pub(super) fn parse_io_stat(text: &str) -> Vec<BlockStats> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (major, minor) = device_number(words.next()?)?;
            let mut stats = BlockStats {
                major,
                minor,
                ..BlockStats::default()
            };
            for word in words {
                let Some((key, Ok(value))) = word
                    .split_once('=')
                    .map(|(key, value)| (key, value.parse()))
                else {
                    continue;
                };
                match key {
                    "rbytes" => stats.read_bytes = value,
                    "wbytes" => stats.write_bytes = value,
                    "dbytes" => stats.discard_bytes = value,
                    "rios" => stats.read_ops = value,
                    "wios" => stats.write_ops = value,
                    "dios" => stats.discard_ops = value,
                    _ => {}
                }
            }
            Some(stats)
        })
        .collect()
}

/// The scheduler's tables (bfq's, or the old CFQ's) where they hold anything, else the throttling
/// layer's, which has the first two: what runc does, and what cAdvisor expects.
pub(super) fn tables_v1(dir: &Dir) -> BlockTables {
    let table = |what: &str, throttled: bool| {
        let scheduler = ["blkio.bfq.", "blkio."]
            .iter()
            .map(|prefix| dir.read(&format!("{prefix}{what}_recursive")));
        let layer = ["_recursive", ""]
            .iter()
            .map(|suffix| dir.read(&format!("blkio.throttle.{what}{suffix}")));
        scheduler
            .chain(layer.take(if throttled { 2 } else { 0 }))
            .filter_map(|text| text.ok())
            .map(|text| parse_table(&text))
            .find(|entries| !entries.is_empty())
            .unwrap_or_default()
    };
    BlockTables {
        service_bytes: table("io_service_bytes", true),
        serviced: table("io_serviced", true),
        queued: table("io_queued", false),
        service_time: table("io_service_time", false),
        wait_time: table("io_wait_time", false),
        merged: table("io_merged", false),
        time: table("time", false),
        sectors: table("sectors", false),
    }
}

/// `8:0 Read 4096`, or `8:0 4096`; the sum over all devices is left out.
fn parse_table(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (op, value) = match words[1..] {
            [op, value] => (op, value),
            [value] => ("", value),
            _ => return None,
        };
        let (major, minor) = device_number(words[0])?;
        Some(BlockEntry {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

pub(super) fn tables_v2(devices: &[BlockStats]) -> BlockTables {
    let table = |of: fn(&BlockStats) -> [(&str, u64); 3]| {
        let entries = devices.iter().flat_map(|device| {
            of(device).map(|(op, value)| BlockEntry {
                major: device.major,
                minor: device.minor,
                op: op.to_owned(),
                value,
            })
        });
        entries.collect()
    };
    BlockTables {
        service_bytes: table(|d| {
            [
                ("Read", d.read_bytes),
                ("Write", d.write_bytes),
                ("Discard", d.discard_bytes),
            ]
        }),
        serviced: table(|d| {
            [
                ("Read", d.read_ops),
                ("Write", d.write_ops),
                ("Discard", d.discard_ops),
            ]
        }),
        ..BlockTables::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_of_both_versions() {
        let expected = [BlockStats {
            major: 8,
            minor: 0,
            read_bytes: 4096,
            write_bytes: 8192,
            read_ops: 1,
            write_ops: 2,
            ..BlockStats::default()
        }];
        let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 9\n8:0 Total 12288\nTotal 12288\n";
        let ops = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n";
        assert_eq!(parse_blkio(bytes, ops), expected);
        let stat = "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n252:1 \n";
        let parsed = parse_io_stat(stat);
        assert_eq!(parsed[0], expected[0]);
        assert_eq!(parsed[1].major, 252);
    }

    #[test]
    fn tables_with_and_without_operations() {
        let of = |text| {
            let entries = parse_table(text).into_iter();
            entries
                .map(|e| (e.major, e.minor, e.op, e.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n"),
            [(8, 0, "Read".into(), 4096), (8, 0, "Total".into(), 4096)]
        );
        assert_eq!(of("8:16 77\n"), [(8, 16, String::new(), 77)]);
        let tables = tables_v2(&parse_io_stat(
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
        ));
        let values = |entries: &[BlockEntry]| entries.iter().map(|e| e.value).collect::<Vec<_>>();
        assert_eq!(values(&tables.service_bytes), [1, 2, 5]);
        assert_eq!(values(&tables.serviced), [3, 4, 6]);
    }
}
