//! What the end-to-end tests stand on: private engines that check that nothing is left behind, images
//! and layers made in memory, registries that behave and registries that do not, terminals, and looks
//! at the kernel's side of a container.
//!
//! Everything here panics with a readable message instead of returning errors: its callers are tests.
//! The tests need root (namespaces, cgroups, overlayfs) and say so loudly instead of skipping.

mod barque;
mod binary;
mod command;
pub mod fake;
pub mod http;
pub mod image;
mod leftovers;
mod oci;
pub mod poll;
pub mod proc;
mod pty;
pub mod registry;
pub mod vm;

pub use barque::Barque;
pub use binary::{barque_binary, callers, criu, target_dir, workspace};
pub use command::{Cmd, Output, Running};
pub use oci::{Oci, census};
pub use pty::Pty;
pub use registry::{Compression, Dialect, Registry};
