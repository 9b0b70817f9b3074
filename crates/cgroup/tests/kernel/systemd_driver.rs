//! Scopes and slices of systemd. Without a systemd (here, usually) each of these tests checks that
//! its absence is told; [`crate::vm_systemd`] runs them where one is.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use barque_cgroup::systemd::{Manager, Property, Start, UnitName, Value, is_running};
use barque_cgroup::{Cgroup, Error};
use barque_types::spec::Resources;

use crate::support::*;

/// How many tests are in this file.
pub const COUNT: usize = 4;
/// What is printed where there is no systemd.
pub const WITHOUT: &str = "there is no systemd here";

/// The machine's systemd, if there is one.
fn manager() -> Option<Manager> {
    if !is_running() {
        let error = Manager::system().unwrap_err();
        assert!(matches!(error, Error::Systemd { .. }), "{error}");
        assert!(error.to_string().contains("connecting"), "{error}");
        println!("{WITHOUT}");
        return None;
    }
    // The bus may be a moment old.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Manager::system() {
            Ok(manager) => return Some(manager),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "--value", "-p", property, unit])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A scope with a shell in it, gone at the end.
struct Scope {
    manager: Manager,
    name: UnitName,
    group: Cgroup,
    member: Member,
}

impl Scope {
    fn start(script: &str, resources: &Resources, properties: &[Property]) -> Option<Self> {
        let mut manager = manager()?;
        let name = name();
        let member = Member::outside(script);
        let start = Start {
            pid: Some(member.pid()),
            description: "a test of Barque",
            resources,
            properties,
        };
        let (group, warnings) = manager.start(&layout(), &name, &start).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        Some(Self {
            manager,
            name,
            group,
            member,
        })
    }

    fn file(&self, controller: &str, v1: &str, v2: &str) -> String {
        let paths = self.group.paths();
        let path = match paths.get(controller) {
            Some(path) => path.join(v1),
            None => paths[""].join(v2),
        };
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .trim()
            .to_owned()
    }

    fn limits(&self) -> [String; 4] {
        let cpu = if self.group.paths().contains_key("cpu") {
            format!(
                "{} {}",
                self.file("cpu", "cpu.cfs_quota_us", ""),
                self.file("cpu", "cpu.cfs_period_us", "")
            )
        } else {
            self.file("cpu", "", "cpu.max")
        };
        [
            self.file("memory", "memory.limit_in_bytes", "memory.max"),
            self.file("pids", "pids.max", "pids.max"),
            cpu,
            self.file("cpu", "cpu.shares", "cpu.weight"),
        ]
    }

    /// Ends it in the way a runtime does; the directories that it had.
    fn end(mut self) -> Vec<PathBuf> {
        let directories = self.group.paths().into_values().collect();
        self.group.kill_all(PATIENCE).unwrap();
        self.member.wait();
        self.manager.stop(&self.name, &self.group).unwrap();
        // Again, when all is gone.
        self.manager.stop(&self.name, &self.group).unwrap();
        directories
    }
}

fn name() -> UnitName {
    let name = unique().replace('/', "");
    UnitName::parse(&format!("barquetest.slice:barque:{name}"), "system.slice").unwrap()
}

const LIMITS: &str = r#"{"memory":{"limit":67108864},"pids":{"limit":30},
    "cpu":{"quota":12345,"period":50000,"shares":512,"cpus":"0"},
    "devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
        {"allow":true,"type":"c","major":5,"access":"rw"}]}"#;

