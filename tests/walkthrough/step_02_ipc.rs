//! 2. IPC: message queues, System V's and POSIX's, stay on their side.

use barque_testkit::{Barque, Cmd};
use std::path::PathBuf;

/// A System V message queue of the host. Removed when dropped.
struct SystemVQueue {
    id: String,
}

impl SystemVQueue {
    fn create() -> Self {
        // "Message queue id: 5"
        let said = Cmd::new("/usr/bin/ipcmk")
            .args(["--queue"])
            .output()
            .ok()
            .text();
        let id = said.rsplit(' ').next().expect("an id").to_owned();
        Self { id }
    }

    /// Its key, the name by which programs find it.
    fn key(&self) -> String {
        let id = self.id.clone();
        let row = keys_and_ids(&queues_of_the_host())
            .into_iter()
            .find(|(_, other)| *other == id);
        row.expect("the queue is listed").0
    }
}

impl Drop for SystemVQueue {
    fn drop(&mut self) {
        Cmd::new("/usr/bin/ipcrm")
            .args(["--queue-id", &self.id])
            .output();
    }
}

fn queues_of_the_host() -> String {
    Cmd::new("/usr/bin/ipcs")
        .args(["--queues"])
        .output()
        .ok()
        .text()
}

/// The rows of `ipcs --queues`: key and id.
fn keys_and_ids(table: &str) -> Vec<(String, String)> {
    table
        .lines()
        .filter(|line| line.starts_with("0x"))
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next()?))
        })
        .collect()
}

/// A POSIX message queue of the host: a file of its mqueue file system (mq_overview(7)), which this
/// test mounts in a mount namespace of its own to make one. Removed when dropped.
struct PosixQueue {
    mount_point: PathBuf,
    name: String,
}

impl PosixQueue {
    fn create(barque: &Barque) -> Self {
        let mount_point = barque.dir().join("mqueue");
        std::fs::create_dir(&mount_point).expect("make a mount point");
        let name = format!("host{}", barque.cgroup_parent().replace('/', "-"));
        let queue = Self { mount_point, name };
        queue.on_the_host(&format!("touch {}", queue.name));
        queue
    }

    /// Runs a script in the directory of the host's POSIX queues.
    fn on_the_host(&self, script: &str) -> String {
        let script = format!("mount -t mqueue mqueue \"$1\" && cd \"$1\" && {script}");
        Cmd::new("/usr/bin/unshare")
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c"])
            .args([&script, "sh", &self.mount_point.to_string_lossy()])
            .output()
            .ok()
            .text()
    }
}

impl Drop for PosixQueue {
    fn drop(&mut self) {
        self.on_the_host(&format!("rm {}", self.name));
    }
}

#[test]
fn a_system_v_queue_is_invisible_from_the_other_side() {
    let barque = Barque::new();
    let queue = SystemVQueue::create();
    barque.ok([
        "run", "-d", "--name", "box", "--rootfs", "/", "sleep", "100000",
    ]);

    // The host's queue does not exist inside …
    assert_eq!(keys_and_ids(&barque.inside("box", "ipcs --queues")), []);

    // … and one made inside does not exist on the host.
    barque.inside("box", "ipcmk --queue");
    let inner = keys_and_ids(&barque.inside("box", "ipcs --queues"));
    assert_eq!(inner.len(), 1);
    let outer = keys_and_ids(&queues_of_the_host());
    assert!(outer.iter().all(|(key, _)| *key != inner[0].0), "{outer:?}");

    // A container that shares the host's namespace does see it.
    let shared = barque.ok([
        "run", "--rm", "--ipc", "host", "--rootfs", "/", "ipcs", "--queues",
    ]);
    assert!(shared.contains(&queue.key()), "{shared}");
}

#[test]
fn a_posix_queue_is_invisible_from_the_other_side() {
    let barque = Barque::new();
    let queue = PosixQueue::create(&barque);
    barque.ok([
        "run", "-d", "--name", "box", "--rootfs", "/", "sleep", "100000",
    ]);

    assert_eq!(barque.inside("box", "ls /dev/mqueue"), "");
    barque.inside("box", "touch /dev/mqueue/inner-queue");
    assert_eq!(barque.inside("box", "ls /dev/mqueue"), "inner-queue");

    let on_host = queue.on_the_host("ls");
    assert!(on_host.contains(&queue.name), "{on_host}");
    assert!(!on_host.contains("inner-queue"), "{on_host}");
}
