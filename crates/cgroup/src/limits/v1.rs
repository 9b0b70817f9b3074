//! What the limits are in v1 files (Documentation/admin-guide/cgroup-v1/ of the kernel).

use barque_types::spec::{
    BlockIo, CpuLimits, HugepageLimit, MemoryLimits, NetworkLimits, ThrottleDevice,
};

use super::{Missing, Write, warning};
use crate::error::{Error, Result};

/// 0 means "not set" in what the front-ends hand down, as in Docker's API.
pub(super) fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Refuses memory-plus-swap below memory, for which the kernel's answer would be a bare EINVAL.
pub(super) fn check_swap(limit: Option<i64>, swap: Option<i64>) -> Result<()> {
    match (limit, swap) {
        (Some(limit), Some(swap)) if limit > 0 && swap > 0 && swap < limit => {
            Err(Error::unsupported(format!(
                "memory-swap {swap} is memory plus swap and cannot be below the memory limit {limit}"
            )))
        }
        _ => Ok(()),
    }
}

pub(super) fn memory(memory: &MemoryLimits, fresh: bool) -> Result<Vec<Write>> {
    let (limit, swap) = (set(memory.limit), set(memory.swap));
    check_swap(limit, swap)?;
    let mut writes = Vec::new();
    if memory.use_hierarchy == Some(true) {
        // Always so since 5.11, and before that to be set while the group has no children.
        writes.push(Write::one("memory.use_hierarchy", 1, Missing::Ignore));
    }
    if let Some(limit) = limit {
        writes.push(Write::one(
            "memory.limit_in_bytes",
            limit,
            Missing::Warn(warning::MEMORY),
        ));
    }
    match swap {
        Some(swap) => {
            let missing = Missing::Warn(warning::SWAP);
            writes.push(Write::one("memory.memsw.limit_in_bytes", swap, missing));
        }
        // Memory without limit needs memory-plus-swap without limit.
        None if limit == Some(-1) && !fresh => {
            writes.push(Write::one(
                "memory.memsw.limit_in_bytes",
                -1,
                Missing::Ignore,
            ));
        }
        None => {}
    }
    if let Some(reservation) = set(memory.reservation) {
        let missing = Missing::Warn(warning::RESERVATION);
        writes.push(Write::one(
            "memory.soft_limit_in_bytes",
            reservation,
            missing,
        ));
    }
    if let Some(swappiness) = memory.swappiness {
        let missing = Missing::Warn(warning::SWAPPINESS);
        writes.push(Write::one("memory.swappiness", swappiness, missing));
    }
    match memory.disable_oom_killer {
        Some(true) => {
            writes.push(Write::one(
                "memory.oom_control",
                1,
                Missing::Warn(warning::OOM_KILL),
            ));
        }
        Some(false) if !fresh => {
            writes.push(Write::one("memory.oom_control", 0, Missing::Ignore));
        }
        _ => {}
    }
    if set(memory.kernel).is_some() {
        // Without effect since 5.16, and on its way out since 5.4.
        writes.push(Write::nowhere(Missing::Warn(warning::KERNEL_MEMORY)));
    }
    if let Some(limit) = set(memory.kernel_tcp) {
        let missing = Missing::Warn(warning::KERNEL_TCP);
        writes.push(Write::one("memory.kmem.tcp.limit_in_bytes", limit, missing));
    }
    Ok(writes)
}

