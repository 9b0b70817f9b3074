//! What CRIU's log says about a failure.

use std::path::Path;

/// Lines that say that something failed, and not what.
const VERDICTS: [&str; 3] = ["Dumping FAILED", "Restoring FAILED", "Pre-dumping FAILED"];

/// Complaints that are never the cause; the first where root lacks CAP_SYS_RESOURCE.
const NOISE: [&str; 3] = [
    "Can't setup RLIMIT_NOFILE for self",
    // Asked of every kernel, in vain in a user namespace.
    "Unable to create tun",
    // Of a helper of its own that hears that the end has come.
    "cgroupd: recv req error",
];

/// What a line means to whoever does not know CRIU: part of it, and the advice.
const ADVICE: [(&str, &str); 4] = [
    (
        // SO_PASSCRED and SO_PASSSEC of sockets that are not UNIX ones (checkpoint-restore/criu#2705).
        "Can't get 1:16 opt",
        "CRIU 4.1 cannot dump network sockets on Linux 6.16 or later, a later CRIU can",
    ),
    (
        "Can't get rlimit",
        "processes of other users are dumped with CAP_SYS_RESOURCE only, which is missing here",
    ),
    (
        "Connected TCP socket",
        "established connections are dumped if they are allowed to be",
    ),
    (
        "External socket is used",
        "sockets that lead out of the container are dumped if they are allowed to",
    ),
];

/// What a log tells about a failure: its first error, which mostly is the cause, and its last, which is what
/// CRIU made of it, if that is another.
pub(super) fn errors(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    find(&String::from_utf8_lossy(&bytes))
}

fn find(text: &str) -> Option<String> {
    let useful = |line: &&str| {
        let mut others = VERDICTS.iter().chain(&NOISE);
        line.contains("Error (") && !others.any(|word| line.contains(word))
    };
    let mut errors = text
        .lines()
        .filter(useful)
        .map(|line| without_time(line).trim());
    let first = errors.next()?;
    let advice = ADVICE.iter().find(|(part, _)| first.contains(part));
    let mut told = match advice {
        Some((_, advice)) => format!("{first} ({advice})"),
        None => first.to_owned(),
    };
    if let Some(last) = errors.next_back().filter(|last| *last != first) {
        told.push_str("; ");
        told.push_str(last);
    }
    Some(told)
}

/// Where CRIU makes a directory to build mounts in, which a failed restore leaves behind.
const YARDS: &str = "/tmp/.criu.mntns.";

/// Removes the (by now empty) directory that a failed restore says it has used.
pub(super) fn remove_yard(log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    if let Some(yard) = yard(&String::from_utf8_lossy(&text)) {
        // Of no use to anybody, and in nobody's way.
        let _ = std::fs::remove_dir(yard);
    }
}

fn yard(text: &str) -> Option<&str> {
    let from = &text[text.find(YARDS)?..];
    let end = from[YARDS.len()..].find(|c: char| !c.is_ascii_alphanumeric());
    Some(end.map_or(from, |end| &from[..YARDS.len() + end]))
}

/// `(00.010203)     12: Error …` → `Error …`.
fn without_time(line: &str) -> &str {
    line.find("Error (").map_or(line, |at| &line[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_that_is_left() {
        let log =
            "mnt-v2: Mounting @1 to /tmp/.criu.mntns.5QHgkO/mnt-1\nMove /tmp/.criu.mntns.5QHgkO/2";
        assert_eq!(yard(log), Some("/tmp/.criu.mntns.5QHgkO"));
        assert_eq!(yard("/tmp/.criu.mntns.abc"), Some("/tmp/.criu.mntns.abc"));
        assert_eq!(yard("nothing"), None);
    }

    #[test]
    fn the_errors_that_tell_something() {
        let log = "(00.01) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: x\n\
                   (00.02)     12: Error (criu/files-reg.c:1): Can't open file tmp/x: No such file\n\
                   (00.03) Warn  (criu/a.c:1): b\n\
                   (00.04) Error (criu/cr-restore.c:2): Restoring FAILED.\n";
        assert_eq!(
            find(log).as_deref(),
            Some("Error (criu/files-reg.c:1): Can't open file tmp/x: No such file")
        );
        let known = "(00.1) Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported\n";
        let told = find(known).expect("an error");
        assert!(
            told.ends_with(
                "(CRIU 4.1 cannot dump network sockets on Linux 6.16 or later, a later CRIU can)"
            ),
            "{told}"
        );
        let more = log.replace("Warn  (", "Error (");
        assert_eq!(
            find(&more).as_deref(),
            Some(
                "Error (criu/files-reg.c:1): Can't open file tmp/x: No such file; Error (criu/a.c:1): b"
            )
        );
        assert_eq!(
            find("(00.04) Error (criu/cr-restore.c:2): Restoring FAILED.\n"),
            None
        );
    }
}
