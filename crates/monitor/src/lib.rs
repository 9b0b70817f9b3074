//! One small supervisor per container, its logs, and the client that talks to it.
//!
//! The monitor owns what must outlive the command that started a container: its stdio and log, its exit
//! status, its restart policy and the clients attached to it. It is a fork of the starting process (no
//! exec, no threads, no async runtime), waits in poll(2) on fds alone — a pidfd for the container, so no
//! SIGCHLD can be missed — and knows nothing of images, cgroups or namespaces: the engine hands those
//! steps in as a [`Supervised`].
//!
//! ```text
//!  barque run ── spawn() ──fork──→ monitor ── Supervised::start ──→ container's PID 1
//!      └──────── socketpair ─────────┤ ├─ pipes or pty ─→ log::Writer (json-file), attached clients
//!  barque stop ─── monitor.sock ─────┘ └─ pidfd ─→ Supervised::{ended, finished}, waiters, restart
//! ```
//! What happens to whom: a killed client is a closed connection; a killed monitor closes the container's
//! pipes and its socket ([`Error::NotRunning`] for clients), and the engine decides what to do with a
//! container without one.

pub mod client;
mod error;
pub mod log;
pub mod protocol;
mod server;
mod spawn;
mod supervised;

pub use client::{Attachment, Client, Event};
pub use error::{Error, Result};
pub use protocol::{AttachOptions, ExitStatus, SlowClient, Status, WaitCondition};
pub use server::is_served;
pub use server::restart::{Backoff, should_restart};
pub use server::stop::{SignalState, can_hear};
pub use spawn::{Spawned, spawn};
pub use supervised::{
    Config, ContainerIo, Ended, Finish, LogConfig, Restart, StartError, StartRequest, Started,
    Supervised,
};
