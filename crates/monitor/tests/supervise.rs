//! The monitor with real processes: output, exit, restart, stop, clients, and being killed.

mod common;

use barque_monitor::*;
use common::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

/// Every test; one that is not listed is dead code, which the compiler reports.
fn main() {
    common::main(tests![
        output_is_logged_byte_exact_and_the_engine_hears_every_step,
        a_spawned_container_is_attached_from_its_first_byte,
        exit_codes_and_signals,
        a_hundred_megabytes_stay_within_the_log_budget,
        a_full_disk_costs_log_entries_and_nothing_else,
        attach_detach_reattach,
        stdin_once_ends_with_the_client_and_much_input_comes_back,
        stdin_once_ends_when_the_client_is_killed_and_its_last_bytes_arrive,
        a_slow_client_is_waited_for_or_dropped_as_it_asked,
        a_stopped_container_ends_although_its_client_does_not_read,
        on_failure_restarts_are_counted_and_end,
        waiters_attachments_and_stop_across_a_restart,
        a_stop_during_the_pause_cancels_the_restart,
        stop_kills_at_once_what_cannot_hear_and_waits_for_what_can,
        stop_waits_for_a_blocked_signal_until_the_timeout,
        racing_stops_are_all_answered,
        a_real_time_stop_signal_and_refused_numbers,
        killing_the_spawner_disturbs_nothing,
        a_killed_monitor_is_noticed_and_can_be_replaced,
        signals_that_end_others_do_not_end_the_monitor,
        the_monitor_is_a_daemon_and_the_container_inherits_nothing_of_it,
        garbage_on_the_socket_harms_nobody,
        a_failed_start_is_reported_and_leaves_the_way_free,
        a_container_has_one_monitor,
        a_grandchild_that_holds_the_pipes_does_not_hold_the_exit,
        a_terminal_has_a_size_echoes_and_ends,
        the_monitor_is_small,
        a_terminal_that_is_closed_and_opened_again_costs_nothing,
    ]);
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus {
        code,
        signal: (code > 128).then_some(code - 128),
    }
}

fn output_is_logged_byte_exact_and_the_engine_hears_every_step() {
    let mut c = Container::new(
        "printf 'a\\tb<\"\\\\>\\303\\274\\n'; printf 'err\\n' >&2; printf end; exit 7",
    );
    let spawner = c.spawner(Some(ATTACH));
    assert!(
        spawner.first.ends_with(" 1"),
        "one warning: {}",
        spawner.first
    );
    assert_eq!(spawner.finish(), "EXIT 7");
    c.wait_gone();
    let want = b"a\tb<\"\\>\xc3\xbc\nend".to_vec();
    assert_eq!(c.logged(), (want.clone(), b"err\n".to_vec()));
    assert_eq!(
        (c.file("stdout"), c.file("stderr")),
        (want, b"err\n".to_vec())
    );
    assert_eq!(
        c.events(),
        [
            "start 0",
            "init_ended",
            "ended 7 None requested=false restart=None",
            "finished Ended"
        ]
    );
    let text = String::from_utf8(c.file("x-json.log")).unwrap();
    assert!(
        text.starts_with(r#"{"log":"a\u0009b\u003c\"\\\u003eü\n","stream":"stdout","time":"20"#),
        "{text}"
    );
}

fn a_spawned_container_is_attached_from_its_first_byte() {
    for _ in 0..20 {
        let mut c = Container::new("echo first");
        assert_eq!(c.spawner(Some(ATTACH)).finish(), "EXIT 0");
        assert_eq!(c.file("stdout"), b"first\n");
    }
}

fn exit_codes_and_signals() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let mut c = Container::new(script);
        assert_eq!(c.spawner(Some(ATTACH)).finish(), format!("EXIT {code}"));
        c.wait_gone();
        let signal = exit(code).signal.filter(|_| code != 255);
        assert!(
            c.events()[2].starts_with(&format!("ended {code} {signal:?}")),
            "{:?}",
            c.events()
        );
    }
}

