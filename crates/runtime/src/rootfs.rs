//! The root file system as a detached mount: made by the parent, attached by the child.
//!
//! The parent makes it because it has the privilege: an overlay that is mounted inside a user
//! namespace cannot read the `trusted.overlay.*` attributes of the layers (it would need its own,
//! `user.overlay.*`) nor mark opaque directories in the way the rest of the store understands.

use crate::channel::{self, FromChild};
use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, attach, clone_tree};
use crate::locks::locked;
use crate::options::Rootfs;
use crate::plan::Plan;
use crate::seccomp::KernelVersion;
use barque_sys::mount::{Attributes, Change, Propagation, set_attributes};
use barque_sys::process::{CloneArgs, Namespaces, classic_mount, clone_process, reap, set_fs_ids};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{capabilities, set_capabilities};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How the layers' ids are mapped.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Idmap<'a> {
    /// The container's user namespace.
    pub user_namespace: BorrowedFd<'a>,
    /// What its uid 0 and gid 0 are outside.
    pub root: (u32, u32),
}

/// Mounts it. `idmap` is for a container with a user namespace of its own.
pub(crate) fn mount(rootfs: &Rootfs, idmap: Option<Idmap<'_>>) -> Result<OwnedFd> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    mount_as_on(&release, rootfs, idmap)
}

/// The same, with the propagation that it has until the container is complete: nothing that is mounted
/// in it may reach the host through a shared root directory; events from the host are let in if they
/// are wanted in the end.
pub(crate) fn mount_for(plan: &Plan, rootfs: &Rootfs, idmap: Option<Idmap<'_>>) -> Result<OwnedFd> {
    let root = mount(rootfs, idmap)?;
    let propagation = match plan.root_propagation.0 {
        Propagation::Slave | Propagation::Shared => Propagation::Slave,
        _ => Propagation::Private,
    };
    let change = Change {
        propagation: Some(propagation),
        ..Change::default()
    };
    set_attributes(&root, true, change).step(|| "setting the propagation of the root")?;
    match rootfs {
        // It has the flags of the host's mount, which the container is not to take away.
        Rootfs::Directory(_) if idmap.is_some() => {
            let mut copies = locked(&[(root.as_fd(), true)])?;
            Ok(copies.pop().unwrap_or(root))
        }
        _ => Ok(root),
    }
}

/// The same in the way that a kernel of that release allows (newer ones allow the older ways too,
/// which is how they are tested).
#[doc(hidden)]
pub fn mount_as_on(release: &str, rootfs: &Rootfs, idmap: Option<Idmap<'_>>) -> Result<OwnedFd> {
    let (lower, upper, work, volatile) = match rootfs {
        Rootfs::Directory(path) => {
            return clone_tree(CWD, path, true)
                .step(|| format!("opening the root file system {path:?}"));
        }
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => (lower, upper, work, *volatile),
    };
    let overlay = Overlay {
        lower,
        upper,
        work,
        volatile,
        idmap,
    };
    let kernel = Kernel::of_release(release);
    if idmap.is_some() && !kernel.detached_layers {
        return overlay.mount_by_helper(kernel.api);
    }
    let layers = overlay.open()?;
    if kernel.api == Api::Classic && layers.paths().len() > MAX_STRING {
        return overlay.mount_by_helper(kernel.api);
    }
    overlay.mount(&layers, kernel.api)
}

/// The directories of an overlay, opened for reading.
struct Layers {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    /// The detached idmapped mounts that they are on, with the paths they were taken from. An
    /// overlay takes no layer whose mount is gone, so they live until it is mounted.
    trees: Vec<(PathBuf, OwnedFd)>,
}

impl Layers {
    /// The lower layers as one string of paths.
    fn paths(&self) -> String {
        self.lower.iter().map(path_of).collect::<Vec<_>>().join(":")
    }

    /// All options in one string, relative to `/proc/self/fd`: short, and free of characters that
    /// would have to be escaped.
    fn classic_options(&self, volatile: bool) -> String {
        let lower: Vec<String> = self
            .lower
            .iter()
            .map(|fd| fd.as_raw_fd().to_string())
            .collect();
        let mut options = vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", self.upper.as_raw_fd()),
            format!("workdir={}", self.work.as_raw_fd()),
        ];
        options.extend(OPTIONS.iter().map(|(k, v)| format!("{k}={v}")));
        if volatile {
            options.push("volatile".to_owned());
        }
        options.join(",")
    }
}

fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// An overlay that is to be mounted.
struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
    idmap: Option<Idmap<'a>>,
}

