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

/// The OCI runtime's part: limits and device programs of v2, their change, one more process, the freezer, the end.
const OCI_STORY: &str = r#"
fail() { echo "NOT TRUE: $1"; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"; }
oci() { barque oci --root /run/oci "$@"; }
mkdir -p /bundle/rootfs/bin /bundle/rootfs/proc /bundle/rootfs/dev /bundle/rootfs/sys /bundle/rootfs/tmp
cp /bin/busybox /bundle/rootfs/bin/
for name in sh cat sleep mknod head true; do ln -s busybox /bundle/rootfs/bin/$name; done
before=$(find /sys/fs/cgroup -type d | wc -l)

oci create -b /bundle --pid-file /pid box </dev/null >/dev/null || fail create
pid=$(cat /pid)
group=/sys/fs/cgroup/test/box
is "where it is" "$(sed -n 's/^0:://p' /proc/$pid/cgroup)" /test/box
oci state box | grep -q '"status": "created"' || fail "created"
oci start box || fail start
oci state box | grep -q '"status": "running"' || fail "running"
is memory.max "$(cat $group/memory.max)" 33554432
is memory.low "$(cat $group/memory.low)" 8388608
is cpu.max "$(cat $group/cpu.max)" "50000 100000"
is cpu.weight "$(cat $group/cpu.weight)" 59
is pids.max "$(cat $group/pids.max)" 20
is unified "$(cat $group/memory.high)" 25165824

is "cgroup namespace" "$(oci exec box cat /proc/self/cgroup)" 0::/
is "an exec's group" "$(oci exec box sh -c 'cat /sys/fs/cgroup/pids.max')" 20
oci exec box sh -c 'head -c 1 /dev/null; mknod /tmp/full c 1 7 && head -c 1 /tmp/full >/dev/null' || fail "allowed device"
oci exec box sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem' >/dev/null 2>&1 && fail "a device is open that is denied"

oci pause box || fail pause
is frozen "$(grep frozen $group/cgroup.events)" "frozen 1"
oci exec box true 2>/dev/null && fail "exec in a paused container"
oci resume box || fail resume
oci delete box 2>/dev/null && fail "deleted while it runs"
oci kill box KILL || fail kill
i=0; while oci state box | grep -q running; do i=$((i+1)); [ $i -lt 100 ] || fail "it does not die"; sleep 0.1; done
oci delete box || fail delete
[ -e $group ] && fail "the group is left"
rmdir /sys/fs/cgroup/test
is "groups" "$(find /sys/fs/cgroup -type d | wc -l)" "$before"
is "directories" "$(ls /run/oci)" ""
echo ALL TRUE
"#;

fn oci_config() -> String {
    let caps = ["CAP_MKNOD", "CAP_KILL"];
    let mount = |destination: &str, kind: &str, options: &[&str]| serde_json::json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let namespaces = ["pid", "mount", "ipc", "uts", "network", "cgroup"]
        .map(|kind| serde_json::json!({"type": kind}));
    serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sleep", "100000"], "env": ["PATH=/bin"],
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
            mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid"]),
        ],
        "linux": {
            "cgroupsPath": "/test/box",
            "namespaces": namespaces,
            "resources": {
                "memory": {"limit": 33_554_432, "reservation": 8_388_608},
                "cpu": {"quota": 50_000, "period": 100_000, "shares": 512},
                "pids": {"limit": 20},
                "unified": {"memory.high": "25165824"},
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "access": "m"},
                    {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "rwm"},
                ],
            },
        },
    })
    .to_string()
}

#[test]
fn the_oci_runtime_on_pure_cgroup_v2() {
    let outcome = Vm::new(Cgroups::V2)
        .program("/bin/barque", barque_binary())
        .file("/bundle/config.json", 0o644, oci_config())
        .memory(1024)
        .timeout(Duration::from_secs(300))
        .run(OCI_STORY);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(outcome.output.contains("ALL TRUE"), "{outcome}");
}

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
