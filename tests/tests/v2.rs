//! The same binary on a machine with nothing but cgroup v2 and no systemd: a virtual machine, booted
//! from an initramfs with the static binary and busybox.

use barque_testkit::barque_binary;
use barque_testkit::image::Image;
use barque_testkit::vm::{Cgroups, Vm};
use std::time::Duration;

/// Each line is one outcome; the first that does not hold ends the script with its number.
const STORY: &str = r#"
export HOME=/root
fail() { echo "NOT TRUE: $1"; barque ps -a; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"; }
b() { barque --data-root /run/data "$@"; }

b load -q -i /image.tar || fail load
is info "$(b info -f '{{.CgroupVersion}}')" 2
is output "$(b run --rm busybox echo hello)" hello

id=$(b run -d --name box -m 32m --memory-swap 32m --cpus 0.5 --pids-limit 20 busybox sleep 100000) || fail run
pid=$(b inspect -f '{{.State.Pid}}' box)
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
is memory.max "$(cat $group/memory.max)" 33554432
is memory.swap.max "$(cat $group/memory.swap.max 2>/dev/null || echo 0)" 0
is cpu.max "$(cat $group/cpu.max)" "50000 100000"
is pids.max "$(cat $group/pids.max)" 20
is namespace "$(b exec box cat /proc/self/cgroup)" 0::/

b pause box || fail pause
is frozen "$(grep frozen $group/cgroup.events)" "frozen 1"
is status "$(b inspect -f '{{.State.Status}}' box)" paused
b unpause box || fail unpause
is thawed "$(grep frozen $group/cgroup.events)" "frozen 0"

b exec box sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem' 2>/dev/null && fail "devices are open"
b stop box || fail stop
b rm box || fail rm
[ -e "$group" ] && fail "the group is left: $group"

b run --name oom -m 24m --memory-swap 24m busybox tail /dev/zero
is "oom exit" $? 137
is OOMKilled "$(b inspect -f '{{.State.OOMKilled}}' oom)" true
b rm oom || fail "rm oom"
is leftovers "$(find /sys/fs/cgroup -type d -name '????????????????????????????????????????????????????????????????')" ""
is mounts "$(grep -c overlay /proc/mounts)" 0
echo ALL TRUE
"#;

#[test]
fn pure_cgroup_v2_without_systemd() {
    let outcome = Vm::new(Cgroups::V2)
        .program("/bin/barque", barque_binary())
        .file(
            "/image.tar",
            0o644,
            Image::busybox().docker_archive(&["busybox:latest"]),
        )
        .module("overlay")
        .memory(1536)
        .timeout(Duration::from_secs(300))
        .run(STORY);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(outcome.output.contains("ALL TRUE"), "{outcome}");
}
