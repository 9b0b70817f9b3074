//! What threads cannot show: two processes racing, and a process killed with SIGKILL while it holds things.
//!
//! The test binary runs itself again with a role in its environment.

use barque_state::lock::FileLock;
use barque_state::names::Names;
use barque_state::{Durability, atomic};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ROLE: &str = "BARQUE_TEST_ROLE";

fn again(role: &str, dir: &Path, id: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .env(ROLE, role)
        .env("BARQUE_TEST_DIR", dir)
        .env("BARQUE_TEST_ID", id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until the role says that it is where the test wants it.
fn wait_for(child: &mut Child, word: &str) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line.contains(word)),
        "the role ended without saying {word}"
    );
}

/// Not a test by itself: what a re-executed process does.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = PathBuf::from(std::env::var("BARQUE_TEST_DIR").unwrap());
    let id = std::env::var("BARQUE_TEST_ID").unwrap();
    match role.as_str() {
        "reserve" => {
            println!("ready");
            let _ = std::io::stdin().read(&mut [0]); // all start at once
            let won = Names::new(&dir).reserve("web", &id).is_ok();
            println!("{}", if won { "WON" } else { "LOST" });
        }
        "hold" => {
            let _lock = FileLock::exclusive(&dir.join("lock")).unwrap();
            println!("holding");
            let _ = std::io::stdin().read(&mut [0]);
        }
        "write" => {
            println!("writing");
            for n in 0u64.. {
                let content = vec![b'0' + (n % 10) as u8; 4096];
                atomic::write(&dir.join("record"), &content, Durability::None).unwrap();
            }
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn of_two_processes_one_gets_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let names = Names::new(dir.path());
    for _ in 0..10 {
        let mut children: Vec<_> = ["one", "two"]
            .map(|id| again("reserve", dir.path(), id))
            .into();
        children.iter_mut().for_each(|c| wait_for(c, "ready"));
        for child in &mut children {
            child.stdin.take().unwrap().write_all(b"x").unwrap();
        }
        let won: Vec<_> = children
            .into_iter()
            .map(|c| String::from_utf8(c.wait_with_output().unwrap().stdout).unwrap())
            .map(|out| out.contains("WON"))
            .collect();
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "{won:?}");
        let holder = names.resolve("web").unwrap().unwrap();
        assert_eq!(holder, if won[0] { "one" } else { "two" });
        assert!(names.release("web", &holder).unwrap());
    }
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut child = again("hold", dir.path(), "");
    wait_for(&mut child, "holding");
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_some());
}

#[test]
fn a_writer_killed_anywhere_leaves_a_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    atomic::write(&path, &[b'a'; 4096], Durability::None).unwrap();
    for round in 0..30 {
        let mut child = again("write", dir.path(), "");
        wait_for(&mut child, "writing");
        // A different number of reads each time: the kill lands at another point of the writer's cycle.
        for _ in 0..round * 7 {
            assert_eq!(std::fs::read(&path).unwrap().len(), 4096);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 4096);
        assert!(content.iter().all(|b| *b == content[0]), "torn record");
    }
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "record" || atomic::is_temporary(&name), "{name}");
    }
}
