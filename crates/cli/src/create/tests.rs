//! Flags → request, table by table.

use super::*;
use crate::create::flags::ContainerFlags;
use barque_types::container::*;
use barque_types::restart::RestartMode;
use clap::{Args, Command, FromArgMatches};
use std::ffi::OsString;
use std::path::Path;

#[derive(Args)]
struct All {
    #[command(flatten)]
    flags: ContainerFlags,
    #[arg(trailing_var_arg = true)]
    args: Vec<String>,
}

fn request(line: &str) -> Result<CreateContainer, String> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let matches = crate::usage::parse::parse(All::augment_args(Command::new("run")), &words);
    let all = All::from_arg_matches(&matches.map_err(|f| f.report("run").text)?).unwrap();
    let around = Surroundings {
        env: &|name| (name == "HOME").then(|| "/root".to_owned()),
        cwd: Path::new("/work"),
        read: &|path| match path.to_str() {
            Some("/work/env") => Ok("A=file\nB=file\n".to_owned()),
            Some("/work/profile.json") => Ok("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}".to_owned()),
            Some("/work/broken.json") => Ok("{".to_owned()),
            _ => Err(std::io::Error::from_raw_os_error(2)),
        },
    };
    resolve(&all.flags, &all.args, false, &around).map_err(|f| f.report("run").text)
}

