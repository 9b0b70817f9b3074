//! `cargo xtask test`: everything that the tests need, then all of them.

use crate::{callers, cargo, criu, must, programs};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// The Debian packages that the tests use, beyond what a Debian with Rust and git has. The one list.
const PACKAGES: [&str; 16] = [
    "busybox-static",  // the userland of the test images
    "docker-registry", // a real registry to pull from
    "procps",          // `ps` inside and outside, in the walk-through
    "util-linux",      // ipcmk, ipcs, nsenter, setsid, unshare
    "iproute2",        // `ip`, to look at network namespaces
    "apache2-utils",   // htpasswd, for a registry with accounts
    "openssl",         // certificates, for a registry with a private authority
    "e2fsprogs",       // mkfs.ext4, for a virtual machine's disk
    "strace",          // kills the runtime at its n-th system call
    "perl",            // system calls without a C compiler, for the seccomp tests
    "containerd",      // callers of the OCI runtime: `ctr run`,
    "docker.io",       // `docker run --runtime`,
    "podman",          // `podman --runtime`,
    "buildah",         // and `RUN` of a build
    "systemd",         // process 1 of a virtual machine, for the systemd cgroup driver
    "dbus-daemon",     // the bus in that machine
];

/// A machine with a pure cgroup v2 kernel, for the tests that boot one.
const VM_PACKAGES: [(&str, [&str; 2]); 2] = [
    ("x86_64", ["qemu-system-x86", "linux-image-cloud-amd64"]),
    ("aarch64", ["qemu-system-arm", "linux-image-cloud-arm64"]),
];

/// How many tests of one program run at once. Most of their time they wait for the kernel or for each
/// other, so that the number of CPUs says little.
const THREADS: &str = "6";

/// Installs, builds, runs; prints the runner's closing lines once more at the end.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the tests make namespaces, cgroups and mounts: run this as root");
    }
    install()?;
    let criu = criu::ready()?;
    let callers = callers::ready()?;
    // The binary under test, built before any test needs it.
    must(cargo("build").args(["--package", "barque"]))?;
    must(cargo("test").args(["--workspace", "--no-run"]))?;
    let binary = programs("debug").join("barque");
    let mut child = cargo("test")
        .args(["--workspace", "--no-fail-fast"])
        .args(args)
        .env("BARQUE_BIN", &binary)
        .env("BARQUE_TEST_CRIU", &criu)
        .env("BARQUE_TEST_CALLERS", &callers)
        .env("RUST_TEST_THREADS", THREADS)
        .stdout(Stdio::piped())
        .spawn()
        .context("run cargo test")?;
    let summary = follow(child.stdout.take().context("cargo's stdout")?)?;
    let status = child.wait()?;
    summary.print();
    if !status.success() {
        bail!("tests failed: {status}");
    }
    Ok(())
}

/// Where the tests that boot a virtual machine are: package, test program, and their names' part.
const VM_TESTS: [(&str, &str, &str); 3] = [
    ("barque-cgroup", "kernel", "vm"),
    ("barque-runtime", "containers", "vm::"),
    ("barque-tests", "v2", ""),
];

/// The virtual machines alone; all of them are part of [`run`], too.
pub(crate) fn vm() -> Result<()> {
    install()?;
    must(cargo("build").args(["--package", "barque"]))?;
    let binary = programs("debug").join("barque");
    for (package, program, filter) in VM_TESTS {
        let mut command = cargo("test");
        command.args(["--package", package, "--test", program, "--", filter]);
        must(command.env("BARQUE_BIN", &binary))?;
    }
    Ok(())
}

/// What the runs of all test programs said together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    results: Vec<String>,
    failed: Vec<String>,
    passed_count: u64,
    failed_count: u64,
    ignored_count: u64,
}

impl Summary {
    fn take(&mut self, line: &str) {
        if let Some(name) = failed_test(line) {
            self.failed.push(name.to_owned());
        }
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        self.results.push(line.to_owned());
        self.passed_count += count(rest, "passed");
        self.failed_count += count(rest, "failed");
        self.ignored_count += count(rest, "ignored");
    }

    fn print(&self) {
        println!();
        for line in &self.results {
            println!("{line}");
        }
        for name in &self.failed {
            println!("FAILED: {name}");
        }
        let verdict = if self.failed_count == 0 {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "test result: {verdict}. {} passed; {} failed; {} ignored; in {} test programs",
            self.passed_count,
            self.failed_count,
            self.ignored_count,
            self.results.len()
        );
    }
}

fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// The number before ` word`.
fn count(text: &str, word: &str) -> u64 {
    text.split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        .unwrap_or(0)
}

fn follow(stdout: impl std::io::Read) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        summary.take(&String::from_utf8_lossy(&line));
    }
    Ok(summary)
}

fn wanted() -> impl Iterator<Item = &'static str> {
    let vm = VM_PACKAGES
        .iter()
        .find(|(arch, _)| *arch == std::env::consts::ARCH)
        .map(|(_, packages)| packages.iter().copied());
    PACKAGES.into_iter().chain(vm.into_iter().flatten())
}

fn install() -> Result<()> {
    let missing: Vec<&str> = wanted().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    must(apt().args(["-q", "update"]))?;
    must(
        apt()
            .args(["-q", "-y", "install", "--no-install-recommends"])
            .args(&missing),
    )
    .with_context(|| format!("the tests need the Debian packages {}", missing.join(" ")))
}

/// apt-get without questions and without starting services, be it by init scripts or by systemd: neither a
/// registry on port 5000 nor a dockerd that changes the firewall is wanted.
fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .env("SYSTEMD_OFFLINE", "1")
        .stdin(Stdio::null());
    command
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let text = "test a ... ok\ntest b::c ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
            test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let mut summary = Summary::default();
        text.lines().for_each(|line| summary.take(line));
        assert_eq!(summary.failed, ["b::c"]);
        assert_eq!(summary.results.len(), 2);
        assert_eq!(
            (
                summary.passed_count,
                summary.failed_count,
                summary.ignored_count
            ),
            (8, 1, 2)
        );
    }
}
