//! `features`: what this runtime can do, as JSON (runtime-spec, features.md).

use super::*;
use crate::output;

pub(super) const COMMAND: Command = Command {
    name: "features",
    usage: "",
    about: "show the enabled features",
    details: "The result is JSON, and follows the runtime specification's features.md.",
    flags: &[],
    order: Order::Mixed,
    words: (0, 0),
    run: |_| output::json(&barque_runtime::features::features(), true),
};
