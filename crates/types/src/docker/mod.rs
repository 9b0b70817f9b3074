//! The shapes in which Docker's API shows things: `inspect`, `ps`, `images`, `info`, `version`.
//!
//! Clients parse these strictly: times are RFC 3339 with nanoseconds, arrays are never null where the
//! API's description says array. The CLI's `inspect` prints them as they are, its `--format` templates
//! walk them by these (Go) field names.

mod container;
pub mod image;
mod system;

pub use container::*;
pub use image::*;
pub use system::*;
