//! containerd (1.6 and 1.7) with its runc shim, by `ctr`.

use crate::machine::{IMAGE, Machine, Release};
use crate::{HUNGRY, POLITE, Shared, on_a_terminal};
use barque_testkit::{Cmd, Output, Running, poll};
use std::sync::Arc;

const SOCKET: &str = "/run/ctd.sock";

/// A command that stays for a second after its end. `ctr` cancels its readers when it learns of the end, whatever
/// is on the way (containerd's pull request 13931), and on a busy machine that can be all of it.
fn lingering<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [
        &["sh", "-c", "\"$@\"; code=$?; sleep 1; exit $code", "sh"],
        command,
    ]
    .concat()
}

/// A daemon on a machine of its own.
struct Containerd {
    _daemon: Running,
    machine: Machine,
}

static SHARED: [Shared<Containerd>; 2] = [Shared::new(), Shared::new()];

on_both_releases!(super::Containerd::shared: runs_and_reports_ends limits_and_confines works_on_a_running_task serves_a_terminal_and_kills);

impl Containerd {
    #[track_caller]
    fn shared(release: Release) -> Arc<Self> {
        SHARED[release as usize].get(|| Self::start(release))
    }

    #[track_caller]
    fn start(release: Release) -> Self {
        let machine = Machine::new(release);
        // Without the plugins that look for what is not there, and the one that pulls a pause image.
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"/run/ctd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{SOCKET}\"\n[ttrpc]\naddress = \"{SOCKET}.ttrpc\"\n",
            machine.name("containerd")
        );
        std::fs::write(machine.path("config.toml"), config).expect("write the configuration");
        let daemon = machine
            .cmd(["containerd", "--config", &machine.name("config.toml")])
            .timeout(std::time::Duration::from_secs(3600))
            .spawn_without_stdin();
        let containerd = Self {
            _daemon: daemon,
            machine,
        };
        poll::until("containerd answers", || {
            containerd.ctr(["version"]).output().code == 0
        });
        let archive = containerd.machine.name("image.tar");
        containerd.ctr(["image", "import", &archive]).output().ok();
        containerd
    }

    fn ctr<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        // Ten seconds by default, which a busy machine can need.
        let head = ["ctr", "--address", SOCKET, "--connect-timeout=60s"];
        self.machine.cmd(head).args(args)
    }

    /// `ctr run` with these flags of a container that is gone afterwards, and of whose output nothing is lost.
    #[track_caller]
    fn shows(&self, id: &str, flags: &[&str], command: &[&str]) -> Output {
        self.run(id, flags, &lingering(command))
    }

    /// The same of a command alone.
    #[track_caller]
    fn run(&self, id: &str, flags: &[&str], command: &[&str]) -> Output {
        self.started(&[&["--rm"], flags].concat(), id, command)
            .output()
    }

    fn started(&self, flags: &[&str], id: &str, command: &[&str]) -> Cmd {
        let binary = self.machine.name("barque-oci");
        self.ctr(["run", "--runc-binary", &binary])
            .args(flags)
            .args([IMAGE, id])
            .args(command)
    }

    fn task<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.ctr(["task"]).args(args).output()
    }

    fn status(&self, id: &str) -> String {
        let list = self.task(["ls"]).ok();
        let line = list.lines().into_iter().find(|line| line.starts_with(id));
        line.and_then(|line| line.split_whitespace().nth(2).map(str::to_owned))
            .unwrap_or_default()
    }

    /// Kills the task and removes the container.
    #[track_caller]
    fn remove(&self, id: &str) {
        self.task(["kill", "--signal", "KILL", id]).ok();
        poll::until("the task has stopped", || self.status(id) == "STOPPED");
        self.task(["rm", id]).ok().says(&["exit code 137"]);
        self.ctr(["container", "rm", id]).output().ok();
    }
}

impl AsRef<Machine> for Containerd {
    fn as_ref(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.machine
            .assert_clean(&["default"], "/run/containerd/runc/default");
    }
}

fn runs_and_reports_ends(containerd: &Containerd) {
    let output = containerd.shows("ends-0", &[], &["sh", "-c", "echo said; id -u; exit 3"]);
    assert_eq!(output.exits(3).text(), "said\n0");
    containerd
        .run("ends-1", &[], &["nope"])
        .exits(1)
        .says(&["executable file not found in $PATH"]);
    containerd
        .run("ends-2", &[], &["/etc/passwd"])
        .exits(1)
        .says(&["permission denied"]);
    let flags = ["--env", "A=b", "--cwd", "/tmp", "--read-only"];
    let script = "pwd; echo $A; touch /x 2>&1";
    let output = containerd.shows("ends-3", &flags, &["sh", "-c", script]);
    let text = output.exits(1).text();
    assert!(
        text.starts_with("/tmp\nb\n") && text.contains("Read-only"),
        "{text}"
    );
}

