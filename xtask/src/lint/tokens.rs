//! Rust source with its comments, strings and character literals blanked out, so that a search for a
//! word finds code only. Lines stay where they are.

/// Blanks everything that is not code, and the bodies of `#[cfg(test)]` modules when `tests` is false.
pub(super) fn code_only(source: &str, tests: bool) -> String {
    let mut code = blank(source.as_bytes());
    if !tests {
        blank_test_modules(&mut code);
    }
    // Only whole runs of ASCII were overwritten with blanks.
    String::from_utf8_lossy(&code).into_owned()
}

/// Whether `text` contains `word` with no identifier character on either side.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let identifier = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(identifier);
        let after = text[at + word.len()..]
            .chars()
            .next()
            .is_some_and(identifier);
        let open_start = !word.starts_with(identifier) || !before;
        let open_end = !word.ends_with(identifier) || !after;
        open_start && open_end
    })
}

fn blank(source: &[u8]) -> Vec<u8> {
    let mut out = source.to_vec();
    let mut at = 0;
    while at < source.len() {
        let end = literal_end(source, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn literal_end(source: &[u8], at: usize) -> usize {
    let rest = &source[at..];
    let after_identifier =
        at > 0 && (source[at - 1].is_ascii_alphanumeric() || source[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + until(rest, b"\n"),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'r', b'"' | b'#', ..] if !after_identifier => at + raw_string(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_identifier => at + raw_string(rest, 2),
        [b'"', ..] => at + quoted(rest, b'"'),
        // A character, not a lifetime: 'x' or an escape.
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        [b'\'', ..] => at + character(rest),
        _ => at,
    }
}

fn until(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len())
        .position(|window| window == needle)
        .unwrap_or(text.len())
}

/// Block comments nest in Rust.
fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(text: &[u8], prefix: usize) -> usize {
    let hashes = text[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix + hashes;
    if text.get(open) != Some(&b'"') {
        return 0; // r#identifier
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    open + 1 + until(&text[open + 1..], &close) + close.len()
}

fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn character(text: &[u8]) -> usize {
    let Some(c) = std::str::from_utf8(&text[1..text.len().min(6)])
        .map_or_else(
            |e| std::str::from_utf8(&text[1..1 + e.valid_up_to()]).ok(),
            Some,
        )
        .and_then(|rest| rest.chars().next())
    else {
        return 0;
    };
    let close = 1 + c.len_utf8();
    if text.get(close) == Some(&b'\'') {
        close + 1
    } else {
        0
    }
}

fn blank_test_modules(code: &mut [u8]) {
    let marker = b"#[cfg(test)]";
    let mut at = 0;
    while at < code.len() {
        at += until(&code[at..], marker);
        let open = at + until(&code[at..], b"{");
        let semicolon = at + until(&code[at..], b";");
        if semicolon < open {
            at = semicolon + 1; // `#[cfg(test)] use …;` or `mod tests;`
            continue;
        }
        let end = open + block(&code[open..]);
        for byte in &mut code[at.min(end)..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
}

fn block(text: &[u8]) -> usize {
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let source = "// unsafe\nlet a = \"unsafe \\\" x\"; /* unsafe /* nested */ unsafe */ let b = 'x';\n\
            let c = r#\"unsafe \" \"#; fn f<'a>(x: &'a str) -> u8 { b'\\'' } unsafe { }\n";
        let code = code_only(source, true);
        assert_eq!(code.matches("unsafe").count(), 1, "{code}");
        assert!(code.contains("fn f<'a>(x: &'a str)"), "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn test_modules_can_be_left_out() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { println!(); } }\nfn c() {}\n";
        let code = code_only(source, false);
        assert!(!code.contains("println") && code.contains("fn c"), "{code}");
        assert!(code_only(source, true).contains("println"));
    }

    #[test]
    fn words() {
        assert!(has_word("a unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("eprintln!(1)", "println!"));
        assert!(has_word("std::env::var(", "env::var"));
        assert!(!has_word("env::vars", "env::var"));
    }
}
