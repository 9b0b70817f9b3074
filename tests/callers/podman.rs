//! Podman (4.3 and 5.4) with conmon.

use crate::machine::{IMAGE, Machine, Release};
use crate::{HUNGRY, POLITE, Shared, on_a_terminal};
use barque_testkit::{Cmd, Output, poll};
use std::sync::Arc;

/// Its storage, on a machine of its own.
pub(crate) struct Podman {
    machine: Machine,
}

static SHARED: [Shared<Podman>; 2] = [Shared::new(), Shared::new()];

on_both_releases!(super::Podman::shared: runs_and_reports_ends options_arrive connects_and_shares works_on_a_running_container);

impl Podman {
    #[track_caller]
    fn shared(release: Release) -> Arc<Self> {
        SHARED[release as usize].get(|| {
            let podman = Self {
                machine: Machine::new(release),
            };
            let archive = podman.machine.name("image.tar");
            podman.ok(["load", "--quiet", "--input", &archive]);
            podman
        })
    }

    /// With the runtime under the name of runc, of which Podman knows that it logs in JSON.
    fn podman<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.under("runc", args)
    }

    fn under<S: AsRef<str>>(&self, runtime: &str, args: impl IntoIterator<Item = S>) -> Cmd {
        let options = [
            format!("--root={}", self.machine.name("podman")),
            format!("--runtime={}", self.machine.name(runtime)),
        ];
        self.machine
            .cmd(["podman", "--runroot=/run/pd", "--tmpdir=/run/pd/tmp"])
            .args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs"])
            .args(["--events-backend=file"])
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .args(options)
            .args(args)
    }

    fn started(&self, flags: &[&str], command: &[&str]) -> Cmd {
        self.podman(["run"]).args(flags).args([IMAGE]).args(command)
    }

    /// `podman run --rm` with these flags.
    #[track_caller]
    fn run(&self, flags: &[&str], command: &[&str]) -> Output {
        self.started(&[&["--rm"], flags].concat(), command).output()
    }

    #[track_caller]
    fn ok<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.podman(args).output().ok().text()
    }

    #[track_caller]
    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(["inspect", "--format", format, name])
    }
}

impl AsRef<Machine> for Podman {
    fn as_ref(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.machine
            .assert_clean(&["libpod_parent", "conmon"], "/run/barque-oci");
    }
}

fn runs_and_reports_ends(podman: &Podman) {
    let output = podman.run(&[], &["sh", "-c", "echo said; echo err >&2; exit 7"]);
    assert_eq!(output.clone().exits(7).text(), "said");
    assert_eq!(output.stderr, "err\n");
    podman
        .run(&[], &["nope"])
        .exits(127)
        .says(&["not found in $PATH"]);
    podman
        .run(&[], &["/etc/passwd"])
        .exits(126)
        .says(&["permission denied"]);
    // Of an unknown runtime it reads the text that is for people.
    let args = ["run", "--rm", IMAGE, "nope"];
    let output = podman.under("barque-oci", args).output();
    output.exits(127).says(&["not found in $PATH"]);
    let output = podman.started(&["--rm", "-i"], &["cat"]).stdin("through");
    assert_eq!(output.output().ok().text(), "through");
    let (screen, code) =
        on_a_terminal(podman.started(&["--rm", "-it"], &["sh", "-c", "tty; exit 3"]));
    assert!(
        screen.contains("/dev/pts/0") && code == 3,
        "{code}: {screen}"
    );
}

