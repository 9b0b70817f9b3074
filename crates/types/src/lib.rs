//! The vocabulary of Barque: ids, references, digests, specifications, requests and views, as plain data.
//!
//! Nothing here does I/O. Every front-end lowers what its user said into these types, and every crate
//! below understands only them.

pub mod container;
pub mod digest;
pub mod docker;
pub mod glob;
pub mod id;
pub mod oci;
pub mod platform;
pub mod reference;
pub mod restart;
pub mod signal;
pub mod spec;
pub mod time;
