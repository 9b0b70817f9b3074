//! `create`: a request becomes a record, a name and a writable layer. Nothing runs yet.
//!
//! A crash in the middle leaves garbage that a journal file names (see [`crate::journal`]); the
//! container exists for others from the moment its `config.json` does. (With [`Purpose::Run`] it goes again
//! when its maker is killed before the start.) That file is synced, and with it
//! what the container cannot do without: when `create` returns, a power cut does not take it away. A container
//! made with `--rm` would not outlive a boot anyway, so nothing of it is synced.

use super::record::{Config, Container, ImageUsed, RunState};
use super::{Containers, Created, Purpose, names, resolve, userns, validate};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Journal, Unstarted};
use barque_image::{Base, Image};
use barque_state::{Durability, record};
use barque_types::container::{CreateContainer, NamespaceMode, NetworkMode, Source};
use barque_types::id::ContainerId;
use barque_types::oci::RunConfig;
use barque_types::time::Timestamp;

/// What the container stands on.
enum Foundation {
    Image {
        image: Box<Image>,
        name: String,
        config: Box<RunConfig>,
    },
    Directory(std::path::PathBuf),
}

impl Containers<'_> {
    /// Makes a container; `Kind::NoSuchImage` when its image is not here (the caller pulls and calls again).
    pub fn create(&self, request: &CreateContainer, purpose: Purpose) -> Result<Created> {
        let warnings = validate::request(request)?;
        let foundation = self.foundation(request)?;
        let id = new_id()?;
        let image_config = match &foundation {
            Foundation::Image { config, .. } => (**config).clone(),
            Foundation::Directory(_) => RunConfig::default(),
        };
        let process = resolve::process(request, &image_config, &id)?;
        let request = self.pin_namespaces(request)?;

        let unstarted = match purpose {
            Purpose::Keep => None,
            Purpose::Run => Some(Unstarted::begin(&self.engine.data, id.as_str())?),
        };
        let journal = Journal::begin(&self.engine.data, id.as_str())?;
        let made = self.make(&id, request, foundation, process);
        match made {
            Ok(name) => {
                journal.done();
                Ok(Created {
                    id,
                    name,
                    warnings,
                    unstarted,
                })
            }
            Err(e) => {
                // What cannot be removed now stays in the journal for the next command's sweep.
                if self.engine.purge(id.as_str()).is_ok() {
                    journal.done();
                }
                Err(e)
            }
        }
    }

    fn make(
        &self,
        id: &ContainerId,
        request: CreateContainer,
        foundation: Foundation,
        process: super::record::ResolvedProcess,
    ) -> Result<String> {
        let data = &self.engine.data;
        let dir = data.container(id.as_str());
        std::fs::create_dir(&dir).while_("create the container's directory", &dir)?;
        let name = self.reserve_name(request.name.as_deref(), id)?;
        let image = match &foundation {
            Foundation::Image { image, name, .. } => {
                self.engine
                    .store
                    .prepare_container(id.as_str(), Base::Image(image))
                    .map_err(|e| match self.engine.store.image(&image.id) {
                        // Removed since it was found: the caller may pull it again.
                        Err(gone) if gone.is_no_such_image() => Error::no_such_image(name),
                        _ => e.into(),
                    })?;
                Some(ImageUsed {
                    id: image.id,
                    name: name.clone(),
                })
            }
            Foundation::Directory(path) => {
                self.engine
                    .store
                    .prepare_container(id.as_str(), Base::Directory(path))?;
                None
            }
        };
        let request_userns = request.userns.clone();
        let config = Config {
            id: id.clone(),
            name: name.clone(),
            created: Timestamp::now(),
            request,
            image,
            process,
            ids: userns::maps(&self.engine.data, &request_userns, id)?,
        };
        let container = Container {
            config,
            state: RunState::default(),
            dir,
        };
        record::store(
            &container.dir.join("state.json"),
            &container.state,
            Durability::None,
        )?;
        // What is to be gone after the next boot need not reach the disk; see `was_never_on_disk`.
        let durability = match container.config.request.auto_remove {
            true => Durability::None,
            false => {
                self.engine.store.sync_container(id.as_str())?;
                Durability::Synced
            }
        };
        record::store(
            &container.dir.join("config.json"),
            &container.config,
            durability,
        )?;
        Ok(name)
    }

    fn foundation(&self, request: &CreateContainer) -> Result<Foundation> {
        match &request.source {
            Source::Rootfs(path) => {
                let real = std::fs::canonicalize(path).while_("find the root file system", path)?;
                if !real.is_dir() {
                    return Err(Error::new(
                        Kind::Invalid,
                        format!("--rootfs {} is not a directory", path.display()),
                    ));
                }
                Ok(Foundation::Directory(real))
            }
            Source::Image(name) => {
                let image = self.engine.images().find_or_builtin(name)?;
                let config = self.engine.store.config(&image)?;
                if let Some(wanted) = &request.platform {
                    self.engine.images().check_platform(name, &config, wanted)?;
                }
                Ok(Foundation::Image {
                    image: Box::new(image),
                    name: name.clone(),
                    config: Box::new(config.config),
                })
            }
        }
    }

    /// The containers whose namespaces it shares, by id: their names may move on.
    fn pin_namespaces(&self, request: &CreateContainer) -> Result<CreateContainer> {
        let mut request = request.clone();
        if let NetworkMode::Container(other) = &mut request.network {
            *other = self.find(other)?.id().to_owned();
        }
        for mode in [&mut request.pid, &mut request.ipc, &mut request.uts] {
            if let NamespaceMode::Container(other) = mode {
                *other = self.find(other)?.id().to_owned();
            }
        }
        Ok(request)
    }

    fn reserve_name(&self, wanted: Option<&str>, id: &ContainerId) -> Result<String> {
        if let Some(name) = wanted {
            let name = name.strip_prefix('/').unwrap_or(name);
            self.engine.names.reserve(name, id.as_str()).map_err(|e| match e {
                barque_state::Error::NameTaken { id: holder, .. } => Error::new(
                    Kind::Conflict,
                    format!(
                        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
                         You have to remove (or rename) that container to be able to reuse that name."
                    ),
                ),
                barque_state::Error::InvalidName { .. } => Error::new(
                    Kind::Invalid,
                    format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
                ),
                other => other.into(),
            })?;
            return Ok(name.to_owned());
        }
        let random = u64::from_ne_bytes(random_bytes()?);
        for attempt in 0..100 {
            let name = names::from_random(random, (attempt > 0).then_some(attempt));
            match self.engine.names.reserve(&name, id.as_str()) {
                Ok(()) => return Ok(name),
                Err(barque_state::Error::NameTaken { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::new(
            Kind::Conflict,
            "no free container name found; give one with --name",
        ))
    }
}

fn new_id() -> Result<ContainerId> {
    loop {
        let id = ContainerId::from_random(random_bytes()?);
        // Docker's rule: a short id of digits only could be taken for a number.
        if id.short().bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::system("read random bytes from the kernel", e))?;
    debug_assert_eq!(
        got, N,
        "getrandom(2) never returns less for up to 256 bytes"
    );
    Ok(bytes)
}