fn a_hundred_megabytes_stay_within_the_log_budget() {
    let mut c = Container::new(
        "yes 0123456789012345678901234567890123456789 | head -c 100000000; echo done",
    )
    .with(|c| {
        let log = c.config.log.as_mut().unwrap();
        log.max_size = Some(1_000_000);
    });
    c.start();
    assert_eq!(c.client().wait(WaitCondition::NextExit).unwrap(), exit(0));
    c.wait_gone();
    let mut total = 0;
    for entry in std::fs::read_dir(c.dir.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().contains("-json.log") {
            total += entry.metadata().unwrap().len();
        }
    }
    assert!((2_000_000..=3_000_000).contains(&total), "{total}");
    assert!(c.logged().0.ends_with(b"done\n"));
}

fn a_full_disk_costs_log_entries_and_nothing_else() {
    let mut c = Container::new("echo one; echo two; read x; exit 3").with(|c| {
        c.config.open_stdin = true;
        c.config.log.as_mut().unwrap().path = "/dev/full".into();
    });
    c.start();
    eventually("two entries are lost", || {
        (c.client().status().unwrap().log_entries_lost == 2).then_some(())
    });
    let mut client = c.client();
    client.begin_wait(WaitCondition::NextExit).unwrap();
    let mut stdin = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..Default::default()
        })
        .unwrap();
    stdin.send_stdin(b"go\n").unwrap();
    assert_eq!(client.finish_wait().unwrap(), exit(3));
}

