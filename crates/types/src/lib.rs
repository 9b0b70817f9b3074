//! The vocabulary of Barque: ids, references, digests, specifications, requests and views, as plain data.
//!
//! Nothing here does I/O. Every front-end lowers what its user said into these types, and every crate
//! below understands only them.

pub mod digest;
pub mod glob;
pub mod oci;
pub mod platform;
pub mod reference;
pub mod spec;
pub mod time;
