//! All of these tests again on Debian 12's kernel (6.1): the root is an initramfs that cannot be
//! pivoted away, an overlay takes its layers in one string and no detached ones, and the cgroups
//! are those that this machine does not have.

use crate::Case;
use barque_sys::process::{Namespaces, setns};
use barque_testkit::vm::{Cgroups, Vm};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::time::Duration;

pub const CASES: &[Case] = &[
    (
        "vm::an_older_kernel_with_cgroup_v2",
        an_older_kernel_with_cgroup_v2,
    ),
    (
        "vm::a_root_that_cannot_be_pivoted_away",
        a_root_that_cannot_be_pivoted_away,
    ),
    (
        "vm::an_older_kernel_with_cgroup_v1",
        an_older_kernel_with_cgroup_v1,
    ),
    ("vm::called_within_a_chroot", called_within_a_chroot),
];

/// `run` is the script, `least` the number of tests that pass in it.
fn run(cgroups: Cgroups, script: &str, least: usize) {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk = dir.path().join("disk");
    // tmpfs has idmapped mounts only since 6.3, so the tests' corner is on ext4.
    let made = Command::new("mkfs.ext4")
        .args(["-q"])
        .arg(&disk)
        .arg("256M")
        .output()
        .expect("mkfs.ext4 is missing: apt-get install e2fsprogs");
    assert!(made.status.success(), "{made:?}");
    let outcome = Vm::new(cgroups)
        .program(
            "/bin/containers",
            std::env::current_exe().expect("own path"),
        )
        .module("overlay")
        .module("veth")
        .disk(&disk)
        .memory(1024)
        // Emulated, and beside other tests: a container takes seconds there.
        .timeout(Duration::from_secs(1500))
        .run(script);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let passed = outcome.output.matches(" ... ok").count();
    assert!(passed >= least, "{passed} tests ran: {outcome}");
}

const ALL: &str =
    "mount -t ext4 /dev/vda /tmp && containers --skip vm:: --skip bench:: --skip criu::";

/// On the same kernel as that one: without what has nothing to do with cgroups.
const CGROUPS: &str = "mount -t ext4 /dev/vda /tmp && containers --skip vm:: --skip bench:: \
    --skip security:: --skip mount_options:: --skip escape:: --skip criu::";

fn an_older_kernel_with_cgroup_v2() {
    run(Cgroups::V2, ALL, 70);
}

fn an_older_kernel_with_cgroup_v1() {
    run(Cgroups::V1, CGROUPS, 70);
}

/// A runtime that is called within a chroot (an installer's, a rescue system's): what enters its containers later ends
/// in the container's root, not in that of the mount namespace, which would be the host's. In a machine of its own,
/// because the chroot is the whole tree once more: what is deleted there is deleted. (The kernel makes no user
/// namespace within a chroot, user_namespaces(7).)
fn called_within_a_chroot() {
    run(
        Cgroups::V2,
        "mount -t ext4 /dev/vda /tmp && mkdir /chroot && mount -o rbind / /chroot && \
         chroot /chroot /bin/containers exec:: basics:: hooks:: escape:: --skip in_a_user_namespace",
        30,
    );
}

/// A host that runs from its initramfs, which cannot be pivoted away.
fn a_root_that_cannot_be_pivoted_away() {
    run(Cgroups::None, "/bin/containers --initramfs", 20);
}

/// In the machine: goes back to the initramfs, which the machine's init had covered by an ordinary
/// root, and runs those tests there that have to do with the root.
pub fn return_to_the_initramfs() -> ExitCode {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let namespace = rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY, Mode::empty());
    unmount("/", UnmountFlags::DETACH).expect("umount");
    // Entering a mount namespace, even our own, means entering its root: the lowest is left.
    setns(namespace.expect("our namespace").as_fd(), Namespaces::MOUNT).expect("setns");
    for (kind, source, place) in [
        ("proc", "proc", "/proc"),
        ("sysfs", "sysfs", "/sys"),
        ("devtmpfs", "dev", "/dev"),
        ("ext4", "/dev/vda", "/tmp"),
    ] {
        let none = None::<&std::ffi::CStr>;
        mount(source, place, kind, MountFlags::empty(), none).expect(place);
    }
    rustix::process::chdir("/").expect("chdir");
    assert_eq!(
        rustix::process::pivot_root("/tmp", "/tmp"),
        Err(rustix::io::Errno::INVAL)
    );
    let tests = Command::new("/bin/containers")
        .args(["escape::", "users::", "exec::", "basics::directory"])
        .status();
    ExitCode::from(u8::from(!tests.expect("running the tests").success()))
}
