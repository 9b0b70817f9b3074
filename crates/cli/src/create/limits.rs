//! The limits among the flags → [`Resources`].

use super::flags::ContainerFlags;
use crate::errors::Failure;
use barque_types::container::{Throttles, Ulimit};
use barque_types::docker::ThrottleView;
use barque_types::spec::{BlockIo, CpuLimits, MemoryLimits, PidsLimit, Resources};
use barque_types::{device, size};

/// A whole number of a flag.
pub fn integer<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, Failure> {
    value
        .parse()
        .map_err(|_| Failure::value(flag, value, "not a whole number in range"))
}

/// Bytes of a flag.
pub fn bytes(flag: &str, value: &str) -> Result<i64, Failure> {
    size::parse_binary(value).map_err(|e| Failure::value(flag, value, e))
}

/// All limits, and `--cpus` in billionths of a CPU (0 when not given).
pub fn resources(flags: &ContainerFlags) -> Result<(Resources, i64), Failure> {
    let (cpu, nano_cpus) = cpu(flags)?;
    let resources = Resources {
        memory: memory(flags)?,
        cpu,
        pids: pids(flags)?,
        block_io: block_io(flags)?,
        ..Resources::default()
    };
    Ok((resources, nano_cpus))
}

/// `value`, unless it is what nothing was set looks like.
fn unless_empty<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn memory(flags: &ContainerFlags) -> Result<Option<MemoryLimits>, Failure> {
    let in_bytes = |flag: &str, value: &Option<String>| -> Result<Option<i64>, Failure> {
        value
            .as_deref()
            .map(|text| bytes(flag, text))
            .transpose()
            .map(|bytes| bytes.filter(|b| *b != 0))
    };
    let limit = in_bytes("-m, --memory", &flags.memory)?;
    let reservation = in_bytes("--memory-reservation", &flags.memory_reservation)?;
    let swap = match flags.memory_swap.as_deref() {
        Some("-1") => Some(-1),
        _ => in_bytes("--memory-swap", &flags.memory_swap)?,
    };
    if let (Some(soft), Some(hard)) = (reservation, limit)
        && soft > hard
    {
        return Err(Failure::Refused(
            "minimum memory limit can not be less than memory reservation limit: lower --memory-reservation or raise --memory".into(),
        ));
    }
    match (swap, limit) {
        (Some(swap), None) if swap > 0 => {
            return Err(Failure::Refused(
                "you should always set the memory limit when using --memory-swap".into(),
            ));
        }
        (Some(swap), Some(hard)) if swap >= 0 && swap < hard => {
            return Err(Failure::Refused(
                "minimum memoryswap limit should be larger than memory limit: --memory-swap is memory plus swap".into(),
            ));
        }
        _ => {}
    }
    Ok(unless_empty(MemoryLimits {
        limit,
        reservation,
        swap,
        swappiness: swappiness(flags)?,
        disable_oom_killer: flags.oom_kill_disable.then_some(true),
        ..MemoryLimits::default()
    }))
}

fn swappiness(flags: &ContainerFlags) -> Result<Option<u64>, Failure> {
    let Some(text) = flags.memory_swappiness.as_deref() else {
        return Ok(None);
    };
    match integer::<i64>("--memory-swappiness", text)? {
        -1 => Ok(None),
        value @ 0..=100 => Ok(u64::try_from(value).ok()),
        _ => Err(Failure::value(
            "--memory-swappiness",
            text,
            "valid values are -1 (the default) and 0 to 100",
        )),
    }
}

/// CFS period that `--cpus` is lowered with, microseconds: Docker's, and the kernel's default.
const CPUS_PERIOD: i64 = 100_000;
/// The kernel takes no smaller quota, microseconds.
const LEAST_QUOTA: i64 = 1_000;
/// `cpu.cfs_period_us` may be from 1 ms to 1 s (Documentation/scheduler/sched-bwc.rst).
const PERIOD_RANGE: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;

fn cpu(flags: &ContainerFlags) -> Result<(Option<CpuLimits>, i64), Failure> {
    let shares = flags
        .cpu_shares
        .as_deref()
        .map(|text| integer::<u64>("-c, --cpu-shares", text))
        .transpose()?;
    let (mut quota, mut period) = bandwidth(flags)?;
    let mut nano_cpus = 0;
    if let Some(text) = flags.cpus.as_deref() {
        if quota.is_some() || period.is_some() {
            return Err(Failure::Refused(
                "conflicting options: --cpus and --cpu-quota or --cpu-period cannot both be set"
                    .into(),
            ));
        }
        nano_cpus = nanos(text).map_err(|why| Failure::value("--cpus", text, why))?;
        if nano_cpus > 0 {
            period = u64::try_from(CPUS_PERIOD).ok();
            quota = Some(nano_cpus / (1_000_000_000 / CPUS_PERIOD));
            if quota < Some(LEAST_QUOTA) {
                return Err(Failure::value(
                    "--cpus",
                    text,
                    "the least that can be given is 0.01",
                ));
            }
        }
    }
    let cpu = unless_empty(CpuLimits {
        shares: shares.filter(|shares| *shares != 0),
        quota,
        period,
        cpus: cpu_list("--cpuset-cpus", &flags.cpuset_cpus)?,
        mems: cpu_list("--cpuset-mems", &flags.cpuset_mems)?,
        ..CpuLimits::default()
    });
    Ok((cpu, nano_cpus))
}

