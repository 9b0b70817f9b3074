//! Scheduling, I/O and memory policy, CPUs, execution domain, labels: asked of the kernel.

use crate::Case;
use crate::support::Bench;
use barque_sys::scheduling::{self, affinity, io_priority, set_affinity};
use barque_types::spec;
use std::fs;

pub const CASES: &[Case] = &[
    ("attributes::scheduler", scheduler),
    ("attributes::deadline_scheduler", deadline_scheduler),
    ("attributes::scheduler_is_refused", scheduler_is_refused),
    ("attributes::io_priority", io_priority_is_set),
    ("attributes::memory_policy", memory_policy),
    ("attributes::personality", personality),
    ("attributes::affinity_is_reset", affinity_is_reset),
    ("attributes::affinity_of_exec", affinity_of_exec),
    ("attributes::affinity_before_the_cgroup", affinity_before),
    (
        "attributes::labels_without_a_module",
        labels_without_a_module,
    ),
];

fn scheduler_of(policy: &str, nice: i32, priority: i32, flags: &[&str]) -> spec::Scheduler {
    spec::Scheduler {
        policy: policy.into(),
        nice,
        priority,
        flags: flags.iter().map(|f| (*f).to_owned()).collect(),
        ..spec::Scheduler::default()
    }
}

fn scheduler() {
    for (wanted, seen) in [
        (scheduler_of("SCHED_OTHER", -7, 0, &[]), (0, 0, -7)),
        (scheduler_of("SCHED_BATCH", 5, 0, &[]), (3, 0, 5)),
        (scheduler_of("SCHED_IDLE", 0, 0, &[]), (5, 0, 0)),
        (scheduler_of("SCHED_FIFO", 0, 10, &[]), (1, 10, 0)),
        (
            scheduler_of("SCHED_RR", 0, 1, &["SCHED_FLAG_RESET_ON_FORK"]),
            (2, 1, 0),
        ),
    ] {
        let mut b = Bench::new();
        b.process().scheduler = Some(wanted.clone());
        let sleeper = b.sleeper();
        let set = scheduling::scheduler(sleeper.0.pid).expect("sched_getattr");
        assert_eq!((set.policy, set.priority), (seen.0, seen.1), "{wanted:?}");
        // The kernel keeps a nice value apart for SCHED_IDLE.
        if seen.0 != 5 {
            assert_eq!(set.nice, seen.2, "{wanted:?}");
        }
        // The shell's child: reset when the flag says so.
        let o = b
            .exec(
                &sleeper.0,
                &["sh", "-c", "cat /proc/$$/stat; cat /proc/self/stat; :"],
            )
            .expect("exec");
        let policies: Vec<&str> = o
            .out
            .lines()
            .map(|l| l.split(' ').nth(40).expect("policy"))
            .collect();
        let child = if wanted.flags.is_empty() { seen.0 } else { 0 };
        assert_eq!(policies, [seen.0.to_string(), child.to_string()]);
    }
}

fn deadline_scheduler() {
    let mut b = Bench::new();
    b.process().scheduler = Some(spec::Scheduler {
        // Enough to execute a program within one period, also on an emulated processor; little enough for many at once.
        runtime: 100_000_000,
        deadline: 1_000_000_000,
        period: 1_000_000_000,
        ..scheduler_of("SCHED_DEADLINE", 0, 0, &[])
    });
    let sleeper = b.sleeper();
    let set = scheduling::scheduler(sleeper.0.pid).expect("sched_getattr");
    let set = (set.policy, set.runtime, set.deadline, set.period);
    assert_eq!(set, (6, 100_000_000, 1_000_000_000, 1_000_000_000));
}

fn scheduler_is_refused() {
    let mut b = Bench::new();
    b.process().scheduler = Some(scheduler_of("SCHED_FIFO", 0, 100, &[]));
    let e = b.run(&["true"]).expect_err("priority 100").to_string();
    assert!(
        e.starts_with("setting process.scheduler: invalid argument (the kernel refuses"),
        "{e}"
    );
    b.process().scheduler = Some(scheduler_of("SCHED_FIFO", 0, 10, &[]));
    b.with_user_namespace();
    let e = b.run(&["true"]).expect_err("no privilege").to_string();
    assert!(e.contains("CAP_SYS_NICE"), "{e}");
}

