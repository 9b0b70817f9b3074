//! Between the user's terminal and a container: raw mode, sizes, detach keys, signals, and the pumps.

pub mod detach;
mod exec;
mod io;
pub mod pump;
pub mod signals;
pub mod terminal;
