//! Reading logs: across rotated files, the last lines, between times, and following through rotations.

use barque_monitor::LogConfig;
use barque_monitor::log::{ReadOptions, Reader, Stream, Wake, Writer};
use barque_types::time::Timestamp;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

fn writer(dir: &Path, max_size: u64, max_files: u32) -> (Writer, PathBuf) {
    let path = dir.join("x-json.log");
    let config = LogConfig {
        path: path.clone(),
        max_size: Some(max_size),
        max_files,
    };
    (Writer::new(config), path)
}

fn read(path: &Path, options: ReadOptions) -> Vec<String> {
    let mut reader = Reader::open(path, options).unwrap();
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        lines.push(String::from_utf8(entry.bytes).unwrap());
    }
    lines
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{n}\n")).collect()
}

#[test]
fn a_log_without_files_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (_, path) = writer(dir.path(), 1000, 2);
    assert!(read(&path, ReadOptions::default()).is_empty());
    let tail = ReadOptions {
        tail: Some(5),
        ..ReadOptions::default()
    };
    assert!(read(&path, tail).is_empty());
}

#[test]
fn tails_reach_across_files_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, path) = writer(dir.path(), 150_000, 10);
    for n in 0..6000u32 {
        log.write(Stream::Stdout, format!("{n}\n").as_bytes());
    }
    assert!(dir.path().join("x-json.log.2").exists(), "it was rotated");
    assert_eq!(read(&path, ReadOptions::default()), numbers(0..6000));
    for tail in [0, 1, 2, 1500, 2500, 5999, 6000, 6001, 1 << 40] {
        let options = ReadOptions {
            tail: Some(tail),
            ..ReadOptions::default()
        };
        let first = 6000 - tail.min(6000) as u32;
        assert_eq!(read(&path, options), numbers(first..6000), "tail {tail}");
    }
}

#[test]
fn times_bound_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut text = String::new();
    for second in 0..10 {
        text += &format!(
            "{{\"log\":\"{second}\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:0{second}.5Z\"}}\n"
        );
    }
    std::fs::write(&path, text).unwrap();
    let at = |s: &str| Some(s.parse::<Timestamp>().unwrap());
    let options = ReadOptions {
        tail: None,
        since: at("2026-01-01T00:00:03.5Z"),
        until: at("2026-01-01T00:00:06Z"),
    };
    assert_eq!(read(&path, options), numbers(3..6));
    // Docker counts the tail first.
    let options = ReadOptions {
        tail: Some(8),
        since: at("2026-01-01T00:00:01Z"),
        until: at("2026-01-01T00:00:04Z"),
    };
    assert_eq!(read(&path, options), numbers(2..4));
}

#[test]
fn torn_and_foreign_lines_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let good = |n: u32| {
        format!(
            "{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\",\"attrs\":{{\"a\":\"b\"}}}}\n"
        )
    };
    let mut file = std::fs::File::create(&path).unwrap();
    let text = format!("{}\0\0\0\n{{\"log\":\"half{}\n{{\"log", good(0), good(1));
    file.write_all(text.as_bytes()).unwrap();
    let mut reader = Reader::open(&path, ReadOptions::default()).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().bytes, b"0\n");
    assert!(reader.next_entry().unwrap().is_none());
    // The line that was being written is completed, and then it is an entry.
    file.write_all(&good(2).as_bytes()[5..]).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().bytes, b"2\n");
    let tail = ReadOptions {
        tail: Some(1),
        ..ReadOptions::default()
    };
    assert_eq!(read(&path, tail), ["2\n"]);
}

/// Follows until `stop` is readable, then to the end.
fn follow(path: &Path, stop: impl AsFd) -> Vec<String> {
    let mut reader = Reader::open(path, ReadOptions::default()).unwrap();
    let mut lines = Vec::new();
    let mut stopped = false;
    loop {
        while let Some(entry) = reader.next_entry().unwrap() {
            lines.push(String::from_utf8(entry.bytes).unwrap());
        }
        if stopped {
            return lines;
        }
        stopped = reader.wait(&[stop.as_fd()]).unwrap() == Wake::Other(0);
    }
}

#[test]
fn following_goes_through_births_and_rotations_without_loss() {
    const LINES: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut log, path) = writer(dir.path(), 64 * 1024, 200);
    let (stop, stopper) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        // Two followers, before the first file exists.
        let followers: Vec<_> = (0..2)
            .map(|_| {
                let (path, stop) = (&path, &stop);
                scope.spawn(move || follow(path, stop))
            })
            .collect();
        for n in 0..LINES {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        drop(stopper);
        for follower in followers {
            assert!(
                follower.join().unwrap() == numbers(0..LINES),
                "lost or doubled"
            );
        }
    });
    assert!(dir.path().join("x-json.log.20").exists());
}

#[test]
fn a_follower_that_was_outrun_goes_on_with_the_oldest_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    for max_files in [1, 3] {
        let (mut log, path) = writer(dir.path(), 2000, max_files);
        log.write(Stream::Stdout, b"first\n");
        let mut reader = Reader::open(&path, ReadOptions::default()).unwrap();
        for n in 0..1000 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        let mut last = None;
        let mut count = 0;
        while let Some(entry) = reader.next_entry().unwrap() {
            let text = String::from_utf8(entry.bytes).unwrap();
            if let Ok(number) = text.trim_end().parse::<u32>() {
                assert!(last.is_none_or(|l| l < number), "in order");
                last = Some(number);
            }
            count += 1;
        }
        assert_eq!(last, Some(999));
        assert!((10..1001).contains(&count), "{count}");
        for n in 0..max_files {
            let suffix = if n == 0 {
                String::new()
            } else {
                format!(".{n}")
            };
            std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
        }
    }
}

#[test]
fn a_log_emptied_by_hand_is_followed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, path) = writer(dir.path(), 100_000, 2);
    log.write(Stream::Stdout, b"long enough before\n");
    let mut reader = Reader::open(&path, ReadOptions::default()).unwrap();
    assert!(reader.next_entry().unwrap().is_some());
    assert!(reader.next_entry().unwrap().is_none());
    std::fs::File::create(&path).unwrap();
    assert!(reader.next_entry().unwrap().is_none());
    log.write(Stream::Stdout, b"after\n");
    assert_eq!(reader.next_entry().unwrap().unwrap().bytes, b"after\n");
}
