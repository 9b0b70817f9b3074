//! A machine of their own for callers that are daemons: namespaces for network, mounts, processes and cgroups.
//!
//! What a daemon under test does to "the host" (bridges, firewall rules, mounts below `/run`, cgroups at the
//! top) it does to the namespaces, and it ends with them: the first process of the pid namespace reads a pipe
//! that only the test program holds open, so the kernel ends every daemon, shim and container when the test
//! program goes, however it goes. Cgroups and files outlive processes; a shell outside waits to remove them.

use barque_testkit::image::Image;
use barque_testkit::{Cmd, Running, barque_binary, callers, poll, proc};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// The image that every caller has loaded.
pub(crate) const IMAGE: &str = "docker.io/library/box:latest";

/// Whose programs there are inside.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Release {
    /// The machine's own: containerd 1.6, Docker 20.10, Podman 4.3, buildah 1.28.
    Twelve,
    /// Debian 13's, unpacked by `cargo xtask callers`: containerd 1.7, Docker 26.1, Podman 5.4.
    Thirteen,
}

/// Runs outside: makes the machine, waits for its end, removes what the kernel keeps.
const OUTSIDE: &str = r#"
dir=$1 group=$2; shift 2
(
    for top in "$@"; do
        mkdir "$top/$group"
        if [ -e "$top/$group/cpuset.cpus" ]; then
            cat "$top/cpuset.cpus" > "$top/$group/cpuset.cpus"
            cat "$top/cpuset.mems" > "$top/$group/cpuset.mems"
        fi
        # 0 is whoever writes; $$ would be the shell outside.
        echo 0 > "$top/$group/cgroup.procs"
    done
    exec unshare --net --mount --pid --cgroup --fork --propagation private --mount-proc --kill-child \
        sh -c "$INSIDE" sh "$@"
)
for top in "$@"; do
    for try in 1 2 3 4 5 6 7 8 9 10; do
        find "$top/$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -e "$top/$group" ] || break
        sleep 0.2
    done
done
# What was left mounted there must not be entered: it could be the host.
rm -rf --one-file-system "$dir"
"#;

/// Runs inside: the hierarchies from the machine's own cgroup down, an empty `/run`, the root of the release,
/// then until the pipe ends.
const INSIDE: &str = r#"
ip link set lo up
for top in "$@"; do
    options=$(awk -v top="$top" '$5 == top { for (i = 7; $i != "-"; i++); print $(i+1), $(i+3) }' /proc/self/mountinfo)
    kind=${options%% *} options=${options#* }
    umount "$top"
    case $kind in
    cgroup2) mount -t cgroup2 none "$top" ;;
    *) mount -t cgroup -o "${options#rw,}" none "$top" ;;
    esac || exit
done
mount -t tmpfs tmpfs /run || exit
touch "$DIR/barque" && mount --bind "$BINARY" "$DIR/barque" || exit
if [ "$ROOT" != / ]; then
    # Of its own for every machine, on top of what is unpacked once. Below the `/run` of this namespace, so that
    # nothing is mounted in a directory that is to be removed.
    mkdir /run/root "$DIR/upper" "$DIR/work"
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$DIR/upper,workdir=$DIR/work" overlay /run/root || exit
    cd /run/root && mkdir -p "./$DIR" || exit
    for name in /proc /sys /dev "$DIR"; do
        mount --rbind "$name" "./$name" || exit
    done
    mount -t tmpfs tmpfs run && mkdir run/host || exit
    # The namespace's own root, as on any machine: from a chroot, setns(2) into it would lead to the host's.
    pivot_root . run/host && cd / && umount -l run/host && rmdir run/host || exit
fi
echo ready
exec cat
"#;

/// The namespaces, a directory, and a cgroup in every hierarchy.
#[derive(Debug)]
pub(crate) struct Machine {
    outside: Option<Running>,
    dir: TempDir,
    group: String,
    tops: Vec<String>,
    /// The first process, as the host knows it.
    init: i32,
    /// A test has failed, and left what it was at.
    failed: AtomicBool,
}

