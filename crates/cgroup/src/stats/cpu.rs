//! Processor time and cpusets in both versions.

use super::types::{CpuStats, CpusetStats};
use super::{maybe, number};
use crate::dir::Dir;
use crate::error::Result;
use crate::tables::value_of;

pub(super) fn v1(cpuacct: &Dir, cpu: Option<&Dir>) -> Result<CpuStats> {
    let (per_cpu_user, per_cpu_system) =
        parse_usage_all(&cpuacct.read("cpuacct.usage_all").unwrap_or_default());
    // Absent without CONFIG_CFS_BANDWIDTH.
    let text = cpu
        .and_then(|dir| dir.read("cpu.stat").ok())
        .unwrap_or_default();
    let of = |name| value_of(&text, name).unwrap_or(0);
    Ok(CpuStats {
        usage: number(cpuacct, "cpuacct.usage")?.unwrap_or(0),
        // In nanoseconds since 4.8; cpuacct.stat has them in clock ticks only.
        user: maybe(cpuacct, "cpuacct.usage_user").unwrap_or(0),
        system: maybe(cpuacct, "cpuacct.usage_sys").unwrap_or(0),
        per_cpu: cpuacct
            .text("cpuacct.usage_percpu")?
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
        per_cpu_user,
        per_cpu_system,
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled: of("throttled_time"),
        bursts: of("nr_bursts"),
        burst: of("burst_time"),
        pressure: None,
    })
}

/// `cpu user system`, then a line per processor (Linux 4.10).
fn parse_usage_all(text: &str) -> (Vec<u64>, Vec<u64>) {
    let lines = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    lines.collect::<Vec<(u64, u64)>>().into_iter().unzip()
}

pub(super) fn parse_cpu_stat(text: &str) -> CpuStats {
    let of = |name| value_of(text, name).unwrap_or(0);
    CpuStats {
        usage: of("usage_usec") * 1000,
        user: of("user_usec") * 1000,
        system: of("system_usec") * 1000,
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled: of("throttled_usec") * 1000,
        bursts: of("nr_bursts"),
        burst: of("burst_usec") * 1000,
        ..CpuStats::default()
    }
}

/// v1's files that hold one number.
const FLAGS: [&str; 9] = [
    "cpu_exclusive",
    "mem_exclusive",
    "mem_hardwall",
    "memory_migrate",
    "memory_pressure",
    "memory_spread_page",
    "memory_spread_slab",
    "sched_load_balance",
    "sched_relax_domain_level",
];

pub(super) fn cpuset_v1(dir: &Dir) -> Result<CpusetStats> {
    let flag = |name: &'static str| {
        let text = dir.read(&format!("cpuset.{name}")).ok()?;
        Some((name, text.trim().parse().ok()?))
    };
    Ok(CpusetStats {
        cpus: parse_list(&dir.text("cpuset.cpus")?),
        mems: parse_list(&dir.text("cpuset.mems")?),
        flags: FLAGS.into_iter().filter_map(flag).collect(),
    })
}

pub(super) fn cpuset_v2(dir: &Dir) -> Result<CpusetStats> {
    let list = |file: &str| {
        let own = dir.text(file)?;
        if own.trim().is_empty() {
            return Ok(parse_list(&dir.text(&format!("{file}.effective"))?));
        }
        Ok(parse_list(&own))
    };
    Ok(CpusetStats {
        cpus: list("cpuset.cpus")?,
        mems: list("cpuset.mems")?,
        ..CpusetStats::default()
    })
}

/// `0-2,4`.
fn parse_list(text: &str) -> Vec<u16> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_stat_is_in_nanoseconds() {
        let stats = parse_cpu_stat(
            "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 4\nnr_bursts 2\nburst_usec 6\n",
        );
        assert_eq!((stats.usage, stats.user, stats.system), (5000, 3000, 2000));
        assert_eq!(
            (stats.periods, stats.throttled_periods, stats.throttled),
            (7, 1, 4000)
        );
        assert_eq!((stats.bursts, stats.burst), (2, 6000));
    }

    #[test]
    fn lists_and_tables_of_processors() {
        assert_eq!(parse_list("0-2,4\n"), [0, 1, 2, 4]);
        assert_eq!(parse_list("\n"), Vec::<u16>::new());
        assert_eq!(
            parse_usage_all("cpu user system\n0 5 6\n1 7 8\n"),
            (vec![5, 7], vec![6, 8])
        );
    }
}
