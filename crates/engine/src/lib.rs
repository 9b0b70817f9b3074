//! The façade that every front-end calls: containers, images and facts about the engine.
//!
//! The engine is a library, not a daemon: any number of processes may have one open on the same data
//! root. Truth is on disk and in locks. It returns values and typed errors; it does not print, exit,
//! or read the user's environment.

mod check;
mod cleanup;
pub mod containers;
mod error;
pub mod images;
mod info;
mod journal;

pub use check::{Problem, StoreCheck};
pub use error::{Error, Kind, Result};
pub use info::version;
pub use journal::Unstarted;

use barque_cgroup::Layout;
use barque_image::Store;
use barque_state::layout::{DataRoot, RunRoot};
use barque_state::names::Names;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where an engine keeps things and how it reaches the outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// Images, containers, layers (default `/var/lib/barque`).
    pub data_root: PathBuf,
    /// Sockets and other state of this boot (default `/run/barque`).
    pub run_root: PathBuf,
    /// Folder with Docker's `config.json` (credentials).
    pub config_dir: Option<PathBuf>,
    /// Registries (`host[:port]`) that may be spoken to without TLS, beside loopback.
    pub insecure_registries: Vec<String>,
    /// Proxies by scheme and the hosts that need none (values of HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
    pub proxies: Proxies,
}

/// Values of the proxy variables.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For https.
    pub https: Option<String>,
    /// For http.
    pub http: Option<String>,
    /// Comma-separated hosts reached directly.
    pub no_proxy: Option<String>,
}

/// An engine on one data root and one run root. Cheap to open and to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) data: DataRoot,
    pub(crate) run: RunRoot,
    pub(crate) store: Store,
    pub(crate) names: Names,
    /// Read from `/proc` by the first operation that needs it.
    cgroups: OnceLock<Layout>,
}

impl Engine {
    /// Opens (and when new, lays out) the roots, and sweeps what crashed commands left.
    pub fn open(options: Options) -> Result<Self> {
        let data = DataRoot::open(&options.data_root)?;
        let run = RunRoot::open(&options.run_root)?;
        let store = Store::open(&data);
        let names = Names::new(data.names());
        let engine = Self {
            options,
            data,
            run,
            store,
            names,
            cgroups: OnceLock::new(),
        };
        engine.sweep();
        Ok(engine)
    }

    /// The container operations.
    pub const fn containers(&self) -> containers::Containers<'_> {
        containers::Containers { engine: self }
    }

    /// The image operations.
    pub const fn images(&self) -> images::Images<'_> {
        images::Images { engine: self }
    }

    /// The same engine for a process that is forked off: what this one holds open is closed there, so
    /// nothing that was found by descriptor may come along.
    pub(crate) fn for_forked_process(&self) -> Self {
        Self {
            options: self.options.clone(),
            data: self.data.clone(),
            run: self.run.clone(),
            store: self.store.clone(),
            names: self.names.clone(),
            cgroups: OnceLock::new(),
        }
    }

    /// How this machine mounts its cgroups.
    pub(crate) fn cgroups(&self) -> Result<&Layout> {
        if let Some(layout) = self.cgroups.get() {
            return Ok(layout);
        }
        let layout = Layout::detect()?;
        Ok(self.cgroups.get_or_init(|| layout))
    }
}
