//! What a group uses: memory, processor time, tasks, block I/O, huge pages, RDMA, time lost waiting;
//! and how often the kernel killed for memory.

mod block;
mod cpu;
mod memory;
mod psi;
mod types;

use std::collections::BTreeMap;

use rustix::io::Errno;

pub use types::{
    BlockEntry, BlockStats, BlockTables, CpuStats, CpusetStats, HugetlbStats, MemoryStats,
    MemoryUse, PidsStats, Pressure, RdmaStats, Stall, Stats,
};

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::group::Cgroup;
use crate::limits::{Place, Places};
use crate::tables::value_of;

impl Cgroup {
    /// Reads everything.
    ///
    /// # Errors
    /// Those of reading the hierarchies; [`Error::Io`] with `ENODEV` or `ENOENT` when the group is
    /// gone.
    pub fn stats(&self) -> Result<Stats> {
        let unified = self.unified();
        let (block_io, block_tables) = self.block_stats()?;
        Ok(Stats {
            memory: match self.place("memory") {
                Place::V1(dir) => Some(memory::v1(dir, unified)?),
                Place::V2(dir) => Some(memory::v2(dir)?),
                _ => None,
            },
            cpu: self.cpu_stats()?,
            cpuset: match self.place("cpuset") {
                Place::V1(dir) => Some(cpu::cpuset_v1(dir)?),
                Place::V2(dir) => Some(cpu::cpuset_v2(dir)?),
                _ => None,
            },
            pids: match self.place("pids").dir() {
                Some(dir) => Some(PidsStats {
                    current: number(dir, "pids.current")?.unwrap_or(0),
                    limit: number(dir, "pids.max")?,
                }),
                None => None,
            },
            block_io,
            block_tables,
            io_pressure: psi::pressure(unified, "io.pressure"),
            hugetlb: self.hugetlb_stats(),
            rdma: match self.place("rdma").dir() {
                Some(dir) => parse_rdma(&dir.text("rdma.current")?, &dir.text("rdma.max")?),
                None => BTreeMap::new(),
            },
        })
    }

    fn cpu_stats(&self) -> Result<Option<CpuStats>> {
        let unified = self.unified();
        let stats = if let Some(group) = self.v1_of("cpuacct") {
            cpu::v1(&group.dir, self.v1_of("cpu").map(|group| &group.dir))?
        } else if let Some(dir) = unified {
            // On v2, cpu.stat is there without the controller, only the throttling is not.
            cpu::parse_cpu_stat(&dir.text("cpu.stat")?)
        } else {
            return Ok(None);
        };
        Ok(Some(CpuStats {
            pressure: psi::pressure(unified, "cpu.pressure"),
            ..stats
        }))
    }

    fn block_stats(&self) -> Result<(Option<Vec<BlockStats>>, Option<BlockTables>)> {
        Ok(match self.place("blkio") {
            Place::V1(dir) => (Some(block::v1(dir)?), Some(block::tables_v1(dir))),
            Place::V2(dir) => {
                let devices = block::parse_io_stat(&dir.text("io.stat")?);
                let tables = block::tables_v2(&devices);
                (Some(devices), Some(tables))
            }
            _ => (None, None),
        })
    }

    fn hugetlb_stats(&self) -> BTreeMap<String, HugetlbStats> {
        let place = self.place("hugetlb");
        let Some(dir) = place.dir() else {
            return BTreeMap::new();
        };
        let v1 = matches!(place, Place::V1(_));
        let stats = |size: String| {
            let file = |what: &str| format!("hugetlb.{size}.{what}");
            let stats = if v1 {
                HugetlbStats {
                    usage: maybe(dir, &file("usage_in_bytes"))?,
                    max_usage: maybe(dir, &file("max_usage_in_bytes")),
                    failures: maybe(dir, &file("failcnt")).unwrap_or(0),
                }
            } else {
                let events = dir.read(&file("events")).unwrap_or_default();
                HugetlbStats {
                    usage: maybe(dir, &file("current"))?,
                    max_usage: None,
                    failures: value_of(&events, "max").unwrap_or(0),
                }
            };
            Some((size, stats))
        };
        page_sizes().into_iter().filter_map(stats).collect()
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

/// The huge page sizes of this machine, as cgroup files spell them.
fn page_sizes() -> Vec<String> {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        kib.parse().ok().map(spelled)
    };
    sizes.into_iter().flatten().filter_map(name).collect()
}

/// `2MB` for 2048 (the kernel's `mem_fmt`).
fn spelled(kib: u64) -> String {
    match kib {
        1_048_576.. => format!("{}GB", kib >> 20),
        1024.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    }
}

/// `mlx4_0 hca_handle=2 hca_object=2000` lines; a limit can be `max`.
fn parse_rdma(current: &str, limits: &str) -> BTreeMap<String, RdmaStats> {
    let fields = |text: &str, device: &str, key: &str| {
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(device))?;
        let value = line
            .split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        value.parse().ok()
    };
    let devices = current.lines().filter_map(|line| line.split(' ').next());
    devices
        .filter(|device| !device.is_empty())
        .map(|device| {
            let stats = RdmaStats {
                hca_handles: fields(current, device, "hca_handle").unwrap_or(0),
                hca_objects: fields(current, device, "hca_object").unwrap_or(0),
                hca_handles_limit: fields(limits, device, "hca_handle"),
                hca_objects_limit: fields(limits, device, "hca_object"),
            };
            (device.to_owned(), stats)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_spelled_as_the_kernel_does() {
        assert_eq!(
            [64, 2048, 32_768, 1_048_576].map(spelled),
            ["64KB", "2MB", "32MB", "1GB"]
        );
    }

    #[test]
    fn rdma_of_two_devices() {
        let parsed = parse_rdma(
            "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=0\n",
            "mlx4_0 hca_handle=max hca_object=3000\nocrdma1 hca_handle=8 hca_object=max\n",
        );
        let first = RdmaStats {
            hca_handles: 2,
            hca_objects: 2000,
            hca_handles_limit: None,
            hca_objects_limit: Some(3000),
        };
        assert_eq!(parsed["mlx4_0"], first);
        assert_eq!(parsed["ocrdma1"].hca_handles_limit, Some(8));
    }
}
