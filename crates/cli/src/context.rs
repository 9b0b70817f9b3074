//! What a verb is given: the global options and, on demand, the engine.

use crate::create::Surroundings;
use crate::errors::{Failure, Phase};
use crate::globals::Globals;
use barque_engine::Engine;
use std::path::PathBuf;

/// What a verb is given.
pub struct Context {
    /// The global options.
    pub globals: Globals,
    /// The command as typed: `run`, `container run`.
    pub path: String,
}

impl Context {
    /// Opens the engine. Fails for everybody but root, in words that say so.
    pub fn engine(&self) -> Result<Engine, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::Refused(format!(
                "this version needs root: try 'sudo barque {}' (containers without root come with a later version)",
                self.path
            )));
        }
        Engine::open(self.globals.options.clone()).map_err(|e| Failure::Engine(Phase::Other, e))
    }

    /// Calls with what the flags of `run` and `exec` may refer to.
    pub fn with_surroundings<T>(
        &self,
        call: impl FnOnce(&Surroundings<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        call(&Surroundings {
            env: &crate::globals::environment,
            cwd: &cwd,
            read: &|path| std::fs::read_to_string(path),
        })
    }
}

/// An engine's failure in a verb where nothing special hangs on it.
pub fn failed(error: barque_engine::Error) -> Failure {
    Failure::Engine(Phase::Other, error)
}

/// Does something for each name; a failure is told at once and the others still get their turn. `each` prints.
pub fn for_each(
    context: &Context,
    names: &[String],
    mut each: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match each(name) {
            Ok(()) => {}
            Err(Failure::BrokenPipe) => return Err(Failure::BrokenPipe),
            Err(failure) => {
                let report = failure.report(&context.path);
                crate::output::complain(&report.text);
                code = code.max(report.code);
            }
        }
    }
    Ok(code)
}

/// As [`for_each`], several at a time: for operations that mostly wait (`stop`) and never fork. Names are printed in
/// their order; not those for which `each` says that there was nothing to do.
pub fn for_each_at_once(
    context: &Context,
    names: &[String],
    each: impl Fn(&str) -> Result<bool, Failure> + Sync,
) -> Result<u8, Failure> {
    /// As many as Docker's CLI has under way.
    const AT_ONCE: usize = 50;
    let mut results = Vec::with_capacity(names.len());
    for chunk in names.chunks(AT_ONCE) {
        if let [name] = chunk {
            results.push(each(name));
            continue;
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = chunk
                .iter()
                .map(|name| scope.spawn(|| each(name)))
                .collect();
            results.extend(
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or(Err(Failure::Said(1)))),
            );
        });
    }
    let mut results = results.into_iter();
    for_each(context, names, |name| match results.next() {
        Some(Ok(true)) => crate::output::line(name),
        Some(Err(failure)) => Err(failure),
        Some(Ok(false)) | None => Ok(()),
    })
}
