//! What statistics are made of. Times are nanoseconds, sizes bytes.
//!
//! The fields cover what Docker's API and the `stats` event of the OCI runtimes (runc's
//! `types/events.go`) tell; rendering is theirs.

use std::collections::BTreeMap;

/// Use and limits of a group at one moment. What a controller that is not there would tell is
/// `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Which processors and memory nodes.
    pub cpuset: Option<CpusetStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block I/O by device; `None` without the controller, empty before the first I/O.
    pub block_io: Option<Vec<BlockStats>>,
    /// Block I/O as v1's files tell it, for the OCI `stats` event.
    pub block_tables: Option<BlockTables>,
    /// Time lost waiting for I/O; `None` without v2 or without PSI.
    pub io_pressure: Option<Pressure>,
    /// Huge pages by size as the kernel spells it (`2MB`); empty without the controller.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// RDMA by device; empty without the controller or a device in use.
    pub rdma: BTreeMap<String, RdmaStats>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Memory and swap together, in both versions (v2 counts and limits swap alone: its figures are
    /// added to those of memory); `None` when the kernel does not account swap.
    pub with_swap: Option<MemoryUse>,
    /// Kernel memory, which is part of `usage`; v2 tells the use only (`kernel` of `memory.stat`,
    /// Linux 5.18).
    pub kernel: Option<MemoryUse>,
    /// Buffers of TCP sockets; v2 tells the use only, and of all sockets.
    pub kernel_tcp: Option<MemoryUse>,
    /// All of `memory.stat`, which Docker's API hands on.
    pub detail: BTreeMap<String, u64>,
    /// Time lost waiting for memory; `None` without v2 or without PSI.
    pub pressure: Option<Pressure>,
}

/// One kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Now.
    pub usage: u64,
    /// The most so far; `None` where the kernel does not keep it.
    pub max_usage: Option<u64>,
    /// `None` is unlimited.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// All of it.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub system: u64,
    /// By processor; empty on v2, which does not tell.
    pub per_cpu: Vec<u64>,
    /// In user mode by processor (v1).
    pub per_cpu_user: Vec<u64>,
    /// In kernel mode by processor (v1).
    pub per_cpu_system: Vec<u64>,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Those in which the group used up its quota.
    pub throttled_periods: u64,
    /// Time for which its tasks were held back.
    pub throttled: u64,
    /// Periods in which the group used a burst (Linux 5.14).
    pub bursts: u64,
    /// Time above the quota, by bursts.
    pub burst: u64,
    /// Time lost waiting for a processor; `None` without v2 or without PSI.
    pub pressure: Option<Pressure>,
}

/// Processors and memory nodes. The flags are v1's; `None` on v2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpusetStats {
    /// Processors; on v2 without a limit of its own, those of its parent.
    pub cpus: Vec<u16>,
    /// Memory nodes; likewise.
    pub mems: Vec<u16>,
    /// v1's other files by name without the prefix: `cpu_exclusive`, `memory_migrate`,
    /// `sched_relax_domain_level` (which can be -1), …
    pub flags: BTreeMap<&'static str, i64>,
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

/// The recursive counters of v1's I/O schedulers, or of the throttling layer where the scheduler
/// keeps none. v2 has the first two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTables {
    /// Bytes.
    pub service_bytes: Vec<BlockEntry>,
    /// Operations.
    pub serviced: Vec<BlockEntry>,
    /// Requests queued now.
    pub queued: Vec<BlockEntry>,
    /// Nanoseconds from dispatch to completion.
    pub service_time: Vec<BlockEntry>,
    /// Nanoseconds in the queue.
    pub wait_time: Vec<BlockEntry>,
    /// Requests merged.
    pub merged: Vec<BlockEntry>,
    /// Milliseconds of disk time.
    pub time: Vec<BlockEntry>,
    /// Sectors.
    pub sectors: Vec<BlockEntry>,
}

/// One line of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; empty where there is no such division.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// In use.
    pub usage: u64,
    /// The most so far; `None` on v2, which does not keep it.
    pub max_usage: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// RDMA resources of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// Handles in use.
    pub hca_handles: u64,
    /// Objects in use.
    pub hca_objects: u64,
    /// Limit of handles; `None` is unlimited.
    pub hca_handles_limit: Option<u64>,
    /// Limit of objects; `None` is unlimited.
    pub hca_objects_limit: Option<u64>,
}

/// Pressure stall information (the kernel's Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks that were not idle waited at once; zero for processors before 5.13.
    pub full: Stall,
}

/// Share of time lost, and the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last 60 s.
    pub avg60: f64,
    /// Percent of the last 300 s.
    pub avg300: f64,
    /// Microseconds, in all.
    pub total: u64,
}
