//! Handing a group to the user of a container: a v2 group that its owner may divide further.
//!
//! "Cgroup ownership" of the runtime-spec's config-linux.md: the owner of the container's directory
//! changes, and of the files that the kernel names in `/sys/kernel/cgroup/delegate` (Linux 4.15),
//! and of nothing else; the limits themselves stay the host's. On v1 nothing changes hands: a user
//! who may write to a v1 group may undo its limits.

use rustix::fs::{AtFlags, Gid, Uid, chownat, fchown};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::group::Cgroup;
use crate::layout::read_proc;

/// The kernel's list; one name per line.
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// What was delegated before there was a list (cgroup-v2.rst, "Model of Delegation").
const CLASSIC: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes the host ids `uid` and `gid` (`None` leaves the group owner, as runc does) the owner of
    /// the v2 group. Does nothing where v2 is not mounted.
    ///
    /// The container has to have a cgroup namespace of its own and a writable cgroup mount for this
    /// to be of use; the caller decides. A controller that is on v1 is not delegated.
    ///
    /// # Errors
    /// Those of chown(2).
    pub fn delegate(&self, uid: u32, gid: Option<u32>) -> Result<()> {
        let Some(group) = self.v2() else {
            return Ok(());
        };
        let owner = Some(Uid::from_raw(uid));
        let group_owner = gid.map(Gid::from_raw);
        let dir = &group.dir;
        let list = match read_proc(LIST) {
            Ok(list) => list,
            Err(Error::Io { source, .. }) if source == Errno::NOENT => CLASSIC.to_owned(),
            Err(error) => return Err(error),
        };
        for file in list.lines().filter(|name| !name.contains('/')) {
            match chownat(dir, file, owner, group_owner, AtFlags::SYMLINK_NOFOLLOW) {
                // The list is the kernel's, not this group's: a controller may be absent here.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(source) => return Err(Error::io("chown", dir.path().join(file), source)),
            }
        }
        // Last: from now on the new owner may make groups.
        fchown(dir, owner, group_owner).map_err(|source| Error::io("chown", dir.path(), source))
    }
}
