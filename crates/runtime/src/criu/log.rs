//! What CRIU's log says about a failure.

use std::path::Path;

/// Lines that say that something failed, and not what.
const VERDICTS: [&str; 3] = ["Dumping FAILED", "Restoring FAILED", "Pre-dumping FAILED"];

/// Complaints that are never the cause; the first where root lacks CAP_SYS_RESOURCE.
const NOISE: [&str; 2] = [
    "Can't setup RLIMIT_NOFILE for self",
    // Of a helper of its own that hears that the end has come.
    "cgroupd: recv req error",
];

/// The last line of a log that tells an error.
pub(super) fn last_error(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    find(&String::from_utf8_lossy(&bytes))
}

fn find(text: &str) -> Option<String> {
    let errors = |line: &&str| line.contains("Error (");
    let useful = |line: &&str| {
        !VERDICTS
            .iter()
            .chain(&NOISE)
            .any(|word| line.contains(word))
    };
    let line = text.lines().rev().filter(errors).find(useful)?;
    Some(without_time(line).trim().to_owned())
}

/// `(00.010203)     12: Error …` → `Error …`.
fn without_time(line: &str) -> &str {
    line.find("Error (").map_or(line, |at| &line[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_useful_error() {
        let log = "(00.01) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: x\n\
                   (00.02)     12: Error (criu/files-reg.c:1): Can't open file tmp/x: No such file\n\
                   (00.03) Warn  (criu/a.c:1): b\n\
                   (00.04) Error (criu/cr-restore.c:2): Restoring FAILED.\n";
        assert_eq!(
            find(log).as_deref(),
            Some("Error (criu/files-reg.c:1): Can't open file tmp/x: No such file")
        );
        assert_eq!(
            find("(00.04) Error (criu/cr-restore.c:2): Restoring FAILED.\n"),
            None
        );
    }
}
