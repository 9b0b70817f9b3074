//! From an image to a running container.
//!
//! CRIU wants the root file system, and everything that was bind-mounted from the host, as paths. Ours are
//! detached mounts, made just as at the container's creation (an overlay that no path of the host shows,
//! bind mounts with their id maps). They are attached in a mount namespace that only CRIU is in.

use super::image::Image;
use super::messages::{Kind, Notification, Response, inherit_fd, opts, pair, request};
use super::mounts::{External, From};
use super::options::RestoreOptions;
use super::protobuf::Message;
use super::service::{Launch, Service, Stage};
use super::{Directories, common, explain, external_namespace, failed, joined, log, program};
use crate::birthplace::in_network_of;
use crate::create::{Child, Running};
use crate::error::{Context as _, Error, Result};
use crate::exec::open_pidfd;
use crate::fsctx::{self, Context, clone_tree};
use crate::hierarchies::{self, Hierarchy, path_in};
use crate::options::Stdio;
use crate::path::{self, Make};
use crate::plan::{IdMaps, MountPlan, What};
use crate::sources::{self, Source};
use crate::{rootfs, userns};
use barque_sys::mount::{Attributes, Propagation};
use barque_sys::process::Cloned;
use barque_types::spec::{self, NamespaceKind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes the container of an image again. Its first process is a child of the caller, who must be
/// single-threaded and has to reap it.
///
/// A failure leaves nothing behind: no process, no mount.
///
/// # Errors
/// [`Error::Criu`] when CRIU is missing, too old or fails (with the last error of its log);
/// [`Error::Invalid`] for a directory that holds no image, or one that does not fit the specification.
pub fn restore(mut options: RestoreOptions<'_>) -> Result<Running> {
    let criu = program(options.criu.program)?;
    let image = Image::read(options.criu.image_path)?;
    let directories = Directories::new(&options.criu, "restore.log")?;
    let scene = Scene::new(&mut options)?;
    let open_place = scene
        .image
        .as_ref()
        .and_then(|_| open_place(&options, &criu));
    options.place = open_place.unwrap_or(options.place);
    let image_path = match &scene.image {
        Some(_) => options.place.join(IMAGE),
        None => options.criu.image_path.to_owned(),
    };
    let paths = vec![&*image_path, &directories.work];
    let handed = Handed::new(&options, &image)?;
    let streams = match options.stdio {
        // A terminal of the caller's, that a shell had, is taken from CRIU's own streams.
        Stdio::Fds { .. } if options.criu.shell_job => handed.streams(),
        _ => None,
    };
    let launch = Launch {
        directories: paths,
        inherit: handed.all(),
        stdio: streams,
        in_session: options.criu.shell_job,
        cgroup: options.cgroup.clone(),
        stage: Some(scene.stage(options.place)),
    };
    let mut service = Service::start(&criu, &launch)?;
    let mut joined = joined(&options.criu, options.spec);
    joined.extend(options.join.iter().map(|(kind, _)| *kind));
    let mut message = common(&options.criu, &directories, &service, &joined);
    scene.say(&mut message, options.place);
    handed.say(&mut message);
    place(&options, &image, &scene, service.pid(), &mut message)?;
    let mut newborn = Newborn::default();
    let new_network = makes(options.spec, &options, NamespaceKind::Network);
    let mut on_namespaces = options.on_namespaces.take();
    let mut notify = |notification: Notification| {
        newborn.hear(
            notification,
            new_network,
            &mut |pid| match &mut on_namespaces {
                Some(callback) => callback(pid),
                None => Ok(()),
            },
        )
    };
    let outcome = service.carry_out(&request(Kind::Restore, Some(&message)), &mut notify);
    // Its last words are about what it has made, so they come first.
    service.end();
    let response = match outcome {
        Ok(response) => response,
        Err(error) => {
            log::remove_yard(&directories.log);
            return Err(explain(error, &directories.log));
        }
    };
    if !response.success {
        log::remove_yard(&directories.log);
        return Err(failed("restore the container", &response, &directories.log));
    }
    newborn.running(&response, scene.root)
}

/// Whether the container has a namespace of this kind that was made for it.
fn makes(spec: &spec::Spec, options: &RestoreOptions<'_>, kind: NamespaceKind) -> bool {
    let listed = spec.linux.iter().flat_map(|l| &l.namespaces);
    let mut own = listed.filter(|n| n.kind == kind && n.path.is_none());
    own.next().is_some() && !options.join.iter().any(|(joined, _)| *joined == kind)
}

/// The mounts that CRIU restores from.
struct Scene {
    /// The file system that they are attached in.
    base: OwnedFd,
    root: OwnedFd,
    /// The directory of the image, for a container with a user namespace.
    image: Option<OwnedFd>,
    mounts: Vec<MountPlan>,
    sources: Vec<Option<Source>>,
}

/// Where the root is in the stage.
const ROOT: &str = "root";
/// Where the image is, if it is there.
const IMAGE: &str = "image";

impl Scene {
    fn new(options: &mut RestoreOptions<'_>) -> Result<Self> {
        let maps = id_maps(options.spec);
        let mounts = options
            .spec
            .mounts
            .iter()
            .map(|mount| MountPlan::parse(mount, maps.as_ref(), None))
            .collect::<Result<Vec<_>>>()?;
        let sources = sources::open(
            &mounts,
            (Propagation::Private, true),
            std::mem::take(&mut options.trees),
        )?;
        // The namespace is CRIU's to make; its map is all that a mount takes from one.
        let user_namespace = maps.as_ref().map(userns::for_maps).transpose()?;
        sources::map_to_container(&mounts, &sources, user_namespace.as_ref().map(AsFd::as_fd))?;
        let idmap = user_namespace
            .as_ref()
            .zip(maps.as_ref())
            .map(|(fd, maps)| rootfs::Idmap {
                user_namespace: fd.as_fd(),
                root: maps.root(),
            });
        let root = rootfs::mount(&options.rootfs, idmap)?;
        make_mount_points(&root, &mounts, &sources)?;
        if options.spec.root.as_ref().is_some_and(|root| root.readonly) {
            // CRIU takes a root as it finds it.
            fsctx::set(&root, Attributes::RDONLY).step(|| "making the root read-only")?;
        }
        let image = idmap
            .map(|idmap| image_for(idmap.root.0, options.criu.image_path))
            .transpose()?;
        let context = Context::open("tmpfs", "making a file system for mounts of criu")?;
        context.set("source", "barque")?;
        // The root of a user namespace has to get through.
        context.set("mode", "755")?;
        Ok(Self {
            base: context.mount(Attributes::NOSUID | Attributes::NODEV)?,
            root,
            image,
            mounts,
            sources,
        })
    }

    fn stage<'a>(&'a self, place: &'a Path) -> Stage<'a> {
        let mut trees = vec![(ROOT.to_owned(), self.root.as_fd(), true)];
        trees.extend(
            self.image
                .as_ref()
                .map(|image| (IMAGE.to_owned(), image.as_fd(), true)),
        );
        let sources = self.sources.iter().enumerate();
        trees.extend(sources.filter_map(|(index, source)| {
            let Source::Tree { tree, directory } = source.as_ref()? else {
                return None;
            };
            Some((index.to_string(), tree.as_fd(), *directory))
        }));
        Stage {
            place,
            base: self.base.as_fd(),
            trees,
        }
    }

    fn say(&self, message: &mut Message, place: &Path) {
        message.text(opts::ROOT, place.join(ROOT).as_os_str().as_bytes());
    }

    /// Where in the stage the source for a destination is.
    fn source(&self, destination: &Path) -> Option<String> {
        let index = self.mounts.iter().position(|mount| {
            mount.destination == destination && matches!(mount.what, What::Bind { .. })
        })?;
        Some(index.to_string())
    }
}

/// Directories of every system that everybody gets through to.
const OPEN_PLACES: [&str; 5] = ["/mnt", "/media", "/srv", "/opt", "/home"];

/// A place for a container with a user namespace: CRIU follows paths to the stage as that namespace's root, to
/// whom the directories of an engine are closed. Covered in CRIU's mount namespace only, so that it must not
/// hold what CRIU needs.
fn open_place(options: &RestoreOptions<'_>, criu: &Path) -> Option<&'static Path> {
    use std::os::unix::fs::PermissionsExt;
    let needed = [
        Some(criu),
        Some(options.criu.image_path),
        options.criu.work_path,
        options.criu.config_file,
    ];
    OPEN_PLACES.iter().map(Path::new).find(|place| {
        let open = std::fs::symlink_metadata(place)
            .is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 != 0);
        open && !needed.iter().flatten().any(|path| path.starts_with(place))
    })
}

/// The directory of an image, open to a container with a user namespace of its own.
///
/// The processes that CRIU makes read it twice without the real root's rights: first as its uid and gid 0 in
/// the new namespace, whose capabilities do not reach the host's files, then as that namespace's root. So
/// the files belong to that root, by the map of a mount, and keep group 0, who may read them.
fn image_for(root: u32, path: &Path) -> Result<OwnedFd> {
    let entries = std::fs::read_dir(path).step(|| format!("listing {}", path.display()))?;
    readable_by_group(path)?;
    for entry in entries {
        readable_by_group(&entry.step(|| format!("listing {}", path.display()))?.path())?;
    }
    let one = |host_id| {
        vec![spec::IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        }]
    };
    let user_namespace = userns::for_maps(&IdMaps {
        uid: one(root),
        gid: one(0),
    })?;
    let tree = clone_tree(CWD, path, false).step(|| format!("opening {}", path.display()))?;
    rootfs::map_ids(&tree, user_namespace.as_fd(), false, path)?;
    Ok(tree)
}