pub(super) fn cpu(cpu: &CpuLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = set(cpu.shares) {
        writes.push(Write::one(
            "cpu.shares",
            shares,
            Missing::Warn(warning::SHARES),
        ));
    }
    if let Some(period) = set(cpu.period) {
        writes.push(Write::one(
            "cpu.cfs_period_us",
            period,
            Missing::Warn(warning::CFS),
        ));
    }
    if let Some(quota) = set(cpu.quota) {
        writes.push(Write::one(
            "cpu.cfs_quota_us",
            quota,
            Missing::Warn(warning::CFS),
        ));
    }
    if let Some(burst) = cpu.burst {
        writes.push(Write::one(
            "cpu.cfs_burst_us",
            burst,
            Missing::Warn(warning::BURST),
        ));
    }
    if let Some(idle) = cpu.idle {
        writes.push(Write::one("cpu.idle", idle, Missing::Warn(warning::IDLE)));
    }
    let realtime = || Missing::Fail("the real-time CPU limit".to_owned());
    if let Some(period) = set(cpu.realtime_period) {
        writes.push(Write::one("cpu.rt_period_us", period, realtime()));
    }
    if let Some(runtime) = set(cpu.realtime_runtime) {
        writes.push(Write::one("cpu.rt_runtime_us", runtime, realtime()));
    }
    writes
}

pub(super) fn blkio(io: &BlockIo) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = set(io.weight) {
        // The first was CFQ's (gone in 5.0), the second is there while bfq is loaded.
        writes.push(
            Write::one("blkio.weight", weight, Missing::Warn(warning::WEIGHT))
                .or("blkio.bfq.weight", weight),
        );
    }
    if let Some(weight) = set(io.leaf_weight) {
        writes.push(Write::one(
            "blkio.leaf_weight",
            weight,
            Missing::Warn(warning::WEIGHT),
        ));
    }
    for device in &io.weight_device {
        let number = format!("{}:{}", device.major, device.minor);
        let missing = || Missing::Warn(warning::WEIGHT_DEVICE);
        if let Some(weight) = set(device.weight) {
            let line = format!("{number} {weight}");
            writes.push(
                Write::one("blkio.weight_device", &line, missing())
                    .or("blkio.bfq.weight_device", &line),
            );
        }
        if let Some(weight) = set(device.leaf_weight) {
            let line = format!("{number} {weight}");
            writes.push(Write::one("blkio.leaf_weight_device", line, missing()));
        }
    }
    for (file, devices, text) in [
        (
            "blkio.throttle.read_bps_device",
            &io.throttle_read_bps_device,
            warning::READ_BPS,
        ),
        (
            "blkio.throttle.write_bps_device",
            &io.throttle_write_bps_device,
            warning::WRITE_BPS,
        ),
        (
            "blkio.throttle.read_iops_device",
            &io.throttle_read_iops_device,
            warning::READ_IOPS,
        ),
        (
            "blkio.throttle.write_iops_device",
            &io.throttle_write_iops_device,
            warning::WRITE_IOPS,
        ),
    ] {
        if !devices.is_empty() {
            let lines = devices.iter().map(throttle_line).collect();
            writes.push(Write::lines(file, lines, Missing::Warn(text)));
        }
    }
    writes
}

/// A rate of 0 takes the limit away.
fn throttle_line(device: &ThrottleDevice) -> String {
    format!("{}:{} {}", device.major, device.minor, device.rate)
}

/// A page size as the kernel spells it in file names: `2MB`, `1GB`, `64KB`.
pub(super) fn page_size(limit: &HugepageLimit) -> Result<&str> {
    let size = limit.page_size.as_str();
    let number = size
        .strip_suffix("KB")
        .or_else(|| size.strip_suffix("MB"))
        .or_else(|| size.strip_suffix("GB"));
    match number {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(size)
        }
        _ => Err(Error::unsupported(format!(
            "huge page size {size:?} is not of the form 2MB"
        ))),
    }
}

pub(super) fn hugetlb(limits: &[HugepageLimit]) -> Result<Vec<Write>> {
    hugetlb_files(limits, "limit_in_bytes")
}

/// `hugetlb.<size>.<last>` limits faults, `hugetlb.<size>.rsvd.<last>` (5.7) reservations: without
/// the latter, a process that reserved too much dies of SIGBUS instead of being told by mmap(2).
pub(super) fn hugetlb_files(limits: &[HugepageLimit], last: &str) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for limit in limits {
        let size = page_size(limit)?;
        let missing = Missing::Fail(format!("the limit of {size} huge pages"));
        writes.push(Write::one(
            &format!("hugetlb.{size}.{last}"),
            limit.limit,
            missing,
        ));
        let reserved = format!("hugetlb.{size}.rsvd.{last}");
        writes.push(Write::one(&reserved, limit.limit, Missing::Ignore));
    }
    Ok(writes)
}

