//! What a group uses: memory, processor time, tasks, block I/O; and how often the kernel killed
//! for memory.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::group::Cgroup;
use crate::limits::{Place, Places};
use crate::tables::{flat_keyed, value_of};

/// v1 shows "no limit" as the largest page-aligned number, whatever the page size is.
const V1_UNLIMITED: u64 = 0x7000_0000_0000_0000;

/// Use and limits of a group at one moment. What a controller that is not there would tell is
/// `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block I/O by device; `None` without the controller, empty before the first I/O.
    pub block_io: Option<Vec<BlockStats>>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Charged to the group: anonymous memory, page cache, kernel memory.
    pub usage: u64,
    /// The largest `usage` so far; `None` where the kernel does not keep it (v2 before 5.19).
    pub max_usage: Option<u64>,
    /// The hard limit; `None` is unlimited.
    pub limit: Option<u64>,
    /// The part of `usage` that is page cache.
    pub cache: u64,
    /// The part of the page cache that the kernel would reclaim first. `docker stats` shows `usage`
    /// without it.
    pub inactive_file: u64,
    /// Swapped out.
    pub swap: u64,
    /// How often the limit was hit. Recent kernels (seen: 6.18) do not count when it is v1's limit
    /// of memory plus swap that is hit.
    pub failures: u64,
    /// All of `memory.stat`, which Docker's API hands on.
    pub detail: BTreeMap<String, u64>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All of it.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub system: u64,
    /// By processor; empty on v2, which does not tell.
    pub per_cpu: Vec<u64>,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Those in which the group used up its quota.
    pub throttled_periods: u64,
    /// Time for which its tasks were held back.
    pub throttled: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks in the group and below.
    pub current: u64,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
}

/// Block I/O of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Read operations.
    pub read_ops: u64,
    /// Write operations.
    pub write_ops: u64,
    /// Discard operations.
    pub discard_ops: u64,
}

impl Cgroup {
    /// Reads everything.
    ///
    /// # Errors
    /// Those of reading the hierarchies; [`Error::Io`] with `ENODEV` or `ENOENT` when the group is
    /// gone.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            memory: match self.place("memory") {
                Place::V1(dir) => Some(memory_v1(dir)?),
                Place::V2(dir) => Some(memory_v2(dir)?),
                _ => None,
            },
            cpu: self.cpu_stats()?,
            pids: match self.place("pids").dir() {
                Some(dir) => Some(PidsStats {
                    current: number(dir, "pids.current")?.unwrap_or(0),
                    limit: number(dir, "pids.max")?,
                }),
                None => None,
            },
            block_io: match self.place("blkio") {
                Place::V1(dir) => Some(block_v1(dir)?),
                Place::V2(dir) => Some(parse_io_stat(&dir.text("io.stat")?)),
                _ => None,
            },
        })
    }

    fn cpu_stats(&self) -> Result<Option<CpuStats>> {
        if let Some(group) = self.v1_of("cpuacct") {
            let mut stats = cpuacct_v1(&group.dir)?;
            if let Some(cpu) = self.v1_of("cpu") {
                // Absent without CONFIG_CFS_BANDWIDTH.
                let text = cpu.dir.read("cpu.stat").unwrap_or_default();
                stats.periods = value_of(&text, "nr_periods").unwrap_or(0);
                stats.throttled_periods = value_of(&text, "nr_throttled").unwrap_or(0);
                stats.throttled = value_of(&text, "throttled_time").unwrap_or(0);
            }
            return Ok(Some(stats));
        }
        match self.v2() {
            // On v2, cpu.stat is there without the controller, only the throttling is not.
            Some(group) => Ok(Some(parse_cpu_stat(&group.dir.text("cpu.stat")?))),
            None => Ok(None),
        }
    }

    /// How many processes of the group and of those below it the kernel has killed because the
    /// memory limit was reached.
    ///
    /// # Errors
    /// Those of reading the hierarchies. Without the memory controller, or with a v1 kernel before
    /// 4.13, the answer is 0.
    pub fn oom_kills(&self) -> Result<u64> {
        match self.place("memory") {
            // memory.events counts the whole tree.
            Place::V2(dir) => Ok(value_of(&dir.text("memory.events")?, "oom_kill").unwrap_or(0)),
            Place::V1(dir) => {
                let mut kills = 0;
                dir.walk(&mut |dir| {
                    let text = match dir.read("memory.oom_control") {
                        Err(Errno::NOENT | Errno::NODEV) => String::new(),
                        result => result.map_err(|source| {
                            Error::io("read", dir.path().join("memory.oom_control"), source)
                        })?,
                    };
                    kills += value_of(&text, "oom_kill").unwrap_or(0);
                    Ok(())
                })?;
                Ok(kills)
            }
            _ => Ok(0),
        }
    }
}

