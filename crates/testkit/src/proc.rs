//! The host's view of a process: `/proc/PID`.

use std::path::{Path, PathBuf};

/// The identity of one of a process's namespaces, e.g. `uts:[4026531838]`. `ns` is a file name of
/// `/proc/PID/ns` (namespaces(7)).
#[track_caller]
pub fn namespace(pid: i32, ns: &str) -> String {
    let path = format!("/proc/{pid}/ns/{ns}");
    match std::fs::read_link(&path) {
        Ok(link) => link.to_string_lossy().into_owned(),
        Err(e) => panic!("read {path}: {e}"),
    }
}

/// The identity of one of this test's own namespaces.
#[track_caller]
pub fn own_namespace(ns: &str) -> String {
    namespace(std::process::id() as i32, ns)
}

/// One field of `/proc/PID/status`, e.g. `CapEff` or `Uid` (proc_pid_status(5)), without surrounding
/// blanks; panics when the process or the field does not exist.
#[track_caller]
pub fn status(pid: i32, field: &str) -> String {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    match field_of(&text, field) {
        Some(value) => value.to_owned(),
        None => panic!("{path} has no field {field}:\n{text}"),
    }
}

/// One field of a text in the form of `/proc/PID/status`.
pub fn field_of<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(str::trim)
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything: count from its end.
    let state = stat.rsplit(')').next().unwrap_or("").trim_start();
    !state.starts_with(['Z', 'X'])
}

/// Parent pid.
#[track_caller]
pub fn parent(pid: i32) -> i32 {
    status(pid, "PPid").parse().expect("PPid is a number")
}

/// The session's id (proc_pid_stat(5)), 0 when its leader is outside of this PID namespace.
#[track_caller]
pub fn session(pid: i32) -> i32 {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    // The name in parentheses may hold anything: count from its end.
    let field = text
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(3));
    match field.and_then(|field| field.parse().ok()) {
        Some(session) => session,
        None => panic!("{path} names no session: {text}"),
    }
}

/// All processes whose command line contains `needle`, with their command lines.
pub fn with_command_line(needle: &str) -> Vec<(i32, String)> {
    pids()
        .filter_map(|pid| {
            let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let text = String::from_utf8_lossy(&raw).replace('\0', " ");
            (text.contains(needle) && alive(pid)).then_some((pid, text))
        })
        .collect()
}

/// All processes whose command line contains `name` and that have a file of `dir` open: a monitor's
/// command line names its container only.
pub fn with_open_files(name: &str, dir: &str) -> Vec<(i32, String)> {
    let mut found = with_command_line(name);
    found.retain(|(pid, _)| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
        fds.into_iter().flatten().flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|file| file.to_string_lossy().contains(dir))
        })
    });
    found
}

/// All processes with a cgroup whose path contains `needle`.
pub fn in_cgroup(needle: &str) -> Vec<i32> {
    pids()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|text| text.contains(needle))
                && alive(*pid)
        })
        .collect()
}

/// Every process that has the namespace `link` (as [`namespace`] names it) as its `ns`.
pub fn in_namespace(ns: &str, link: &str) -> Vec<i32> {
    pids()
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/{ns}"))
                .is_ok_and(|found| found.to_string_lossy() == link)
        })
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .expect("list /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Where the cgroup hierarchies are mounted: `(controllers or "unified", mount point)`.
pub fn cgroup_mounts() -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    text.lines().filter_map(cgroup_mount).collect()
}

/// The directory of `path` in the hierarchy of a v1 `controller`, or in the unified tree when that has it.
#[track_caller]
pub fn cgroup_dir(controller: &str, path: &str) -> PathBuf {
    let mounts = cgroup_mounts();
    let found = mounts
        .iter()
        .find(|(name, _)| name.split(',').any(|c| c == controller))
        .or_else(|| mounts.iter().find(|(name, _)| name == "unified"));
    match found {
        Some((_, root)) => root.join(path.trim_start_matches('/')),
        None => panic!("no cgroup hierarchy has {controller}: {mounts:?}"),
    }
}

/// The path of a process's cgroup for `controller` as `/proc/PID/cgroup` shows it.
#[track_caller]
pub fn cgroup_of(pid: i32, controller: &str) -> String {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let mut unified = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if names.split(',').any(|name| name == controller) {
            return path.to_owned();
        }
        if id == "0" {
            unified = Some(path.to_owned());
        }
    }
    unified.unwrap_or_else(|| panic!("{path} has no {controller}:\n{text}"))
}

/// Reads a file of a process's cgroup, e.g. `memory.limit_in_bytes`.
#[track_caller]
pub fn cgroup_file(pid: i32, controller: &str, file: &str) -> String {
    let path = cgroup_dir(controller, &cgroup_of(pid, controller)).join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(e) => panic!("read {}: {e}", path.display()),
    }
}

fn cgroup_mount(line: &str) -> Option<(String, PathBuf)> {
    let (left, right) = line.split_once(" - ")?;
    let mount_point = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let name = match right.next()? {
        "cgroup2" => "unified".to_owned(),
        "cgroup" => right.nth(1)?.trim_start_matches("rw,").to_owned(),
        _ => return None,
    };
    Some((name, PathBuf::from(mount_point)))
}

/// The file's `major:minor` block device as `--device-write-bps` and the throttle files need it:
/// the device that holds `path`, as `/dev/...` when such a node exists.
#[track_caller]
pub fn block_device_of(path: &Path) -> PathBuf {
    let dev = std::os::linux::fs::MetadataExt::st_dev(
        &std::fs::metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display())),
    );
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let uevent = format!("/sys/dev/block/{major}:{minor}/uevent");
    let text = std::fs::read_to_string(&uevent).unwrap_or_else(|e| panic!("read {uevent}: {e}"));
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))
        .unwrap_or_else(|| panic!("{uevent} names no device:\n{text}"));
    Path::new("/dev").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_mounts() {
        assert_eq!(field_of("Name:\tcat\nUid:\t0\t0\n", "Uid"), Some("0\t0"));
        assert_eq!(field_of("CapInh: 0\n", "CapEff"), None);
        assert_eq!(
            cgroup_mount(
                "31 23 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
            ),
            Some(("memory".into(), "/sys/fs/cgroup/memory".into()))
        );
        assert_eq!(
            cgroup_mount("31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"),
            Some(("unified".into(), "/sys/fs/cgroup".into()))
        );
        assert_eq!(cgroup_mount("1 2 0:3 / / rw - ext4 /dev/vda rw"), None);
    }

    #[test]
    fn this_process() {
        let me = std::process::id() as i32;
        assert!(alive(me) && parent(me) > 0);
        assert!(own_namespace("uts").starts_with("uts:["));
    }
}
