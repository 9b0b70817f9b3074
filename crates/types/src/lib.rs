//! The vocabulary of Barque: ids, references, digests, specifications, requests and views, as plain data.
//!
//! Nothing here does I/O. Every front-end lowers what its user said into these types, and every crate
//! below understands only them.

pub mod caps;
pub mod container;
pub mod device;
pub mod digest;
pub mod docker;
pub mod env;
pub mod glob;
pub mod human;
pub mod id;
pub mod mount;
pub mod netmode;
pub mod oci;
pub mod oci_state;
pub mod platform;
pub mod reference;
pub mod restart;
pub mod signal;
pub mod size;
pub mod spec;
pub mod time;
pub mod ulimit;
