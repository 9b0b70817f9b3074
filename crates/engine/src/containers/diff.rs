//! `diff`: what the writable layer changed.

use super::Containers;
use crate::error::Result;
use barque_image::{Change as LayerChange, ChangeKind};
use barque_types::docker::Change;
use std::path::Path;

/// Where every container has something of ours mounted: what an image lacks of it is made in the writable
/// layer, empty. (Docker makes it in a layer of its own below, with the same effect.)
const OURS: [&str; 10] = [
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

impl Containers<'_> {
    /// What its writable layer changed, sorted by path.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.find(name)?;
        let upper = self.engine.store.snapshot(container.id())?.upper;
        let is_empty = |path: &Path| {
            let real = upper.join(path.strip_prefix("/").unwrap_or(path));
            std::fs::symlink_metadata(real)
                .is_ok_and(|meta| meta.is_dir() || (meta.is_file() && meta.len() == 0))
        };
        let changes = users(self.engine.store.diff(container.id())?, is_empty);
        Ok(changes
            .into_iter()
            .map(|change| Change {
                path: change.path.to_string_lossy().into_owned(),
                kind: match change.kind {
                    ChangeKind::Modified => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                },
            })
            .collect())
    }
}

/// Without the places of our mounts, nor a directory that only they touched.
fn users(changes: Vec<LayerChange>, is_empty: impl Fn(&Path) -> bool) -> Vec<LayerChange> {
    let mut kept: Vec<LayerChange> = Vec::with_capacity(changes.len());
    let mut touched = Vec::new();
    // Children come after their parents, so backwards before them.
    for change in changes.into_iter().rev() {
        let path = &change.path;
        let has_more = kept
            .last()
            .is_some_and(|after| after.path.starts_with(path));
        let ours = change.kind == ChangeKind::Added
            && OURS.iter().any(|ours| path == Path::new(ours))
            && is_empty(path);
        let only_touched = change.kind != ChangeKind::Deleted && touched.contains(path);
        if !has_more && (ours || only_touched) {
            touched.extend(path.parent().map(Path::to_owned));
        } else {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_our_mounts_are_not_the_users_changes() {
        let diff = |lines: &[(char, &str)]| -> Vec<String> {
            let changes = lines.iter().map(|(kind, path)| LayerChange {
                kind: match kind {
                    'A' => ChangeKind::Added,
                    'D' => ChangeKind::Deleted,
                    _ => ChangeKind::Modified,
                },
                path: path.into(),
            });
            users(changes.collect(), |path| !path.ends_with("resolv.conf"))
                .into_iter()
                .map(|change| change.path.display().to_string())
                .collect()
        };
        let made = [
            ('A', "/dev"),
            ('A', "/dev/shm"),
            ('C', "/etc"),
            ('A', "/etc/hosts"),
            ('A', "/proc"),
        ];
        assert_eq!(diff(&made), Vec::<String>::new());
        let beside = [('C', "/etc"), ('A', "/etc/hosts"), ('C', "/etc/passwd")];
        assert_eq!(diff(&beside), ["/etc", "/etc/passwd"]);
        // With content, or gone: the user's own doing.
        let own = [
            ('C', "/etc"),
            ('D', "/etc/hosts"),
            ('A', "/etc/resolv.conf"),
        ];
        assert_eq!(diff(&own), ["/etc", "/etc/hosts", "/etc/resolv.conf"]);
    }
}
