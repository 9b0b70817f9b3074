//! The data of a `stats` event, member by member as runc's `types/events.go` names them: callers parse it.

use barque_runtime::lifecycle::{BlockEntry, CpusetStats, MemoryUse, Pressure, Stall, Stats};
use serde_json::{Map, Value, json};

/// What runc writes for "no limit" on v2; on v1 it is a little less.
const UNLIMITED: u64 = u64::MAX;

/// The whole.
pub(crate) fn data(stats: &Stats) -> Value {
    let hugetlb: Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|(size, h)| {
            let value =
                json!({"usage": h.usage, "max": h.max_usage.unwrap_or(0), "failcnt": h.failures});
            (size.clone(), value)
        })
        .collect();
    json!({
        "cpu": cpu(stats),
        "cpuset": stats.cpuset.as_ref().map_or_else(|| json!({}), cpuset),
        "memory": memory(stats),
        "pids": pids(stats),
        "blkio": block(stats),
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn cpu(stats: &Stats) -> Value {
    let Some(cpu) = &stats.cpu else {
        return json!({});
    };
    with_pressure(
        json!({
            "usage": {
                "total": cpu.usage,
                "percpu": cpu.per_cpu,
                "percpu_kernel": cpu.per_cpu_system,
                "percpu_user": cpu.per_cpu_user,
                "kernel": cpu.system,
                "user": cpu.user,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            },
        }),
        cpu.pressure.as_ref(),
    )
}

fn cpuset(cpuset: &CpusetStats) -> Value {
    let mut value = json!({"cpus": cpuset.cpus, "mems": cpuset.mems});
    // v1's files; absent ones are 0, as runc has them on v2.
    for (name, file) in [
        ("cpu_exclusive", "cpu_exclusive"),
        ("mem_hardwall", "mem_hardwall"),
        ("mem_exclusive", "mem_exclusive"),
        ("memory_migrate", "memory_migrate"),
        ("memory_spread_page", "memory_spread_page"),
        ("memory_spread_slab", "memory_spread_slab"),
        ("memory_pressure", "memory_pressure"),
        ("sched_load_balance", "sched_load_balance"),
        ("sched_relax_domain_level", "sched_relax_domain_level"),
    ] {
        value[name] = json!(cpuset.flags.get(file).copied().unwrap_or(0));
    }
    value
}

fn memory(stats: &Stats) -> Value {
    let Some(memory) = &stats.memory else {
        return json!({});
    };
    let own = MemoryUse {
        usage: memory.usage,
        max_usage: memory.max_usage,
        limit: memory.limit,
        failures: memory.failures,
    };
    let mut value = json!({
        "cache": memory.cache,
        "usage": entry(&own),
        "raw": memory.detail,
    });
    for (name, part) in [
        ("swap", memory.with_swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ] {
        value[name] = entry(&part.unwrap_or_default());
    }
    with_pressure(value, memory.pressure.as_ref())
}

fn entry(part: &MemoryUse) -> Value {
    json!({
        "limit": part.limit.unwrap_or(UNLIMITED),
        "usage": part.usage,
        "max": part.max_usage.unwrap_or(0),
        "failcnt": part.failures,
    })
}

fn pids(stats: &Stats) -> Value {
    match &stats.pids {
        Some(pids) => json!({"current": pids.current, "limit": pids.limit.unwrap_or(0)}),
        None => json!({}),
    }
}

fn block(stats: &Stats) -> Value {
    let mut value = json!({});
    if let Some(tables) = &stats.block_tables {
        for (name, table) in [
            ("ioServiceBytesRecursive", &tables.service_bytes),
            ("ioServicedRecursive", &tables.serviced),
            ("ioQueueRecursive", &tables.queued),
            ("ioServiceTimeRecursive", &tables.service_time),
            ("ioWaitTimeRecursive", &tables.wait_time),
            ("ioMergedRecursive", &tables.merged),
            ("ioTimeRecursive", &tables.time),
            ("sectorsRecursive", &tables.sectors),
        ] {
            if !table.is_empty() {
                value[name] = table.iter().map(block_entry).collect();
            }
        }
    }
    with_pressure(value, stats.io_pressure.as_ref())
}

fn block_entry(entry: &BlockEntry) -> Value {
    json!({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value})
}

fn with_pressure(mut value: Value, pressure: Option<&Pressure>) -> Value {
    let stall = |s: &Stall| json!({"avg10": s.avg10, "avg60": s.avg60, "avg300": s.avg300, "total": s.total});
    if let Some(pressure) = pressure {
        value["psi"] = json!({"some": stall(&pressure.some), "full": stall(&pressure.full)});
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn without_controllers_there_is_a_value_for_all_the_same() {
        let value = data(&Stats::default());
        for name in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"] {
            assert!(value[name].is_object(), "{name}");
        }
    }

    #[test]
    fn members_are_runcs() {
        let stats = Stats {
            cpuset: Some(CpusetStats {
                cpus: vec![0, 1],
                mems: vec![0],
                flags: BTreeMap::from([("sched_relax_domain_level", -1)]),
            }),
            io_pressure: Some(Pressure::default()),
            ..Stats::default()
        };
        let value = data(&stats);
        assert_eq!(value["cpuset"]["cpus"], json!([0, 1]));
        assert_eq!(value["cpuset"]["sched_relax_domain_level"], -1);
        assert_eq!(value["blkio"]["psi"]["some"]["total"], 0);
        assert_eq!(value["cpu"].get("psi"), None);
    }
}
