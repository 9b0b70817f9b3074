//! Virtual machines: another kernel, another cgroup layout, no systemd, and a power cord to pull.
//!
//! The machine under the tests has one cgroup layout and one kernel. A [`Vm`] boots Debian's cloud
//! kernel in QEMU without KVM (so it works anywhere, in about five seconds) from an initramfs made
//! here: busybox, the files given, and a script. What the script prints and its exit status come
//! back; nothing of the host is shared with the guest.
//!
//! ```no_run
//! use barque_testkit::vm::{Cgroups, Vm};
//! let outcome = Vm::new(Cgroups::V2)
//!     .program("/bin/hello", "/work/target/hello")
//!     .module("overlay")
//!     .run("hello && cat /proc/self/cgroup");
//! assert_eq!(outcome.status, Some(0), "{outcome}");
//! ```
//!
//! Needs the Debian packages qemu-system-x86, linux-image-cloud-amd64 and busybox-static, and says so
//! when one is missing. Programs must be static: there is no C library in the guest.

mod cpio;
mod modules;
mod systemd;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cpio::Archive;
use modules::Modules;

/// Where the kernel console has the script's output; unlikely in anything else.
const BEGIN: &str = "@@barque-vm begin@@";
const END: &str = "@@barque-vm end ";

/// How the guest's cgroups are mounted, below `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// The v2 tree alone.
    V2,
    /// v1 alone, with `cpu,cpuacct` and `net_cls,net_prio` co-mounted, as distributions had it.
    V1,
    /// The same v1 and, at `/sys/fs/cgroup/unified`, v2 with the controllers that v1 does not have.
    Hybrid,
    /// Nothing is mounted.
    None,
}

/// A machine to be booted: what is in it.
#[derive(Debug, Clone)]
pub struct Vm {
    cgroups: Cgroups,
    archive: Archive,
    modules: Vec<String>,
    memory_mib: u32,
    disks: Vec<PathBuf>,
    systemd: bool,
    timeout: Duration,
}

impl Vm {
    /// A machine with busybox's programs in `/bin`, `/proc`, `/sys`, `/dev`, `/dev/pts`, `/dev/shm`,
    /// `/run` and `/tmp` mounted, loopback up, 512 MiB of memory and two minutes to live.
    #[must_use]
    pub fn new(cgroups: Cgroups) -> Self {
        Self {
            cgroups,
            archive: Archive::new(),
            modules: Vec::new(),
            memory_mib: 512,
            disks: Vec::new(),
            systemd: false,
            timeout: Duration::from_secs(120),
        }
    }

    /// Adds a copy of a program of the host, with mode 0755. It must be statically linked.
    #[must_use]
    #[track_caller]
    pub fn program(mut self, guest: &str, host: impl AsRef<Path>) -> Self {
        let host = host.as_ref();
        let bytes = std::fs::read(host).unwrap_or_else(|e| panic!("read {}: {e}", host.display()));
        self.archive.file(guest, 0o755, bytes);
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, guest: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.archive.file(guest, mode, bytes.into());
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, guest: &str, target: &str) -> Self {
        self.archive.link(guest, target);
        self
    }

    /// Loads a module of the kernel before the script runs, with what it depends on (`overlay`,
    /// `veth`, `bridge`, `nf_tables`, `null_blk`, `bfq`, …).
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    /// Memory of the machine, MiB. Everything added lives in it.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Adds a raw disk image, as `/dev/vda`, then `/dev/vdb`. What the guest has flushed is in the
    /// file when the machine is gone, however it went.
    #[must_use]
    pub fn disk(mut self, image: impl Into<PathBuf>) -> Self {
        self.disks.push(image.into());
        self
    }

