//! SIGKILL at any moment, and many commands on one container at once: whatever happens, every container
//! stays in a state that some command can leave, and nothing of it is left in the end.

use barque_testkit::image::Image;
use barque_testkit::{Barque, poll, proc};
use rustix::process::{Pid, Signal};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// A sequence of numbers without pattern (xorshift64), the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn kill(pid: i32) {
    // ESRCH: it has ended.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Commands and monitors of this engine, and nobody else's.
fn engine_processes(barque: &Barque) -> Vec<i32> {
    let dir = barque.dir().to_string_lossy().into_owned();
    let mut all = proc::with_open_files("barque", &dir);
    all.retain(|(pid, _)| *pid != std::process::id() as i32);
    all.into_iter().map(|(pid, _)| pid).collect()
}

fn monitors(barque: &Barque) -> Vec<i32> {
    let mut all = engine_processes(barque);
    all.retain(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.trim() == "barque-monitor")
    });
    all
}

fn record(barque: &Barque, id: &str, file: &str) -> PathBuf {
    barque.data_root().join("containers").join(id).join(file)
}

/// Empties a file, as a power cut does with one that was not synced, before this boot.
fn lose_content(path: &PathBuf) {
    std::fs::write(path, "").expect("empty the file");
    let file = std::fs::File::options().write(true).open(path);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.and_then(|file| file.set_modified(long_ago))
        .expect("set its time");
}

#[test]
fn a_start_killed_with_its_monitor_can_be_repeated() {
    let barque = Barque::with_busybox();
    for moment in 0..20 {
        barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
        let start = barque.cmd(["start", "box"]).spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(moment));
        let victims = engine_processes(&barque);
        victims.iter().copied().for_each(kill);
        drop(start);
        poll::until("they are dead", || {
            !victims.iter().any(|pid| proc::alive(*pid))
        });
        barque.ok(["start", "box"]);
        assert_eq!(barque.status("box"), "running");
        barque.ok(["rm", "-f", "box"]);
    }
    barque.assert_nothing_left();
}

/// A `run` or `create` that stands still between making the container and starting it: it warns of
/// `--oom-kill-disable` without a limit there, into a pipe that is full.
struct Standing {
    child: std::process::Child,
    id: String,
    _reader: std::os::fd::OwnedFd,
}

impl Standing {
    fn new(barque: &Barque, args: &[&str]) -> Self {
        let (reader, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("make a pipe");
        let size = rustix::pipe::fcntl_getpipe_size(&writer).expect("ask for its size");
        let mut filled = 0;
        while filled < size {
            filled += rustix::io::write(&writer, &vec![b'.'; size - filled]).expect("fill it");
        }
        let before = listed(barque);
        let (verb, rest) = args.split_first().expect("a verb");
        let mut all = vec![*verb, "--oom-kill-disable"];
        all.extend(rest);
        let child = barque
            .cmd(all)
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer)
            .spawn()
            .expect("spawn it");
        let mut id = String::new();
        poll::until("its record appears", || {
            let new = listed(barque).into_iter().find(|id| !before.contains(id));
            id = new.unwrap_or_default();
            let journal = barque.data_root().join(format!("tmp/container-{id}"));
            !id.is_empty() && !journal.exists()
        });
        Self {
            child,
            id,
            _reader: reader,
        }
    }

    fn kill(mut self) -> String {
        self.child.kill().expect("kill it");
        self.child.wait().expect("wait for it");
        std::mem::take(&mut self.id)
    }
}

/// Containers with a record, read without a command, whose sweep would change something.
fn listed(barque: &Barque) -> Vec<String> {
    let dir = std::fs::read_dir(barque.data_root().join("containers")).expect("list containers");
    let ids = dir.map(|entry| entry.expect("an entry").file_name());
    ids.map(|id| id.to_string_lossy().into_owned())
        .filter(|id| record(barque, id, "config.json").exists())
        .collect()
}

