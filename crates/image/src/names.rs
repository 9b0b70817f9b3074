//! Which image a name means: one record per name, so that no two commands ever rewrite each other's.
//!
//! ```text
//! image/names/docker.io/library/busybox/_tags/latest          {"version":1,"image":"sha256:…"}
//! image/names/docker.io/library/busybox/_digests/<hex>        the same, for name@sha256:<hex>
//! ```
//! A path component of a reference begins with a letter or digit, so `_tags` and `_digests` cannot be one. Reading needs
//! no lock; who writes holds the store's lock exclusively, because removing a name also removes empty directories.

use crate::error::{Context, Error, Result};
use crate::image::Names;
use crate::layout::Paths;
use barque_state::atomic::sync_dir;
use barque_state::record::{self, Record};
use barque_state::{Durability, layout::make_dir};
use barque_types::digest::Digest;
use barque_types::reference::Reference;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const TAGS: &str = "_tags";
const DIGESTS: &str = "_digests";

#[derive(Serialize, Deserialize)]
struct NameRecord {
    image: Digest,
}

impl Record for NameRecord {
    const WHAT: &'static str = "image name";
}

/// The record's path. A reference with a digest means that, whatever tag it has besides.
fn path_of(paths: &Paths, name: &Reference) -> PathBuf {
    let repository = paths.names().join(name.domain()).join(name.path());
    match (name.digest(), name.tag()) {
        (Some(digest), _) => repository.join(DIGESTS).join(digest.hex()),
        (None, tag) => repository
            .join(TAGS)
            .join(tag.unwrap_or(barque_types::reference::DEFAULT_TAG)),
    }
}

/// The image that a name means.
pub(crate) fn get(paths: &Paths, name: &Reference) -> Result<Option<Digest>> {
    Ok(record::load::<NameRecord>(&path_of(paths, name))?.map(|r| r.image))
}

/// Gives the name to an image, durably. Hold the store's lock.
pub(crate) fn set(paths: &Paths, name: &Reference, image: &Digest) -> Result<()> {
    let path = path_of(paths, name);
    if let Some(dir) = path.parent() {
        make_dirs(dir)?;
    }
    Ok(record::store(
        &path,
        &NameRecord { image: *image },
        Durability::Synced,
    )?)
}

/// Takes the name away, durably. Hold the store's lock.
pub(crate) fn unset(paths: &Paths, name: &Reference) -> Result<()> {
    let path = path_of(paths, name);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).context("remove", &path),
    }
    let top = paths.names();
    for dir in path.ancestors().skip(1).take_while(|dir| **dir != *top) {
        // Not empty: then this is the directory whose change must reach the disk.
        if std::fs::remove_dir(dir).is_err() {
            return Ok(sync_dir(dir)?);
        }
    }
    Ok(sync_dir(&top)?)
}

/// Makes the directories of a name, each synced into the one above.
fn make_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dirs(above)?;
        make_dir(dir, 0o700)?;
        sync_dir(above)?;
    }
    Ok(())
}

/// All names by image.
pub(crate) fn all(paths: &Paths) -> Result<HashMap<Digest, Names>> {
    let mut out = HashMap::<Digest, Names>::new();
    walk(&paths.names(), &mut Vec::new(), &mut out)?;
    for names in out.values_mut() {
        names.tags.sort();
        names.digests.sort();
    }
    Ok(out)
}

fn walk(dir: &Path, parts: &mut Vec<String>, out: &mut HashMap<Digest, Names>) -> Result<()> {
    for name in list(dir)? {
        let path = dir.join(&name);
        match name.as_str() {
            TAGS | DIGESTS => records(&path, &parts.join("/"), name == DIGESTS, out)?,
            _ => {
                parts.push(name);
                walk(&path, parts, out)?;
                parts.pop();
            }
        }
    }
    Ok(())
}

fn records(
    dir: &Path,
    repository: &str,
    digests: bool,
    out: &mut HashMap<Digest, Names>,
) -> Result<()> {
    for file in list(dir)? {
        let path = dir.join(&file);
        let text = if digests {
            format!("{repository}@sha256:{file}")
        } else {
            format!("{repository}:{file}")
        };
        let name = Reference::parse(&text).map_err(|e| {
            Error::State(barque_state::Error::Corrupt {
                what: "image name",
                path: path.clone(),
                reason: e.to_string(),
            })
        })?;
        // Removed since it was listed: not an error.
        if let Some(NameRecord { image }) = record::load(&path)? {
            let names = out.entry(image).or_default();
            if digests {
                &mut names.digests
            } else {
                &mut names.tags
            }
            .push(name);
        }
    }
    Ok(())
}

/// The names of a directory's entries, without temporaries; empty if the directory is not there.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).context("list", dir),
    };
    let mut out = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.context("list", dir)?.file_name().into_string()
            && !barque_state::atomic::is_temporary(&name)
        {
            out.push(name);
        }
    }
    Ok(out)
}
