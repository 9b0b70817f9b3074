//! Command lines in Docker's manner: how words are parsed, how faults are told, how help looks.

pub mod help;
pub mod parse;