pub(super) fn net_cls(network: &NetworkLimits) -> Vec<Write> {
    let class = network
        .class_id
        .map(|id| Write::one("net_cls.classid", id, Missing::Warn(warning::NET_CLS)));
    class.into_iter().collect()
}

pub(super) fn net_prio(network: &NetworkLimits) -> Vec<Write> {
    if network.priorities.is_empty() {
        return Vec::new();
    }
    let lines = network
        .priorities
        .iter()
        .map(|p| format!("{} {}", p.name, p.priority))
        .collect();
    vec![Write::lines(
        "net_prio.ifpriomap",
        lines,
        Missing::Warn(warning::NET_PRIO),
    )]
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_json;
    use super::*;

    fn shown(writes: &[Write]) -> Vec<String> {
        writes
            .iter()
            .flat_map(|write| &write.candidates)
            .map(|(file, lines)| format!("{file}={}", lines.join("|")))
            .collect()
    }

    #[test]
    fn memory_files() {
        for (json, fresh, expected) in [
            (
                r#"{"limit":4096,"swap":8192}"#,
                true,
                vec![
                    "memory.limit_in_bytes=4096",
                    "memory.memsw.limit_in_bytes=8192",
                ],
            ),
            (r#"{"limit":-1}"#, true, vec!["memory.limit_in_bytes=-1"]),
            (
                r#"{"limit":-1}"#,
                false,
                vec!["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            ),
            (
                r#"{"limit":0,"swap":0,"reservation":0,"kernel":0}"#,
                true,
                vec![],
            ),
            (
                r#"{"swappiness":0,"disableOOMKiller":true}"#,
                true,
                vec!["memory.swappiness=0", "memory.oom_control=1"],
            ),
            (r#"{"disableOOMKiller":false}"#, true, vec![]),
            (
                r#"{"reservation":7,"kernelTCP":9}"#,
                true,
                vec![
                    "memory.soft_limit_in_bytes=7",
                    "memory.kmem.tcp.limit_in_bytes=9",
                ],
            ),
        ] {
            assert_eq!(
                shown(&memory(&from_json(json), fresh).unwrap()),
                expected,
                "{json}"
            );
        }
        assert!(memory(&from_json(r#"{"limit":10,"swap":9}"#), true).is_err());
    }

    #[test]
    fn cpu_files() {
        let limits = from_json(
            r#"{"shares":512,"quota":-1,"period":50000,"burst":0,"idle":1,"realtimeRuntime":950}"#,
        );
        assert_eq!(
            shown(&cpu(&limits)),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=50000",
                "cpu.cfs_quota_us=-1",
                "cpu.cfs_burst_us=0",
                "cpu.idle=1",
                "cpu.rt_runtime_us=950"
            ]
        );
    }

    #[test]
    fn blkio_files() {
        let io = from_json(
            r#"{"weight":300,"weightDevice":[{"major":8,"minor":0,"weight":500}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576},{"major":8,"minor":16,"rate":0}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":10}]}"#,
        );
        assert_eq!(
            shown(&blkio(&io)),
            [
                "blkio.weight=300",
                "blkio.bfq.weight=300",
                "blkio.weight_device=8:0 500",
                "blkio.bfq.weight_device=8:0 500",
                "blkio.throttle.read_bps_device=8:0 1048576|8:16 0",
                "blkio.throttle.write_iops_device=8:0 10",
            ]
        );
    }

    #[test]
    fn page_sizes_are_not_paths() {
        for (size, good) in [
            ("2MB", true),
            ("64KB", true),
            ("1GB", true),
            ("MB", false),
            ("../2MB", false),
            ("2mb", false),
        ] {
            let limits = [HugepageLimit {
                page_size: size.into(),
                limit: 1,
            }];
            assert_eq!(hugetlb(&limits).is_ok(), good, "{size}");
        }
    }
}