#[test]
fn a_scope_holds_its_process_under_its_limits_until_it_is_stopped() {
    let properties = [
        Property::parse("Description", "'by annotation'").unwrap(),
        Property::parse("TimeoutStopSec", "uint64 7").unwrap(),
    ];
    let Some(mut scope) = Scope::start("read never", &resources(LIMITS), &properties) else {
        return;
    };
    scope.member.go_on();
    let unit = scope.name.unit().to_owned();
    let path = format!("/barquetest.slice/{unit}");
    assert_eq!(scope.group.path(), path);
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(show(&unit, "ControlGroup"), path);
    assert_eq!(show(&unit, "Description"), "by annotation");
    assert_eq!(show(&unit, "TimeoutStopUSec"), "7s");
    assert_eq!(show(&unit, "Delegate"), "yes");

    let membership =
        std::fs::read_to_string(format!("/proc/{}/cgroup", scope.member.pid())).unwrap();
    for line in membership.lines() {
        assert!(line.ends_with(&path), "{membership}");
    }
    assert_eq!(scope.group.pids().unwrap(), [scope.member.pid()]);

    let weight = if scope.group.paths().contains_key("cpu") {
        ["512", "1024"]
    } else {
        ["59", "100"]
    };
    assert_eq!(
        scope.limits(),
        ["67108864", "30", "12345 50000", weight[0]].map(str::to_owned)
    );
    assert_eq!(scope.file("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");

    let update = r#"{"memory":{"limit":33554432},"pids":{"limit":-1},"cpu":{"shares":1024,"period":100000}}"#;
    let warnings = scope
        .manager
        .update(&layout(), &scope.name, &scope.group, &resources(update))
        .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let updated = ["33554432", "max", "12345 100000", weight[1]].map(str::to_owned);
    assert_eq!(scope.limits(), updated);
    // systemd writes its own idea of the unit again, which has to be the same (but for its steps
    // of 10 ms).
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    let [memory, pids, _, shares] = scope.limits();
    assert_eq!(
        [memory, pids, shares],
        [&updated[0], &updated[1], &updated[3]].map(String::clone)
    );

    let directories = scope.end();
    assert!(!directories.is_empty());
    for directory in directories {
        assert!(!directory.exists(), "{}", directory.display());
    }
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
fn devices_of_a_scope_are_those_of_its_rules_also_after_updates() {
    let script = "
try() { true < /dev/null && echo null; true < /dev/zero && echo zero; true < /dev/full && echo full; echo .; }
try; read go; try; read go; try; read go";
    let Some(mut scope) = Scope::start(script, &resources(LIMITS), &[]) else {
        return;
    };
    let more = LIMITS.replace(r#""minor":3"#, r#""minor":5"#);
    scope.member.go_on();
    assert_eq!(scope.member.lines(), ["null"]);
    scope
        .manager
        .update(&layout(), &scope.name, &scope.group, &resources(&more))
        .unwrap();
    scope.member.go_on();
    assert_eq!(scope.member.lines(), ["zero"]);
    let all = r#"{"devices":[{"allow":true}]}"#;
    scope
        .manager
        .update(&layout(), &scope.name, &scope.group, &resources(all))
        .unwrap();
    scope.member.go_on();
    assert_eq!(scope.member.lines(), ["null", "zero", "full"]);
    scope.end();
}

#[test]
fn a_scope_that_cannot_be_is_explained_and_not_left() {
    let Some(mut manager) = manager() else {
        return;
    };
    let layout = layout();
    let mut start = |name: &UnitName, pid: Option<i32>, json: &str, properties: &[Property]| {
        let start = Start {
            pid,
            description: "a test of Barque",
            resources: &resources(json),
            properties,
        };
        let error = manager.start(&layout, name, &start).unwrap_err();
        assert_eq!(show(name.unit(), "LoadState"), "not-found", "{error}");
        (error, error_text)
    };
    fn error_text(error: &Error, words: &[&str]) {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let first = name();
    let (error, check) = start(&first, None, "{}", &[]);
    check(&error, &[first.unit(), "process"]);

    let mut over = Member::outside("true");
    over.go();
    over.wait();
    let (error, check) = start(&first, Some(over.pid()), "{}", &[]);
    check(&error, &[first.unit()]);

    let mut member = Member::outside("sleep 1000");
    member.go();
    let nonsense = [Property {
        name: "NoSuchThing".into(),
        value: Value::Bool(true),
    }];
    let (error, check) = start(&first, Some(member.pid()), "{}", &nonsense);
    check(&error, &[first.unit(), "NoSuchThing"]);

    // systemd takes it; the kernel does not: the scope is stopped, and with it the process.
    let huge = r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#;
    let (error, check) = start(&first, Some(member.pid()), huge, &[]);
    check(&error, &["3MB"]);
    assert!(!member.wait().success());
}

#[test]
fn a_slice_needs_no_process_and_can_be_there() {
    let Some(mut manager) = manager() else {
        return;
    };
    let id = std::process::id();
    let path = format!("barquetest.slice::barquetest-pod{id}.slice");
    let name = UnitName::parse(&path, "system.slice").unwrap();
    let limits = resources(r#"{"pids":{"limit":77}}"#);
    let start = Start {
        pid: None,
        description: "a test of Barque",
        resources: &limits,
        properties: &[],
    };
    let (group, _) = manager.start(&layout(), &name, &start).unwrap();
    assert_eq!(
        group.path(),
        format!("/barquetest.slice/barquetest-pod{id}.slice")
    );
    assert_eq!(group.stats().unwrap().pids.unwrap().limit, Some(77));
    manager.start(&layout(), &name, &start).unwrap();
    manager.stop(&name, &group).unwrap();
    assert!(group.paths().values().all(|path| !path.exists()));
}
