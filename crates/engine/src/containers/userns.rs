//! Which ids of the host a container's user namespace uses.
//!
//! `--userns auto` takes a range of 65536 ids that no other container of this engine has, so that an
//! escaped root of one container is nobody to the files and processes of another. The ranges lie where
//! systemd puts those of its containers (524288 to 1879048191, systemd's UIDS-GIDS document), away from
//! users and `/etc/subuid` defaults. A range is held by a file that is created exclusively.

use crate::error::{Error, Kind, Result};
use barque_state::layout::DataRoot;
use barque_state::names::Names;
use barque_types::container::UserNsMode;
use barque_types::id::ContainerId;
use barque_types::spec::IdMapping;

use super::record::IdMaps;

/// First id of the first range.
const FIRST: u32 = 0x8_0000;
/// Ids per range.
const SIZE: u32 = 0x1_0000;
/// How many ranges there are.
const RANGES: u32 = (1_879_048_192 - FIRST) / SIZE;

/// The maps of a new container, reserved for it.
pub(crate) fn maps(data: &DataRoot, mode: &UserNsMode, id: &ContainerId) -> Result<Option<IdMaps>> {
    match mode {
        UserNsMode::Host => Ok(None),
        UserNsMode::Mapped { uid, gid } => Ok(Some((uid.clone(), gid.clone()))),
        UserNsMode::Auto => {
            let range = reserve(&ranges(data), id.as_str())?;
            let map = IdMapping {
                container_id: 0,
                host_id: FIRST + range * SIZE,
                size: SIZE,
            };
            Ok(Some((vec![map], vec![map])))
        }
    }
}

/// Gives back what [`maps`] reserved for `id`.
pub(crate) fn release(data: &DataRoot, id: &str, maps: Option<&IdMaps>) -> Result<()> {
    if let Some(first) = maps
        .and_then(|(uid, _)| uid.first())
        .filter(|map| map.host_id >= FIRST)
    {
        ranges(data).release(&file_name((first.host_id - FIRST) / SIZE), id)?;
    }
    Ok(())
}

/// The same when the record is gone: whatever range names `id`.
pub(crate) fn release_any(data: &DataRoot, id: &str) -> Result<()> {
    let ranges = ranges(data);
    for (name, holder) in ranges.list()? {
        if holder == id {
            ranges.release(&name, id)?;
        }
    }
    Ok(())
}

fn ranges(data: &DataRoot) -> Names {
    Names::new(data.id_ranges())
}

fn file_name(range: u32) -> String {
    format!("range-{range}")
}

fn reserve(ranges: &Names, id: &str) -> Result<u32> {
    // Begin somewhere of the container's own, so that many creates at once seldom meet.
    let start = u32::from_str_radix(&id[..7], 16).unwrap_or(0);
    for n in 0..RANGES {
        let range = (start + n) % RANGES;
        match ranges.reserve(&file_name(range), id) {
            Ok(()) => return Ok(range),
            Err(barque_state::Error::NameTaken { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::new(
        Kind::Conflict,
        "every range of user ids is taken: remove containers made with --userns auto, or give --uidmap and --gidmap",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataRoot::open(dir.path().join("data")).unwrap();
        let ids: Vec<_> = (0..3).map(|n| ContainerId::from_random([n; 32])).collect();
        let first = |id| maps(&data, &UserNsMode::Auto, id).unwrap().unwrap();
        let all: Vec<_> = ids.iter().map(first).collect();
        for (at, (uid, gid)) in all.iter().enumerate() {
            assert_eq!(uid, gid);
            assert!(uid[0].host_id >= FIRST && uid[0].size == SIZE);
            assert!(
                all[..at]
                    .iter()
                    .all(|(other, _)| other[0].host_id != uid[0].host_id)
            );
        }
        release(&data, ids[0].as_str(), Some(&all[0])).unwrap();
        release_any(&data, ids[1].as_str()).unwrap();
        assert_eq!(ranges(&data).list().unwrap().len(), 1);
        assert_eq!(first(&ids[0]), all[0]);
    }
}
