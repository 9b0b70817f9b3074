//! One more process in a running container.

use crate::{ExecOptions, Result, Running};

/// Runs a process in the namespaces of a running container; returns when its program is executed.
///
/// The caller must be single-threaded; the process is its child.
pub fn exec(options: ExecOptions<'_>) -> Result<Running> {
    Err(crate::Error::invalid(options.id, "not built yet"))
}
