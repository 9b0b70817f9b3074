//! `logs`: what was written, when, from which stream; followed, cut and rotated.

use barque_testkit::{Barque, poll};
use std::path::PathBuf;

#[test]
fn both_streams_go_where_they_came_from() {
    let barque = Barque::with_busybox();
    let script = "echo one; echo two >&2; echo three; printf unfinished";
    barque
        .output(["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    let logs = barque.output(["logs", "box"]).ok();
    assert_eq!(logs.text(), "one\nthree\nunfinished");
    assert_eq!(logs.stderr, "two\n");
}

#[test]
fn tail_since_until_and_timestamps() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "seq 1 50; sleep 0.5; seq 51 60",
    ]);
    let tail = |n: &str| barque.ok(["logs", "--tail", n, "box"]);
    assert_eq!(tail("3"), "58\n59\n60");
    assert_eq!(tail("0"), "");
    assert_eq!(tail("all").lines().count(), 60);
    assert_eq!(barque.ok(["logs", "-n", "1", "box"]), "60");

    let stamped = barque.output(["logs", "-t", "box"]).ok().lines();
    let (stamp, line) = stamped[50].split_once(' ').expect("a time and a line");
    assert_eq!(line, "51");
    // RFC 3339 with nanoseconds, UTC.
    assert!(
        stamp.ends_with('Z') && stamp.contains('T') && stamp.len() == 30,
        "{stamp}"
    );
    // From that moment on, and up to it.
    let since = barque
        .output(["logs", "--since", stamp, "box"])
        .ok()
        .lines();
    assert_eq!(since.first().map(String::as_str), Some("51"));
    let before = barque
        .output(["logs", "--until", stamp, "box"])
        .ok()
        .lines();
    assert!(before.len() >= 50 && before[49] == "50", "{before:?}");
    assert_eq!(
        barque.ok(["logs", "--since", "1h", "box"]).lines().count(),
        60
    );
    let text = barque.fails(1, ["logs", "--since", "yesterday", "box"]);
    assert!(text.contains("yesterday"), "{text}");
}

#[test]
fn follow_sees_what_comes_and_ends_with_the_container() {
    let barque = Barque::with_busybox();
    let script = "echo first; while read line; do echo heard $line; done; echo last";
    barque.ok([
        "run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", script,
    ]);
    let follower = barque.cmd(["logs", "-f", "box"]).spawn_without_stdin();
    follower.until_stdout("first");
    let mut client = barque.cmd(["attach", "box"]).spawn();
    client.write(b"this\n");
    follower.until_stdout("heard this");
    barque.ok(["kill", "box"]);
    client.wait();
    let all = follower.wait().ok().text();
    assert!(all.starts_with("first\nheard this"), "{all}");
    // Of a container that has ended, -f ends too.
    barque.ok(["logs", "-f", "box"]);
}

#[test]
fn a_chatty_container_cannot_fill_the_disk() {
    let barque = Barque::with_busybox();
    barque.ok([
        "run",
        "--name",
        "box",
        "--log-opt",
        "max-size=64k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "seq",
        "1",
        "100000",
    ]);
    let log = PathBuf::from(barque.look_str("box", "/LogPath"));
    let dir = log.parent().expect("a directory");
    let sizes: Vec<u64> = std::fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_name().to_string_lossy().contains("json.log"))
        .map(|entry| entry.metadata().expect("stat").len())
        .collect();
    assert!(sizes.len() <= 3, "{sizes:?}");
    // One line more than the size may be in a file, not more.
    assert!(sizes.iter().sum::<u64>() < 3 * 66_000, "{sizes:?}");
    // What is left is the end, without a gap.
    let lines = barque.output(["logs", "box"]).ok().lines();
    let numbers: Vec<u64> = lines
        .iter()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(numbers.last(), Some(&100_000));
    assert!(numbers.len() > 500, "{} lines are left", numbers.len());
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a gap"
    );
}

#[test]
fn rotation_is_the_default() {
    let barque = Barque::with_busybox();
    // 90 MB of lines; each takes more room in the log than on the wire.
    let script = "yes 0123456789012345678901234567890123456789 | head -c 90000000";
    let run = ["run", "--name", "box", "-d", "busybox", "sh", "-c", script];
    barque.ok(run);
    barque.ok(["wait", "box"]);
    let log = PathBuf::from(barque.look_str("box", "/LogPath"));
    let sizes: Vec<u64> = std::fs::read_dir(log.parent().expect("a directory"))
        .expect("list")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_name().to_string_lossy().contains("json.log"))
        .map(|entry| entry.metadata().expect("stat").len())
        .collect();
    assert!(sizes.len() > 1, "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() < 60_000_000, "{sizes:?}");
}

#[test]
fn following_across_a_rotation_loses_nothing() {
    let barque = Barque::with_busybox();
    let script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; done; sleep 1";
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--log-opt",
        "max-size=128k",
        "--log-opt",
        "max-file=4",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let lines = barque.output(["logs", "-f", "box"]).ok().lines();
    assert_eq!(lines.last().map(String::as_str), Some("line 4000"));
    let numbers: Vec<u64> = lines
        .iter()
        .filter_map(|line| line[5..].parse().ok())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a gap or a repetition"
    );
}

#[test]
fn no_log_is_kept_when_asked_for() {
    let barque = Barque::with_busybox();
    let args = [
        "run",
        "--name",
        "box",
        "--log-driver",
        "none",
        "busybox",
        "echo",
        "hi",
    ];
    assert_eq!(barque.ok(args), "hi", "the attached client still sees it");
    let text = barque.fails(1, ["logs", "box"]);
    assert!(text.contains("none") || text.contains("log"), "{text}");
}

#[test]
fn binary_output_and_long_lines_come_back_as_they_were() {
    let barque = Barque::with_busybox();
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf '\\377\\000\\200end'";
    let direct = barque
        .output(["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    let mut want = vec![b'x'; 100_000];
    want.extend_from_slice(b"\n\xff\0\x80end");
    assert!(
        direct.stdout == want,
        "attached: {} bytes",
        direct.stdout.len()
    );
    poll::until("the log is written", || {
        barque.output(["logs", "box"]).ok().stdout.len() >= 100_000
    });
    let logged = barque.output(["logs", "box"]).ok().stdout;
    // A JSON log cannot hold bytes that are no UTF-8 unless it takes care of them.
    assert!(logged[..100_001] == want[..100_001], "the long line is cut");
    assert!(logged.ends_with(b"end"), "{:?}", &logged[100_001..]);
}