fn readable_by_group(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let step = || format!("opening {} to the container's root", path.display());
    let metadata = std::fs::symlink_metadata(path).step(step)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let wanted = if metadata.is_dir() { 0o050 } else { 0o040 };
    let mode = metadata.permissions().mode() | wanted;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).step(step)
}

fn id_maps(spec: &spec::Spec) -> Option<IdMaps> {
    let linux = spec.linux.as_ref()?;
    let own = |n: &spec::Namespace| n.kind == NamespaceKind::User && n.path.is_none();
    linux.namespaces.iter().any(own).then(|| IdMaps {
        uid: linux.uid_mappings.clone(),
        gid: linux.gid_mappings.clone(),
    })
}

/// The mount points of a root that the container was not made in: those on the root itself. What is below
/// other mounts is there, or comes from the image with the contents of a tmpfs.
fn make_mount_points(
    root: &OwnedFd,
    mounts: &[MountPlan],
    sources: &[Option<Source>],
) -> Result<()> {
    for (mount, source) in mounts.iter().zip(sources) {
        let covered = mounts.iter().any(|other| {
            other.destination != mount.destination
                && mount.destination.starts_with(&other.destination)
        });
        if covered {
            continue;
        }
        let make = match source {
            Some(Source::Tree {
                directory: false, ..
            }) => Make::File,
            _ => Make::Directory,
        };
        path::make_in(root.as_fd(), &mount.destination, make)?;
    }
    Ok(())
}

