//! Limits that change under a running container.

use crate::support::*;

#[test]
fn a_limit_below_the_use_is_refused_when_the_check_is_asked_for() {
    let group = Group::new(r#"{"memory":{"limit":134217728}}"#);
    // A file in memory belongs to the group of whoever wrote it, and cannot be reclaimed.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (status, _, stderr) = group
        .shell(&format!(
            "dd if=/dev/zero of={}/file bs=1M count=20",
            directory.path().display()
        ))
        .finish();
    assert!(status.success(), "{stderr}");
    assert!(group.stats().unwrap().memory.unwrap().usage > 20 << 20);
    let low = r#"{"memory":{"limit":8388608,"checkBeforeUpdate":true}}"#;
    let error = group.apply(&resources(low)).unwrap_err().to_string();
    assert!(
        error.contains("8388608") && error.contains("uses now"),
        "{error}"
    );
    let limit = || group.stats().unwrap().memory.unwrap().limit;
    assert_eq!(limit(), Some(134_217_728));
    let enough = r#"{"memory":{"limit":100663296,"checkBeforeUpdate":true}}"#;
    group.apply(&resources(enough)).unwrap();
    assert_eq!(limit(), Some(100_663_296));
    assert_eq!(group.oom_kills().unwrap(), 0);
}

#[test]
fn an_idle_group_gets_a_weight_when_it_ends_to_be_idle() {
    let group = Group::new(r#"{"cpu":{"shares":2048,"idle":1}}"#);
    let idle = || group.file("cpu", "cpu.idle", "cpu.idle");
    let weight = || group.file("cpu", "cpu.shares", "cpu.weight");
    assert_eq!(idle(), "1");
    // The kernel takes no weight now; with idle confirmed, that is no news to anybody.
    group
        .apply(&resources(r#"{"cpu":{"shares":512,"idle":1}}"#))
        .unwrap();
    assert_eq!(idle(), "1");
    let error = group
        .apply(&resources(r#"{"cpu":{"shares":512}}"#))
        .unwrap_err()
        .to_string();
    assert!(error.contains("idle"), "{error}");
    group
        .apply(&resources(r#"{"cpu":{"shares":1024,"idle":0}}"#))
        .unwrap();
    let expected = if group.on_v1("cpu") { "1024" } else { "100" };
    assert_eq!((idle().as_str(), weight().as_str()), ("0", expected));
}

#[test]
fn no_pids_limit_by_zero_or_minus_one() {
    let group = Group::new(r#"{"pids":{"limit":7}}"#);
    for none in ["0", "-1"] {
        let limit = || group.file("pids", "pids.max", "pids.max");
        assert_eq!(limit(), "7");
        group
            .apply(&resources(&format!(r#"{{"pids":{{"limit":{none}}}}}"#)))
            .unwrap();
        assert_eq!(limit(), "max", "{none}");
        group.apply(&resources(r#"{"pids":{"limit":7}}"#)).unwrap();
    }
}

#[test]
fn swap_without_limit_beside_a_memory_limit() {
    let group = Group::new(r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    group
        .apply(&resources(r#"{"memory":{"swap":-1}}"#))
        .unwrap();
    assert_eq!(
        group.stats().unwrap().memory.unwrap().limit,
        Some(33_554_432)
    );
    if group.on_v1("memory") {
        let swap = group.file("memory", "memory.memsw.limit_in_bytes", "");
        assert!(swap.parse::<u64>().unwrap() > 1 << 60, "{swap}");
    } else {
        assert_eq!(group.file("memory", "", "memory.swap.max"), "max");
    }
}

/// `/dev/null` is in both lists and `/dev/full` in neither, while the lists change as fast as they
/// can: no open of the one may fail, none of the other succeed.
#[test]
fn device_rules_change_without_a_gap() {
    let always = r#"{"allow":false},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}"#;
    let rules = |more: &str| resources(&format!(r#"{{"devices":[{always}{more}]}}"#));
    let one = rules(r#",{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}"#);
    let two = rules(
        r#",{"allow":true,"type":"c","major":1,"minor":9,"access":"rw"},{"allow":true,"type":"b","access":"m"}"#,
    );
    let group = Group::new("{}");
    group.apply(&one).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (stop, started) = (directory.path().join("stop"), directory.path().join("go"));
    // `true` and not `:`, whose failed redirection would end the shell.
    let mut member = group.shell(&format!(
        "i=0; while [ ! -e {} ]; do
i=$((i+1))
true < /dev/null || echo GAP $i
true 2>/dev/null < /dev/full && echo LEAK $i
[ $i = 100 ] && echo > {}
done; echo rounds $i",
        stop.display(),
        started.display()
    ));
    member.go_on();
    until("the first opens", || started.exists());
    for _ in 0..300 {
        group.apply(&two).unwrap();
        group.apply(&one).unwrap();
    }
    std::fs::write(&stop, "").unwrap();
    let (status, out, stderr) = member.end();
    assert!(status.success(), "{stderr}");
    let (problems, rounds): (Vec<&str>, Vec<&str>) =
        out.lines().partition(|line| !line.starts_with("rounds"));
    assert_eq!(problems, Vec::<&str>::new());
    let rounds: u64 = rounds[0].trim_start_matches("rounds ").parse().unwrap();
    assert!(rounds > 100, "{rounds}");
}

#[test]
fn real_time_is_given_where_the_kernel_has_it() {
    let group = Group::new("{}");
    let json = r#"{"cpu":{"realtimePeriod":500000,"realtimeRuntime":0}}"#;
    let result = group.apply(&resources(json));
    if group.on_v1("cpu") && group.dir("cpu").join("cpu.rt_period_us").exists() {
        result.unwrap();
        assert_eq!(group.file("cpu", "cpu.rt_period_us", ""), "500000");
        // What the parent has not, it cannot give.
        let more = r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":999999}}"#;
        let error = group.apply(&resources(more)).unwrap_err().to_string();
        assert!(error.contains("rt_runtime_us"), "{error}");
    } else {
        assert!(result.unwrap_err().to_string().contains("real-time"));
    }
}
