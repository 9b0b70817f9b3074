//! Taking images away: `rmi`'s rules, the collection of what nobody needs, and the sweep after crashes.
//!
//! A layer is needed by an image's record, by a snapshot's `lower` file, or by the lease of an ingest whose process lives.
//! The collector decides under the store's exclusive lock, where none of these can appear, moves what nobody needs to
//! tmp/ (a rename each), and deletes it after the lock is released: removing gigabytes holds up no container's start.

use crate::error::{Context, Error, Result};
use crate::image::{Image, InUse, RemoveEvent, Removed};
use crate::layer::{self, Staging};
use crate::layout::{LAYER_PREFIX, LEASE_PREFIX, Paths, REMOVED_PREFIX, short_name};
use crate::names;
use crate::snapshot::{Lower, read_lower};
use crate::store::Store;
use barque_state::atomic::{self, sync_dir};
use barque_state::lock::FileLock;
use barque_state::record;
use barque_types::digest::Digest;
use barque_types::reference::Reference;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

impl Store {
    /// `rmi`, with Docker's rules: a name is taken away; with its last name the image goes; an id needs all its names in
    /// one repository. What a container uses stays, unless `force` and the container does not run.
    pub fn remove(&self, text: &str, force: bool, in_use: &[InUse]) -> Result<Removed> {
        let (mut removed, garbage) = {
            let _lock = FileLock::exclusive(&self.paths.lock())?;
            let (image, name) = self.resolve_named(text)?;
            // Whose layers must stay is asked again when all is removed that is to be. A record that does not
            // tell is told before: half a removal would be worse than none.
            self::in_use(&self.paths)?;
            let request = Request {
                store: self,
                image,
                in_use,
                force,
            };
            let mut events = Vec::new();
            let garbage = if request.run(text, name, &mut events)? {
                self.detach_garbage()?
            } else {
                Garbage::default()
            };
            (
                Removed {
                    events,
                    freed: garbage.bytes,
                },
                garbage,
            )
        };
        removed
            .events
            .extend(garbage.layers.iter().map(|id| RemoveEvent::Deleted(*id)));
        garbage.delete()?;
        Ok(removed)
    }

    /// Removes all layers and blobs that no image, container or living ingest needs. Returns the bytes of files freed.
    pub fn collect(&self) -> Result<u64> {
        let garbage = {
            let _lock = FileLock::exclusive(&self.paths.lock())?;
            self.detach_garbage()?
        };
        let bytes = garbage.bytes;
        garbage.delete()?;
        Ok(bytes)
    }

    /// Removes what killed processes left behind. One directory listing when there is nothing to do; may run at any time
    /// beside anything else, for it touches only what it can lock.
    pub fn sweep(&self) -> Result<()> {
        let (mut dead, mut empty) = (Vec::new(), false);
        for name in names::list(&self.paths.tmp())? {
            if name.starts_with(REMOVED_PREFIX) {
                layer::delete_detached(&self.paths.tmp().join(&name))?;
            } else if name.starts_with(LEASE_PREFIX) {
                let path = self.paths.tmp().join(&name);
                match look_at_lease(&path)? {
                    Lease::Held => {}
                    Lease::Dead => dead.push(path),
                    Lease::Empty => empty = true,
                }
            } else if let Some(layer) = name.strip_prefix(LAYER_PREFIX) {
                // `<hex>.lock` or `<hex>.<unique>`: either may be all that is left.
                let layer = layer.split('.').next().unwrap_or(layer);
                if let Some(lock) = FileLock::try_exclusive(&self.paths.staging_lock(layer))? {
                    let dir = self.paths.tmp().join(&name);
                    drop(Staging::locked(&self.paths, layer, dir, lock));
                }
            }
        }
        if empty || !dead.is_empty() {
            self.collect()?;
        }
        // Last: killed before this, the next sweep finds them again.
        for path in &dead {
            remove_file(path)?;
        }
        Ok(())
    }

