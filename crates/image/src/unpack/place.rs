//! Where an entry goes: its parent directory, and what is in the way.

use super::attributes::is_whiteout;
use super::{Failure, Unpacker, about};
use crate::dirs::DIRECTORY;
use crate::path::{show, split, within};
use crate::tree;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::Arc;

impl Unpacker {
    /// Creates something by `how`; what is in the way is removed first, as tar does.
    pub(super) fn make<T>(
        &mut self,
        parent: &Arc<OwnedFd>,
        path: &[u8],
        op: &'static str,
        how: impl Fn(()) -> Result<T, Errno>,
    ) -> Result<T, Failure> {
        match how(()) {
            Err(Errno::EXIST) => {
                self.remove(parent, path)?;
                how(())
            }
            other => other,
        }
        .map_err(|errno| Failure::System {
            op,
            path: path.to_vec(),
            errno,
        })
    }

    pub(super) fn remove(&mut self, parent: &Arc<OwnedFd>, path: &[u8]) -> Result<(), Failure> {
        let failed = |errno| Failure::System {
            op: "replace",
            path: path.to_vec(),
            errno,
        };
        let name = CString::new(split(path).1).map_err(|_| failed(Errno::INVAL))?;
        let place = self.open.real_path(parent, path).map_err(failed)?;
        if let Ok(stat) = rustix::fs::statat(&**parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            self.beside.share.withdraw(&place, &stat);
        }
        let kept = self
            .beside
            .keep
            .take(&**parent, &name, &place, self.recorded);
        if !kept.map_err(failed)? {
            tree::remove(&**parent, &name).map_err(failed)?;
        }
        self.open.forget(path);
        let doomed: Vec<_> = self
            .dirs
            .range(path.to_vec()..)
            .take_while(|(dir, _)| dir.starts_with(path))
            .filter(|(dir, _)| within(dir, path))
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in doomed {
            self.dirs.remove(&dir);
        }
        Ok(())
    }

    /// The open directory `dir`, made if it is missing.
    pub(super) fn parent(&mut self, dir: &[u8]) -> Result<Arc<OwnedFd>, Failure> {
        let failed = |errno| Failure::System {
            op: "open",
            path: dir.to_vec(),
            errno,
        };
        match self.open.resolve(dir) {
            Ok((fd, plain)) => {
                if plain {
                    self.open.remember(dir, &fd);
                }
                Ok(fd)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(dir),
            Err(Errno::LOOP) => Err(about(
                dir,
                "is a symbolic link that leads nowhere in the layer",
            )),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Makes what is missing of `dir`, 0755 and ours, part by part.
    pub(super) fn make_parents(&mut self, dir: &[u8]) -> Result<Arc<OwnedFd>, Failure> {
        let mut at = self.open.root();
        let ends = dir
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at)
            .chain([dir.len()]);
        for end in ends {
            let (path, name) = (&dir[..end], split(&dir[..end]).1);
            let failed = |errno| Failure::System {
                op: "create",
                path: path.to_vec(),
                errno,
            };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let mut opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            if let Err(Errno::NOENT) = opened {
                rustix::fs::mkdirat(&*at, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            } else if let Err(Errno::NOTDIR) = opened {
                let there =
                    rustix::fs::statat(&*at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if !is_whiteout(&there) {
                    return Err(about(
                        dir,
                        &format!("needs {} to be a directory, which it is not", show(path)),
                    ));
                }
                self.directory_over(&at, path)?;
                opened = rustix::fs::openat2(&*at, name, DIRECTORY, Mode::empty(), resolve);
            }
            at = match opened {
                Ok(fd) => Arc::new(fd),
                Err(Errno::LOOP) => match self.open.resolve_in_root(path) {
                    Ok(fd) => fd,
                    Err(_) => {
                        return Err(about(
                            dir,
                            &format!(
                                "needs {}, a symbolic link that leads nowhere in the layer",
                                show(path)
                            ),
                        ));
                    }
                },
                Err(errno) => return Err(failed(errno)),
            };
        }
        Ok(at)
    }
}