/// Marks the machine when it is dropped by a panic.
pub(crate) struct Mark<'a>(&'a Machine);

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Machine {
    #[track_caller]
    pub(crate) fn new(release: Release) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make namespaces, cgroups and mounts: run them as root"
        );
        let dir = tempfile::Builder::new()
            .prefix("bqm-")
            // The shell outside does, and minds mounts.
            .disable_cleanup(true)
            .tempdir_in("/var/tmp")
            .expect("make a directory in /var/tmp");
        let name = dir.path().file_name().expect("a tempdir has a name");
        let group = format!("barque-callers-{}", &name.to_string_lossy()[4..]);
        let tops: Vec<String> = proc::cgroup_mounts()
            .into_iter()
            .map(|(_, top)| top.to_string_lossy().into_owned())
            .collect();
        let root = match release {
            Release::Twelve => PathBuf::from("/"),
            Release::Thirteen => callers(),
        };
        let outside = Cmd::new("/bin/sh")
            .args(["-c", OUTSIDE, "sh", &dir.path().to_string_lossy(), &group])
            .args(&tops)
            .env("INSIDE", INSIDE)
            .env("DIR", dir.path())
            .env("BINARY", barque_binary())
            .env("ROOT", root)
            .timeout(std::time::Duration::from_secs(3600))
            .spawn();
        outside.until_stdout("ready");
        // Everything of the group but `unshare` itself is inside; the oldest of it is the first process.
        let init = poll::eventually("the machine's first process", || {
            let mut pids = proc::in_cgroup(&group);
            pids.sort_unstable();
            pids.into_iter().find(|pid| {
                // It may be one of the script's, and gone by now.
                let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
                let status = status.unwrap_or_default();
                proc::field_of(&status, "NSpid").is_some_and(|pids| pids.ends_with("\t1"))
            })
        });
        let machine = Self {
            outside: Some(outside),
            dir,
            group,
            tops,
            init,
            failed: AtomicBool::new(false),
        };
        for name in ["runc", "barque-oci"] {
            std::os::unix::fs::symlink("barque", machine.path(name)).expect("link the runtime");
        }
        let archive = Image::busybox().docker_archive(&[IMAGE]);
        std::fs::write(machine.path("image.tar"), archive).expect("write the image");
        machine
    }

    /// For the time of a test.
    pub(crate) fn marked_by_failure(&self) -> Mark<'_> {
        Mark(self)
    }

    /// A file of the machine's directory, the same inside and outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// A command inside.
    pub(crate) fn cmd<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        // nsenter(1) enters the namespaces of the cgroups, not the cgroups.
        const ENTER: &str = "group=$1 init=$2; shift 2; \
            for top in $TOPS; do echo 0 > $top/$group/cgroup.procs || exit; done; \
            exec nsenter --target $init --net --mount --pid --cgroup -- \"$@\"";
        let mut cmd = Cmd::new("/bin/sh");
        cmd.command().env_clear();
        cmd.args(["-c", ENTER, "sh", &self.group, &self.init.to_string()])
            .args(args)
            .env("TOPS", self.tops.join(" "))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            // What a caller that is killed leaves in /var/tmp would be the host's.
            .env("TMPDIR", self.dir.path())
            .env("TERM", "xterm")
    }

    /// Cgroups below the machine's own that are no parents of others, without those that callers keep.
    fn leaves(&self, kept: &[&str]) -> Vec<PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.push(entry.path());
                    walk(&entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        for top in &self.tops {
            walk(&Path::new(top).join(&self.group), &mut found);
        }
        // `init`: where barque-cgroup moves the processes at the top of a v2 tree to, as it must.
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            name != "init" && !kept.iter().any(|kept| name == *kept)
        });
        found
    }

    /// The limit, in bytes, in the memory cgroup that has `id` in its name.
    #[track_caller]
    pub(crate) fn memory_limit(&self, id: &str) -> String {
        let limits: Vec<String> = self
            .leaves(&[])
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(id))
            // v1, v2.
            .flat_map(|path| ["memory.limit_in_bytes", "memory.max"].map(|name| path.join(name)))
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .collect();
        assert_eq!(limits.len(), 1, "cgroups of {id}: {limits:?}");
        limits[0].trim().to_owned()
    }

    /// Fails when a container's cgroup, or a file of a runtime's root, is left. For the end of a test program
    /// that has removed all of its containers; `kept` are the callers' parents of cgroups.
    #[track_caller]
    pub(crate) fn assert_clean(&self, kept: &[&str], root: &str) {
        if std::thread::panicking() || self.failed.load(Ordering::Relaxed) {
            return;
        }
        let inside = format!("/proc/{}/root{root}", self.init);
        let records = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir(&inside).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let clean = poll::within(poll::PATIENCE, || {
            (self.leaves(kept).is_empty() && records().is_empty()).then_some(())
        });
        assert!(
            clean.is_some(),
            "the runtime left something behind: {:?} {:?}",
            self.leaves(kept),
            records()
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(mut outside) = self.outside.take() else {
            return;
        };
        outside.close_stdin();
        // It removes the cgroups, which the kernel only lets go with the last process.
        let ended = poll::within(poll::PATIENCE, || outside.ended().then_some(()));
        let left: Vec<&String> = self
            .tops
            .iter()
            .filter(|top| Path::new(top).join(&self.group).exists())
            .collect();
        if !std::thread::panicking() {
            assert!(ended.is_some() && left.is_empty(), "left in {left:?}");
        }
    }
}