fn collect(attachment: &mut Attachment, until: &str) -> String {
    let mut text = String::new();
    while !text.contains(until) {
        match attachment.next_event().unwrap() {
            Some(Event::Stdout(bytes)) => text.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

fn attach_detach_reattach() {
    let mut c = Container::new("while read x; do echo got $x; done; echo over; exit 5").with(|c| {
        c.config.open_stdin = true;
    });
    c.start();
    let both = AttachOptions {
        stdin: true,
        ..ATTACH
    };
    let mut first = c.client().attach(both).unwrap();
    first.send_stdin(b"one\n").unwrap();
    assert_eq!(collect(&mut first, "\n"), "got one\n");
    drop(first);
    let mut second = c.client().attach(both).unwrap();
    let mut third = c.client().attach(ATTACH).unwrap();
    second.send_stdin(b"two\n").unwrap();
    assert_eq!(collect(&mut second, "\n"), "got two\n");
    assert_eq!(collect(&mut third, "\n"), "got two\n");
    assert_eq!(c.client().status().unwrap().attached, 2);
    second.close_stdin().unwrap(); // not once: nothing happens
    let mut fourth = c.client().attach(both).unwrap();
    fourth.send_stdin(b"three\n").unwrap();
    assert_eq!(collect(&mut third, "\n"), "got three\n");
    c.client().kill(9).unwrap();
    assert_eq!(third.next_event().unwrap(), Some(Event::Exit(exit(137))));
    assert_eq!(third.next_event().unwrap(), None);
    c.wait_gone();
    assert!(c.events().iter().any(|e| e.contains("requested=true")));
}

fn stdin_once_ends_with_the_client_and_much_input_comes_back() {
    let mut c = Container::new("cat").with(|c| {
        c.config.open_stdin = true;
        c.config.stdin_once = true;
    });
    let mut spawner = c.spawner(Some(AttachOptions {
        stdin: true,
        ..ATTACH
    }));
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    spawner.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    assert_eq!(spawner.finish(), "EXIT 0");
    assert_eq!(c.file("stdout"), bytes);
}

fn stdin_once_ends_when_the_client_is_killed_and_its_last_bytes_arrive() {
    let mut c = Container::new("wc -c").with(|c| {
        c.config.open_stdin = true;
        c.config.stdin_once = true;
    });
    let mut spawner = c.spawner(Some(AttachOptions {
        stdin: true,
        ..ATTACH
    }));
    spawner.stdin.as_mut().unwrap().write_all(b"12345").unwrap();
    // The spawner passes the bytes on in its own time; its own exit is what ends stdin.
    let mut client = c.client();
    client.begin_wait(WaitCondition::NextExit).unwrap();
    drop(spawner.stdin.take());
    assert_eq!(client.finish_wait().unwrap(), exit(0));
    c.wait_gone();
    assert_eq!(c.logged().0, b"5\n");

    let mut c = Container::new("cat >/dev/null; echo eof").with(|c| {
        c.config.open_stdin = true;
        c.config.stdin_once = true;
    });
    let mut spawner = c.spawner(Some(AttachOptions {
        stdin: true,
        ..ATTACH
    }));
    let mut client = c.client();
    client.begin_wait(WaitCondition::NextExit).unwrap();
    spawner.child.kill().unwrap();
    spawner.child.wait().unwrap();
    assert_eq!(client.finish_wait().unwrap(), exit(0));
    c.wait_gone();
    assert_eq!(c.logged().0, b"eof\n");
}

fn a_slow_client_is_waited_for_or_dropped_as_it_asked() {
    const MUCH: &str = "read x; head -c 20000000 /dev/zero; exit 4";
    // Dropped: the container ends although nobody reads.
    let mut c = Container::new(MUCH).with(|c| {
        c.config.open_stdin = true;
        c.config.log = None;
    });
    c.start();
    let mut waiter = c.client();
    waiter.begin_wait(WaitCondition::NextExit).unwrap();
    let options = AttachOptions {
        stdin: true,
        slow: SlowClient::Drop,
        ..ATTACH
    };
    let mut slow = c.client().attach(options).unwrap();
    slow.send_stdin(b"go\n").unwrap();
    assert_eq!(waiter.finish_wait().unwrap(), exit(4));

    // Waited for: every byte arrives, although the client begins late.
    let mut c = Container::new(MUCH).with(|c| {
        c.config.open_stdin = true;
        c.config.log = None;
    });
    c.start();
    let mut slow = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..ATTACH
        })
        .unwrap();
    slow.send_stdin(b"go\n").unwrap();
    assert!(
        c.client().status().unwrap().pid.is_some(),
        "others are served meanwhile"
    );
    let mut bytes = 0;
    loop {
        match slow.next_event().unwrap() {
            Some(Event::Stdout(data)) => bytes += data.len(),
            Some(Event::Exit(status)) => break assert_eq!(status, exit(4)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 20_000_000);
}

fn a_stopped_container_ends_although_its_client_does_not_read() {
    let mut c = Container::new("yes").with(|c| c.config.log = None);
    c.start();
    let mut stuck = c.client().attach(ATTACH).unwrap();
    let mut waiter = c.client();
    waiter.begin_wait(WaitCondition::NotRunning).unwrap();
    c.client().stop(15, None).unwrap();
    assert_eq!(waiter.finish_wait().unwrap(), exit(143));
    // What the monitor holds for the stuck client is still there for it.
    let last = loop {
        match stuck.next_event().unwrap() {
            Some(Event::Stdout(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last, Some(Event::Exit(exit(143))));
}

fn on_failure_restarts_are_counted_and_end() {
    let mut c = Container::new("echo run; exit 9")
        .with(|c| c.config.restart = "on-failure:3".parse().unwrap());
    c.start();
    c.wait_gone();
    assert_eq!(c.logged().0, b"run\nrun\nrun\nrun\n");
    let events = c.events();
    let of = |word: &str| {
        events
            .iter()
            .filter(|e| e.starts_with(word))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("start"), ["start 0", "start 1", "start 2", "start 3"]);
    assert_eq!(
        of("ended"),
        [
            "ended 9 None requested=false restart=Some(1)",
            "ended 9 None requested=false restart=Some(2)",
            "ended 9 None requested=false restart=Some(3)",
            "ended 9 None requested=false restart=None",
        ]
    );
    assert_eq!(of("finished"), ["finished Ended"]);
}

fn waiters_attachments_and_stop_across_a_restart() {
    let mut c = Container::new("read x; exit 1").with(|c| {
        c.config.open_stdin = true;
        c.config.restart = "always".parse().unwrap();
    });
    c.start();
    let (mut next, mut over) = (c.client(), c.client());
    next.begin_wait(WaitCondition::NextExit).unwrap();
    over.begin_wait(WaitCondition::NotRunning).unwrap();
    let mut attached = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..ATTACH
        })
        .unwrap();
    attached.send_stdin(b"\n").unwrap();
    assert_eq!(next.finish_wait().unwrap(), exit(1));
    assert_eq!(attached.next_event().unwrap(), Some(Event::Exit(exit(1))));
    eventually("it runs again", || {
        let status = c.client().status().unwrap();
        (status.restart_count == 1 && status.pid.is_some()).then_some(())
    });
    // A policy set now counts at the next end.
    c.client()
        .set_restart_policy("no".parse().unwrap())
        .unwrap();
    c.client().kill(2).unwrap();
    assert_eq!(over.finish_wait().unwrap(), exit(130));
    assert_eq!(c.events().last().unwrap(), "finished Ended");
}

fn a_stop_during_the_pause_cancels_the_restart() {
    let mut c = Container::new("exit 1").with(|c| c.config.restart = "always".parse().unwrap());
    c.start();
    // The pauses grow, so that one is soon long enough to be met.
    eventually("it pauses", || {
        let status = c.client().status().ok()?;
        (status.restarting && status.restart_count >= 3).then_some(())
    });
    c.client().stop(15, None).unwrap();
    c.wait_gone();
    let last = c.events().pop().unwrap();
    assert!(
        last == "finished RestartCancelled" || last == "finished Ended",
        "{last}"
    );
}

fn stop_kills_at_once_what_cannot_hear_and_waits_for_what_can() {
    // No timeout at all: only a kill at once can end these.
    for (namespace, script) in [
        (true, "sleep 1000 & wait"),
        (true, "exec sleep 1000"),
        (false, "trap '' TERM; echo deaf; read x"),
    ] {
        let mut c = Container::new(&format!("echo ready; {script}")).with(|c| {
            c.fake.pid_namespace = namespace;
            c.config.open_stdin = true;
        });
        c.start();
        c.wait_logged(if namespace { "ready" } else { "deaf" });
        c.client().stop(15, None).unwrap();
        assert!(
            c.events()
                .contains(&"ended 137 Some(9) requested=true restart=None".into()),
            "{script}: {:?}",
            c.events()
        );
    }
    // A handler is heard, in a namespace of its own as well.
    for namespace in [true, false] {
        let mut c = Container::new(
            "trap 'echo bye; exit 42' TERM; echo ready; while :; do sleep 0.01; done",
        )
        .with(|c| c.fake.pid_namespace = namespace);
        c.start();
        c.wait_logged("ready");
        c.client().stop(15, None).unwrap();
        assert!(
            c.events()
                .contains(&"ended 42 None requested=true restart=None".into()),
            "{:?}",
            c.events()
        );
        assert_eq!(c.logged().0, b"ready\nbye\n");
    }
}

fn stop_waits_for_a_blocked_signal_until_the_timeout() {
    let mut c = Container::new("echo ready; exec env --block-signal=TERM sleep 1000")
        .with(|c| c.fake.pid_namespace = true);
    c.start();
    let pid = c.pids.unwrap().0;
    eventually("sleep runs with TERM blocked", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        (status.starts_with("Name:\tsleep") && status.contains("SigBlk:\t0000000000004000"))
            .then_some(())
    });
    let run_dir = c.config.run_dir.clone();
    // Nobody gets an answer until a more impatient stop comes.
    let waiting = std::thread::spawn(move || Client::connect(&run_dir).unwrap().stop(15, None));
    eventually("the stop has arrived", || {
        c.client().status().unwrap().stop_requested.then_some(())
    });
    assert!(
        c.client().status().unwrap().pid.is_some(),
        "it was not killed at once"
    );
    c.client()
        .stop(15, Some(Duration::from_millis(50)))
        .unwrap();
    waiting.join().unwrap().unwrap();
    assert!(
        c.events()
            .contains(&"ended 137 Some(9) requested=true restart=None".into())
    );
}

fn racing_stops_are_all_answered() {
    for _ in 0..10 {
        let mut c = Container::new("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        c.start();
        c.wait_logged("ready");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match Client::connect(&c.config.run_dir) {
                    Ok(mut client) => match client.stop(15, Some(SOON)) {
                        Ok(()) | Err(Error::NotRunning { .. }) => {}
                        Err(e) => panic!("{e}"),
                    },
                    Err(Error::NotRunning { .. }) => {}
                    Err(e) => panic!("{e}"),
                });
            }
        });
        assert_eq!(
            c.events()
                .iter()
                .filter(|e| e.starts_with("ended 0"))
                .count(),
            1
        );
        assert_eq!(c.events().last().unwrap(), "finished Ended");
    }
}

