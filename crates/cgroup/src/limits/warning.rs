//! What is said about limits that this kernel cannot hold: Docker's own lines, because its users
//! and their scripts know them.

pub(crate) const MEMORY: &str = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
pub(crate) const SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
pub(crate) const SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.";
pub(crate) const RESERVATION: &str = "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.";
pub(crate) const KERNEL_MEMORY: &str = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
pub(crate) const KERNEL_TCP: &str = "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded.";
pub(crate) const OOM_KILL: &str =
    "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
pub(crate) const PIDS: &str = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";
pub(crate) const SHARES: &str =
    "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.";
pub(crate) const CFS: &str =
    "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.";
pub(crate) const BURST: &str =
    "Your kernel does not support a burst above the CPU quota. Burst discarded.";
pub(crate) const IDLE: &str =
    "Your kernel does not support idle scheduling of a cgroup. Idle discarded.";
pub(crate) const CPUSET: &str =
    "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
pub(crate) const WEIGHT: &str =
    "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
pub(crate) const WEIGHT_DEVICE: &str = "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.";
pub(crate) const READ_BPS: &str = "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.";
pub(crate) const WRITE_BPS: &str = "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.";
pub(crate) const READ_IOPS: &str = "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.";
pub(crate) const WRITE_IOPS: &str = "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.";
pub(crate) const NET_CLS: &str =
    "Your kernel does not support net_cls or the cgroup is not mounted. Class id discarded.";
pub(crate) const NET_PRIO: &str =
    "Your kernel does not support net_prio or the cgroup is not mounted. Priorities discarded.";
pub(crate) const DEVICES: &str =
    "Your kernel does not support the devices cgroup or it is not mounted. Device rules discarded.";
pub(crate) const DEVICES_ROOTLESS: &str =
    "Device rules need root on the host. Device rules discarded.";