impl Overlay<'_> {
    fn open(&self) -> Result<Layers> {
        if self.lower.is_empty() {
            return Err(Error::invalid(
                "rootfs",
                "an overlay needs at least one lower layer",
            ));
        }
        let Some(Idmap { user_namespace, .. }) = self.idmap else {
            return Ok(Layers {
                lower: self
                    .lower
                    .iter()
                    .map(|p| open(CWD, p, p))
                    .collect::<Result<_>>()?,
                upper: open(CWD, self.upper, self.upper)?,
                work: open(CWD, self.work, self.work)?,
                trees: Vec::new(),
            });
        };
        // upper and work have to be on one mount: it is that of the directory that holds both.
        let both = common_ancestor(self.upper, self.work);
        let mut trees = vec![(both.clone(), idmapped(&both, user_namespace)?)];
        let inside = |path: &Path, tree: &OwnedFd| {
            open(tree.as_fd(), path.strip_prefix(&both).unwrap_or(path), path)
        };
        let (upper, work) = (
            inside(self.upper, &trees[0].1)?,
            inside(self.work, &trees[0].1)?,
        );
        let mut lower = Vec::with_capacity(self.lower.len());
        for path in self.lower {
            let tree = idmapped(path, user_namespace)?;
            lower.push(open(tree.as_fd(), Path::new("."), path)?);
            trees.push((path.clone(), tree));
        }
        Ok(Layers {
            lower,
            upper,
            work,
            trees,
        })
    }

    fn mount(&self, layers: &Layers, api: Api) -> Result<OwnedFd> {
        let context = Context::open("overlay", STEP)?;
        context.set("source", "overlay")?;
        let set = |key: &str, fd: &OwnedFd| match api {
            Api::Descriptors => context.set_fd(key, fd),
            Api::Paths | Api::Classic => context.set(key, &path_of(fd)),
        };
        if api == Api::Classic {
            context.set("lowerdir", &layers.paths())?;
        } else {
            for fd in &layers.lower {
                set("lowerdir+", fd)?;
            }
        }
        set("upperdir", &layers.upper)?;
        set("workdir", &layers.work)?;
        for (key, value) in OPTIONS {
            context.set(key, value)?;
        }
        if self.volatile {
            context.flag("volatile")?;
        }
        self.as_root_of_the_layers(|| context.mount(Attributes::NONE))
    }

    /// An overlay works in its upper layer as whoever mounts it. Our own uid 0 does not exist in
    /// idmapped layers (the kernel would mount it read-only, after EOVERFLOW on the work
    /// directory): the container's root does. Capabilities stay, as they do for any other overlay.
    fn as_root_of_the_layers<T>(&self, mount: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(Idmap {
            root: (uid, gid), ..
        }) = self.idmap
        else {
            return mount();
        };
        let step = || "acting as the root of the container's layers";
        let mut caps = capabilities(None).step(step)?;
        let before = caps;
        set_fs_ids(uid, gid).step(step)?;
        caps.effective = caps.permitted;
        let outcome = set_capabilities(None, caps)
            .step(step)
            .and_then(|()| mount());
        set_fs_ids(geteuid().as_raw(), getegid().as_raw()).step(step)?;
        set_capabilities(None, before).step(step)?;
        outcome
    }

    /// Two things older kernels do only with mounts that are attached somewhere: an overlay over
    /// idmapped layers (before 6.15), and options longer than a context takes (before 6.5: mount(2)
    /// takes a page). A child in a mount namespace of its own attaches there what has to be
    /// attached, and sends back a detached copy of the overlay; the namespace ends with it.
    fn mount_by_helper(&self, api: Api) -> Result<OwnedFd> {
        let (ours, theirs) = channel::pair()?;
        let mut keep = vec![theirs.as_fd()];
        keep.extend(self.idmap.map(|i| i.user_namespace));
        let args = CloneArgs {
            namespaces: Namespaces::MOUNT,
            ..CloneArgs::default()
        };
        let child = clone_process(args, &keep, || {
            let sent = match self.mount_attached(api) {
                Ok(fd) => theirs.send(&FromChild::Mounted, Some(fd.as_fd())),
                Err(error) => theirs.send(&FromChild::Failed(error), None),
            };
            u8::from(sent.is_err())
        })
        .step(|| STEP)?;
        drop(theirs);
        let answer = ours.receive::<FromChild>();
        let _ = reap(child.pidfd.as_fd());
        match answer? {
            Some((FromChild::Mounted, Some(fd))) => Ok(fd),
            Some((FromChild::Failed(error), _)) => Err(error),
            _ => Err(Error::Died {
                doing: STEP.to_owned(),
                how: "without a word".to_owned(),
            }),
        }
    }

    /// The helper's work. It opens the layers itself: those of its parent are on mounts of another
    /// namespace, which the kernel does not take for layers.
    fn mount_attached(&self, api: Api) -> Result<OwnedFd> {
        let root =
            rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| STEP)?;
        let private = Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        };
        set_attributes(&root, true, private).step(|| STEP)?;
        let layers = self.open()?;
        for (path, tree) in &layers.trees {
            // Each over the directory that it shows: a place that is sure to be there.
            let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            place.and_then(|place| attach(tree, place)).step(|| STEP)?;
        }
        if api != Api::Classic {
            return self.mount(&layers, api);
        }
        let options = layers.classic_options(self.volatile);
        if options.len() > MAX_PAGE {
            return Err(Error::step(STEP, Errno::TOOBIG).with_hint(format!(
                "{} layers are too many for this kernel; 6.5 has no such limit",
                layers.lower.len()
            )));
        }
        let options = CString::new(options).map_err(|_| Error::step(STEP, Errno::INVAL))?;
        rustix::process::chdir("/proc/self/fd").step(|| STEP)?;
        self.as_root_of_the_layers(|| classic_mount(c"overlay", c"/", &options).step(|| STEP))?;
        // "/" itself still is the mount beneath; "/.." follows the one that now lies on it.
        clone_tree(CWD, Path::new("/.."), false).step(|| STEP)
    }
}