fn a_real_time_stop_signal_and_refused_numbers() {
    let mut c = Container::new("trap 'exit 11' RTMIN+3; echo ready; while :; do sleep 0.01; done")
        .with(|c| c.fake.script = format!("exec bash -c \"{}\"", c.fake.script));
    c.start();
    c.wait_logged("ready");
    for bad in [0, 65, -9, 4711] {
        assert!(matches!(c.client().kill(bad), Err(Error::Refused { .. })));
        assert!(matches!(
            c.client().stop(bad, None),
            Err(Error::Refused { .. })
        ));
    }
    c.client().stop(37, None).unwrap();
    assert!(
        c.events()
            .contains(&"ended 11 None requested=true restart=None".into()),
        "{:?}",
        c.events()
    );
}

fn killing_the_spawner_disturbs_nothing() {
    let mut c = Container::new("for i in 1 2 3; do echo $i; read x; done; echo end")
        .with(|c| c.config.open_stdin = true);
    let mut spawner = c.spawner(Some(ATTACH));
    c.wait_logged("1");
    spawner.child.kill().unwrap();
    spawner.child.wait().unwrap();
    let mut client = c.client();
    client.begin_wait(WaitCondition::NextExit).unwrap();
    let mut stdin = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..Default::default()
        })
        .unwrap();
    stdin.send_stdin(b"a\nb\nc\n").unwrap();
    assert_eq!(client.finish_wait().unwrap(), exit(0));
    assert_eq!(c.logged().0, b"1\n2\n3\nend\n");
}

