//! Where the store keeps what, beneath the data root.
//!
//! ```text
//! overlay2/<hex of the diff id>/   a layer: diff/, work/, merged/ (both empty), link, layer.json (its commit record)
//! overlay2/<container id>/         a snapshot: diff/, work/, merged/, link, lower
//! overlay2/l/<SHORT>               → ../<id>/diff, the short names that `link` and `lower` use, as Docker has them
//! image/images/<hex>.json          one record per image
//! image/blobs/<hex>                configurations and manifests
//! image/names/<domain>/<path…>/_tags/<tag>, _digests/<hex>     which image a name means
//! tmp/image-layer-<hex>.lock       the right to unpack a layer
//! tmp/image-layer-<hex>.<unique>/  the layer being unpacked by who holds that right
//! tmp/image-lease-….lock           what a pull in progress needs: not collected while its holder lives
//! tmp/image-removed-…              taken out of overlay2/ by a rename, being deleted
//! locks/image.lock                 shared by who uses layers, exclusive for who changes names or collects
//! ```

use barque_state::layout::DataRoot;
use barque_types::digest::Digest;
use rustix::fs::{IFlags, Mode, OFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const LAYER_PREFIX: &str = "image-layer-";
pub(crate) const LEASE_PREFIX: &str = "image-lease-";
pub(crate) const REMOVED_PREFIX: &str = "image-removed-";
pub(crate) const LOCK_SUFFIX: &str = ".lock";

/// The store's paths.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: DataRoot,
}

impl Paths {
    pub fn new(root: &DataRoot) -> Self {
        Self { root: root.clone() }
    }

    pub fn overlay2(&self) -> PathBuf {
        self.root.overlay2()
    }

    /// A layer's or a snapshot's directory.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.overlay2().join(id)
    }

    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.dir(&diff_id.hex())
    }

    pub fn layer_diff(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("diff")
    }

    pub fn short_names(&self) -> PathBuf {
        self.root.overlay2().join("l")
    }

    pub fn images(&self) -> PathBuf {
        self.root.image().join("images")
    }

    pub fn image(&self, id: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", id.hex()))
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.image().join("blobs")
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub fn names(&self) -> PathBuf {
        self.root.image().join("names")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.lock("image")
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.tmp()
    }

    /// A new directory to unpack the layer `name` in. The random part is for ext4, see [`spread`].
    pub fn staging(&self, name: &str) -> PathBuf {
        self.tmp()
            .join(format!("{LAYER_PREFIX}{name}.{}", unique()))
    }

    pub fn staging_lock(&self, name: &str) -> PathBuf {
        self.tmp()
            .join(format!("{LAYER_PREFIX}{name}{LOCK_SUFFIX}"))
    }

    pub fn lease(&self) -> PathBuf {
        self.tmp()
            .join(format!("{LEASE_PREFIX}{}{LOCK_SUFFIX}", unique()))
    }

    /// A free name in tmp/ for something that is being removed.
    pub fn removed(&self, id: &str) -> PathBuf {
        self.tmp()
            .join(format!("{REMOVED_PREFIX}{id}-{}", unique()))
    }
}

/// Tells ext4 to place each new subdirectory of `dir` in a block group of its own (chattr(1) `T`: the top of a hierarchy).
///
/// Without it all layers and containers crowd into the groups of `tmp` and `overlay2`: layers unpacked in parallel contend
/// for the same inode bitmap, and after a large removal every new inode there costs a scan over those deleted in the last
/// minutes (`recently_deleted` in fs/ext4/ialloc.c), up to 0.4 ms each. The group follows from a hash of the name, so the
/// names must differ from one try to the next. A hint only: other file systems do not know it.
pub(crate) fn spread(dir: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(dir, flags, Mode::empty())
        && let Ok(attributes) = rustix::fs::ioctl_getflags(&fd)
        && !attributes.contains(IFlags::TOPDIR)
    {
        let _ = rustix::fs::ioctl_setflags(&fd, attributes | IFlags::TOPDIR);
    }
}

/// A name no other process or thread uses: pids may repeat across pid namespaces and reboots, random bits do not.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut random = [0u8; 8];
    // The pool is ready long before containers are; without it the pid and counter still tell processes apart.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "{}-{n}-{:016x}",
        std::process::id(),
        u64::from_ne_bytes(random)
    )
}

/// Docker's short name of a layer: 26 characters of base32. Docker draws it at random; here it follows from the id, so
/// it needs no bookkeeping and no retry. Ids are hashes or random, so 128 bits of them collide as rarely.
pub(crate) fn short_name(id: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = crate::pipeline::digest_of(id.as_bytes());
    let bits = u128::from_be_bytes(std::array::from_fn(|n| hash.as_bytes()[n]));
    (0..26)
        .map(|n| char::from(ALPHABET[(bits >> (5 * n) & 31) as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_dockers_shape() {
        let one = short_name("a");
        assert_eq!(one.len(), 26);
        assert!(
            one.bytes()
                .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
        );
        assert_ne!(one, short_name("b"));
        assert_ne!(unique(), unique());
    }
}
