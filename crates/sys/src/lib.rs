//! Every door to the kernel that Barque uses and that `rustix` does not offer safely.
//!
//! This is the only crate with `unsafe` code. It holds mechanism, no policy: each function is one
//! system call (or one inseparable sequence), takes and returns owned or borrowed fds, and names the
//! man page and the kernel version it needs.
#![allow(unsafe_code)]

pub mod bpf;
pub mod daemon;
pub mod memory;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod notify;
pub mod process;
pub mod ptrace;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