fn a_killed_monitor_is_noticed_and_can_be_replaced() {
    let mut c = Container::new("echo up; exec sleep 1000");
    c.start();
    c.wait_logged("up");
    let (pid, monitor) = c.pids.unwrap();
    let mut waiter = c.client();
    waiter.begin_wait(WaitCondition::NextExit).unwrap();
    let monitor_fd = barque_state::process::ProcessId::of(monitor)
        .unwrap()
        .open()
        .unwrap()
        .unwrap();
    barque_sys::signal::pidfd_send(std::os::fd::AsFd::as_fd(&monitor_fd), 9).unwrap();
    assert!(matches!(
        waiter.finish_wait(),
        Err(Error::NotRunning { .. })
    ));
    c.wait_gone();
    // The container itself goes on: what to do with it is the engine's decision.
    let orphan = barque_state::process::ProcessId::of(pid).unwrap();
    assert!(orphan.is_alive().unwrap());
    assert!(
        c.config.run_dir.join("monitor.sock").exists(),
        "nobody was there to remove it"
    );
    let fd = orphan.open().unwrap().unwrap();
    barque_sys::signal::pidfd_send(std::os::fd::AsFd::as_fd(&fd), 9).unwrap();
    eventually("the orphan is gone", || {
        (!orphan.is_alive().unwrap()).then_some(())
    });
    c.start();
    assert!(c.client().status().unwrap().pid.is_some());
}

