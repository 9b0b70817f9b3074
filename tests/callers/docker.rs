//! Docker (20.10 and 26.1; `dockerd` with its own containerd), with the runtime as one of its `--add-runtime`s.

use crate::machine::{IMAGE, Machine, Release};
use crate::{HUNGRY, POLITE, Shared, on_a_terminal};
use barque_testkit::{Cmd, Output, Running, poll};
use std::sync::Arc;

const HOST: &str = "unix:///run/dk.sock";
/// Which `docker`: Debian's, whatever else is in the path.
const CLIENT: &str = "/usr/bin/docker";

/// A daemon on a machine of its own.
struct Docker {
    daemon: Running,
    machine: Machine,
}

static SHARED: [Shared<Docker>; 2] = [Shared::new(), Shared::new()];

on_both_releases!(super::Docker::shared: runs_and_reports_ends connects_and_shares options_arrive works_on_a_running_container notices_the_end_of_memory_and_restarts leaves_nothing_of_short_lives);

impl Docker {
    #[track_caller]
    fn shared(release: Release) -> Arc<Self> {
        SHARED[release as usize].get(|| Self::start(release))
    }

    #[track_caller]
    fn start(release: Release) -> Self {
        let machine = Machine::new(release);
        // Whatever the host's own /etc/docker says is not for this one.
        std::fs::write(machine.path("daemon.json"), "{}").expect("write the configuration");
        let runtime = format!("barque={}", machine.name("barque-oci"));
        let daemon = machine
            .cmd(["dockerd", "--exec-root=/run/dk", "--pidfile=/run/dk.pid"])
            .args(["--config-file", &machine.name("daemon.json")])
            .args(["--data-root", &machine.name("docker"), "--host", HOST])
            .args(["--storage-driver=overlay2", "--add-runtime", &runtime])
            .timeout(std::time::Duration::from_secs(3600))
            .spawn_without_stdin();
        let mut docker = Self { daemon, machine };
        poll::until("dockerd answers", || {
            if docker.daemon.ended() {
                panic!("dockerd has ended:\n{}", docker.daemon.stderr());
            }
            docker.docker(["version"]).output().code == 0
        });
        let archive = docker.machine.name("image.tar");
        docker.docker(["load", "--input", &archive]).output().ok();
        docker
    }

    fn docker<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.machine.cmd([CLIENT, "--host", HOST]).args(args)
    }

    fn started(&self, flags: &[&str], command: &[&str]) -> Cmd {
        self.docker(["run", "--runtime", "barque"])
            .args(flags)
            .args([IMAGE])
            .args(command)
    }

    /// `docker run --rm` with these flags.
    #[track_caller]
    fn run(&self, flags: &[&str], command: &[&str]) -> Output {
        self.started(&[&["--rm"], flags].concat(), command).output()
    }

    #[track_caller]
    fn ok<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.docker(args).output().ok().text()
    }

    #[track_caller]
    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(["inspect", "--format", format, name])
    }
}

impl AsRef<Machine> for Docker {
    fn as_ref(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // BuildKit, which comes with it, keeps one of its own.
        self.machine
            .assert_clean(&["docker", "buildkit"], "/run/dk/runtime-runc/moby");
    }
}

fn runs_and_reports_ends(docker: &Docker) {
    let output = docker.run(&[], &["sh", "-c", "echo said; echo err >&2; exit 7"]);
    assert_eq!(output.clone().exits(7).text(), "said");
    assert_eq!(output.stderr, "err\n");
    docker
        .run(&[], &["nope"])
        .exits(127)
        .says(&["not found in $PATH"]);
    docker
        .run(&[], &["./nope"])
        .exits(127)
        .says(&["no such file"]);
    docker
        .run(&[], &["/etc/passwd"])
        .exits(126)
        .says(&["permission denied"]);
    let output = docker.started(&["--rm", "-i"], &["cat"]).stdin("through");
    assert_eq!(output.output().ok().text(), "through");
    let (screen, code) =
        on_a_terminal(docker.started(&["--rm", "-it"], &["sh", "-c", "tty; exit 3"]));
    assert!(
        screen.contains("/dev/pts/0") && code == 3,
        "{code}: {screen}"
    );
}

fn connects_and_shares(docker: &Docker) {
    // The default bridge: libnetwork moves the interface in from a prestart hook.
    let script = "ip -4 addr show dev eth0 && ping -c 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')";
    let output = docker.run(&[], &["sh", "-c", script]).ok();
    assert!(output.text().contains("1 packets received"), "{output}");
    let output = docker
        .run(&["--network=none"], &["ls", "/sys/class/net"])
        .ok();
    assert_eq!(output.text(), "lo");

    docker
        .started(
            &["-d", "--name=donor", "--ipc=shareable"],
            &["sleep", "1000"],
        )
        .output()
        .ok();
    let flags = [
        "--network=container:donor",
        "--pid=container:donor",
        "--ipc=container:donor",
    ];
    let script = "ps -o args; for link in /proc/1/ns/net /proc/self/ns/net /proc/1/ns/ipc /proc/self/ns/ipc; do readlink $link; done";
    let lines = docker.run(&flags, &["sh", "-c", script]).ok().lines();
    assert!(lines.contains(&"sleep 1000".to_owned()), "{lines:?}");
    let links = &lines[lines.len() - 4..];
    assert!(links[0] == links[1] && links[2] == links[3], "{links:?}");
    docker.ok(["rm", "--force", "donor"]);
    let host = docker
        .machine
        .cmd(["readlink", "/proc/1/ns/net"])
        .output()
        .ok();
    let output = docker.run(
        &["--network=host", "--pid=host"],
        &["readlink", "/proc/self/ns/net"],
    );
    assert_eq!(output.ok().text(), host.text());
}