    /// Moves all garbage out of sight. Hold the store's lock exclusively.
    fn detach_garbage(&self) -> Result<Garbage> {
        let paths = &self.paths;
        let mut needed = in_use(paths)?;
        needed.extend(leased(paths)?);
        let mut garbage = Garbage::default();
        for name in names::list(&paths.overlay2())? {
            let Ok(id) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            let dir = paths.dir(&name);
            if needed.contains(&id) || !dir.join("layer.json").exists() {
                continue;
            }
            let size = layer::load(paths, &id).ok().flatten().map_or(0, |r| r.size);
            if let Some(path) = layer::detach(paths, &dir, &name)? {
                garbage.layers.push(id);
                garbage.paths.push(path);
                garbage.bytes += size;
            }
        }
        self.remove_unnamed_blobs()?;
        for dir in [paths.images(), paths.blobs()] {
            if dir.is_dir() {
                // Whoever writes there holds the lock, as we do now.
                atomic::sweep_all(&dir)?;
            }
        }
        Ok(garbage)
    }

    fn remove_unnamed_blobs(&self) -> Result<()> {
        let mut needed = HashSet::new();
        for id in self.ids()? {
            if let Some(image) = self.find(&id)? {
                needed.insert(image.config.digest.hex());
                needed.extend(image.manifest.map(|m| m.digest.hex()));
            }
        }
        for name in names::list(&self.paths.blobs())? {
            if !needed.contains(&name) {
                let path = self.paths.blobs().join(&name);
                std::fs::remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}

/// What was moved to tmp/ and is still to be deleted.
#[derive(Default)]
struct Garbage {
    layers: Vec<Digest>,
    paths: Vec<PathBuf>,
    bytes: u64,
}

impl Garbage {
    /// All are tried; the first failure is returned. What stays, the next sweep tries again.
    fn delete(self) -> Result<()> {
        let results: Vec<_> = self
            .paths
            .iter()
            .map(|path| layer::delete_detached(path))
            .collect();
        results.into_iter().collect()
    }
}

/// Layers that images or snapshots need: those are on disk whole, also after a power cut.
pub(crate) fn in_use(paths: &Paths) -> Result<HashSet<Digest>> {
    let mut out = HashSet::new();
    for file in names::list(&paths.images())? {
        // A record that cannot be read is an error: guessing "no layers" would delete them.
        if let Some(image) = record::load::<Image>(&paths.images().join(&file))? {
            out.extend(image.layers.iter().map(|l| l.diff_id));
        }
    }
    let mut short = HashSet::new();
    let mut layers = Vec::new();
    for name in names::list(&paths.overlay2())? {
        match read_lower(&paths.dir(&name))? {
            Some(Lower::Layers(names)) => short.extend(names),
            Some(Lower::Directory(_)) => {}
            None => layers.extend(format!("sha256:{name}").parse::<Digest>()),
        }
    }
    out.extend(
        layers
            .into_iter()
            .filter(|id| short.contains(&short_name(&id.hex()))),
    );
    Ok(out)
}

/// Layers that ingests in progress need.
fn leased(paths: &Paths) -> Result<HashSet<Digest>> {
    let mut out = HashSet::new();
    for name in names::list(&paths.tmp())? {
        if !name.starts_with(LEASE_PREFIX) {
            continue;
        }
        let path = paths.tmp().join(&name);
        if !matches!(look_at_lease(&path)?, Lease::Held) {
            continue; // the sweep removes the file
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => out.extend(text.lines().filter_map(|l| l.parse::<Digest>().ok())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).context("read", &path),
        }
    }
    Ok(out)
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("remove", path),
        _ => Ok(()),
    }
}

/// What has become of a lease that was listed.
enum Lease {
    /// Its ingest lives, or has just removed it.
    Held,
    /// Its ingest died. Its lock need not be kept: no lease's name is used twice.
    Dead,
    /// It says nothing, and is removed: a power cut took its content, or an ingest that had not written it yet makes
    /// another, or our own look made it.
    Empty,
}

fn look_at_lease(path: &Path) -> Result<Lease> {
    if !path.exists() {
        return Ok(Lease::Held);
    }
    let Some(_lock) = FileLock::try_exclusive(path)? else {
        return Ok(Lease::Held);
    };
    if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) {
        // Under its lock: whoever waits for that finds nothing at its path, and begins anew.
        let _ = std::fs::remove_file(path);
        return Ok(Lease::Empty);
    }
    Ok(Lease::Dead)
}

struct Request<'a> {
    store: &'a Store,
    image: Image,
    in_use: &'a [InUse],
    force: bool,
}

