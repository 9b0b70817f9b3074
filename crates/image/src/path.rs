//! Names in archives, as bytes: taken apart without asking the file system. Pure.
//!
//! A clean path is relative, has no `.`, `..` or empty parts, and no slash at its ends; the top is the empty path.

/// Takes a name apart and puts it together again: no `.`, no empty parts, no leading slash, no `..` above the top.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or("leads outside the layer")?;
            }
            _ => parts.push(part),
        }
    }
    let out = parts.join(&b'/');
    if out.len() >= 4096 {
        Err("is too long a name")
    } else {
        Ok(out)
    }
}

pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, name].join(&b'/')
    }
}

/// Whether `path` is `dir` or lies in it.
pub(crate) fn within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty()
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

pub(crate) fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_taken_apart() {
        for (from, to) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("a", "a"),
            ("/a//./b/", "a/b"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("...", "..."),
            (".wh.x", ".wh.x"),
        ] {
            assert_eq!(clean(from.as_bytes()).unwrap(), to.as_bytes(), "{from}");
        }
        for bad in ["..", "../a", "/..", "a/../..", "./../x"] {
            assert!(clean(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever comes in, what comes out is a plain relative path, and stays one.
        #[test]
        fn a_clean_path_has_no_way_out(parts in proptest::collection::vec("\\.{0,3}|[a-c/]{0,3}|.{0,4}", 0..12)) {
            let path = parts.join("/");
            if let Ok(out) = clean(path.as_bytes()) {
                prop_assert!(!out.starts_with(b"/") && !out.ends_with(b"/"));
                for part in out.split(|b| *b == b'/').filter(|_| !out.is_empty()) {
                    prop_assert!(!matches!(part, b"" | b"." | b".."));
                }
                prop_assert_eq!(clean(&out).unwrap(), out);
            }
        }

        /// The lexical rule is the kernel's, where there are no links: std resolves the same names in the same way.
        #[test]
        fn clean_agrees_with_a_walk(parts in proptest::collection::vec("\\.\\.?|[ab]{0,2}", 0..8)) {
            let mut depth = Some(Vec::new());
            for part in &parts {
                depth = match (part.as_str(), depth) {
                    ("" | ".", depth) => depth,
                    ("..", Some(mut stack)) => stack.pop().map(|_| stack),
                    (name, Some(mut stack)) => { stack.push(name); Some(stack) }
                    (_, None) => None,
                };
            }
            let ours = clean(parts.join("/").as_bytes()).ok();
            prop_assert_eq!(ours, depth.map(|stack| stack.join("/").into_bytes()));
        }

        #[test]
        fn within_means_below(dir in "[ab]{0,2}(/[ab]{1,2}){0,2}", rest in "[ab/]{0,4}") {
            let path = format!("{dir}{rest}");
            let expected = dir.is_empty() || rest.is_empty() || rest.starts_with('/');
            prop_assert_eq!(within(path.as_bytes(), dir.as_bytes()), expected);
        }
    }
}