fn limits_and_confines(containerd: &Containerd) {
    let flags = ["--memory-limit", "20000000"];
    containerd.run("limits-0", &flags, &HUNGRY).exits(137);
    let show = [
        "grep",
        "-E",
        "^(Seccomp|CapEff|NoNewPrivs)",
        "/proc/self/status",
    ];
    let output = containerd.shows("limits-1", &["--seccomp"], &show).ok();
    assert!(output.text().contains("Seccomp:\t2"), "{output}");
    let script = "mount -t tmpfs x /mnt && test -w /proc/sys/kernel && ls /dev | wc -l";
    let output = containerd.shows("limits-2", &["--privileged"], &["sh", "-c", script]);
    let devices: u32 = output.ok().text().parse().expect("a number");
    assert!(devices > 20, "{devices}");
    let ids = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let output = containerd.shows("limits-3", &ids, &["cat", "/proc/self/uid_map"]);
    let words: Vec<String> = output
        .ok()
        .text()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(words, ["0", "100000", "1000"]);
    // Joined by path: the daemon's own network.
    let join = ["--with-ns", "network:/proc/1/ns/net"];
    let own = containerd
        .machine
        .cmd(["readlink", "/proc/1/ns/net"])
        .output()
        .ok();
    let output = containerd.shows("limits-4", &join, &["readlink", "/proc/self/ns/net"]);
    assert_eq!(output.ok().text(), own.text());
}

fn works_on_a_running_task(containerd: &Containerd) {
    let dir = containerd.machine.name("");
    let mount = format!("type=bind,src={dir},dst=/mnt,options=rbind:ro");
    let id = "task";
    containerd
        .started(&["--detach", "--mount", &mount], id, &["sh", "-c", POLITE])
        .output()
        .ok();
    assert_eq!(containerd.status(id), "RUNNING");
    let exec = |name: &str, command: &[&str]| {
        let head = ["task", "exec", "--exec-id", name, id];
        containerd.ctr(head).args(command).output()
    };
    let script = "ls /mnt/image.tar; exit 5";
    let output = exec("e0", &lingering(&["sh", "-c", script]));
    assert_eq!(output.exits(5).text(), "/mnt/image.tar");
    exec("e1", &["nope"])
        .exits(1)
        .says(&["exec failed", "not found in $PATH"]);
    let head = ["task", "exec", "--tty", "--exec-id", "e2", id];
    let cmd = containerd.ctr(head).args(lingering(&["tty"]));
    let (screen, code) = on_a_terminal(cmd);
    assert!(
        screen.contains("/dev/pts/0") && code == 0,
        "{code}: {screen}"
    );

    containerd.task(["pause", id]).ok();
    assert_eq!(containerd.status(id), "PAUSED");
    containerd.task(["resume", id]).ok();
    assert_eq!(containerd.status(id), "RUNNING");
    let processes = containerd.task(["ps", id]).ok().lines();
    // A head, the program, and its sleep(1).
    assert_eq!(processes.len(), 3, "{processes:?}");
    let metrics = containerd.task(["metrics", id]).ok().text();
    assert!(metrics.contains("memory.usage_in_bytes"), "{metrics}");

    containerd.task(["kill", "--signal", "TERM", id]).ok();
    poll::until("the task has stopped", || {
        containerd.status(id) == "STOPPED"
    });
    containerd.task(["rm", id]).ok().says(&["exit code 4"]);
    containerd.ctr(["container", "rm", id]).output().ok();
}

fn serves_a_terminal_and_kills(containerd: &Containerd) {
    let command = lingering(&["sh", "-c", "tty; exit 6"]);
    let cmd = containerd.started(&["--rm", "--tty"], "tty", &command);
    let (screen, code) = on_a_terminal(cmd);
    assert!(
        screen.contains("/dev/pts/0") && code == 6,
        "{code}: {screen}"
    );
    containerd
        .started(&["--detach"], "kill", &["sleep", "1000"])
        .output()
        .ok();
    containerd.remove("kill");
}
