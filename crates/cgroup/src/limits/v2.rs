//! What the limits are in v2 files (Documentation/admin-guide/cgroup-v2.rst of the kernel).

use barque_types::spec::{BlockIo, CpuLimits, HugepageLimit, MemoryLimits, ThrottleDevice};

use super::v1::{check_swap, hugetlb_files, set};
use super::{Missing, Write, warning};
use crate::error::{Error, Result};

/// `max` for anything negative.
fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// `current` is the limit in force, when one is and `memory` changes only memory-plus-swap.
pub(super) fn memory(memory: &MemoryLimits, current: Option<i64>) -> Result<Vec<Write>> {
    let (limit, swap) = (set(memory.limit), set(memory.swap));
    check_swap(limit.or(current), swap)?;
    let mut writes = Vec::new();
    if let Some(limit) = limit {
        writes.push(Write::one(
            "memory.max",
            or_max(limit),
            Missing::Warn(warning::MEMORY),
        ));
    }
    if let Some(value) = swap_max(limit, swap, current)? {
        let missing = if swap.is_some() {
            Missing::Warn(warning::SWAP)
        } else {
            Missing::Ignore
        };
        writes.push(Write::one("memory.swap.max", value, missing));
    }
    if let Some(reservation) = set(memory.reservation) {
        // v1's soft limit "unlimited" protects nothing, and so does 0 here; `max` would protect all.
        let value = reservation.max(0);
        writes.push(Write::one(
            "memory.low",
            value,
            Missing::Warn(warning::RESERVATION),
        ));
    }
    for (asked, text) in [
        (memory.swappiness.is_some(), warning::SWAPPINESS),
        (memory.disable_oom_killer == Some(true), warning::OOM_KILL),
        (set(memory.kernel).is_some(), warning::KERNEL_MEMORY),
        (set(memory.kernel_tcp).is_some(), warning::KERNEL_TCP),
    ] {
        if asked {
            writes.push(Write::nowhere(Missing::Warn(text)));
        }
    }
    Ok(writes)
}

/// v1 limits memory plus swap, v2 swap alone.
pub(crate) fn swap_max(
    limit: Option<i64>,
    swap: Option<i64>,
    current: Option<i64>,
) -> Result<Option<String>> {
    match (limit, swap) {
        (Some(-1), None) | (_, Some(..0)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (_, Some(swap)) => match limit.or(current) {
            Some(limit) if limit > 0 => Ok(Some((swap - limit).to_string())),
            _ => Err(Error::unsupported(format!(
                "memory-swap {swap} is memory plus swap and needs a memory limit beside it"
            ))),
        },
    }
}

/// v1's shares (2 to 262144, default 1024) as v2's weight (1 to 10000, default 100).
///
/// The straight line between the ends makes the default 1024 a weight of 39, so that a container
/// with default shares gets less than half of what a plain v2 group gets. This is the curve through
/// the three points (2, 1), (1024, 100), (262144, 10000) instead: quadratic in log2 of the shares,
/// for log10 of the weight. Newer runc and crun convert so, too.
pub(crate) fn weight_of(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The subtraction keeps 1024, whose exponent is 2 but for rounding, at 100 and not 101.
    ((10f64.powf(exponent) - 1e-9).ceil() as u64).clamp(1, 10_000)
}

/// `current_quota` is the first word of `cpu.max`, when a period changes and the quota stays.
pub(super) fn cpu(cpu: &CpuLimits, current_quota: Option<&str>) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = set(cpu.shares) {
        let missing = Missing::Warn(warning::SHARES);
        writes.push(Write::one("cpu.weight", weight_of(shares), missing));
    }
    let quota = set(cpu.quota).map(or_max);
    let value = match (quota, set(cpu.period)) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        // The period that is in force stays.
        (Some(quota), None) => Some(quota),
        (None, Some(period)) => Some(format!("{} {period}", current_quota.unwrap_or("max"))),
        (None, None) => None,
    };
    if let Some(value) = value {
        writes.push(Write::one("cpu.max", value, Missing::Warn(warning::CFS)));
    }
    if let Some(burst) = cpu.burst {
        writes.push(Write::one(
            "cpu.max.burst",
            burst,
            Missing::Warn(warning::BURST),
        ));
    }
    if let Some(idle) = cpu.idle {
        writes.push(Write::one("cpu.idle", idle, Missing::Warn(warning::IDLE)));
    }
    if set(cpu.realtime_period).is_some() || set(cpu.realtime_runtime).is_some() {
        let limit = "the real-time CPU limit".to_owned();
        writes.push(Write::nowhere(Missing::Fail(limit)));
    }
    writes
}

