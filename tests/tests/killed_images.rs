//! SIGKILL at any moment of whatever changes images: what is listed is whole, what is not is gone with the next command.

use barque_testkit::image::{Image, Layer};
use barque_testkit::{Barque, Compression, Dialect, Registry};
use std::path::Path;
use std::time::Duration;

/// Commands that are killed, in the one run of this test.
const KILLS: u64 = 300;
/// After so many, everything is removed, and what is left is measured.
const UNTIL_EMPTY: u64 = 50;

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

/// A layer that takes some milliseconds: many small files and one that does not compress.
fn layer(name: &str, dice: &mut Dice) -> Layer {
    let noise: Vec<u8> = (0..60_000)
        .flat_map(|_| dice.roll(u64::MAX).to_le_bytes())
        .collect();
    let mut builder = Layer::builder().dir(&format!("{name}/"), 0o755);
    builder = builder.file(&format!("{name}/noise"), 0o644, noise);
    for n in 0..150 {
        builder = builder.file(&format!("{name}/file-{n}"), 0o644, format!("{name} {n}"));
    }
    builder
        .hardlink(&format!("{name}/link"), &format!("{name}/noise"))
        .build()
}

struct Scene {
    barque: Barque,
    registry: Registry,
    archive: String,
    rootfs: String,
}

impl Scene {
    /// Two images in a registry and one in an archive, all with a layer in common.
    fn new(dice: &mut Dice) -> Self {
        let (barque, registry) = (Barque::new(), Registry::start());
        let base = Image::busybox().plus(layer("base", dice));
        for (repository, compression) in [("one", Compression::Gzip), ("two", Compression::Zstd)] {
            let image = base.clone().plus(layer(repository, dice));
            registry.push(repository, "latest", &image, compression, Dialect::Oci);
        }
        let image = base.plus(layer("three", dice));
        let write = |name: &str, bytes: &[u8]| {
            let path = barque.dir().join(name);
            std::fs::write(&path, bytes).expect("write an archive");
            path.display().to_string()
        };
        let archive = write(
            "three.tar",
            &image.docker_archive(&["three:latest", "drei:latest"]),
        );
        let rootfs = write("four.tar", &layer("four", dice).tar);
        Self {
            barque,
            registry,
            archive,
            rootfs,
        }
    }

    /// One random deed, as words.
    fn deed(&self, dice: &mut Dice) -> Vec<String> {
        let one = self.registry.name("one");
        let two = self.registry.name("two");
        let name = [one.as_str(), two.as_str(), "three", "four"][dice.roll(4) as usize];
        let words: &[&str] = match dice.roll(9) {
            0 | 1 => &["pull", &one],
            2 => &["pull", &two],
            3 => &["load", "-i", &self.archive],
            4 => &["import", &self.rootfs, "four"],
            5 => &["tag", name, "five:latest"],
            6 => &[
                "run",
                "--rm",
                &one,
                "sh",
                "-c",
                "echo x >/base/written; rm /base/file-1",
            ],
            _ => &["rmi", "-f", name],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

#[test]
fn a_store_survives_hundreds_of_kills() {
    // Another seed is another run: `BARQUE_SEED=7 cargo test -p barque-tests --test killed_images`.
    let seed = std::env::var("BARQUE_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
    let scene = Scene::new(&mut dice);
    let barque = &scene.barque;
    let mut cut_short = 0;
    for round in 1..=KILLS {
        let words = scene.deed(&mut dice);
        let mut running = barque
            .cmd(&words)
            .timeout(Duration::from_secs(60))
            .spawn_without_stdin();
        std::thread::sleep(Duration::from_micros(dice.roll(60_000)));
        if !running.ended() {
            running.signal(rustix::process::Signal::KILL);
            cut_short += 1;
        }
        let output = running.finish();
        assert!(!output.stderr.contains("panicked"), "{output}");
        assert_whole(barque, &format!("round {round}: {}", words.join(" ")));
        if round % UNTIL_EMPTY == 0 {
            assert_empties(barque);
        }
    }
    assert!(
        cut_short > KILLS / 4,
        "only {cut_short} commands were killed"
    );
}

/// Everything that is listed verifies, and nothing is listed twice.
#[track_caller]
fn assert_whole(barque: &Barque, after: &str) {
    let check = barque.output(["system", "check"]);
    assert!(
        check.stdout.ends_with(b"no problems\n"),
        "after {after}\n{check}"
    );
    let listed = barque.ok([
        "images",
        "--no-trunc",
        "--format",
        "{{.Repository}}:{{.Tag}}@{{.ID}}",
    ]);
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "after {after}\n{listed}");
}

/// When all images are removed, nothing of them is left: what a killed command left is swept.
#[track_caller]
fn assert_empties(barque: &Barque) {
    for container in barque.ok(["ps", "-aq"]).lines() {
        barque.ok(["rm", "-f", container]);
    }
    for id in barque.ok(["images", "-q", "--no-trunc"]).lines() {
        // A second name of one that has just gone.
        barque.output(["rmi", "-f", id]);
    }
    assert_eq!(barque.ok(["images", "-aq"]), "");
    let data = barque.data_root();
    for place in ["overlay2/l", "image/images", "image/blobs", "tmp"] {
        assert_eq!(names(&data.join(place)), [""; 0], "in {place}");
    }
    assert_eq!(names(&data.join("overlay2")), ["l"]);
    let bytes = disk_use(&data);
    assert!(bytes < 1_000_000, "{bytes} bytes in an emptied data root");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// Bytes that a directory and all beneath it occupy.
fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::symlink_metadata(dir).map_or(0, |meta| meta.blocks() * 512);
    let below = std::fs::read_dir(dir).into_iter().flatten().map(|entry| {
        let path = entry.expect("an entry").path();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => disk_use(&path),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        }
    });
    own + below.sum::<u64>()
}