fn options_arrive(podman: &Podman) {
    let dir = podman.machine.name("");
    let bind = format!("{dir}:/bound:ro");
    let flags = [
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--pids-limit=20",
        "--ulimit=nofile=100:200",
        "--device=/dev/null:/dev/other",
        "--hostname=named",
        "--shm-size=1m",
        "--user=1000",
        "--workdir=/tmp",
        "--volume",
        &bind,
    ];
    let script = "id -u; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n; hostname; pwd; \
        stat -c %t:%T /dev/other; touch /tmp/x && echo tmpfs; touch /x 2>/dev/null || echo root; \
        ls /bound/image.tar; touch /bound/x 2>/dev/null || echo bound";
    let lines = podman.run(&flags, &["sh", "-c", script]).ok().lines();
    let expected = [
        "1000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapBnd:\t0000000000000000",
        "100",
        "named",
        "/tmp",
        "1:3",
        "tmpfs",
        "root",
        "/bound/image.tar",
        "bound",
    ];
    for line in expected {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    let script = "mount -t tmpfs x /mnt && test -w /proc/sys/kernel && ls /dev | wc -l";
    let output = podman.run(&["--privileged"], &["sh", "-c", script]).ok();
    assert!(
        output.text().parse::<u32>().is_ok_and(|n| n > 20),
        "{output}"
    );
    let ids = ["--uidmap=0:100000:2000", "--gidmap=0:100000:2000"];
    let script = "cat /proc/self/uid_map; touch /made; stat -c %u /made; id -u";
    let output = podman.run(&ids, &["sh", "-c", script]).ok();
    let words: Vec<String> = output
        .text()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(words, ["0", "100000", "2000", "0", "0"]);
    podman.run(&["--memory=20m"], &HUNGRY).exits(137);
}

fn connects_and_shares(podman: &Podman) {
    let script = "ping -c 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')";
    let output = podman
        .run(&["--cap-add=net_raw"], &["sh", "-c", script])
        .ok();
    assert!(output.text().contains("1 packets received"), "{output}");
    let output = podman
        .run(&["--network=none"], &["ls", "/sys/class/net"])
        .ok();
    assert_eq!(output.text(), "lo");
    podman
        .started(&["-d", "--name=donor"], &["sleep", "1000"])
        .output()
        .ok();
    let flags = [
        "--network=container:donor",
        "--pid=container:donor",
        "--ipc=container:donor",
    ];
    let script = "ps -o args; for link in /proc/1/ns/net /proc/self/ns/net /proc/1/ns/ipc /proc/self/ns/ipc; do readlink $link; done";
    let lines = podman.run(&flags, &["sh", "-c", script]).ok().lines();
    assert!(lines.contains(&"sleep 1000".to_owned()), "{lines:?}");
    let links = &lines[lines.len() - 4..];
    assert!(links[0] == links[1] && links[2] == links[3], "{links:?}");
    podman.ok(["rm", "--force", "--time=0", "donor"]);
}

fn works_on_a_running_container(podman: &Podman) {
    let name = "worked-on";
    // Without a timer: there is no systemd to have one.
    let flags = [
        "-d",
        "--name",
        name,
        "--memory=64m",
        "--health-cmd=echo fine",
        "--health-interval=disable",
    ];
    podman.started(&flags, &["sh", "-c", POLITE]).output().ok();
    poll::until("the log", || podman.ok(["logs", name]) == "up");
    let exec = |flags: &[&str], command: &[&str]| {
        podman
            .podman(["exec"])
            .args(flags)
            .args([name])
            .args(command)
    };
    let script = "id -u; pwd; echo $A; exit 5";
    let output = exec(
        &["-u", "7:8", "-w", "/tmp", "-e", "A=b"],
        &["sh", "-c", script],
    );
    assert_eq!(output.output().exits(5).text(), "7\n/tmp\nb");
    exec(&[], &["nope"]).output().exits(127);
    exec(&[], &["/etc/passwd"]).output().exits(126);
    let (screen, code) = on_a_terminal(exec(&["-it"], &["sh", "-c", "tty; exit 9"]));
    assert!(
        screen.contains("/dev/pts/0") && code == 9,
        "{code}: {screen}"
    );
    podman.ok(["healthcheck", "run", name]);
    let top = podman.ok(["top", name, "args"]);
    assert!(top.contains("trap"), "{top}");
    let stats = podman.ok(["stats", "--no-stream", "--format", "{{.MemUsage}}", name]);
    assert!(stats.ends_with("/ 67.11MB"), "{stats}");
    podman.ok(["update", "--memory=80m", name]);
    // The kernel's word: Podman 4 shows what it was at the start.
    let id = podman.inspect(name, "{{.Id}}");
    assert_eq!(podman.machine.memory_limit(&id), "83886080");

    podman.ok(["pause", name]);
    assert_eq!(podman.inspect(name, "{{.State.Status}}"), "paused");
    podman.ok(["unpause", name]);
    assert_eq!(podman.inspect(name, "{{.State.Status}}"), "running");
    podman.ok(["stop", name]);
    assert_eq!(podman.inspect(name, "{{.State.ExitCode}}"), "4");
    podman.ok(["start", name]);
    podman.ok(["kill", name]);
    poll::until("it has ended", || {
        podman.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    podman.ok(["rm", name]);
}