impl Request<'_> {
    /// Does it; says whether the image is gone.
    fn run(
        &self,
        text: &str,
        name: Option<Reference>,
        events: &mut Vec<RemoveEvent>,
    ) -> Result<bool> {
        let names = self.store.names(&self.image.id)?;
        let all: Vec<Reference> = names.tags.iter().chain(&names.digests).cloned().collect();
        match name {
            Some(name) => {
                if !self.force
                    && is_single(&all)
                    && let Some(user) = self.user(false)
                {
                    return Err(self.conflict(
                        "remove repository reference",
                        &format!("{text:?}"),
                        true,
                        format!(
                            "container {} is using its referenced image {}",
                            short(&user.container),
                            self.image.id.short()
                        ),
                    ));
                }
                self.untag(&name, events)?;
                let mut left: Vec<_> = all.into_iter().filter(|n| *n != name).collect();
                // Digests of a repository whose last tag went are of no use to anybody.
                if name.digest().is_none()
                    && !left
                        .iter()
                        .any(|n| n.digest().is_none() && n.name() == name.name())
                {
                    for digest in
                        left.extract_if(.., |n| n.digest().is_some() && n.name() == name.name())
                    {
                        self.untag(&digest, events)?;
                    }
                }
                // With names left, or in use, the image stays; that is no error, for the name is gone as asked.
                if !left.is_empty() || self.user(self.force).is_some() {
                    return Ok(false);
                }
            }
            None => {
                self.must_be_free(&all)?;
                for name in &all {
                    self.untag(name, events)?;
                }
            }
        }
        let path = self.store.paths.image(&self.image.id);
        std::fs::remove_file(&path).context("remove", &path)?;
        // Before its layers go, or a power cut could bring back an image without them.
        sync_dir(&self.store.paths.images())?;
        events.push(RemoveEvent::Deleted(self.image.id));
        Ok(true)
    }

    /// The checks for a removal by id.
    fn must_be_free(&self, names: &[Reference]) -> Result<()> {
        let id = self.image.id.short();
        if let Some(user) = self.user(true) {
            let reason = format!(
                "image is being used by running container {}",
                short(&user.container)
            );
            return Err(self.conflict("delete", &id, false, reason));
        }
        if self.force {
            return Ok(());
        }
        if !names.is_empty() && !is_single(names) {
            let reason = "image is referenced in multiple repositories".to_owned();
            return Err(self.conflict("delete", &id, true, reason));
        }
        if let Some(user) = self.user(false) {
            let reason = format!(
                "image is being used by stopped container {}",
                short(&user.container)
            );
            return Err(self.conflict("delete", &id, true, reason));
        }
        Ok(())
    }

    /// A container that uses the image.
    fn user(&self, only_running: bool) -> Option<&InUse> {
        self.in_use
            .iter()
            .find(|u| u.image == self.image.id && (u.running || !only_running))
    }

    fn untag(&self, name: &Reference, events: &mut Vec<RemoveEvent>) -> Result<()> {
        names::unset(&self.store.paths, name)?;
        events.push(RemoveEvent::Untagged(name.familiar()));
        Ok(())
    }

    fn conflict(
        &self,
        action: &'static str,
        subject: &str,
        can_force: bool,
        reason: String,
    ) -> Error {
        Error::Conflict {
            action,
            subject: subject.to_owned(),
            can_force,
            reason,
        }
    }
}

/// Whether the names are of one repository with at most one tag: then "the image" and "its name" are the same thing.
fn is_single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|n| n.digest().is_none()).count();
    tags <= 1 && names.iter().all(|n| n.name() == names[0].name())
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}
