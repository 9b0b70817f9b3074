//! Being told: of a lack of memory, of the end of a group.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use barque_cgroup::{Cgroup, Error, OomNews, PressureLevel};
use barque_types::spec::Resources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::*;

/// Whether the fd can be read within the time.
fn readable(fd: &impl AsFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let within = Timespec::try_from(within).unwrap();
    poll(&mut fds, Some(&within)).unwrap() == 1
}

const LIMIT: &str = r#"{"memory":{"limit":33554432,"swap":33554432}}"#;

#[test]
fn who_runs_out_of_memory_is_told_of() {
    let group = Group::new(LIMIT);
    let mut watch = group.watch_oom().unwrap();
    assert_eq!(watch.news().unwrap(), OomNews::default());
    assert!(!readable(&watch, Duration::ZERO));
    for _ in 0..2 {
        let member = group.shell("exec dd if=/dev/zero of=/dev/null bs=128M count=1");
        let (status, _, stderr) = member.finish();
        assert_eq!(status.signal(), Some(9), "{status} {stderr}");
        assert!(readable(&watch, PATIENCE));
        let news = watch.news().unwrap();
        // v1 may say so more than once for a victim that takes its time to die.
        assert!(news.ooms >= 1 && !news.gone, "{news:?}");
        if !group.on_v1("memory") {
            assert_eq!(news.ooms, 1);
        }
    }
    assert_eq!(group.oom_kills().unwrap(), 2);
    // The end of a process is no news.
    let (status, _, _) = group.shell("true").finish();
    assert!(status.success());
    assert_eq!(watch.news().unwrap(), OomNews::default());
}

#[test]
fn the_end_of_a_group_is_told_of() {
    let layout = layout();
    let (cgroup, _) = Cgroup::create(&layout, &unique(), &Resources::default()).unwrap();
    let mut watch = cgroup.watch_oom().unwrap();
    // A neighbour's end is not ours.
    let (neighbour, _) = Cgroup::create(&layout, &unique(), &Resources::default()).unwrap();
    neighbour.remove().unwrap();
    assert_eq!(watch.news().unwrap(), OomNews::default());
    cgroup.remove().unwrap();
    until("the end is told", || {
        readable(&watch, Duration::from_secs(1));
        watch.news().unwrap().gone
    });
    assert_eq!(watch.news().unwrap().ooms, 0);
}

#[test]
fn memory_pressure_levels_are_v1s() {
    let group = Group::new(LIMIT);
    let result = group.watch_pressure(PressureLevel::Low);
    if !group.on_v1("memory") {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        return;
    }
    let mut watch = result.unwrap();
    assert_eq!(watch.news().unwrap(), OomNews::default());
    // Far more than the limit through the page cache of a file system on disk: reclaim is at work.
    let (_, _, stderr) = group
        .shell("exec dd if=/dev/zero of=/dev/null bs=128M count=1")
        .finish();
    assert!(readable(&watch, PATIENCE), "{stderr}");
    assert!(watch.news().unwrap().ooms >= 1);
}
