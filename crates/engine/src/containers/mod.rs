//! Containers: one file per verb.
//!
//! `create` makes a record, a name and a writable layer; `start` forks a monitor that makes it run
//! (`supervise`); everything else looks at the records, or asks the monitor. What a request means is
//! decided by pure functions: `validate`, `resolve` (the request over the image's defaults) and `lower`
//! (the result as an OCI specification).

mod api;
mod attach;
mod checkpoint;
mod create;
mod diff;
mod exec;
mod files;
mod host;
mod inspect;
mod list;
mod logging;
mod logs;
mod lower;
mod names;
mod pause;
pub(crate) mod record;
mod remove;
mod resolve;
mod start;
mod stop;
pub(crate) mod store;
mod supervise;
pub(crate) mod userns;
mod validate;

pub use api::*;
pub use attach::{AttachEvent, Attachment};

use crate::Engine;

/// The container operations of an engine. Names are what the user typed: a name, an id or a unique id prefix.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'e> {
    pub(crate) engine: &'e Engine,
}
