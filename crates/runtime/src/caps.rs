//! Capabilities (capabilities(7)) by name and as bit sets.

use barque_types::caps::NAMES;
use rustix::thread::CapabilitySet;

/// The number of a capability; the name in any case, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|n| n.strip_prefix("CAP_") == Some(bare))
        .map(|i| i as u32)
}

/// The names of a set, in the kernel's order. A capability newer than this list has none.
pub fn names(set: CapabilitySet) -> Vec<String> {
    NAMES
        .iter()
        .enumerate()
        .filter(|(i, _)| set.bits() & (1 << i) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// The bounding set of the calling thread: what it could ever give away.
pub fn bounding_set() -> CapabilitySet {
    let mut set = 0u64;
    for number in 0..64 {
        // EINVAL: past the last capability of this kernel.
        match rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        )) {
            Ok(true) => set |= 1 << number,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    CapabilitySet::from_bits_retain(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("sys_admin"), Some(21));
        assert_eq!(number("cap_checkpoint_restore"), Some(40));
        assert_eq!(number("CAP_NONE_SUCH"), None);
    }

    #[test]
    fn names_and_numbers_agree() {
        for (i, name) in NAMES.iter().enumerate() {
            assert_eq!(number(name), Some(i as u32));
        }
        assert_eq!(
            names(CapabilitySet::CHOWN | CapabilitySet::BPF),
            ["CAP_CHOWN", "CAP_BPF"]
        );
    }
}
