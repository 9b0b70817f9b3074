//! Control groups: limits, statistics, freezing and killing of everything a container runs.
//!
//! Three worlds exist and this crate treats them alike: v1 (one hierarchy per controller or set of
//! controllers), v2 (one tree), and the hybrid of both. [`Layout::detect`] finds what there is;
//! [`Cgroup`] is one group in every hierarchy at once. Which version a limit is written for is
//! decided controller by controller, so that any mixture works.
//!
//! ```text
//! Layout::detect ── which hierarchies, where          tables (pure parsers), layout
//! Cgroup::create ── mkdir in each, or take over       make (cgroupfs driver)
//!                └─ Resources → files                 limits::{v1, v2, devices, bpf}
//! Manager::start ── or systemd makes a scope          systemd (D-Bus)
//! child joins    ── CLONE_INTO_CGROUP, "0" to tasks   group (join_fds, v2_fd)
//! life           ── freeze, thaw, kill_all            freeze
//!                ├─ stats, oom_kills                  stats
//!                ├─ watch_oom, watch_pressure         notify
//!                └─ apply (update), delegate          limits, delegate
//! end            ── remove                            group
//! info           ── controllers, Capabilities         info
//! ```
//!
//! Everything is reached through directory fds that are held open, so that names cannot be swapped
//! underneath. Sources: cgroups(7), and the kernel's `Documentation/admin-guide/cgroup-v1/` and
//! `cgroup-v2.rst`.

mod delegate;
mod dir;
mod error;
mod freeze;
mod group;
mod info;
mod layout;
mod limits;
mod make;
mod notify;
mod stats;
pub mod systemd;
mod tables;

pub use error::{Error, Leftover, Result};
pub use group::Cgroup;
pub use info::{Capabilities, Controller, controllers};
pub use layout::{Hierarchy, Layout, Mode, check_path};
pub use notify::{OomNews, OomWatch, PressureLevel, PressureWatch};
pub use stats::{
    BlockEntry, BlockStats, BlockTables, CpuStats, CpusetStats, HugetlbStats, MemoryStats,
    MemoryUse, PidsStats, Pressure, RdmaStats, Stall, Stats,
};
pub use tables::{Kind, Mounted, Subsystem, hierarchies, subsystems};