/// Descriptors that CRIU hands to what it restores, under the numbers that they have here.
struct Handed {
    inherited: Vec<(String, OwnedFd)>,
    /// Kind (as CRIU names it) and path of namespaces to enter.
    entered: Vec<(&'static str, PathBuf)>,
    /// Kept open for `entered`.
    _namespaces: Vec<OwnedFd>,
}

impl Handed {
    fn new(options: &RestoreOptions<'_>, image: &Image) -> Result<Self> {
        let mut handed = Self {
            inherited: Vec::new(),
            entered: Vec::new(),
            _namespaces: Vec::new(),
        };
        if let Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } = options.stdio
        {
            for (key, fd) in image.streams.iter().zip([stdin, stdout, stderr]) {
                let Some(key) = key else { continue };
                // Not the numbers 0 to 2, which are CRIU's own streams.
                let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)
                    .step(|| "duplicating a standard stream")?;
                handed.inherited.push((key.clone(), fd));
            }
        }
        for (kind, fd) in &options.join {
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)
                .step(|| "duplicating the descriptor of a namespace")?;
            handed.namespace(*kind, fd)?;
        }
        let given = |kind| options.join.iter().any(|(joined, _)| *joined == kind);
        for namespace in options.spec.linux.iter().flat_map(|l| &l.namespaces) {
            if let Some(path) = namespace.path.as_ref().filter(|_| !given(namespace.kind)) {
                let fd = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .step(|| format!("opening the namespace {}", path.display()))?;
                handed.namespace(namespace.kind, fd)?;
            }
        }
        Ok(handed)
    }

    fn namespace(&mut self, kind: NamespaceKind, fd: OwnedFd) -> Result<()> {
        if let Some((_, key)) = external_namespace(kind) {
            self.inherited.push((key.to_owned(), fd));
            return Ok(());
        }
        let name = match kind {
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::User => "user",
            NamespaceKind::Time => "time",
            _ => {
                return Err(Error::invalid(
                    format!("linux.namespaces: {kind:?}").to_lowercase(),
                    "criu cannot restore into one that exists",
                ));
            }
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        self.entered.push((name, path.into()));
        self._namespaces.push(fd);
        Ok(())
    }

    fn all(&self) -> Vec<BorrowedFd<'_>> {
        self.inherited.iter().map(|(_, fd)| fd.as_fd()).collect()
    }

    fn streams(&self) -> Option<[BorrowedFd<'_>; 3]> {
        match &self.inherited[..] {
            [(_, stdin), (_, stdout), (_, stderr), ..] => {
                Some([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
            }
            _ => None,
        }
    }

    fn say(&self, message: &mut Message) {
        for (key, fd) in &self.inherited {
            message.message(opts::INHERIT_FD, &inherit_fd(key, fd.as_raw_fd()));
        }
        for (name, path) in &self.entered {
            message.message(opts::JOIN_NS, &pair(name, path.as_os_str().as_bytes()));
        }
    }
}

/// What is particular to this restore: cgroups, sources of mounts, labels.
fn place(
    options: &RestoreOptions<'_>,
    image: &Image,
    scene: &Scene,
    criu: i32,
    message: &mut Message,
) -> Result<()> {
    let path = format!("/proc/{criu}/cgroup");
    let cgroups = std::fs::read_to_string(&path).step(|| format!("reading {path}"))?;
    let hierarchies = hierarchies::mounted().step(|| "reading /proc/self/mountinfo")?;
    for mount in &image.mounts {
        let source = source(mount, options, scene, (&cgroups, &hierarchies))?;
        let map = pair(&mount.cookie, source.as_os_str().as_bytes());
        message.message(opts::EXT_MNT, &map);
    }
    message
        // The first process is our child, not CRIU's.
        .flag(opts::RST_SIBLING, true)
        // A device whose path the container has covered is found by its number.
        .flag(opts::EVASIVE_DEVICES, true)
        .flag(opts::EXT_MASTERS, true)
        .flag(opts::EXT_SHARING, true);
    // What was below the container's cgroups is below those in which it is now.
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            message.message(opts::CG_ROOT, &pair(controllers, path));
        }
    }
    if let Some(profile) = options.lsm_profile {
        message.text(opts::LSM_PROFILE, profile);
    }
    if let Some(context) = options.lsm_mount_context {
        message.text(opts::LSM_MOUNT_CONTEXT, context);
    }
    Ok(())
}