fn signals_that_end_others_do_not_end_the_monitor() {
    let mut c = Container::new("read x; exit 6").with(|c| c.config.open_stdin = true);
    c.start();
    let monitor = barque_state::process::ProcessId::of(c.pids.unwrap().1).unwrap();
    let fd = monitor.open().unwrap().unwrap();
    for signal in [1, 2, 3, 13, 15] {
        barque_sys::signal::pidfd_send(std::os::fd::AsFd::as_fd(&fd), signal).unwrap();
    }
    let mut client = c.client();
    client.begin_wait(WaitCondition::NextExit).unwrap();
    let mut stdin = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..Default::default()
        })
        .unwrap();
    stdin.send_stdin(b"\n").unwrap();
    assert_eq!(client.finish_wait().unwrap(), exit(6));
}

fn the_monitor_is_a_daemon_and_the_container_inherits_nothing_of_it() {
    let mut c = Container::new(
        "ls -l /proc/self/fd; grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status; umask; read x",
    )
    .with(|c| c.config.open_stdin = true);
    c.start();
    let (_, monitor) = c.pids.unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{monitor}/{name}")).unwrap();
    assert_eq!(read("comm"), "barque-monitor\n");
    eventually("ps shows what it is, soon after the start", || {
        read("cmdline")
            .starts_with("barque-monitor 0123456789ab\0")
            .then_some(())
    });
    let stat = read("stat");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], monitor.to_string(), "leader of its session");
    assert_eq!(fields[4], "0", "no terminal");
    assert_eq!(
        std::fs::read_link(format!("/proc/{monitor}/cwd"))
            .unwrap()
            .as_os_str(),
        "/"
    );
    for n in 0..3 {
        assert_eq!(
            std::fs::read_link(format!("/proc/{monitor}/fd/{n}"))
                .unwrap()
                .as_os_str(),
            "/dev/null"
        );
    }
    c.wait_logged("\n0022\n");
    let text = String::from_utf8(c.logged().0).unwrap();
    // 32 and 33 are glibc's own, which it lets nobody reset: they are as this test's environment has them.
    let ignored = text.split("SigIgn:\t").nth(1).unwrap();
    let ignored = u64::from_str_radix(ignored.lines().next().unwrap(), 16).unwrap();
    assert_eq!(ignored & !(3 << 31), 0, "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    assert_eq!(
        text.lines().filter(|l| l.contains(" -> ")).count(),
        4,
        "0, 1, 2 and ls's own: {text}"
    );
}

fn garbage_on_the_socket_harms_nobody() {
    let mut c = Container::new("read x; echo fine").with(|c| c.config.open_stdin = true);
    c.start();
    // The socket's own path is too long for an address: reach it as the client does.
    let dir = std::fs::File::open(&c.config.run_dir).unwrap();
    let path = format!(
        "/proc/self/fd/{}/monitor.sock",
        std::os::fd::AsRawFd::as_raw_fd(&dir)
    );
    let mut held = Vec::new();
    let mut seed = 88_172_645_463_325_252_u64;
    for round in 0..150 {
        let Ok(mut stream) = UnixStream::connect(&path) else {
            continue;
        };
        let bytes: Vec<u8> = (0..round * 13)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        let _ = stream.write_all(&bytes);
        match round % 3 {
            0 => held.push(stream), // never read, never closed
            1 => {
                let _ = stream.read(&mut [0; 64]);
            }
            _ => {}
        }
    }
    // Unknown first message, half a frame, an endless frame.
    for bytes in [
        &[0, 0, 0, 0, 9][..],
        &[2, 0],
        &[255, 255, 255, 255, 3, 1, 2, 3],
    ] {
        UnixStream::connect(&path)
            .unwrap()
            .write_all(bytes)
            .unwrap();
    }
    drop(held);
    let mut client = eventually("there is room for a client", || {
        let mut client = Client::connect(&c.config.run_dir).ok()?;
        client.status().ok().map(|_| client)
    });
    client.begin_wait(WaitCondition::NextExit).unwrap();
    let mut stdin = c
        .client()
        .attach(AttachOptions {
            stdin: true,
            ..Default::default()
        })
        .unwrap();
    stdin.send_stdin(b"\n").unwrap();
    assert_eq!(client.finish_wait().unwrap(), exit(0));
    assert_eq!(c.logged().0, b"fine\n");
}

