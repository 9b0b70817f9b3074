//! Many processes, killed processes, a full disk: the store stays whole.

mod common;

use barque_image::{Base, Error, NewImage, Slot, Store};
use barque_state::layout::DataRoot;
use barque_types::digest::Digest;
use common::{Fixture, Mounted, Tar, config, digest, fixture, gzip, image};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROOT: &str = "BARQUE_IMAGE_TEST_ROOT";
const DIFF_ID: &str = "BARQUE_IMAGE_TEST_DIFF_ID";

fn big() -> Vec<u8> {
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    (0..40)
        .fold(Tar::new(), |t, n| {
            t.dir(&format!("d{n}/")).file(&format!("d{n}/f"), &data)
        })
        .end()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within a minute"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Not a test of its own: what another process does, when this program is started as one.
#[test]
fn child_process() {
    let (Ok(root), Ok(diff_id)) = (std::env::var(ROOT), std::env::var(DIFF_ID)) else {
        return;
    };
    let store = Store::open(&DataRoot::open(root).unwrap());
    let diff_id: Digest = diff_id.parse().unwrap();
    let ingest = store.ingest(&[diff_id]).unwrap();
    eprintln!("asking");
    let done = match ingest.layer(&diff_id).unwrap() {
        Slot::Present(_) => "present",
        Slot::Missing(writer) => {
            eprintln!("unpacking");
            writer.apply(std::io::stdin(), None).unwrap();
            "unpacked"
        }
    };
    let new = NewImage {
        config: config(&[diff_id], "child"),
        ..NewImage::default()
    };
    ingest.commit(new, &[]).unwrap();
    eprintln!("{done}");
}

struct Other {
    child: Child,
    stdin: Option<ChildStdin>,
    said: String,
}

impl Other {
    fn start(f: &Fixture, diff_id: &Digest) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process", "--nocapture"])
            .env(ROOT, &f.root)
            .env(DIFF_ID, diff_id.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            said: String::new(),
        }
    }

    fn wait_for(&mut self, word: &str) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut byte = [0];
        while !self.said.contains(word) {
            assert_eq!(
                stderr.read(&mut byte).unwrap(),
                1,
                "it ended without {word:?}: {}",
                self.said
            );
            self.said.push(char::from(byte[0]));
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn finish(mut self) -> String {
        drop(self.stdin.take());
        self.child
            .stderr
            .as_mut()
            .unwrap()
            .read_to_string(&mut self.said)
            .unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
        std::mem::take(&mut self.said)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn staged_files(f: &Fixture) -> usize {
    let staging = f
        .list("tmp")
        .into_iter()
        .find(|n| n.starts_with("image-layer-") && !n.ends_with(".lock"));
    staging.map_or(0, |n| f.list(&format!("tmp/{n}/diff")).len())
}

#[test]
fn two_threads_unpack_a_layer_once() {
    let f = fixture();
    let tar = big();
    let diff_id = digest(&tar);
    let unpacked = AtomicUsize::new(0);
    let ingest = f.store.ingest(&[diff_id]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| match ingest.layer(&diff_id).unwrap() {
                Slot::Present(layer) => assert_eq!(layer.diff_id, diff_id),
                Slot::Missing(writer) => {
                    writer.apply(&tar[..], None).unwrap();
                    unpacked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(unpacked.into_inner(), 1);
    ingest
        .commit(
            NewImage {
                config: config(&[diff_id], "t"),
                ..NewImage::default()
            },
            &[],
        )
        .unwrap();
    f.assert_clean();
}

#[test]
fn two_processes_unpack_a_layer_once() {
    let f = fixture();
    let tar = big();
    let diff_id = digest(&tar);
    let mut first = Other::start(&f, &diff_id);
    first.wait_for("unpacking");
    let mut second = Other::start(&f, &diff_id);
    second.wait_for("asking");
    first.feed(&tar);
    assert!(first.finish().contains("unpacked"));
    assert!(second.finish().contains("present"));
    assert_eq!(f.store.images().unwrap().images.len(), 1);
    f.assert_clean();
}

#[test]
fn what_a_killed_process_began_another_finishes() {
    let f = fixture();
    let tar = big();
    let diff_id = digest(&tar);
    let mut first = Other::start(&f, &diff_id);
    first.wait_for("unpacking");
    first.feed(&tar[..tar.len() / 2]);
    until("unpacking half of the layer", || staged_files(&f) > 10);
    let mut second = Other::start(&f, &diff_id);
    second.wait_for("asking");
    first.kill();
    second.wait_for("unpacking");
    second.feed(&tar);
    assert!(second.finish().contains("unpacked"));
    assert_eq!(
        f.list(&format!("overlay2/{}/diff", diff_id.hex())).len(),
        40
    );
    f.store.sweep().unwrap();
    f.assert_clean();
}

#[test]
fn the_sweep_removes_a_killed_pull_and_nothing_of_a_living_one() {
    let f = fixture();
    let (dead, alive) = (big(), Tar::new().file("other", &vec![9; 3_000_000]).end());
    let kept = image(
        &f.store,
        &[&Tar::new().file("kept", b"k").end()],
        "kept",
        &["kept"],
    );
    let mut victim = Other::start(&f, &digest(&dead));
    victim.wait_for("unpacking");
    victim.feed(&dead[..dead.len() / 2]);
    until("unpacking half of the layer", || staged_files(&f) > 10);
    let mut survivor = Other::start(&f, &digest(&alive));
    survivor.wait_for("unpacking");
    survivor.feed(&alive[..alive.len() / 2]);
    victim.kill();
    f.store.sweep().unwrap();
    let left = f.list("tmp");
    assert_eq!(
        left.len(),
        3,
        "the living one's lease, lock and directory: {left:?}"
    );
    survivor.feed(&alive[alive.len() / 2..]);
    survivor.finish();
    f.store.sweep().unwrap();
    f.assert_clean();
    assert_eq!(f.store.images().unwrap().images.len(), 2);
    assert_eq!(f.store.resolve("kept").unwrap().id, kept.id);
    assert_eq!(f.layers().len(), 2);
}

/// Layers that were complete when the pull was killed, and a collection that runs while a pull is between its layers.
#[test]
fn layers_without_an_image_live_as_long_as_their_pull() {
    let f = fixture();
    let tars = [
        Tar::new().file("a", b"aa").end(),
        Tar::new().file("b", b"b").end(),
    ];
    let ids = [digest(&tars[0]), digest(&tars[1])];
    let ingest = f.store.ingest(&ids).unwrap();
    let put = |n: usize| match ingest.layer(&ids[n]).unwrap() {
        Slot::Missing(writer) => drop(writer.apply(&tars[n][..], None).unwrap()),
        Slot::Present(_) => panic!("present"),
    };
    put(0);
    assert_eq!(f.store.collect().unwrap(), 0);
    f.store.sweep().unwrap();
    assert_eq!(f.layers().len(), 1, "the collector took a leased layer");
    put(1);
    drop(ingest);
    assert_eq!(f.layers(), [""; 0], "a pull that failed left its layers");
    f.assert_clean();
}

#[test]
fn removal_and_start_race_without_harm() {
    let f = fixture();
    let tars: Vec<_> = (0..3)
        .map(|n| Tar::new().file(&format!("f{n}"), &[n; 100]).end())
        .collect();
    let layers: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    for round in 0..20 {
        let img = image(&f.store, &layers, "race", &["race"]);
        std::thread::scope(|scope| {
            scope.spawn(|| f.store.remove("race", true, &[]).unwrap());
            scope.spawn(|| f.store.sweep().unwrap());
            scope.spawn(|| match f.store.prepare_container("c", Base::Image(&img)) {
                // Whoever got a snapshot keeps its layers.
                Ok(made) => assert!(made.lower.iter().all(|l| l.is_dir()), "round {round}"),
                Err(e) => assert!(
                    matches!(e, Error::MissingLayer { .. }),
                    "round {round}: {e}"
                ),
            });
        });
        if let Ok(snapshot) = f.store.snapshot("c") {
            assert_eq!(snapshot.lower.len(), 3);
            f.store.remove_container("c").unwrap();
        }
        f.store.collect().unwrap();
        assert_eq!(f.layers(), [""; 0], "round {round}");
        f.assert_clean();
    }
}

fn short(f: &Fixture, id: &Digest) -> String {
    std::fs::read_to_string(f.root.join("overlay2").join(id.hex()).join("link")).unwrap()
}

/// A power cut may keep the directory entries of a layer and lose its data. Its record tells the boot that wrote it.
#[test]
fn a_layer_of_an_earlier_boot_counts_only_with_an_image() {
    let f = fixture();
    let tar = Tar::new().file("f", b"data").end();
    let id = digest(&tar);
    let ingest = f.store.ingest(&[id]).unwrap();
    let Slot::Missing(writer) = ingest.layer(&id).unwrap() else {
        panic!("present")
    };
    writer.apply(&tar[..], None).unwrap();
    let record = f.root.join("overlay2").join(id.hex()).join("layer.json");
    let rewrite = || {
        let text = std::fs::read_to_string(&record).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(&record, text.replace(boot.trim(), "an-earlier-boot")).unwrap();
    };
    rewrite();
    std::fs::write(f.diff_of(&id).join("f"), b"").unwrap();
    let Slot::Missing(writer) = ingest.layer(&id).unwrap() else {
        panic!("trusted")
    };
    writer.apply(&tar[..], None).unwrap();
    assert_eq!(std::fs::read(f.diff_of(&id).join("f")).unwrap(), b"data");
    // The record itself may be what was lost.
    std::fs::write(&record, b"").unwrap();
    let Slot::Missing(writer) = ingest.layer(&id).unwrap() else {
        panic!("trusted")
    };
    writer.apply(&tar[..], None).unwrap();
    assert!(f.root.join("overlay2/l").join(short(&f, &id)).exists());
    ingest
        .commit(
            NewImage {
                config: config(&[id], "boot"),
                ..NewImage::default()
            },
            &[],
        )
        .unwrap();
    rewrite();
    let ingest = f.store.ingest(&[id]).unwrap();
    assert!(matches!(ingest.layer(&id).unwrap(), Slot::Present(_)));
    drop(ingest);
    f.assert_clean();
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_no_half_image() {
    let tmpfs = Mounted::tmpfs(8 << 20);
    let root = tmpfs.path("root");
    let store = Store::open(&DataRoot::open(&root).unwrap());
    let small = image(
        &store,
        &[&Tar::new().file("small", &vec![1; 100_000]).end()],
        "s",
        &["small"],
    );
    let free = |root: &Path| rustix::fs::statvfs(root).unwrap().f_bfree;
    let before = free(&root);
    let tar = Tar::new()
        .file("a", &vec![1; 3_000_000])
        .file("b/c", &vec![2; 30_000_000])
        .end();
    let diff_id = digest(&tar);
    for _ in 0..2 {
        let ingest = store.ingest(&[diff_id]).unwrap();
        let Slot::Missing(writer) = ingest.layer(&diff_id).unwrap() else {
            panic!("present")
        };
        let e = writer.apply(&gzip(&tar)[..], None).unwrap_err();
        assert!(e.is_disk_full(), "{e}");
        let text = e.to_string();
        assert!(
            text.contains("no space left")
                && text.contains("b/c")
                && text.contains("free some space"),
            "{text}"
        );
        drop(ingest);
        assert_eq!(common::list(&root.join("tmp")), [""; 0]);
        assert!(free(&root) + 16 >= before, "space was not given back");
    }
    assert_eq!(store.images().unwrap().images.len(), 1);
    assert_eq!(store.resolve("small").unwrap().id, small.id);
    // Spooling an archive meets the same wall.
    let e = store
        .load(&Tar::new().file("x", &vec![0; 20_000_000]).end()[..])
        .unwrap_err();
    assert!(e.is_disk_full(), "{e}");
    // And so do records, when not even those fit.
    let mut filler = std::fs::File::create(tmpfs.path("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let e = store
        .prepare_container("c", Base::Image(&small))
        .unwrap_err();
    assert!(e.is_disk_full(), "{e}");
    assert_eq!(store.snapshots().unwrap(), [""; 0]);
}