/// The path, in CRIU's mount namespace, of what was mounted from outside.
fn source(
    mount: &External,
    options: &RestoreOptions<'_>,
    scene: &Scene,
    (cgroups, hierarchies): (&str, &[Hierarchy]),
) -> Result<PathBuf> {
    let missing = |why: String| Error::invalid(format!("mount at {:?}", mount.mount_point), why);
    match &mount.from {
        From::Device { path } => Ok(path.clone()),
        From::Bind { destination, below } => {
            let name = scene.source(destination).ok_or_else(|| {
                missing("the specification has no bind mount for it any more".to_owned())
            })?;
            let source = options.place.join(name);
            // An empty rest would leave a slash behind a file.
            Ok(match below.as_os_str().is_empty() {
                true => source,
                false => source.join(below),
            })
        }
        From::Cgroup { controllers } => hierarchies
            .iter()
            .find(|h| h.controllers == *controllers)
            .and_then(|h| {
                let below = path_in(cgroups, controllers)?.strip_prefix(&h.root).ok()?;
                Some(h.mount_point.join(below))
            })
            .ok_or_else(|| {
                missing(format!(
                    "the cgroup hierarchy {controllers:?} is not mounted"
                ))
            }),
    }
}

/// The first process, as it is told of bit by bit.
#[derive(Default)]
struct Newborn {
    child: Option<Child>,
    console: Option<OwnedFd>,
}

impl Newborn {
    fn hear(
        &mut self,
        notification: Notification,
        new_network: bool,
        on_namespaces: &mut dyn FnMut(i32) -> Result<()>,
    ) -> Result<()> {
        match (notification.script.as_str(), notification.pid) {
            ("setup-namespaces", Some(pid)) => {
                if new_network {
                    in_network_of(pid, || {
                        barque_sys::net::loopback_up().step(|| "bringing up the loopback interface")
                    })?;
                }
                on_namespaces(pid)
            }
            ("post-restore", Some(pid)) => {
                // It exists, stopped, until we answer; from here on it is killed if anything fails.
                let pidfd = open_pidfd(pid)?;
                self.child = Some(Child::from(Cloned { pid, pidfd }));
                Ok(())
            }
            ("orphan-pts-master", _) => {
                self.console = notification.fd;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn running(self, response: &Response, root: OwnedFd) -> Result<Running> {
        let child = self
            .child
            .filter(|child| response.restored.is_none_or(|pid| pid == child.pid))
            .ok_or_else(|| Error::Criu("criu does not say what it has restored".to_owned()))?;
        Ok(Running {
            pid: child.pid,
            pidfd: child.release()?,
            console: self.console,
            warnings: Vec::new(),
            rootfs: Some(root),
        })
    }
}