    /// Makes the host's systemd process 1 of the machine. It mounts the cgroups, and the script is a
    /// service. Needs the Debian packages systemd and dbus-daemon.
    #[must_use]
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        systemd::add(&mut self.archive);
        self
    }

    /// How long [`Vm::run`] waits before it pulls the plug.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Boots, runs the shell script, and returns when the machine is off.
    #[must_use]
    #[track_caller]
    pub fn run(&self, script: &str) -> Outcome {
        self.start(script).finish(self.timeout)
    }

    /// Boots and returns at once; the script runs in the machine.
    #[must_use]
    #[track_caller]
    pub fn start(&self, script: &str) -> Machine {
        let (kernel, release) = kernel();
        let modules = Modules::of(&release);
        let mut names: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        if !self.disks.is_empty() {
            names.extend(["virtio_pci", "virtio_blk", "ext4"]);
        }
        let mut archive = self.archive.clone();
        let mut inserted = String::new();
        for path in modules.in_order(&names) {
            let guest = format!(
                "/lib/modules/{}",
                path.file_name().unwrap().to_string_lossy()
            );
            inserted.push_str(&format!("insmod {guest} || fail 'insmod {guest}'\n"));
            let bytes =
                std::fs::read(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
            archive.file(&guest, 0o644, bytes);
        }
        archive.file("/bin/busybox", 0o755, busybox());
        archive.link("/bin/sh", "busybox");
        archive.file("/init", 0o755, INIT.into());
        archive.file("/init.2", 0o755, self.second_stage(&inserted).into());
        archive.file("/script", 0o755, script.into());
        archive.file("/init.3", 0o755, LAST_STAGE.into());

        let directory = tempfile::tempdir().expect("make a temporary directory");
        let initrd = directory.path().join("initrd");
        std::fs::write(&initrd, archive.bytes()).expect("write the initramfs");
        let child = self.qemu(&kernel, &initrd);
        Machine::new(child, directory)
    }

    fn qemu(&self, kernel: &Path, initrd: &Path) -> Child {
        let qemu = "/usr/bin/qemu-system-x86_64";
        assert!(
            Path::new(qemu).exists(),
            "{qemu} is missing: install the package qemu-system-x86"
        );
        // The kernel ends the machine when this thread ends, whatever becomes of the test: a
        // machine that nobody waits for must not stay.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", qemu]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(["-accel", "tcg", "-cpu", "max", "-smp", "1"]);
        command.args(["-m", &self.memory_mib.to_string(), "-serial", "stdio"]);
        command
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd);
        // Only what is worse than an error of the kernel's goes between the script's lines; panic
        // reboots, which -no-reboot turns into an end.
        let mut line = String::from("console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on");
        if self.systemd {
            line.push(' ');
            line.push_str(systemd::command_line(self.cgroups));
        }
        command.args(["-append", &line]);
        for (index, disk) in self.disks.iter().enumerate() {
            command.arg("-drive").arg(format!(
                "file={},format=raw,if=none,id=d{index}",
                disk.display()
            ));
            command.args(["-device", &format!("virtio-blk-pci,drive=d{index}")]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start setpriv (package util-linux)")
    }
}

/// Debian's cloud kernel and its release.
fn kernel() -> (PathBuf, String) {
    let mut found: Vec<(PathBuf, String)> = std::fs::read_dir("/boot")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let release = path
                .file_name()?
                .to_str()?
                .strip_prefix("vmlinuz-")?
                .to_owned();
            release.ends_with("-cloud-amd64").then_some((path, release))
        })
        .collect();
    found.sort();
    found.pop().expect(
        "no /boot/vmlinuz-*-cloud-amd64 to boot in a virtual machine: install the package linux-image-cloud-amd64",
    )
}

fn busybox() -> Vec<u8> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .expect("no busybox for the virtual machine: install the package busybox-static")
}

/// First: get off the initial file system. pivot_root(2) refuses to leave it, and an engine under
/// test has to pivot. A bind mount of it, moved over it, is an ordinary root.
const INIT: &str = "#!/bin/sh
/bin/busybox mkdir -p /new /proc /sys /dev /run /tmp /root /etc
/bin/busybox mount --bind / /new
cd /new
/bin/busybox mount --move . /
exec /bin/busybox chroot . /init.2
";

