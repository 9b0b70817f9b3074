//! What the whole engine keeps on disk, and the rules by which many processes share it.
//!
//! There is no daemon: truth is in files and in the locks on them. This crate holds the mechanisms and
//! knows no nouns: where things lie ([`layout`]), how a file is replaced so that a crash leaves the old
//! or the new content ([`atomic`]), versioned JSON records ([`record`]), locks between processes
//! ([`lock`]), unique names ([`names`]) and processes that cannot be mistaken for others
//! ([`process`]). Nothing here calls fsync unless the caller asks for it.

pub mod atomic;
mod error;
pub mod layout;
pub mod lock;
pub mod names;
pub mod process;
pub mod record;

pub use atomic::Durability;
pub use error::{Error, Result};
