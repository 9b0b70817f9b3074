//! A machine whose process 1 is the host's systemd, with the host's dbus-daemon in it.
//!
//! Nothing of a distribution is booted: one service, which is the script. Programs of the host are
//! linked dynamically, so they come with their libraries, as ldd(1) lists them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cgroups;
use super::cpio::Archive;

/// Programs by their usual places; a missing one is named with its package.
const PROGRAMS: [(&[&str], &str); 3] = [
    (
        &["/usr/lib/systemd/systemd", "/lib/systemd/systemd"],
        "systemd",
    ),
    (&["/usr/bin/systemctl", "/bin/systemctl"], "systemd"),
    (&["/usr/bin/dbus-daemon"], "dbus-daemon"),
];

const FILES: [&str; 3] = [
    "/usr/share/dbus-1/system.conf",
    "/usr/share/dbus-1/session.conf",
    "/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf",
];

/// The script, as a service that the machine boots to.
const SCRIPT: &str = "[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/init.3
TimeoutStartSec=infinity
";

const DBUS_SOCKET: &str = "[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
";

const DBUS_SERVICE: &str = "[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
";

/// Adds systemd, dbus-daemon (not started: `systemctl start dbus.service`) and `systemctl`.
pub(super) fn add(archive: &mut Archive) {
    let mut libraries = BTreeSet::new();
    for (places, package) in PROGRAMS {
        let place = places
            .iter()
            .find(|place| Path::new(place).exists())
            .unwrap_or_else(|| panic!("{} is missing: install the package {package}", places[0]));
        copy(archive, Path::new(place), places[0], 0o755);
        libraries.extend(libraries_of(Path::new(place)));
    }
    // Since 254, what systemd starts is started by this.
    let executor = Path::new("/usr/lib/systemd/systemd-executor");
    if executor.exists() {
        copy(
            archive,
            executor,
            "/usr/lib/systemd/systemd-executor",
            0o755,
        );
        libraries.extend(libraries_of(executor));
    }
    for library in libraries {
        let guest = library.to_string_lossy().into_owned();
        copy(archive, &library, &guest, 0o755);
    }
    for file in FILES {
        copy(archive, Path::new(file), file, 0o644);
    }
    for (path, text) in [
        ("/etc/systemd/system/script.service", SCRIPT),
        ("/etc/systemd/system/dbus.socket", DBUS_SOCKET),
        ("/etc/systemd/system/dbus.service", DBUS_SERVICE),
        (
            "/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nuser:x:1000:1000::/tmp:/bin/sh\n",
        ),
        ("/etc/group", "root:x:0:\nmessagebus:x:100:\nuser:x:1000:\n"),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\n"),
        ("/etc/machine-id", "00112233445566778899aabbccddeeff\n"),
    ] {
        archive.file(path, 0o644, text.into());
    }
}

/// What systemd is told on the kernel's command line about the cgroups that it is to mount.
pub(super) fn command_line(cgroups: Cgroups) -> &'static str {
    match cgroups {
        Cgroups::V2 | Cgroups::None => "systemd.show_status=0 systemd.unified_cgroup_hierarchy=1",
        Cgroups::V1 => {
            "systemd.show_status=0 systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
        }
        Cgroups::Hybrid => {
            "systemd.show_status=0 systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0"
        }
    }
}

fn copy(archive: &mut Archive, host: &Path, guest: &str, mode: u32) {
    let bytes = std::fs::read(host).unwrap_or_else(|e| panic!("read {}: {e}", host.display()));
    archive.file(guest, mode, bytes);
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without an arrow.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .expect("run ldd (package libc-bin)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && !text.contains("not found"),
        "ldd {}: {text}",
        program.display()
    );
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}