/// `--cpu-quota` and `--cpu-period`; 0 is the same as not given.
fn bandwidth(flags: &ContainerFlags) -> Result<(Option<i64>, Option<u64>), Failure> {
    let quota = flags
        .cpu_quota
        .as_deref()
        .map(|text| integer::<i64>("--cpu-quota", text))
        .transpose()?;
    let period = flags
        .cpu_period
        .as_deref()
        .map(|text| integer::<u64>("--cpu-period", text))
        .transpose()?;
    let (quota, period) = (
        quota.filter(|quota| *quota != 0),
        period.filter(|period| *period != 0),
    );
    if let Some(period) = period.filter(|period| !PERIOD_RANGE.contains(period)) {
        let reason =
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        return Err(Failure::value("--cpu-period", &period.to_string(), reason));
    }
    if let Some(quota) = quota.filter(|quota| (1..LEAST_QUOTA).contains(quota)) {
        let reason = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
        return Err(Failure::value("--cpu-quota", &quota.to_string(), reason));
    }
    Ok((quota, period))
}

/// Billionths of a decimal such as `1.5`.
fn nanos(text: &str) -> Result<i64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(format!("failed to parse {text} as a rational number"));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    format!("{whole}{fraction:0<9}")
        .parse()
        .map_err(|_| "value is too large".into())
}

/// `0-3,5`: checked here, since the kernel only says EINVAL.
fn cpu_list(flag: &str, value: &Option<String>) -> Result<Option<String>, Failure> {
    let Some(text) = value.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let valid = text.split(',').all(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if from <= to)
    });
    if valid {
        Ok(Some(text.to_owned()))
    } else {
        Err(Failure::value(
            flag,
            text,
            "write numbers and ranges, such as 0-3 or 0,1",
        ))
    }
}

fn pids(flags: &ContainerFlags) -> Result<Option<PidsLimit>, Failure> {
    match flags.pids_limit.as_deref() {
        None => Ok(None),
        Some(text) => {
            let limit: i64 = integer("--pids-limit", text)?;
            // As with Docker, 0 and everything below it are "unlimited".
            Ok(Some(PidsLimit {
                limit: if limit <= 0 { -1 } else { limit },
            }))
        }
    }
}

fn block_io(flags: &ContainerFlags) -> Result<Option<BlockIo>, Failure> {
    let Some(text) = flags.blkio_weight.as_deref() else {
        return Ok(None);
    };
    match integer::<u16>("--blkio-weight", text)? {
        0 => Ok(None),
        weight @ 10..=1000 => Ok(Some(BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        })),
        _ => Err(Failure::value(
            "--blkio-weight",
            text,
            "range of blkio weight is from 10 to 1000",
        )),
    }
}

/// `--device-read-bps` and its siblings.
pub fn throttles(flags: &ContainerFlags) -> Result<Throttles, Failure> {
    type Parse = fn(&str) -> Result<ThrottleView, device::InvalidDevice>;
    let all = |flag: &str, texts: &[String], parse: Parse| -> Result<Vec<ThrottleView>, Failure> {
        texts
            .iter()
            .map(|text| parse(text).map_err(|e| Failure::value(flag, text, e)))
            .collect()
    };
    Ok(Throttles {
        read_bps: all(
            "--device-read-bps",
            &flags.device_read_bps,
            device::throttle_bps,
        )?,
        write_bps: all(
            "--device-write-bps",
            &flags.device_write_bps,
            device::throttle_bps,
        )?,
        read_iops: all(
            "--device-read-iops",
            &flags.device_read_iops,
            device::throttle_iops,
        )?,
        write_iops: all(
            "--device-write-iops",
            &flags.device_write_iops,
            device::throttle_iops,
        )?,
    })
}

/// `--ulimit`; the last one of a name counts.
pub fn ulimits(flags: &ContainerFlags) -> Result<Vec<Ulimit>, Failure> {
    let mut all: Vec<Ulimit> = Vec::new();
    for text in &flags.ulimit {
        let ulimit: Ulimit = text
            .parse()
            .map_err(|e| Failure::value("--ulimit", text, e))?;
        all.retain(|known| known.name != ulimit.name);
        all.push(ulimit);
    }
    Ok(all)
}

/// `--oom-score-adj`.
pub fn oom_score_adj(flags: &ContainerFlags) -> Result<Option<i32>, Failure> {
    let Some(text) = flags.oom_score_adj.as_deref() else {
        return Ok(None);
    };
    match integer::<i32>("--oom-score-adj", text)? {
        value @ -1000..=1000 => Ok(Some(value)),
        _ => Err(Failure::value(
            "--oom-score-adj",
            text,
            "invalid value, oom score adj range is [-1000, 1000]",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus() {
        for (text, want) in [
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("0.010", 10_000_000),
            ("2.", 2_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(want), "{text}");
        }
        for text in [
            "",
            ".",
            "abc",
            "1.2.3",
            "-1",
            "1e3",
            "0.0000000001",
            "99999999999",
        ] {
            assert!(nanos(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists() {
        let list = |text: &str| cpu_list("--cpuset-cpus", &Some(text.to_owned()));
        assert_eq!(list("0-3,5").unwrap().as_deref(), Some("0-3,5"));
        assert!(list("").unwrap().is_none());
        for text in ["a", "3-1", "0,", "0-", "-1", "1-2-3"] {
            assert!(list(text).is_err(), "{text}");
        }
    }
}
