//! What the documents promise is what the programs do.

use barque_testkit::{Barque, workspace};

fn read(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The lines of the README's `sh` blocks; the first two are its two commands.
fn blocks(text: &str) -> Vec<Vec<String>> {
    text.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix("sh\n"))
        .map(|block| block.lines().map(str::to_owned).collect())
        .collect()
}

#[test]
fn ci_runs_the_readmes_second_command() {
    let readme = blocks(&read("README.md"));
    assert_eq!(readme[1], ["cargo xtask test"], "the second command");
    let ci = read(".ci/run");
    for line in &readme[1] {
        assert!(
            ci.lines().any(|found| found.starts_with(line.as_str())),
            "{line} is not in .ci/run"
        );
    }
}

#[test]
fn the_readmes_first_command_does_what_it_says() {
    let readme = blocks(&read("README.md"));
    let [line] = &readme[0][..] else {
        panic!("the first command is one line");
    };
    let words = line
        .strip_prefix("cargo run --release -- ")
        .unwrap_or_else(|| panic!("{line} does not build and run barque"));
    let barque = Barque::new();
    // The shell splits it, as it would for the user.
    let binary = barque_testkit::barque_binary()
        .to_string_lossy()
        .into_owned();
    let [a, b, c, d] = barque.global_options();
    let script = format!("{binary} {a} {b} {c} {d} {words}");
    let output = barque_testkit::Cmd::new("/bin/sh")
        .args(["-c", &script])
        .output()
        .ok();
    assert!(output.text().contains("uid=0(root)"), "{output}");
    assert!(
        !std::path::Path::new("/root/note").exists(),
        "written to the host"
    );
}

#[test]
fn everything_on_disk_is_in_the_disk_format() {
    let doc = read("docs/disk-format.md");
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    barque.ok(["exec", "box", "sh", "-c", "echo hi > /proc/1/fd/1"]);
    barque.ok(["pause", "box"]);
    barque.ok(["unpause", "box"]);
    barque_testkit::poll::until("the log is written", || barque.ok(["logs", "box"]) == "hi");
    let id = barque.look_str("box", "/Id");
    let mut seen = Vec::new();
    for root in [barque.data_root(), barque.run_root()] {
        names_below(&root, &mut seen);
    }
    assert!(seen.iter().any(|name| name == "config.json"), "{seen:?}");
    for name in seen {
        // Ids, digests and short names stand in the document as <container>, <layer>, <hex>, <SHORT>.
        let name = name.replace(&id, "<container>");
        let is_id = |word: &str| {
            word.len() >= 26
                && word
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() || b.is_ascii_uppercase() || b.is_ascii_digit())
        };
        let stem = name.strip_suffix(".json").unwrap_or(&name);
        let chosen_by_users = ["box", "busybox", "library", "docker.io", "latest"];
        if is_id(stem) || chosen_by_users.contains(&name.as_str()) {
            continue;
        }
        assert!(doc.contains(&name), "{name} is not in docs/disk-format.md");
    }
    let version = std::fs::read_to_string(barque.data_root().join("version")).expect("a version");
    assert!(doc.contains(version.trim()), "{version}");
}

/// Names of all files and directories below, without what is in layers.
fn names_below(dir: &std::path::Path, seen: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != "diff" && name != "work" {
            names_below(&entry.path(), seen);
        }
        seen.push(name);
    }
}

#[test]
fn the_layer_table_is_the_one_that_lint_checks() {
    let (doc, code) = (
        read("docs/architecture.md"),
        read("xtask/src/lint/layers.rs"),
    );
    for row in doc
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
    {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (Some(number), Some(names)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Ok(number) = number.parse::<u8>() else {
            continue;
        };
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            let full = if name == "barque" {
                name.to_owned()
            } else {
                format!("barque-{name}")
            };
            assert!(
                code.contains(&format!("(\"{full}\", {number})")),
                "{full} in row {number}"
            );
        }
    }
}