fn open(dir: BorrowedFd<'_>, path: &Path, name: &Path) -> Result<OwnedFd> {
    // Not O_PATH: fsconfig takes only real files before 6.14.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, path, flags, Mode::empty()).step(|| format!("opening the layer {name:?}"))
}

/// A detached mount of one directory, with ids mapped by `user_namespace` (5.12; for layers of an
/// overlay 5.19).
fn idmapped(path: &Path, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let tree = clone_tree(CWD, path, false).step(|| format!("opening the layer {path:?}"))?;
    map_ids(&tree, user_namespace, false, path)?;
    Ok(tree)
}

/// Maps the ids of a detached mount.
pub(crate) fn map_ids(
    tree: impl AsFd,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
    path: &Path,
) -> Result<()> {
    let change = Change {
        set: Attributes::IDMAP,
        user_namespace: Some(user_namespace),
        ..Change::default()
    };
    set_attributes(tree, recursive, change).map_err(|e| {
        let error = Error::step(format!("mapping the ids of {path:?}"), e);
        match e {
            Errno::INVAL | Errno::OPNOTSUPP => {
                error.with_hint("its file system has no idmapped mounts on this kernel")
            }
            _ => error,
        }
    })
}

fn common_ancestor(a: &Path, b: &Path) -> PathBuf {
    a.components()
        .zip(b.components())
        .take_while(|(x, y)| x == y)
        .map(|(x, _)| x)
        .collect()
}

/// How overlayfs is told its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// By descriptor (6.13).
    Descriptors,
    /// One at a time, by path (6.5).
    Paths,
    /// In one string of options (all before).
    Classic,
}

/// What a kernel can do. By version, because before 6.5 a file-system context takes any option and
/// fails only at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kernel {
    api: Api,
    /// Whether a layer may be on a mount that is attached nowhere (6.15).
    detached_layers: bool,
}

impl Kernel {
    fn of_release(release: &str) -> Self {
        let version = KernelVersion::of_release(release).unwrap_or_default();
        let since = |major, minor| version >= KernelVersion { major, minor };
        let api = if since(6, 13) {
            Api::Descriptors
        } else if since(6, 5) {
            Api::Paths
        } else {
            Api::Classic
        };
        Self {
            api,
            detached_layers: since(6, 15),
        }
    }
}

/// Options that keep an upper directory readable as a layer: no metadata-only copies, no
/// redirected directories, no index of hard links (as containerd's and Docker's overlay drivers).
const OPTIONS: [(&str, &str); 3] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("redirect_dir", "nofollow"),
];

/// A value of a file-system context ends here (`strndup_user(…, 256)` in fs/fsopen.c) …
const MAX_STRING: usize = 255;
/// … and the options of mount(2) at the end of a page.
const MAX_PAGE: usize = 4095;

const STEP: &str = "mounting the overlay of the root file system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        let of = |release| {
            let kernel = Kernel::of_release(release);
            (kernel.api, kernel.detached_layers)
        };
        assert_eq!(of("6.18.44-fc"), (Api::Descriptors, true));
        assert_eq!(of("6.13"), (Api::Descriptors, false));
        assert_eq!(of("6.12.0"), (Api::Paths, false));
        assert_eq!(of("6.1.0-28-cloud-amd64"), (Api::Classic, false));
        assert_eq!(of("7.0-rc1"), (Api::Descriptors, true));
    }

    #[test]
    fn the_ancestor_of_upper_and_work() {
        assert_eq!(
            common_ancestor(Path::new("/a/b/diff"), Path::new("/a/b/work")),
            Path::new("/a/b")
        );
        assert_eq!(
            common_ancestor(Path::new("/x"), Path::new("/y")),
            Path::new("/")
        );
    }
}