/// Then: an ordinary machine.
const SECOND_STAGE: &str = "#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
fail() { echo \"@@barque-vm begin@@\"; echo \"virtual machine: $1 failed\"; echo; echo \"@@barque-vm end 125@@\"; reboot -f; }
/bin/busybox --install -s /bin
stty -opost
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ip link set lo up
";

/// And last: the script, and off.
const LAST_STAGE: &str = "#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
exec >/dev/console 2>&1 </dev/null
cd /root
echo '@@barque-vm begin@@'
/script
status=$?
echo; echo \"@@barque-vm end $status@@\"
[ $status = 0 ] || dmesg | tail -n 40
sync
reboot -f
";

impl Vm {
    /// The second stage, with the cgroups and modules of this machine, and what comes after it.
    fn second_stage(&self, modules: &str) -> String {
        let v1 = "mount -t tmpfs cgroup /sys/fs/cgroup
for set in cpuset cpu,cpuacct blkio memory devices freezer net_cls,net_prio perf_event hugetlb pids rdma; do
    mkdir /sys/fs/cgroup/$set && mount -t cgroup -o $set cgroup /sys/fs/cgroup/$set || fail \"mount $set\"
done
mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || fail 'mount systemd'
";
        let v2 = |at: &str| {
            format!("mkdir -p {at}; mount -t cgroup2 cgroup2 {at} || fail 'mount cgroup2'\n")
        };
        if self.systemd {
            // One that it finds mounted it would leave as it is.
            return format!(
                "{SECOND_STAGE}{modules}umount /run\nexec /usr/lib/systemd/systemd --unit=script.service\n"
            );
        }
        let cgroups = match self.cgroups {
            Cgroups::V2 => v2("/sys/fs/cgroup"),
            Cgroups::V1 => v1.to_owned(),
            Cgroups::Hybrid => format!("{v1}{}", v2("/sys/fs/cgroup/unified")),
            Cgroups::None => String::new(),
        };
        format!("{SECOND_STAGE}{cgroups}{modules}exec /init.3\n")
    }
}

/// What became of a machine.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The script's exit status; `None` when the machine ended before the script did.
    pub status: Option<i32>,
    /// What the script wrote to stdout and stderr.
    pub output: String,
    /// Everything the machine wrote to its console, with the kernel's log at the end when the script
    /// failed.
    pub console: String,
    /// What QEMU itself had to say.
    pub qemu: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "virtual machine, status {:?}, console:", self.status)?;
        write!(f, "{}\n{}", self.console, self.qemu)
    }
}

impl Outcome {
    fn new(console: String, qemu: String) -> Self {
        let after = console.split_once(BEGIN).map_or("", |(_, rest)| rest);
        let (output, status) = match after.rsplit_once(END) {
            Some((output, rest)) => {
                let status = rest
                    .split_once("@@")
                    .and_then(|(status, _)| status.parse().ok());
                (output, status)
            }
            None => (after, None),
        };
        // One line break belongs to each marker.
        let output = output.strip_prefix('\n').unwrap_or(output);
        let output = output.strip_suffix('\n').unwrap_or(output).to_owned();
        Self {
            status,
            output,
            console,
            qemu,
        }
    }
}

/// What has been read so far; the condition is told of news and of the end.
#[derive(Debug, Default)]
struct Console {
    text: Mutex<(Vec<u8>, bool)>,
    news: Condvar,
}

/// A running machine. Dropped, it is switched off.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    console: Arc<Console>,
    readers: Vec<JoinHandle<Vec<u8>>>,
    /// Holds the initramfs.
    _directory: tempfile::TempDir,
}

