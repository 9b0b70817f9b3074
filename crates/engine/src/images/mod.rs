//! Images: pull, load, import, tag, remove, list, inspect.

use crate::Engine;

/// The image operations of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Images<'e> {
    pub(crate) engine: &'e Engine,
}
