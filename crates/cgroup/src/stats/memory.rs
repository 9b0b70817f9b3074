//! Memory in both versions.

use std::collections::BTreeMap;

use super::types::{MemoryStats, MemoryUse};
use super::{maybe, number, psi};
use crate::dir::Dir;
use crate::error::Result;
use crate::tables::{flat_keyed, value_of};

/// v1 shows "no limit" as the largest page-aligned number, whatever the page size is.
const V1_UNLIMITED: u64 = 0x7000_0000_0000_0000;

fn detail(text: &str) -> BTreeMap<String, u64> {
    flat_keyed(text)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The four files of one kind of memory on v1: `memory`, `memory.memsw`, `memory.kmem`, …
fn use_v1(dir: &Dir, kind: &str) -> Option<MemoryUse> {
    Some(MemoryUse {
        usage: maybe(dir, &format!("{kind}.usage_in_bytes"))?,
        max_usage: maybe(dir, &format!("{kind}.max_usage_in_bytes")),
        limit: maybe(dir, &format!("{kind}.limit_in_bytes")).filter(|&limit| limit < V1_UNLIMITED),
        failures: maybe(dir, &format!("{kind}.failcnt")).unwrap_or(0),
    })
}

pub(super) fn v1(dir: &Dir, unified: Option<&Dir>) -> Result<MemoryStats> {
    let detail = detail(&dir.text("memory.stat")?);
    let of = |name: &str| detail.get(name).copied().unwrap_or(0);
    let with_swap = use_v1(dir, "memory.memsw");
    Ok(MemoryStats {
        usage: number(dir, "memory.usage_in_bytes")?.unwrap_or(0),
        max_usage: maybe(dir, "memory.max_usage_in_bytes"),
        limit: number(dir, "memory.limit_in_bytes")?.filter(|&limit| limit < V1_UNLIMITED),
        cache: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        swap: of("total_swap"),
        // Without swap beside it, the limit that is hit first is that of memory plus swap.
        failures: maybe(dir, "memory.failcnt").unwrap_or(0)
            + with_swap.map_or(0, |with_swap| with_swap.failures),
        with_swap,
        kernel: use_v1(dir, "memory.kmem"),
        kernel_tcp: use_v1(dir, "memory.kmem.tcp"),
        pressure: psi::pressure(unified, "memory.pressure"),
        detail,
    })
}

pub(super) fn v2(dir: &Dir) -> Result<MemoryStats> {
    let detail = detail(&dir.text("memory.stat")?);
    let of = |name: &str| detail.get(name).copied().unwrap_or(0);
    let only_use = |name: &str| {
        detail.get(name).map(|&usage| MemoryUse {
            usage,
            ..MemoryUse::default()
        })
    };
    let usage = number(dir, "memory.current")?.unwrap_or(0);
    let limit = number(dir, "memory.max")?;
    let swap = maybe(dir, "memory.swap.current");
    Ok(MemoryStats {
        usage,
        max_usage: maybe(dir, "memory.peak"),
        limit,
        cache: of("file"),
        inactive_file: of("inactive_file"),
        swap: swap.unwrap_or(0),
        failures: value_of(&dir.text("memory.events")?, "max").unwrap_or(0),
        with_swap: swap.map(|swap| with_swap_v2(dir, (usage, limit), swap)),
        kernel: only_use("kernel"),
        kernel_tcp: only_use("sock"),
        pressure: psi::pressure(Some(dir), "memory.pressure"),
        detail,
    })
}

fn with_swap_v2(dir: &Dir, memory: (u64, Option<u64>), swap: u64) -> MemoryUse {
    let swap_limit = maybe(dir, "memory.swap.max");
    let events = dir.read("memory.swap.events").unwrap_or_default();
    MemoryUse {
        usage: memory.0 + swap,
        max_usage: None,
        limit: swap_limit
            .zip(memory.1)
            .map(|(swap, memory)| swap.saturating_add(memory)),
        failures: value_of(&events, "max").unwrap_or(0),
    }
}
