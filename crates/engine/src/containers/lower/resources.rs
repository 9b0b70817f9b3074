//! `linux.resources`: what was asked, with device numbers, and the device rules.

use super::{Facts, security};
use barque_types::container::CreateContainer;
use barque_types::spec::{BlockIo, Resources};

/// The limits of the container's cgroup.
pub(super) fn resources(request: &CreateContainer, facts: &Facts) -> Resources {
    let mut resources = request.resources.clone();
    if let Some(memory) = &mut resources.memory
        && memory.swap.is_none_or(|swap| swap == 0)
        && facts.swap_limit
    {
        // Docker's default: as much swap as memory. Unlimited swap would turn the limit into a slow death.
        memory.swap = memory
            .limit
            .filter(|limit| *limit > 0)
            .map(|limit| limit.saturating_mul(2));
    }
    resources.devices = security::device_rules(request, facts);
    let throttles = &facts.throttles;
    let mut block_io = resources.block_io.take().unwrap_or_default();
    block_io
        .throttle_read_bps_device
        .clone_from(&throttles.read_bps);
    block_io
        .throttle_write_bps_device
        .clone_from(&throttles.write_bps);
    block_io
        .throttle_read_iops_device
        .clone_from(&throttles.read_iops);
    block_io
        .throttle_write_iops_device
        .clone_from(&throttles.write_iops);
    resources.block_io = (block_io != BlockIo::default()).then_some(block_io);
    resources
}
