//! The root file system as a detached mount: made by the parent, attached by the child.
//!
//! The parent makes it because it has the privilege: an overlay that is mounted inside a user
//! namespace cannot read the `trusted.overlay.*` attributes of the layers (it would need its own,
//! `user.overlay.*`) nor mark opaque directories in the way the rest of the store understands.

use crate::error::{Context as _, Error, Result};
use crate::fsctx::{Context, clone_tree};
use crate::options::Rootfs;
use barque_sys::mount::{Attributes, Change, set_attributes};
use barque_sys::process::{CloneArgs, Namespaces, classic_mount, clone_process, reap};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Mounts it. `idmap` is the user namespace of the container, when it has one of its own.
pub(crate) fn mount(rootfs: &Rootfs, idmap: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Directory(path) => {
            clone_tree(CWD, path, true).step(|| format!("opening the root file system {path:?}"))
        }
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => {
            let layers = Layers::open(lower, upper, work, idmap)?;
            mount_overlay(&layers, *volatile, Api::of_this_kernel())
        }
    }
}

/// The directories of an overlay, opened for reading.
struct Layers {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Layers {
    fn open(
        lower: &[PathBuf],
        upper: &Path,
        work: &Path,
        idmap: Option<BorrowedFd<'_>>,
    ) -> Result<Self> {
        if lower.is_empty() {
            return Err(Error::invalid(
                "rootfs",
                "an overlay needs at least one lower layer",
            ));
        }
        let Some(user_namespace) = idmap else {
            return Ok(Self {
                lower: lower
                    .iter()
                    .map(|p| open(CWD, p, p))
                    .collect::<Result<_>>()?,
                upper: open(CWD, upper, upper)?,
                work: open(CWD, work, work)?,
            });
        };
        // upper and work have to be on one mount: it is that of the directory that holds both.
        let both = common_ancestor(upper, work);
        let tree = idmapped(&both, user_namespace)?;
        let inside = |path: &Path| {
            let relative = path.strip_prefix(&both).unwrap_or(path);
            open(tree.as_fd(), relative, path)
        };
        Ok(Self {
            lower: lower
                .iter()
                .map(|p| open(idmapped(p, user_namespace)?.as_fd(), Path::new("."), p))
                .collect::<Result<_>>()?,
            upper: inside(upper)?,
            work: inside(work)?,
        })
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

/// What overlayfs understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// Layers by descriptor (6.13).
    Descriptors,
    /// One layer at a time, by path (6.5).
    Paths,
    /// One string of options (all before).
    Classic,
}

impl Api {
    fn of_this_kernel() -> Self {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Self::of_release(&release)
    }

    /// By version, because before 6.5 a context takes any option and fails only at the end.
    fn of_release(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|n| n.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match version {
            v if v >= (6, 13) => Self::Descriptors,
            v if v >= (6, 5) => Self::Paths,
            _ => Self::Classic,
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

const STEP: &str = "mounting the overlay of the root file system";

fn mount_overlay(layers: &Layers, volatile: bool, api: Api) -> Result<OwnedFd> {
    if api == Api::Classic {
        return mount_classic(layers, volatile);
    }
    let context = Context::open("overlay", STEP)?;
    context.set("source", "overlay")?;
    let set = |key: &str, fd: &OwnedFd| match api {
        Api::Descriptors => context.set_fd(key, fd),
        _ => context.set(key, &format!("/proc/self/fd/{}", fd.as_raw_fd())),
    };
    for fd in &layers.lower {
        set("lowerdir+", fd)?;
    }
    set("upperdir", &layers.upper)?;
    set("workdir", &layers.work)?;
    for (key, value) in OPTIONS {
        context.set(key, value)?;
    }
    if volatile {
        context.flag("volatile")?;
    }
    context.mount(Attributes::NONE)
}

/// Kernels before 6.5 take all lower layers as one string.
///
/// Descriptors make it short, and free of characters that would have to be escaped. A string in a
/// file-system context ends at 255 bytes; what is longer goes through mount(2), which takes a
/// page. mount(2) cannot make a detached mount, so a child in a mount namespace of its own mounts
/// it there and sends back a detached copy.
fn mount_classic(layers: &Layers, volatile: bool) -> Result<OwnedFd> {
    // Relative to /proc/self/fd, `12:13:14` is enough.
    let lower: Vec<String> = layers
        .lower
        .iter()
        .map(|fd| fd.as_raw_fd().to_string())
        .collect();
    let mut options = vec![
        format!("lowerdir={}", lower.join(":")),
        format!("upperdir={}", layers.upper.as_raw_fd()),
        format!("workdir={}", layers.work.as_raw_fd()),
    ];
    options.extend(OPTIONS.iter().map(|(k, v)| format!("{k}={v}")));
    if volatile {
        options.push("volatile".to_owned());
    }
    let data = CString::new(options.join(",")).map_err(|_| Error::step(STEP, Errno::INVAL))?;
    if data.as_bytes().len() > 4095 {
        return Err(Error::step(STEP, Errno::TOOBIG).with_hint(format!(
            "{} layers are too many for this kernel; 6.5 has no limit",
            layers.lower.len()
        )));
    }
    let (ours, theirs) = crate::channel::pair()?;
    let mut keep: Vec<BorrowedFd<'_>> = layers.lower.iter().map(AsFd::as_fd).collect();
    keep.extend([layers.upper.as_fd(), layers.work.as_fd(), theirs.as_fd()]);
    let args = CloneArgs {
        namespaces: Namespaces::MOUNT,
        ..CloneArgs::default()
    };
    let child = clone_process(args, &keep, || {
        use crate::channel::FromChild;
        let sent = match mount_and_detach(&data) {
            // Which variant it is does not matter: the descriptor is the message.
            Ok(fd) => theirs.send(&FromChild::Console, Some(fd.as_fd())),
            Err(error) => theirs.send(&FromChild::Failed(error), None),
        };
        u8::from(sent.is_err())
    })
    .step(|| STEP)?;
    drop(theirs);
    let answer = ours.receive::<crate::channel::FromChild>();
    let _ = reap(child.pidfd.as_fd());
    match answer? {
        Some((_, Some(fd))) => Ok(fd),
        Some((crate::channel::FromChild::Failed(error), _)) => Err(error),
        _ => Err(Error::Died {
            doing: STEP.to_owned(),
            how: "without a word".to_owned(),
        }),
    }
}

fn mount_and_detach(data: &std::ffi::CStr) -> Result<OwnedFd> {
    use barque_sys::mount::Propagation;
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| STEP)?;
    let private = Change {
        propagation: Some(Propagation::Private),
        ..Change::default()
    };
    set_attributes(&root, true, private).step(|| STEP)?;
    rustix::process::chdir("/proc/self/fd").step(|| STEP)?;
    classic_mount(c"overlay", c"/", data).step(|| STEP)?;
    // "/" itself still is the mount beneath; "/.." follows the one that now lies on it.
    clone_tree(CWD, Path::new("/.."), false).step(|| STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        assert_eq!(Api::of_release("6.18.44-fc"), Api::Descriptors);
        assert_eq!(Api::of_release("6.13"), Api::Descriptors);
        assert_eq!(Api::of_release("6.12.0"), Api::Paths);
        assert_eq!(Api::of_release("6.1.0-28-cloud-amd64"), Api::Classic);
        assert_eq!(Api::of_release("7.0-rc1"), Api::Descriptors);
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