#[test]
fn process() {
    let r = request("-it --rm --name web -h box -e A=1 -e HOME --env-file env -w /srv -u 1:2 --entrypoint sh busybox -c ls -la").unwrap();
    assert_eq!(r.source, Source::Image("busybox".into()));
    assert_eq!(r.command, ["-c", "ls", "-la"]);
    assert_eq!(r.entrypoint.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(r.env, ["A=file", "B=file", "A=1", "HOME=/root"]);
    assert_eq!(
        (r.name.as_deref(), r.hostname.as_deref()),
        (Some("web"), Some("box"))
    );
    assert_eq!(
        (r.user.as_deref(), r.workdir.as_deref()),
        (Some("1:2"), Some("/srv"))
    );
    assert!(r.tty && r.open_stdin && r.stdin_once && r.auto_remove);
    assert_eq!(
        r.attach,
        AttachStreams {
            stdin: true,
            stdout: true,
            stderr: true
        }
    );
    assert_eq!(
        request("--entrypoint= busybox")
            .unwrap()
            .entrypoint
            .as_deref(),
        Some(&[][..])
    );
}

#[test]
fn roots() {
    let r = request("--rootfs / echo hello").unwrap();
    assert_eq!(r.source, Source::Rootfs("/".into()));
    assert_eq!(r.command, ["echo", "hello"]);
    assert_eq!(
        request("--rootfs sub ls").unwrap().source,
        Source::Rootfs("/work/sub".into())
    );
}

#[test]
fn limits() {
    let r = request("-m 512m --memory-swap -1 --memory-reservation 64m --cpus 1.5 --cpuset-cpus 0-1 -c 512 --pids-limit 20 --blkio-weight 300 --oom-kill-disable x").unwrap();
    let memory = r.resources.memory.unwrap();
    assert_eq!(
        (memory.limit, memory.swap, memory.reservation),
        (Some(512 << 20), Some(-1), Some(64 << 20))
    );
    assert_eq!(memory.disable_oom_killer, Some(true));
    let cpu = r.resources.cpu.unwrap();
    assert_eq!(
        (cpu.quota, cpu.period, cpu.shares),
        (Some(150_000), Some(100_000), Some(512))
    );
    assert_eq!(cpu.cpus.as_deref(), Some("0-1"));
    assert_eq!(r.nano_cpus, 1_500_000_000);
    assert_eq!(r.resources.pids.unwrap().limit, 20);
    assert_eq!(r.resources.block_io.unwrap().weight, Some(300));
    assert_eq!(
        request("--pids-limit -1 x")
            .unwrap()
            .resources
            .pids
            .unwrap()
            .limit,
        -1
    );
    assert_eq!(
        request("x").unwrap().resources,
        barque_types::spec::Resources::default()
    );
    let r = request("--ulimit nofile=10:20 --ulimit nofile=5 --device-read-bps /dev/vda:1mb --oom-score-adj 500 --shm-size 1m x").unwrap();
    assert_eq!(
        r.ulimits,
        [Ulimit {
            name: "nofile".into(),
            hard: 5,
            soft: 5
        }]
    );
    assert_eq!(r.throttles.read_bps[0].rate, 1 << 20);
    assert_eq!((r.oom_score_adj, r.shm_size), (Some(500), Some(1 << 20)));
}

#[test]
fn isolation_and_privileges() {
    let r = request("--net host --pid container:a --ipc shareable --uts host --cgroupns host --uidmap 0:1000:10 --cap-add net_admin,SYS_TIME --cap-drop all --security-opt no-new-privileges --security-opt seccomp=profile.json --sysctl net.core.somaxconn=5 x").unwrap();
    assert_eq!(r.network, NetworkMode::Host);
    assert_eq!(r.pid, NamespaceMode::Container("a".into()));
    assert_eq!(
        (r.ipc, r.uts, r.cgroupns),
        (
            NamespaceMode::Shareable,
            NamespaceMode::Host,
            NamespaceMode::Host
        )
    );
    assert!(matches!(r.userns, UserNsMode::Mapped { .. }));
    assert_eq!(r.cap_add, ["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
    assert_eq!(r.cap_drop, ["ALL"]);
    assert!(r.no_new_privileges);
    assert!(matches!(r.seccomp, SeccompMode::Profile(text) if text.contains("ALLOW")));
    assert_eq!(r.sysctls["net.core.somaxconn"], "5");
    assert_eq!(
        request("--security-opt seccomp=unconfined x")
            .unwrap()
            .seccomp,
        SeccompMode::Unconfined
    );
    assert_eq!(request("x").unwrap().network, NetworkMode::None);
}

#[test]
fn mounts_and_the_rest() {
    let r = request("-v ./d:/d:ro --tmpfs /t:size=1m --mount type=tmpfs,dst=/m --restart on-failure:3 --stop-signal QUIT --stop-timeout -1 --log-opt max-size=1m --log-driver json-file -l a=b --device /dev/fuse x").unwrap();
    assert_eq!(r.mounts.len(), 3);
    assert!(
        matches!(&r.mounts[0], MountRequest::Bind(b) if b.source == Path::new("/work/d") && b.read_only)
    );
    assert_eq!(
        (r.restart.name, r.restart.maximum_retry_count),
        (RestartMode::OnFailure, 3)
    );
    assert_eq!(
        (r.stop_signal.as_deref(), r.stop_timeout),
        (Some("QUIT"), Some(-1))
    );
    assert_eq!(r.log.options["max-size"], "1m");
    assert_eq!(r.labels["a"], "b");
    assert_eq!(r.devices.len(), 1);
}

#[test]
fn refusals_name_flag_and_value() {
    for (line, part) in [
        (
            "-m 5x x",
            "invalid argument \"5x\" for \"-m, --memory\" flag: invalid suffix: 'x'",
        ),
        (
            "--cpus abc x",
            "invalid argument \"abc\" for \"--cpus\" flag: failed to parse abc as a rational number",
        ),
        (
            "--pids-limit abc x",
            "invalid argument \"abc\" for \"--pids-limit\" flag",
        ),
        (
            "--restart foo x",
            "invalid argument \"foo\" for \"--restart\" flag: unknown policy 'foo'",
        ),
        (
            "--rm --restart always x",
            "barque: conflicting options: cannot specify both --restart and --rm",
        ),
        (
            "--ulimit x x",
            "invalid argument \"x\" for \"--ulimit\" flag: invalid ulimit argument: x",
        ),
        ("-a foo x", "valid streams are STDIN, STDOUT and STDERR"),
        (
            "--network bridge x",
            "networks come with a later version; use none, host or container:ID",
        ),
        (
            "-p 80:80 x",
            "barque: -p, --publish: networks come with a later version",
        ),
        ("-v data:/d x", "named volumes come with a later version"),
        ("-v /a:/d --tmpfs /d x", "Duplicate mount point: /d"),
        ("--pid foo x", "--pid: invalid PID mode \"foo\""),
        ("--pull foo x", "invalid pull option: 'foo'"),
        (
            "--env-file nope x",
            "--env-file: open nope: no such file or directory",
        ),
        (
            "--security-opt foo=bar x",
            "invalid argument \"foo=bar\" for \"--security-opt\" flag",
        ),
        (
            "--security-opt seccomp=nope x",
            "opening seccomp profile (nope) failed: open nope: no such file or directory",
        ),
        ("--security-opt seccomp=broken.json x", "is not valid JSON"),
        (
            "--cap-add foo x",
            "invalid argument \"foo\" for \"--cap-add\" flag: unknown capability: \"foo\"",
        ),
        ("--cpus 2 --cpu-quota 5000 x", "conflicting options"),
        (
            "--memory-swap 1g x",
            "you should always set the memory limit",
        ),
        (
            "-m 1g --memory-swap 512m x",
            "memoryswap limit should be larger",
        ),
        ("-m 4m --memory-reservation 5m x", "memory reservation"),
        ("--memory-swappiness 200 x", "0 to 100"),
        ("--oom-score-adj 5000 x", "[-1000, 1000]"),
        ("--blkio-weight 5 x", "from 10 to 1000"),
        (
            "--cpuset-cpus a x",
            "invalid argument \"a\" for \"--cpuset-cpus\" flag",
        ),
        ("--stop-signal FOO x", "invalid signal: FOO"),
        (
            "--stop-timeout x x",
            "invalid argument \"x\" for \"--stop-timeout\" flag",
        ),
        (
            "--device /dev/a:/b:xyz x",
            "invalid argument \"/dev/a:/b:xyz\" for \"--device\" flag",
        ),
        (
            "--log-driver syslog x",
            "this version has json-file and none",
        ),
        ("--name -x x", "Invalid container name (-x)"),
        ("-w rel x", "the working directory 'rel' is invalid"),
        ("--uidmap 1 x", "invalid id map \"1\""),
        ("--init x", "--init: an init process is not in this version"),
        ("--platform a/b/c/d x", "for \"--platform\" flag"),
        (
            "-e =x x",
            "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x",
        ),
        ("-l =x x", "invalid label '=x': empty name"),
    ] {
        let text = request(line).unwrap_err();
        assert!(text.contains(part), "{line}: {text}");
    }
}