/// v1's block I/O weight (10 to 1000, default 500) as `io.weight` (1 to 10000, default 100): the
/// line between the ends, as Docker has it.
pub(crate) fn io_weight_of(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

pub(super) fn io(io: &BlockIo) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = set(io.weight) {
        // bfq keeps v1's range; its file is there while bfq is loaded.
        writes.push(
            Write::one("io.bfq.weight", weight, Missing::Warn(warning::WEIGHT))
                .or("io.weight", io_weight_of(weight)),
        );
    }
    if set(io.leaf_weight).is_some() {
        writes.push(Write::nowhere(Missing::Warn(warning::WEIGHT)));
    }
    for device in &io.weight_device {
        let Some(weight) = set(device.weight) else {
            continue;
        };
        let number = format!("{}:{}", device.major, device.minor);
        writes.push(
            Write::one(
                "io.bfq.weight",
                format!("{number} {weight}"),
                Missing::Warn(warning::WEIGHT_DEVICE),
            )
            .or("io.weight", format!("{number} {}", io_weight_of(weight))),
        );
    }
    for (key, devices, text) in [
        ("rbps", &io.throttle_read_bps_device, warning::READ_BPS),
        ("wbps", &io.throttle_write_bps_device, warning::WRITE_BPS),
        ("riops", &io.throttle_read_iops_device, warning::READ_IOPS),
        ("wiops", &io.throttle_write_iops_device, warning::WRITE_IOPS),
    ] {
        if !devices.is_empty() {
            // Keys that a line does not name keep their value.
            let lines = devices
                .iter()
                .map(|device| throttle_line(key, device))
                .collect();
            writes.push(Write::lines("io.max", lines, Missing::Warn(text)));
        }
    }
    writes
}

/// A rate of 0 takes the limit away.
fn throttle_line(key: &str, device: &ThrottleDevice) -> String {
    let rate = if device.rate == 0 {
        "max".to_owned()
    } else {
        device.rate.to_string()
    };
    format!("{}:{} {key}={rate}", device.major, device.minor)
}

pub(super) fn hugetlb(limits: &[HugepageLimit]) -> Result<Vec<Write>> {
    hugetlb_files(limits, "max")
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_json;
    use super::*;

    fn shown(writes: &[Write]) -> Vec<String> {
        writes
            .iter()
            .map(|write| match write.candidates.first() {
                Some((file, lines)) => format!("{file}={}", lines.join("|")),
                None => "-".to_owned(),
            })
            .collect()
    }

    #[test]
    fn memory_files() {
        for (json, current, expected) in [
            (
                r#"{"limit":4096,"swap":8192}"#,
                None,
                vec!["memory.max=4096", "memory.swap.max=4096"],
            ),
            (
                r#"{"limit":4096,"swap":4096}"#,
                None,
                vec!["memory.max=4096", "memory.swap.max=0"],
            ),
            (
                r#"{"limit":4096,"swap":-1}"#,
                None,
                vec!["memory.max=4096", "memory.swap.max=max"],
            ),
            (
                r#"{"limit":-1}"#,
                None,
                vec!["memory.max=max", "memory.swap.max=max"],
            ),
            (r#"{"limit":4096}"#, None, vec!["memory.max=4096"]),
            (r#"{"swap":8192}"#, Some(1024), vec!["memory.swap.max=7168"]),
            (r#"{"reservation":-1}"#, None, vec!["memory.low=0"]),
            (
                r#"{"reservation":5,"swappiness":3}"#,
                None,
                vec!["memory.low=5", "-"],
            ),
        ] {
            assert_eq!(
                shown(&memory(&from_json(json), current).unwrap()),
                expected,
                "{json}"
            );
        }
        assert!(memory(&from_json(r#"{"limit":10,"swap":9}"#), None).is_err());
        assert!(memory(&from_json(r#"{"swap":9}"#), None).is_err());
        assert!(memory(&from_json(r#"{"swap":9}"#), Some(10)).is_err());
    }

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (999_999, 10_000),
        ] {
            assert_eq!(weight_of(shares), weight, "{shares}");
        }
        let all: Vec<u64> = (1..4096).map(weight_of).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn cpu_max() {
        for (json, current, expected) in [
            (
                r#"{"quota":50000,"period":100000}"#,
                None,
                "cpu.max=50000 100000",
            ),
            (r#"{"quota":-1}"#, None, "cpu.max=max"),
            (r#"{"period":20000}"#, None, "cpu.max=max 20000"),
            (r#"{"period":20000}"#, Some("7000"), "cpu.max=7000 20000"),
        ] {
            assert_eq!(shown(&cpu(&from_json(json), current)), [expected], "{json}");
        }
    }

    #[test]
    fn io_files() {
        let limits = from_json(
            r#"{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}"#,
        );
        let writes = io(&limits);
        assert_eq!(
            writes[0].candidates[1],
            ("io.weight".to_owned(), vec!["1".to_owned()])
        );
        assert_eq!(
            shown(&writes[1..]),
            ["io.max=8:0 rbps=5", "io.max=8:0 wiops=max"]
        );
        assert_eq!(io_weight_of(1000), 10_000);
    }
}
