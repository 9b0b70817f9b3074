//! `system check`: whether everything is on disk as it came.
//!
//! All digests are computed again: of configurations and manifests from their bytes, of layers from the tar that their
//! tape and files give. A layer's directory is compared, name by name, with what its archive makes of an empty one, so a
//! changed mode, a lost attribute and a file too many are found too. Nothing is repaired and nothing is locked: what is
//! removed while it is looked at is no problem.

mod expect;
mod tree;

use crate::archive::{Fault, TarReader};
use crate::error::{Context, Result};
use crate::image::Image;
use crate::layer;
use crate::layout::short_name;
use crate::names;
use crate::pipeline::digest_of;
use crate::snapshot::{Lower, read_lower};
use crate::store::Store;
use barque_types::digest::Digest;
use expect::Expected;
use rustix::fs::{CWD, Mode, OFlags};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Images that were looked at.
    pub images: usize,
    /// Layers that were read and compared.
    pub layers: usize,
    /// Bytes of the layers' tars.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `image sha256:…`, `layer sha256:…`, `name …`, `container …`.
    pub subject: String,
    /// What is wrong with it.
    pub what: String,
}

impl Store {
    /// Checks all images, all layers, all names, and what containers stand on. `tell` hears which layer is next.
    pub fn check(&self, tell: &(dyn Fn(&Digest) + Sync)) -> Result<Report> {
        let mut report = Report::default();
        self.check_images(&mut report)?;
        self.check_names(&mut report)?;
        self.check_snapshots(&mut report)?;
        self.check_layers(tell, &mut report)?;
        report.problems.sort();
        Ok(report)
    }

    fn check_images(&self, report: &mut Report) -> Result<()> {
        for id in self.ids()? {
            let mut wrong = Vec::new();
            match self.find(&id) {
                Ok(Some(image)) => self.check_image(&image, &mut wrong),
                Ok(None) => continue,
                Err(e) => wrong.push(e.to_string()),
            }
            // Removed while it was looked at.
            if !self.paths.image(&id).exists() {
                continue;
            }
            report.images += 1;
            let subject = format!("image {id}");
            let problem = |what| Problem {
                subject: subject.clone(),
                what,
            };
            report.problems.extend(wrong.into_iter().map(problem));
        }
        Ok(())
    }

    fn check_image(&self, image: &Image, wrong: &mut Vec<String>) {
        let blobs = [
            ("configuration", Some(&image.config)),
            ("manifest", image.manifest.as_ref()),
        ];
        for (what, blob) in blobs {
            let Some(blob) = blob else { continue };
            match self.blob(&blob.digest) {
                Err(e) => wrong.push(e.to_string()),
                Ok(bytes) if digest_of(&bytes) != blob.digest => {
                    wrong.push(format!(
                        "its {what} has the digest {} instead of {}",
                        digest_of(&bytes),
                        blob.digest
                    ));
                }
                Ok(_) => {}
            }
        }
        let layers: Vec<Digest> = image.layers.iter().map(|l| l.diff_id).collect();
        match self.config(image) {
            Ok(config) if config.rootfs.diff_ids != layers => {
                wrong.push("its record has other layers than its configuration".to_owned());
            }
            Ok(_) => {}
            Err(e) => wrong.push(e.to_string()),
        }
        for id in layers.iter().collect::<BTreeSet<_>>() {
            if !matches!(layer::load(&self.paths, id), Ok(Some(_))) {
                wrong.push(format!(
                    "its layer {id} is missing: remove the image and pull it again"
                ));
            }
        }
    }

    fn check_names(&self, report: &mut Report) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (id, names) in names::all(&self.paths)? {
            for name in names.tags.iter().chain(&names.digests) {
                let mut problem = |what: String| {
                    let subject = format!("name {}", name.familiar());
                    report.problems.push(Problem { subject, what });
                };
                if !seen.insert(name.familiar()) {
                    problem("it is there twice".to_owned());
                }
                if !self.paths.image(&id).exists() && names::get(&self.paths, name)? == Some(id) {
                    problem(format!("it names the image {id}, which is not there"));
                }
            }
        }
        Ok(())
    }

    fn check_snapshots(&self, report: &mut Report) -> Result<()> {
        for id in self.snapshots()? {
            let dir = self.paths.dir(&id);
            let wrong = match (read_lower(&dir), self.snapshot(&id)) {
                (Err(e), _) => Some(e.to_string()),
                // A container being made or removed.
                (Ok(None), _) => None,
                (Ok(Some(Lower::Directory(_))), Err(_)) => None,
                (Ok(Some(_)), Err(e)) => Some(e.to_string()),
                (Ok(Some(_)), Ok(_)) => None,
            };
            if let Some(what) = wrong
                && dir.exists()
            {
                let subject = format!("container {id}");
                report.problems.push(Problem { subject, what });
            }
        }
        Ok(())
    }

    fn check_layers(&self, tell: &(dyn Fn(&Digest) + Sync), report: &mut Report) -> Result<()> {
        let names = names::list(&self.paths.overlay2())?;
        let layers: Vec<Digest> = names
            .iter()
            .filter(|name| self.paths.dir(name).join("layer.json").exists())
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let work = || {
            while let Some(id) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                tell(id);
                let found = self
                    .check_layer(id)
                    .unwrap_or_else(|e| (0, vec![e.to_string()]));
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((*id, found));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        for (id, (bytes, wrong)) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if !self.paths.layer(&id).exists() {
                continue;
            }
            report.layers += 1;
            report.bytes += bytes;
            let subject = format!("layer {id}");
            let problem = |what| Problem {
                subject: subject.clone(),
                what,
            };
            report.problems.extend(wrong.into_iter().map(problem));
        }
        Ok(())
    }

    /// One layer: bytes of its tar, and what is wrong.
    fn check_layer(&self, id: &Digest) -> Result<(u64, Vec<String>)> {
        let dir = self.paths.layer(id);
        let mut wrong = Vec::new();
        let short = short_name(&id.hex());
        let link = std::fs::read_to_string(dir.join("link")).unwrap_or_default();
        let leads = rustix::fs::readlink(self.paths.short_names().join(&short), Vec::new());
        let right =
            leads.is_ok_and(|to| to.to_bytes() == format!("../{}/diff", id.hex()).as_bytes());
        if link != short || !right {
            wrong.push(format!("its short name l/{short} does not lead to it"));
        }
        let tar = self.layer_tar(id)?;
        let size = tar.size();
        let mut tar = TarReader::new(BufReader::with_capacity(256 << 10, tar));
        let mut expected = Expected::default();
        loop {
            match tar.next_entry() {
                Ok(Some(entry)) => {
                    if let Err(why) = expected.add(entry) {
                        wrong.push(why);
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    wrong.push(words(fault));
                    return Ok((size, wrong));
                }
            }
        }
        // The last read compares the digest.
        if let Err(fault) = tar.drain() {
            wrong.push(words(fault));
        }
        let diff = dir.join("diff");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &diff, flags, Mode::empty()).context("open", &diff)?;
        wrong.extend(tree::compare(fd, expected).context("compare", &diff)?);
        Ok((size, wrong))
    }
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::Io(e) => e.to_string(),
        Fault::Bad(reason) => format!("its tape is damaged: {reason}"),
    }
}
