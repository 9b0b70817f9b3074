//! Random names for containers whose user gave none: a weather or temper, and a ship's part or sailor's word.

const FIRST: [&str; 48] = [
    "able", "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "clear", "clever",
    "cosy", "daring", "deft", "eager", "early", "fair", "fleet", "fresh", "gentle", "glad",
    "hardy", "hearty", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "mild",
    "misty", "neat", "nimble", "noble", "patient", "placid", "quick", "quiet", "ready", "sage",
    "serene", "spry", "steady", "sturdy", "sunny", "swift", "trusty", "windy",
];

const SECOND: [&str; 48] = [
    "anchor", "barge", "beacon", "binnacle", "boom", "bosun", "bow", "brig", "buoy", "cable",
    "capstan", "clipper", "compass", "coracle", "cutter", "deck", "dinghy", "dory", "galley",
    "gunwale", "halyard", "harbour", "hatch", "helm", "hull", "jib", "keel", "ketch", "lantern",
    "lugger", "mast", "mizzen", "oar", "pilot", "pinnace", "prow", "quay", "rigging", "rudder",
    "schooner", "sextant", "skiff", "sloop", "spar", "stern", "tiller", "topsail", "yawl",
];

/// A name from eight random bytes; the suffix is for when the plain name is taken.
pub(crate) fn from_random(random: u64, suffix: Option<u32>) -> String {
    let first = FIRST[(random % FIRST.len() as u64) as usize];
    let second = SECOND[(random / FIRST.len() as u64 % SECOND.len() as u64) as usize];
    match suffix {
        None => format!("{first}_{second}"),
        Some(n) => format!("{first}_{second}{n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_valid_and_no_word_doubled() {
        for list in [FIRST, SECOND] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len());
        }
        for n in 0..5000 {
            assert!(barque_state::names::is_valid(&from_random(n, None)));
        }
        assert!(from_random(7, Some(3)).ends_with('3'));
    }
}
