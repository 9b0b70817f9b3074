//! `run` and `create`: what was typed ([`flags`]) → what it means ([`resolve()`]), a typed request.

pub mod flags;
mod isolation;
mod limits;
mod resolve;
#[cfg(test)]
mod tests;

pub use limits::integer;
pub use resolve::{Surroundings, resolve, variables};
