//! Images: pull, load, import, tag, remove, list, inspect.
//!
//! The store does the work on disk, the registry's client the work on the wire; here they are joined, and what they
//! return is put into Docker's words and shapes.

mod filter;
mod helpers;
mod pull;
mod view;

pub use barque_image::{Image, ImportOptions, Loaded, RemoveEvent, Removed};
pub use pull::{LayerStatus, PullEvent, PullOptions, Pulled};

use crate::Engine;
use crate::error::{Error, Kind, Result};
use barque_image::{InUse, Names};
use barque_types::docker::{HistoryEntry, ImageInspect, ImageSummary, Status};
use barque_types::oci::ImageConfig;
use barque_types::platform::Platform;
use barque_types::reference::Reference;
use std::collections::BTreeMap;
use std::io::Read;

/// What `images` lists.
#[derive(Debug)]
pub struct ListedImages {
    /// Those that pass the filters.
    pub images: Vec<ImageSummary>,
    /// Why others could not be read, each naming its record.
    pub unreadable: Vec<Error>,
}

/// The image operations of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Images<'e> {
    pub(crate) engine: &'e Engine,
}

impl Images<'_> {
    /// The images that pass all filters, newest first. Filters are Docker's: `reference`, `dangling`, `label`,
    /// `before`, `since`, `until`. A `reference` filter also hides the names that do not fit. What cannot be read is
    /// told beside the rest.
    pub fn list(&self, filters: &[(String, String)]) -> Result<ListedImages> {
        let filter = filter::Filter::parse(filters, |name| Ok(self.find(name)?.created))?;
        let mut containers: BTreeMap<_, i64> = BTreeMap::new();
        for used in self.in_use()? {
            *containers.entry(used.image).or_default() += 1;
        }
        let found = self.engine.store.images()?;
        let mut unreadable: Vec<Error> = found.unreadable.into_iter().map(Error::from).collect();
        let mut images = Vec::new();
        for (image, names) in found.images {
            let Some(names) = filter.names(&image, names) else {
                continue;
            };
            match self.engine.store.config(&image) {
                Ok(config) if filter.fits_labels(&config) => {
                    let count = containers.get(&image.id).copied().unwrap_or(0);
                    images.push(view::summary(&image, &names, &config, count));
                }
                Ok(_) => {}
                Err(e) => unreadable.push(e.into()),
            }
        }
        Ok(ListedImages { images, unreadable })
    }

    /// What `inspect` shows.
    pub fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.find(name)?;
        let names = self.engine.store.names(&image.id)?;
        let config = self.engine.store.config(&image)?;
        let graph = self.engine.store.graph(&image);
        Ok(view::inspect(&image, &names, &config, graph.as_ref()))
    }

    /// How an image was built, newest step first.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>> {
        let image = self.find(name)?;
        let names = self.engine.store.names(&image.id)?;
        let config = self.engine.store.config(&image)?;
        Ok(view::history(&image, &names, &config))
    }

    /// The image of a name, a digest, an id or an id's unique beginning.
    pub fn find(&self, name: &str) -> Result<Image> {
        Ok(self.engine.store.resolve(name)?)
    }

    /// An image's names: tags, and digests at registries.
    pub fn names(&self, image: &Image) -> Result<Names> {
        Ok(self.engine.store.names(&image.id)?)
    }

    /// The same as [`Images::find`], but the image that the binary carries is unpacked if it is meant and not here.
    pub(crate) fn find_or_builtin(&self, name: &str) -> Result<Image> {
        match self.engine.store.resolve(name) {
            Ok(image) => Ok(image),
            Err(e) if e.is_no_such_image() => match self.engine.store.ensure_builtin(name)? {
                Some(image) => Ok(image),
                None => Err(e.into()),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// Refuses an image for another platform than the one that the user asked for: `NoSuchImage`, since the right
    /// one may be pulled.
    pub(crate) fn check_platform(
        &self,
        name: &str,
        config: &ImageConfig,
        wanted: &Platform,
    ) -> Result<()> {
        let own = view::platform(config);
        if own == *wanted {
            return Ok(());
        }
        let message = format!(
            "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wanted})"
        );
        Err(Error::new(Kind::NoSuchImage, message))
    }

    /// Gives an image one more name, `latest` if `target` has no tag. Another image that had the name loses it.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let target = parse_reference(target)?.or_latest();
        if target.digest().is_some() {
            return Err(Error::new(
                Kind::Invalid,
                "refusing to create a tag with a digest reference",
            ));
        }
        let image = self.find(source)?;
        Ok(self.engine.store.tag(&image.id, &target)?)
    }

    /// Removes a name, and with the last one the image and those of its layers that nothing else uses.
    pub fn remove(&self, name: &str, force: bool) -> Result<Removed> {
        Ok(self.engine.store.remove(name, force, &self.in_use()?)?)
    }

    /// Takes in the images of a `docker save` archive or an OCI layout in a tar, compressed or not.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>> {
        Ok(self.engine.store.load(archive)?)
    }

    /// Makes an image of one layer from a file system's tar, compressed or not.
    pub fn import(&self, archive: impl Read, options: &ImportOptions) -> Result<Image> {
        Ok(self.engine.store.import(archive, options)?)
    }

    fn in_use(&self) -> Result<Vec<InUse>> {
        // An unreadable container is reported by the commands on containers; here it must not hide the others.
        let (containers, _) = self.engine.load_all()?;
        let used = |container: crate::containers::record::Container| {
            Some(InUse {
                image: container.config.image.as_ref()?.id,
                container: container.id().to_owned(),
                running: matches!(
                    container.state.status,
                    Status::Running | Status::Paused | Status::Restarting
                ),
            })
        };
        Ok(containers.into_iter().filter_map(used).collect())
    }
}

/// A name that a user typed.
fn parse_reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|e| Error::new(Kind::Invalid, e.to_string()))
}
