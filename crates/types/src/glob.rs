//! Shell patterns with the meaning of Go's `path.Match`, which Docker's filters use.

/// Whether all of `text` fits `pattern`: `*` any run without `/`, `?` one character but `/`, `[a-z]` and `[^a-z]`
/// one of a class, `\c` the character itself. A malformed pattern fits nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to resume when a later part fails: the pattern after the last star, and how much text that star holds.
    // Only the last star needs to be retried, so the whole costs at most pattern × text.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        let step = text.get(t).and_then(|c| one(&pattern[p..], *c));
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, held))) if held < text.len() && text[held] != '/' => {
                star = Some((after, held + 1));
                p = after;
                t = held + 1;
            }
            _ => return false,
        }
    }
}

/// Length of the pattern's first element if it fits `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => (c != '/').then_some(1),
        '[' => class(pattern, c),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        literal => (*literal == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let first = at;
    while *pattern.get(at)? != ']' || at == first {
        let low = literal(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            literal(pattern, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
    (found != negated && c != '/').then_some(at + 1)
}

fn literal(pattern: &[char], at: &mut usize) -> Option<char> {
    if pattern.get(*at) == Some(&'\\') {
        *at += 1;
    }
    let c = pattern.get(*at).copied();
    *at += 1;
    c
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn table() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*", "a/c", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdf", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", false),
            ("\\", "a", false),
        ];
        for (pattern, text, want) in table {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }
}