fn entries(dir: PathBuf) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("list");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn what_a_killed_run_did_not_start_is_gone_with_the_next_command() {
    let barque = Barque::with_busybox();
    let layers = entries(barque.data_root().join("overlay2"));
    for flags in [&["--rm"][..], &["-d"], &["-d", "--userns", "auto"], &["-i"]] {
        let mut args = vec!["run", "--name", "box"];
        args.extend(flags);
        args.extend(["busybox", "sleep", "100000"]);
        let run = Standing::new(&barque, &args);
        // While it lives, others see the container and leave it alone.
        assert_eq!(barque.ok(["ps", "-aq", "--no-trunc"]), run.id, "{flags:?}");
        assert_eq!(barque.status("box"), "created");
        run.kill();
        assert_eq!(barque.ok(["ps", "-aq"]), "", "{flags:?}");
        for place in ["containers", "names", "tmp", "idranges"] {
            let left = entries(barque.data_root().join(place));
            assert!(left.is_empty(), "{place} after {flags:?}: {left:?}");
        }
        assert_eq!(
            entries(barque.data_root().join("overlay2")).len(),
            layers.len()
        );
        barque.assert_nothing_left();
        barque.ok(["create", "--name", "box", "busybox"]);
        barque.ok(["rm", "box"]);
    }
    // The next command may be one on that very container.
    Standing::new(&barque, &["run", "--name", "box", "busybox", "true"]).kill();
    assert!(
        barque
            .fails(1, ["start", "box"])
            .contains("No such container")
    );
}

