//! The OCI runtime: a specification becomes a running process.
//!
//! [`create`] makes a container up to the moment before its program is executed; `start` lets it
//! go. [`exec`] runs one more process in a running container. There is no helper program and no
//! re-execution of ourselves: the caller (single-threaded, by contract) is forked by `clone3` into
//! new namespaces, the child builds its own root file system in `init`, and executes the program.
//!
//! Reading order: `create` (the parent's side), `init` (the child's side, one file a step),
//! `exec`; what they share stands in `plan` (a specification parsed into what is to be done),
//! `channel` (what the two say to each other) and `path` (no path is ever followed out of the
//! root).

mod agent;
mod birthplace;
pub mod caps;
mod channel;
mod create;
pub mod criu;
pub mod defaults;
mod error;
mod exec;
pub mod features;
mod foreign;
mod fsctx;
mod hierarchies;
pub mod hooks;
mod init;
mod labels;
pub mod lifecycle;
mod locks;
mod namespaces;
mod netdevices;
mod options;
mod path;
mod plan;
mod rootfs;
pub mod seccomp;
pub mod shield;
mod sources;
pub mod user;
mod userns;

pub use agent::Agent;
pub use create::{Created, Running, create, start_at};
pub use error::{Error, Result};
pub use exec::{exec, open_namespace, open_pidfd};
pub use foreign::tree_of;
pub use options::{
    CgroupJoin, CreateOptions, ExecOptions, Lifetime, OnBirth, Rootfs, Stdio, UserSpec,
};
pub use plan::mount_options;
#[doc(hidden)]
pub use rootfs::{Idmap, mount_as_on};