fn io_priority_is_set() {
    for (class, level, seen) in [
        ("IOPRIO_CLASS_RT", 2, (1, 2)),
        ("IOPRIO_CLASS_BE", 7, (2, 7)),
        ("IOPRIO_CLASS_IDLE", 0, (3, 0)),
    ] {
        let mut b = Bench::new();
        b.process().io_priority = Some(spec::IoPriority {
            class: class.into(),
            priority: level,
        });
        let sleeper = b.sleeper();
        assert_eq!(io_priority(sleeper.0.pid), Ok(seen), "{class}");
        let o = b.exec(&sleeper.0, &["ionice"]).expect("exec");
        let name = ["", "realtime", "best-effort", "idle"][seen.0 as usize];
        assert!(o.out.starts_with(name), "{o:?}");
    }
    let mut b = Bench::new();
    b.process().io_priority = Some(spec::IoPriority {
        class: "IOPRIO_CLASS_BE".into(),
        priority: 8,
    });
    let e = b.run(&["true"]).expect_err("level 8").to_string();
    assert_eq!(e, "process.ioPriority.priority: 8 is not between 0 and 7");
}

fn memory_policy() {
    let mut b = Bench::new();
    let policy = |mode: &str, nodes: &str, flags: &[&str]| {
        Some(spec::MemoryPolicy {
            mode: mode.into(),
            nodes: nodes.into(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
        })
    };
    // numa_maps names the policy of each mapping; that of the process is on those without their own.
    for (wanted, seen) in [
        (policy("MPOL_DEFAULT", "", &[]), "default"),
        (policy("MPOL_LOCAL", "", &[]), "local"),
        (
            policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"]),
            "bind=static:0",
        ),
        (
            policy("MPOL_INTERLEAVE", "0", &["MPOL_F_RELATIVE_NODES"]),
            "interleave=relative:0",
        ),
        (policy("MPOL_PREFERRED", "0", &[]), "prefer:0"),
        (
            policy("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"]),
            "bind=balancing:0",
        ),
        (policy("MPOL_PREFERRED_MANY", "0-0", &[]), "prefer (many):0"),
        (
            policy("MPOL_WEIGHTED_INTERLEAVE", "0", &[]),
            "weighted interleave:0",
        ),
    ] {
        let own = barque_runtime::seccomp::KernelVersion::running();
        let since = match seen.split([':', '=']).next() {
            Some("weighted interleave") => (6, 9),
            Some("prefer (many)") => (5, 15),
            _ if seen.contains("balancing") => (5, 12),
            _ => (5, 10),
        };
        if (own.major, own.minor) < since {
            continue;
        }
        b.linux().memory_policy = wanted.clone();
        let sleeper = b.sleeper();
        let maps = fs::read_to_string(format!("/proc/{}/numa_maps", sleeper.0.pid)).expect("maps");
        assert!(maps.contains(&format!(" {seen} ")), "{wanted:?}: {maps}");
        let o = b
            .exec(&sleeper.0, &["cat", "/proc/self/numa_maps"])
            .expect("exec");
        assert!(o.out.contains(&format!(" {seen} ")), "{wanted:?}: {o:?}");
    }
    for (mode, nodes) in [
        ("MPOL_BIND", ""),
        ("MPOL_BIND", "1000"),
        ("MPOL_DEFAULT", "0"),
    ] {
        b.linux().memory_policy = policy(mode, nodes, &[]);
        let e = b.run(&["true"]).expect_err(mode).to_string();
        assert!(
            e.starts_with("setting linux.memoryPolicy: invalid argument"),
            "{e}"
        );
    }
}