#[test]
fn what_a_killed_create_made_stays() {
    let barque = Barque::with_busybox();
    let id = Standing::new(&barque, &["create", "--name", "box", "busybox", "true"]).kill();
    assert_eq!(barque.ok(["ps", "-aq", "--no-trunc"]), id);
    barque.ok(["start", "-a", "box"]);
    barque.ok(["rm", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn what_somebody_else_started_outlives_a_killed_run() {
    let barque = Barque::with_busybox();
    let args = ["run", "--name", "box", "busybox", "sleep", "100000"];
    let run = Standing::new(&barque, &args);
    barque.ok(["start", "box"]);
    let id = run.kill();
    assert_eq!(barque.ok(["ps", "-q", "--no-trunc"]), id);
    assert_eq!(barque.status("box"), "running");
    barque.ok(["rm", "-f", "box"]);
    // Nor is one that has ended, or that could not be started: the reason is in its record.
    let run = Standing::new(&barque, &["run", "--name", "box", "busybox", "true"]);
    barque.ok(["start", "-a", "box"]);
    run.kill();
    assert_eq!(barque.status("box"), "exited");
    barque.ok(["rm", "box"]);
    let run = Standing::new(&barque, &["run", "--name", "box", "busybox", "no-such"]);
    barque.output(["start", "box"]).exits(1);
    run.kill();
    assert_eq!(barque.look("box", "/State/ExitCode"), 127);
    barque.ok(["rm", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn a_run_is_announced_only_until_it_has_started() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let tmp = barque.data_root().join("tmp");
    assert_eq!(entries(tmp.clone()), [""; 0]);
    barque
        .output(["run", "-d", "--name", "bad", "busybox", "no-such"])
        .exits(127);
    assert_eq!(entries(tmp.clone()), [""; 0]);
    barque.ok(["rm", "bad"]);
    let run = Standing::new(&barque, &["run", "--name", "new", "busybox", "true"]);
    assert_eq!(entries(tmp.clone()), [format!("run-{}", run.id)]);
    // Gone under its hands: it may not be missed.
    barque.ok(["rm", "-f", "new"]);
    run.kill();
    barque.ok(["rm", "-f", "box"]);
    assert_eq!(entries(tmp), [""; 0]);
}

#[test]
fn an_announcement_of_an_earlier_boot_takes_nothing_with_it() {
    let barque = Barque::with_busybox();
    // What a power cut leaves shortly after a start: neither the new state nor the announcement's end is on
    // the disk.
    let kept = barque.ok(["create", "--name", "kept", "busybox", "true"]);
    let thrown = barque.ok(["create", "--rm", "--name", "thrown", "busybox", "true"]);
    let tmp = barque.data_root().join("tmp");
    for (id, boot) in [
        (&kept, "3d3a0d2e-0000-4000-8000-000000000000"),
        (&thrown, ""),
    ] {
        std::fs::write(tmp.join(format!("run-{id}")), boot).expect("announce it");
    }
    assert_eq!(barque.ok(["ps", "-a", "--format", "{{.Names}}"]), "kept");
    assert_eq!(entries(tmp), [""; 0]);
    barque.ok(["rm", "kept"]);
    barque.assert_nothing_left();
}

#[test]
fn a_start_whose_command_is_killed_is_not_disturbed_by_another() {
    let barque = Barque::with_busybox();
    for moment in 0..12 {
        barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
        let start = barque.cmd(["start", "box"]).spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(moment));
        kill(start.pid());
        // Waits for the monitor that has no parent any more, or does it all itself.
        barque.ok(["start", "box"]);
        drop(start);
        assert_eq!(barque.status("box"), "running");
        barque.ok(["stop", "box"]);
        assert_eq!(barque.status("box"), "exited");
        barque.ok(["rm", "box"]);
    }
    barque.assert_nothing_left();
}

#[test]
fn what_has_ended_can_be_started_at_once() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "-d", "--name", "box", "busybox", "true"]);
    let state = record(&barque, &barque.look_str("box", "/Id"), "state.json");
    for _ in 0..40 {
        poll::until("it has ended", || {
            std::fs::read_to_string(&state).is_ok_and(|text| text.contains("exited"))
        });
        barque.ok(["start", "box"]);
    }
    barque.ok(["rm", "-f", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn a_group_that_was_left_does_not_prevent_a_start() {
    let barque = Barque::with_busybox();
    let id = barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
    for (_, root) in proc::cgroup_mounts() {
        // Some hierarchies may be read-only or special; those that take it are enough.
        let _ = std::fs::create_dir_all(root.join(&barque.cgroup_parent()[1..]).join(&id));
    }
    barque.ok(["start", "box"]);
    barque.ok(["rm", "-f", "box"]);
    barque.assert_nothing_left();
}

#[test]
fn a_killed_pause_leaves_a_container_that_can_be_ended() {
    let barque = Barque::with_busybox();
    for moment in 0..10 {
        barque.sleeper("box");
        let pause = barque.cmd(["pause", "box"]).spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(moment));
        kill(pause.pid());
        drop(pause);
        let removed = barque.output(["rm", "-f", "box"]).ok();
        assert!(removed.took < Duration::from_secs(8), "{removed}");
    }
    // Frozen, and its monitor dead.
    barque.sleeper("box");
    let monitor = proc::parent(barque.pid("box"));
    barque.ok(["pause", "box"]);
    kill(monitor);
    let removed = barque.output(["rm", "-f", "box"]).ok();
    assert!(removed.took < Duration::from_secs(4), "{removed}");
    barque.assert_nothing_left();
}

#[test]
fn a_stop_overrules_a_pause_that_comes_later() {
    let barque = Barque::with_busybox();
    let script = "trap '' TERM; trap 'sleep 100' USR1; echo ready; while :; do sleep 0.1; done";
    barque.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    poll::until("it is ready", || barque.ok(["logs", "box"]) == "ready");
    let stop = barque.cmd(["stop", "-s", "USR1", "-t", "2", "box"]);
    let stop = stop.spawn_without_stdin();
    // Too early, in time or too late: none may keep it from ending.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(100));
        let _ = barque.output(["pause", "box"]);
    }
    let stopped = stop.finish().ok();
    assert!(stopped.took < Duration::from_secs(9), "{stopped}");
    assert_eq!(barque.status("box"), "exited");
    assert_eq!(barque.look("box", "/State/ExitCode"), 137);
}

#[test]
fn a_killed_restart_keeps_nothing_that_was_to_go() {
    let barque = Barque::with_busybox();
    let script = "trap 'sleep 1; exit' TERM; echo ready; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--rm", "--name", "box", "busybox", "sh", "-c"];
    barque.ok(run.into_iter().chain([script]));
    poll::until("it is ready", || barque.ok(["logs", "box"]) == "ready");
    let restart = barque.cmd(["restart", "box"]).spawn_without_stdin();
    poll::until("it waits", || {
        let ids = barque.ok(["ps", "-q", "--no-trunc"]);
        record(&barque, &ids, "keep").exists()
    });
    kill(restart.pid());
    drop(restart);
    barque.ok(["stop", "box"]);
    poll::until("it has gone", || barque.ok(["ps", "-aq"]).is_empty());
    barque.assert_nothing_left();
}

#[test]
fn removals_race_with_removals_and_starts() {
    let barque = Barque::with_busybox();
    for _ in 0..8 {
        barque.ok(["create", "--name", "box", "busybox", "sleep", "100000"]);
        let others: Vec<_> = [&["start", "box"][..], &["rm", "box"], &["rm", "box"]]
            .into_iter()
            .map(|args| barque.cmd(args).spawn_without_stdin())
            .collect();
        barque.ok(["rm", "-f", "box"]);
        for other in others {
            let output = other.finish();
            let known = ["No such container", "is running", "stop the container"];
            let fine = output.code == 0 || known.iter().any(|text| output.stderr.contains(text));
            assert!(fine, "{output}");
        }
        assert_eq!(barque.ok(["ps", "-aq"]), "");
    }
    barque.assert_nothing_left();
}

#[test]
fn a_damaged_record_is_told_and_can_be_removed_while_it_runs() {
    let barque = Barque::with_busybox();
    let bad = barque.sleeper("bad");
    barque.sleeper("good");
    std::fs::write(record(&barque, &bad, "config.json"), "{\"version\":1,").expect("damage it");
    let list = barque
        .output(["ps", "--format", "{{.Names}}"])
        .exits(1)
        .says(&[&bad]);
    assert_eq!(list.text(), "good");
    barque.fails(1, ["rm", &bad]);
    barque.ok(["rm", "-f", "bad"]);
    assert_eq!(barque.ok(["ps", "-a", "--format", "{{.Names}}"]), "good");
    // A record moved away, as one might try, does not keep the name for ever either.
    let other = barque.sleeper("bad");
    std::fs::remove_file(record(&barque, &other, "config.json")).expect("remove it");
    barque.ok(["rm", "-f", "bad"]);
    barque.ok(["rm", "-f", "good"]);
    barque.assert_nothing_left();
    assert_eq!(barque.ok(["ps", "-aq"]), "");
}

#[test]
fn what_a_power_cut_leaves_empty_heals() {
    let barque = Barque::with_busybox();
    // Written, but never on the disk: `create` had not returned.
    let lost = barque.ok(["create", "--name", "lost", "--userns", "auto", "busybox"]);
    lose_content(&record(&barque, &lost, "config.json"));
    assert_eq!(barque.ok(["ps", "-aq"]), "");
    barque.ok(["create", "--name", "lost", "busybox", "true"]);
    barque.ok(["rm", "lost"]);
    // The state is never synced; the container is.
    let box_id = barque.ok(["run", "-d", "--name", "box", "busybox", "true"]);
    barque.until_status("box", "exited");
    lose_content(&record(&barque, &box_id, "state.json"));
    assert_eq!(barque.status("box"), "created");
    barque.ok(["start", "-a", "box"]);
    // A layer that was in place, but whose files were not on the disk.
    let lower = barque.look_str("box", "/GraphDriver/Data/LowerDir");
    barque.ok(["rm", "box"]);
    barque.ok(["rmi", "busybox"]);
    assert!(!PathBuf::from(&lower).exists());
    std::fs::create_dir_all(&lower).expect("make the layer's directory");
    let layer = PathBuf::from(&lower).with_file_name("layer.json");
    lose_content(&{
        std::fs::write(&layer, "").expect("make its record");
        layer
    });
    let lease = barque.data_root().join("tmp/image-lease-1-0-00.lock");
    std::fs::write(&lease, "").expect("make a lease");
    barque.ok(["ps"]);
    assert!(!lease.exists() && !PathBuf::from(&lower).exists());
    std::fs::create_dir_all(&lower).expect("make the layer's directory");
    std::fs::write(PathBuf::from(&lower).with_file_name("layer.json"), "").expect("empty record");
    barque.load(&Image::busybox(), &["busybox:latest"]);
    barque.ok(["run", "--rm", "busybox", "true"]);
}

#[test]
fn what_cannot_be_swept_hinders_nobody() {
    let barque = Barque::with_busybox();
    let tmp = barque.data_root().join("tmp");
    // Not a directory where one is expected.
    std::os::unix::fs::symlink("/nonexistent", tmp.join("image-removed-x")).expect("link");
    let stuck = barque.data_root().join("containers").join("0".repeat(64));
    std::fs::write(&stuck, "not a directory").expect("write");
    std::fs::write(tmp.join(format!("container-{}", "0".repeat(64))), "").expect("journal");
    barque.output(["run", "--rm", "busybox", "true"]).ok();
    std::fs::remove_file(&stuck).expect("mend it");
    std::fs::remove_file(tmp.join("image-removed-x")).expect("mend it");
    barque.ok(["ps", "-a"]);
}

#[test]
fn the_exit_of_a_child_for_lack_of_memory_is_told() {
    let barque = Barque::with_busybox();
    // Not PID 1 is killed, but one of its children: Docker's OOMKilled tells that, too.
    let script = "(x=a; while :; do x=$x$x; done); exit 7";
    let run = [
        "run", "-m", "16m", "--name", "box", "busybox", "sh", "-c", script,
    ];
    barque.output(run).exits(7);
    assert_eq!(barque.look("box", "/State/OOMKilled"), true);
}

/// One random deed. Its outcome does not matter; that it ends and does not panic does.
fn deed(barque: &Barque, dice: &mut Dice) {
    let name = ["one", "two", "always"][dice.roll(3) as usize];
    let args: &[&str] = match dice.roll(12) {
        0..=2 => &["start", name],
        3 => &["stop", "-t", "0", name],
        4 => &["restart", "-t", "0", name],
        5 => &["kill", name],
        6 => &["pause", name],
        7 => &["unpause", name],
        8 => &["rm", "-f", name],
        9 => &["exec", name, "true"],
        10 => match name {
            "always" => &[
                "create",
                "--name",
                "always",
                "--restart=always",
                "busybox",
                "sleep",
                "1",
            ],
            _ => &["create", "--name", name, "busybox", "sleep", "100000"],
        },
        _ => {
            let all = monitors(barque);
            if !all.is_empty() {
                kill(all[dice.roll(all.len() as u64) as usize]);
            }
            &["ps", "-a"]
        }
    };
    let command = barque.cmd(args).timeout(Duration::from_secs(60));
    let output = if dice.roll(4) == 0 {
        let running = command.spawn_without_stdin();
        std::thread::sleep(Duration::from_millis(dice.roll(30)));
        kill(running.pid());
        running.finish()
    } else {
        command.output()
    };
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!(output.took < Duration::from_secs(45), "{output}");
}

#[test]
fn a_crowd_leaves_nothing() {
    let barque = Barque::with_busybox();
    let end = Instant::now() + Duration::from_secs(20);
    std::thread::scope(|scope| {
        for worker in 1..=8_u64 {
            let barque = &barque;
            scope.spawn(move || {
                let mut dice = Dice(worker.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                while Instant::now() < end {
                    deed(barque, &mut dice);
                }
            });
        }
    });
    // Whatever state each is in, it is one that a command can leave.
    for name in barque.ok(["ps", "-a", "--format", "{{.Names}}"]).lines() {
        let status = barque.status(name);
        let known = ["created", "running", "paused", "restarting", "exited"];
        assert!(known.contains(&status.as_str()), "{name} is {status}");
        if status == "paused" {
            barque.ok(["unpause", name]);
        }
        barque.ok(["stop", "-t", "0", name]);
        barque.ok(["start", name]);
        barque.ok(["exec", name, "true"]);
        barque.ok(["rm", "-f", name]);
    }
    for name in ["one", "two", "always"] {
        barque.ok(["create", "--name", name, "busybox"]);
        barque.ok(["rm", name]);
    }
    // The image's one layer and nothing else.
    let overlay = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list");
    let layers = overlay.filter(|e| e.as_ref().is_ok_and(|e| e.path().join("diff").is_dir()));
    assert_eq!(layers.count(), 1);
    let links = std::fs::read_dir(barque.data_root().join("overlay2/l")).expect("list");
    assert_eq!(links.count(), 1);
    barque.assert_nothing_left();
}
