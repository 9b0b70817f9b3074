//! What the documents promise is what the programs do.

use barque_testkit::{Barque, workspace};

fn read(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The lines of the first two `sh` blocks of the README: its two commands.
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
    let [build, run @ ..] = &readme[0][..] else {
        panic!("the first block is empty");
    };
    assert_eq!(build, "cargo build --release");
    assert!(!run.is_empty());
    let barque = Barque::new();
    for line in run {
        let words = line
            .split_once("/barque ")
            .unwrap_or_else(|| panic!("{line} does not run barque"))
            .1;
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
        assert!(!output.text().is_empty(), "{output}");
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