fn options_arrive(docker: &Docker) {
    let dir = docker.machine.name("");
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
        "--group-add=5",
        "--user=1000",
        "--workdir=/tmp",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=1",
        "--volume",
        &bind,
    ];
    let script = "id; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n; hostname; pwd; \
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; stat -c %t:%T /dev/other; \
        touch /tmp/x && echo tmpfs; touch /x 2>/dev/null || echo root; \
        ls /bound/image.tar; touch /bound/x 2>/dev/null || echo bound";
    let output = docker.run(&flags, &["sh", "-c", script]).ok();
    let expected = "uid=1000(guest) gid=1000(guest) groups=5,50(staff),1000(guest)\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nCapBnd:\t0000000000000000\n100\nnamed\n/tmp\n1\n1:3\n\
        tmpfs\nroot\n/bound/image.tar\nbound";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (found, mut wanted) = (sorted(&output.text()), sorted(expected));
    // The order of groups is Docker's affair.
    wanted.retain(|line| !line.starts_with("uid="));
    let ids: Vec<&String> = found
        .iter()
        .filter(|line| line.starts_with("uid=1000"))
        .collect();
    assert!(ids.len() == 1 && ids[0].contains('5'), "{output}");
    assert!(wanted.iter().all(|line| found.contains(line)), "{output}");

    let script = "mount -t tmpfs x /mnt && test -w /proc/sys/kernel && ls /dev | wc -l";
    let output = docker.run(&["--privileged"], &["sh", "-c", script]).ok();
    assert!(
        output.text().parse::<u32>().is_ok_and(|n| n > 20),
        "{output}"
    );
    let output = docker.run(&["--init"], &["ps", "-o", "pid,args"]).ok();
    assert!(output.text().contains("docker-init"), "{output}");
}

fn works_on_a_running_container(docker: &Docker) {
    let name = "worked-on";
    let flags = [
        "-d",
        "--name",
        name,
        "--memory=64m",
        "--health-cmd=echo fine",
        "--health-interval=1s",
    ];
    docker.started(&flags, &["sh", "-c", POLITE]).output().ok();
    poll::until("the log", || docker.ok(["logs", name]) == "up");
    let exec = |flags: &[&str], command: &[&str]| {
        docker
            .docker(["exec"])
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
    // 126 for both: Docker decides it when the runtime has not started the process.
    exec(&[], &["nope"]).output().exits(126);
    exec(&[], &["/etc/passwd"]).output().exits(126);
    let (screen, code) = on_a_terminal(exec(&["-it"], &["sh", "-c", "tty; exit 9"]));
    assert!(
        screen.contains("/dev/pts/0") && code == 9,
        "{code}: {screen}"
    );
    poll::until("a health check has run", || {
        docker.inspect(name, "{{.State.Health.Status}}") == "healthy"
    });
    let stats = docker.ok(["stats", "--no-stream", "--format", "{{.MemUsage}}", name]);
    assert!(stats.ends_with("/ 64MiB"), "{stats}");
    docker.ok(["update", "--memory=80m", "--memory-swap=90m", name]);
    let id = docker.inspect(name, "{{.Id}}");
    assert_eq!(docker.machine.memory_limit(&id), "83886080");
    // Those of the container and no others, by the columns of the machine's ps(1).
    let top = docker.ok(["top", name, "-o", "pid,args"]);
    let programs: Vec<&str> = top.lines().skip(1).collect();
    assert!(
        top.contains("trap 'exit 4' TERM") && programs.len() == 2,
        "{top}"
    );

    docker.ok(["pause", name]);
    assert_eq!(docker.inspect(name, "{{.State.Status}}"), "paused");
    docker.ok(["unpause", name]);
    assert_eq!(docker.inspect(name, "{{.State.Status}}"), "running");
    docker.ok(["stop", name]);
    assert_eq!(docker.inspect(name, "{{.State.ExitCode}}"), "4");
    docker.ok(["start", name]);
    docker.ok(["kill", name]);
    poll::until("it has ended", || {
        docker.inspect(name, "{{.State.ExitCode}}") == "137"
    });
    docker.ok(["rm", name]);
}

fn notices_the_end_of_memory_and_restarts(docker: &Docker) {
    // Not before it is told: containerd begins to listen to the kernel after the start.
    let script = format!(
        "until [ -e /go ]; do sleep 0.05; done; {}",
        HUNGRY.join(" ")
    );
    docker
        .started(
            &["-d", "--name=hungry", "--memory=20m"],
            &["sh", "-c", &script],
        )
        .output()
        .ok();
    docker.ok(["exec", "hungry", "touch", "/go"]);
    assert_eq!(docker.ok(["wait", "hungry"]), "137");
    assert_eq!(docker.inspect("hungry", "{{.State.OOMKilled}}"), "true");
    docker.ok(["rm", "hungry"]);
    let flags = ["-d", "--name=again", "--restart=on-failure:2"];
    docker
        .started(&flags, &["sh", "-c", "echo once; exit 1"])
        .output()
        .ok();
    poll::until("it was restarted twice", || {
        docker.ok(["logs", "again"]).lines().count() == 3
    });
    poll::until("it was given up", || {
        docker.inspect("again", "{{.State.Status}}") == "exited"
    });
    docker.ok(["rm", "again"]);
}

fn leaves_nothing_of_short_lives(docker: &Docker) {
    // What stays of them, `Docker::drop` finds.
    docker
        .docker(["create", "--runtime=barque", "--name=never", IMAGE, "true"])
        .output()
        .ok();
    docker.ok(["rm", "never"]);
    for _ in 0..3 {
        docker.run(&["--network=none"], &["true"]).ok();
    }
}