fn number(dir: &Dir, file: &str) -> Result<Option<u64>> {
    dir.number(file)
        .map_err(|source| Error::io("read", dir.path().join(file), source))
}

/// A number that not every kernel tells.
fn maybe(dir: &Dir, file: &str) -> Option<u64> {
    dir.number(file).ok().flatten()
}

fn detail(text: &str) -> BTreeMap<String, u64> {
    flat_keyed(text)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn memory_v1(dir: &Dir) -> Result<MemoryStats> {
    let detail = detail(&dir.text("memory.stat")?);
    let of = |name: &str| detail.get(name).copied().unwrap_or(0);
    Ok(MemoryStats {
        usage: number(dir, "memory.usage_in_bytes")?.unwrap_or(0),
        max_usage: maybe(dir, "memory.max_usage_in_bytes"),
        limit: number(dir, "memory.limit_in_bytes")?.filter(|&limit| limit < V1_UNLIMITED),
        cache: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        swap: of("total_swap"),
        // Without swap beside it, the limit that is hit first is that of memory plus swap.
        failures: maybe(dir, "memory.failcnt").unwrap_or(0)
            + maybe(dir, "memory.memsw.failcnt").unwrap_or(0),
        detail,
    })
}

fn memory_v2(dir: &Dir) -> Result<MemoryStats> {
    let detail = detail(&dir.text("memory.stat")?);
    let of = |name: &str| detail.get(name).copied().unwrap_or(0);
    Ok(MemoryStats {
        usage: number(dir, "memory.current")?.unwrap_or(0),
        max_usage: maybe(dir, "memory.peak"),
        limit: number(dir, "memory.max")?,
        cache: of("file"),
        inactive_file: of("inactive_file"),
        swap: maybe(dir, "memory.swap.current").unwrap_or(0),
        failures: value_of(&dir.text("memory.events")?, "max").unwrap_or(0),
        detail,
    })
}

fn cpuacct_v1(dir: &Dir) -> Result<CpuStats> {
    Ok(CpuStats {
        usage: number(dir, "cpuacct.usage")?.unwrap_or(0),
        // In nanoseconds since 4.8; cpuacct.stat has them in clock ticks only.
        user: maybe(dir, "cpuacct.usage_user").unwrap_or(0),
        system: maybe(dir, "cpuacct.usage_sys").unwrap_or(0),
        per_cpu: dir
            .text("cpuacct.usage_percpu")?
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
        ..CpuStats::default()
    })
}

fn parse_cpu_stat(text: &str) -> CpuStats {
    let of = |name| value_of(text, name).unwrap_or(0);
    CpuStats {
        usage: of("usage_usec") * 1000,
        user: of("user_usec") * 1000,
        system: of("system_usec") * 1000,
        per_cpu: Vec::new(),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled: of("throttled_usec") * 1000,
    }
}

fn block_v1(dir: &Dir) -> Result<Vec<BlockStats>> {
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
fn parse_io_stat(text: &str) -> Vec<BlockStats> {
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
    fn cpu_stat_is_in_nanoseconds() {
        let stats = parse_cpu_stat(
            "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 4\n",
        );
        assert_eq!((stats.usage, stats.user, stats.system), (5000, 3000, 2000));
        assert_eq!(
            (stats.periods, stats.throttled_periods, stats.throttled),
            (7, 1, 4000)
        );
    }
}