fn a_failed_start_is_reported_and_leaves_the_way_free() {
    let mut c = Container::new("true").with(|c| {
        c.fake.start_error = Some(StartError {
            message: "no such command".into(),
            exit_code: 127,
        });
    });
    let mut spawner = c.spawner(Some(ATTACH));
    assert_eq!(spawner.first, "START_ERROR 127 no such command");
    spawner.child.wait().unwrap();
    assert_eq!(c.events(), ["start 0"]);
    assert!(matches!(
        Client::connect(&c.config.run_dir),
        Err(Error::NotRunning { .. })
    ));
    c.fake.start_error = None;
    assert_eq!(c.spawner(Some(ATTACH)).finish(), "EXIT 0");
}

fn a_container_has_one_monitor() {
    let mut c = Container::new("exec sleep 1000");
    c.start();
    let second = c.spawner(None);
    assert!(second.first.contains("already started"), "{}", second.first);
    assert!(c.client().status().unwrap().pid.is_some());
}

fn a_grandchild_that_holds_the_pipes_does_not_hold_the_exit() {
    let mut c = Container::new("sleep 1000 & echo $!; exit 3");
    c.start();
    assert_eq!(c.client().wait(WaitCondition::NotRunning).unwrap(), exit(3));
    let pid: i32 = String::from_utf8(c.logged().0)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let orphan = barque_state::process::ProcessId::of(pid).unwrap();
    let fd = orphan.open().unwrap().unwrap();
    barque_sys::signal::pidfd_send(std::os::fd::AsFd::as_fd(&fd), 9).unwrap();
}

fn a_terminal_has_a_size_echoes_and_ends() {
    // The fake engine leaves the first size to the monitor, which sets it right after the start.
    let script = r#"while [ "$(stty size)" != "24 80" ]; do sleep 0.01; done; echo ready
        read x; stty size; read y; test -t 1 && echo tty $y; exit 8"#;
    let mut c = Container::new(script).with(|c| {
        c.config.tty = true;
        c.config.open_stdin = true;
        c.config.console_size = Some((24, 80));
    });
    let mut spawner = c.spawner(Some(AttachOptions {
        stdin: true,
        ..ATTACH
    }));
    c.wait_logged("ready\r\n");
    let mut client = c.client();
    client.resize(50, 132).unwrap();
    client.status().unwrap(); // answered after the resize, which has no answer of its own
    spawner.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    c.wait_logged("50 132\r\n");
    spawner.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    assert_eq!(spawner.finish(), "EXIT 8");
    c.wait_gone();
    let (out, err) = c.logged();
    assert!(String::from_utf8(out).unwrap().ends_with("tty two\r\n"));
    assert!(err.is_empty());
}

fn the_monitor_is_small() {
    let mut c = Container::new("seq 100000; echo ready; exec sleep 1000");
    c.start();
    c.wait_logged("ready");
    let rollup = format!("/proc/{}/smaps_rollup", c.pids.unwrap().1);
    let rollup = std::fs::read_to_string(rollup).unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (pss, anonymous) = (kib("Pss:"), kib("Anonymous:"));
    println!(
        "monitor: PSS {pss} KiB, anonymous {anonymous} KiB, RSS {} KiB",
        kib("Rss:")
    );
    // The budget is for the release build; a debug build's code is several times larger.
    let limit = if cfg!(debug_assertions) { 4096 } else { 1000 };
    assert!(pss <= limit && anonymous <= 500, "{rollup}");
}

fn a_terminal_that_is_closed_and_opened_again_costs_nothing() {
    let mut c = Container::new(
        "echo a; exec </dev/null >/dev/null 2>&1; sleep 0.3; echo b >/dev/tty; exit 2",
    )
    .with(|c| c.config.tty = true);
    c.start();
    assert_eq!(c.client().wait(WaitCondition::NextExit).unwrap(), exit(2));
    c.wait_gone();
    assert_eq!(c.logged().0, b"a\r\nb\r\n");
}