impl Machine {
    fn new(mut child: Child, directory: tempfile::TempDir) -> Self {
        let console = Arc::new(Console::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let shared = console.clone();
        let readers = vec![
            std::thread::spawn(move || {
                shared.fill(stdout);
                Vec::new()
            }),
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = stderr.read_to_end(&mut bytes);
                bytes
            }),
        ];
        Self {
            child,
            console,
            readers,
            _directory: directory,
        }
    }

    /// Waits until the console has shown `text`; panics with the console when it does not in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str, timeout: Duration) {
        let shown = self.console.wait(timeout, |bytes| {
            String::from_utf8_lossy(bytes).contains(text)
        });
        assert!(
            shown,
            "the virtual machine did not show {text:?}:\n{}",
            self.console.so_far()
        );
    }

    /// Pulls the plug: the guest gets no chance to write anything.
    #[must_use]
    pub fn cut_power(mut self) -> Outcome {
        let _ = self.child.kill();
        self.collect()
    }

    /// Waits until the machine is off, and pulls the plug after `timeout`.
    #[must_use]
    pub fn finish(mut self, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        self.console.wait(timeout, |_| false);
        // The console closes with QEMU; the rest is a moment.
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let late = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let mut outcome = self.collect();
        if late {
            outcome
                .qemu
                .push_str(&format!("not over after {} s: killed\n", timeout.as_secs()));
        }
        outcome
    }

    fn collect(&mut self) -> Outcome {
        let status = self.child.wait().expect("wait for QEMU");
        let mut qemu = String::new();
        for reader in self.readers.drain(..) {
            qemu.push_str(&String::from_utf8_lossy(&reader.join().expect("a reader")));
        }
        if !status.success() && status.signal() != Some(9) {
            qemu.push_str(&format!("QEMU ended with {status}\n"));
        }
        Outcome::new(self.console.so_far(), qemu)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Console {
    fn fill(&self, mut from: impl Read) {
        let mut chunk = [0u8; 4096];
        loop {
            let count = from.read(&mut chunk).unwrap_or(0);
            let mut text = self.text.lock().expect("console");
            // The terminal's carriage returns are nobody's output.
            text.0
                .extend(chunk[..count].iter().filter(|&&byte| byte != b'\r'));
            text.1 = count == 0;
            self.news.notify_all();
            if count == 0 {
                return;
            }
        }
    }

    /// True when `enough` is; false after `timeout` or at the end of the console.
    fn wait(&self, timeout: Duration, enough: impl Fn(&[u8]) -> bool) -> bool {
        let text = self.text.lock().expect("console");
        let (text, _) = self
            .news
            .wait_timeout_while(text, timeout, |(bytes, ended)| !*ended && !enough(bytes))
            .expect("console");
        enough(&text.0)
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("console").0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_output_are_cut_out_of_the_console() {
        let console = format!("bios\n{BEGIN}\nhello\n\n{END}7@@\ndmesg\n");
        let outcome = Outcome::new(console, String::new());
        assert_eq!(
            (outcome.status, outcome.output.as_str()),
            (Some(7), "hello\n")
        );
        let outcome = Outcome::new(format!("{BEGIN}\nhal"), String::new());
        assert_eq!((outcome.status, outcome.output.as_str()), (None, "hal"));
    }

    #[test]
    fn a_machine_boots_with_a_root_that_can_be_left_and_reports_its_status() {
        let outcome = Vm::new(Cgroups::V2)
            .module("overlay")
            .file("/etc/greeting", 0o644, "hello\n")
            .run("cat /etc/greeting; cat /proc/self/cgroup; grep -c overlay /proc/filesystems
mkdir -p /tmp/r && mount -t tmpfs x /tmp/r && mkdir /tmp/r/old && pivot_root /tmp/r /tmp/r/old && exit 3");
        assert_eq!(outcome.status, Some(3), "{outcome}");
        assert_eq!(outcome.output, "hello\n0::/\n1\n", "{outcome}");
    }

    #[test]
    fn the_plug_can_be_pulled() {
        let machine = Vm::new(Cgroups::None).start("echo up; sleep 1000");
        machine.wait_for("up\n", Duration::from_secs(100));
        assert_eq!(machine.cut_power().status, None);
    }
}
