//! 9. Images: what two of them have in common exists once.

use barque_testkit::Barque;
use barque_testkit::image::{Image, Layer};

#[test]
fn two_images_over_one_base_share_its_directory() {
    let barque = Barque::new();
    let layer = |name: &str| Layer::builder().file(name, 0o644, name).build();
    barque.load(&Image::busybox(), &["base:1"]);
    barque.load(&Image::busybox().plus(layer("mast")), &["sailing:1"]);
    barque.load(&Image::busybox().plus(layer("engine")), &["steaming:1"]);

    let base = barque.look_str("base:1", "/GraphDriver/Data/UpperDir");
    for image in ["sailing:1", "steaming:1"] {
        let lower = barque.look_str(image, "/GraphDriver/Data/LowerDir");
        assert_eq!(lower, base, "the base's layer, and no copy of it");
        assert_ne!(barque.look_str(image, "/GraphDriver/Data/UpperDir"), base);
    }

    // On disk too: three layers, and one busybox.
    let dirs = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list layers");
    let diffs: Vec<_> = dirs
        .map(|entry| entry.expect("an entry").path().join("diff"))
        .filter(|diff| diff.is_dir())
        .collect();
    assert_eq!(diffs.len(), 3, "{diffs:?}");
    let programs = diffs
        .iter()
        .filter(|diff| diff.join("bin/busybox").exists());
    assert_eq!(programs.count(), 1);

    // Removing one image leaves the base to the others.
    barque.ok(["rmi", "sailing:1"]);
    assert_eq!(
        barque.ok(["run", "--rm", "steaming:1", "cat", "/engine"]),
        "engine"
    );
    assert!(std::path::Path::new(&base).join("bin/busybox").exists());
}