fn personality() {
    let mut b = Bench::new();
    let domain = |domain: &str| {
        Some(spec::Personality {
            domain: domain.into(),
            flags: Vec::new(),
        })
    };
    let own = rustix::system::uname()
        .machine()
        .to_string_lossy()
        .into_owned();
    b.linux().personality = domain("LINUX");
    assert_eq!(b.sh("uname -m").out, format!("{own}\n"));
    b.linux().personality = domain("LINUX32");
    let sleeper = b.sleeper();
    let read = |pid| fs::read_to_string(format!("/proc/{pid}/personality")).expect("personality");
    assert_eq!(read(sleeper.0.pid), "00000008\n");
    let o = b.exec(&sleeper.0, &["uname", "-m"]).expect("exec");
    assert_ne!(o.out, format!("{own}\n"), "a 32-bit machine");
}

/// Binds this process to its first CPU; returns all that it had.
fn bind_to_one() -> Vec<u64> {
    let all = affinity(0).expect("affinity");
    let word = all.iter().position(|w| *w != 0).expect("a CPU");
    let mut one = vec![0; all.len()];
    one[word] = 1 << all[word].trailing_zeros();
    set_affinity(0, &one).expect("binding");
    all
}

fn affinity_is_reset() {
    let all = bind_to_one();
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    assert_eq!(affinity(sleeper.0.pid), Ok(all.clone()));
    let pid = b
        .exec(&sleeper.0, &["sh", "-c", "taskset -p $$"])
        .expect("exec");
    let mask = format!("{:x}\n", all[0]);
    assert!(pid.out.ends_with(&mask), "{pid:?}: {mask}");
}

fn affinity_of_exec() {
    let before = affinity(0).expect("affinity");
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    b.process().exec_cpu_affinity = Some(spec::CpuAffinity {
        initial: Some("0".into()),
        final_: Some("0".into()),
    });
    let o = b
        .exec(&sleeper.0, &["sh", "-c", "taskset -p $$"])
        .expect("exec");
    assert!(o.out.ends_with(": 1\n"), "{o:?}");
    assert_eq!(affinity(0), Ok(before), "the caller is where it was");
    for (initial, final_) in [(Some("8000"), None), (None, Some("8000"))] {
        b.process().exec_cpu_affinity = Some(spec::CpuAffinity {
            initial: initial.map(str::to_owned),
            final_: final_.map(str::to_owned),
        });
        let e = b
            .exec(&sleeper.0, &["true"])
            .expect_err("no such CPU")
            .to_string();
        assert!(e.contains("none of these CPUs exists"), "{e}");
    }
    b.process().exec_cpu_affinity = Some(spec::CpuAffinity {
        initial: Some("x".into()),
        final_: None,
    });
    let e = b
        .exec(&sleeper.0, &["true"])
        .expect_err("no list")
        .to_string();
    assert!(e.starts_with("process.execCPUAffinity.initial: "), "{e}");
}

/// Without a final mask the process has all CPUs of its cgroup, whatever the initial one was.
fn affinity_before() {
    let all = affinity(0).expect("affinity");
    let mut b = Bench::new();
    let sleeper = b.sleeper();
    b.process().exec_cpu_affinity = Some(spec::CpuAffinity {
        initial: Some("0".into()),
        final_: None,
    });
    let o = b
        .exec(&sleeper.0, &["sh", "-c", "taskset -p $$"])
        .expect("exec");
    assert!(o.out.ends_with(&format!("{:x}\n", all[0])), "{o:?}");
}

fn labels_without_a_module() {
    let mut b = Bench::new();
    b.process().apparmor_profile = Some("unconfined".into());
    assert_eq!(b.sh("echo fine").out, "fine\n");
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        b.process().apparmor_profile = Some("some-profile".into());
        let e = b.run(&["true"]).expect_err("no module").to_string();
        assert_eq!(
            e,
            "process.apparmorProfile: AppArmor is not enabled on this host"
        );
    }
    b.process().apparmor_profile = None;
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        b.process().selinux_label = Some("system_u:system_r:container_t:s0".into());
        let e = b.run(&["true"]).expect_err("no module").to_string();
        assert_eq!(
            e,
            "process.selinuxLabel: SELinux is not enabled on this host"
        );
        let mut plain = Bench::new();
        let sleeper = plain.sleeper();
        let e = b
            .exec(&sleeper.0, &["true"])
            .expect_err("no module")
            .to_string();
        assert_eq!(
            e,
            "process.selinuxLabel: SELinux is not enabled on this host"
        );
    }
}
