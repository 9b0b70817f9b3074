//! The part of DNS's wire format (RFC 1035, RFC 3596) that a stub resolver needs: one question, address answers.
//!
//! Pure functions; a recursive server puts the whole CNAME chain into one answer, so every address record in the
//! answer section is for the question. Names are therefore skipped, never expanded, and compression cannot loop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const TYPE_A: u16 = 1;
pub const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses; none if the name has none of this type.
    Addresses(Vec<IpAddr>),
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// The server failed or refused (its RCODE).
    Failed(u8),
}

/// A query, or `None` if the name cannot be one.
pub fn query(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend_from_slice(&id.to_be_bytes());
    // Flags: recursion desired. Counts: one question.
    out.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..=63).contains(n))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() - HEADER > 255 {
        return None;
    }
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    Some(out)
}

/// Reads the answer to `query`; `None` if it is not one (another id, another question, malformed).
pub fn parse(query: &[u8], message: &[u8]) -> Option<Answer> {
    let question = query.get(HEADER..)?;
    let is_response = message.get(2)? & 0x80 != 0;
    let one_question = message.get(4..6)? == [0, 1];
    if message.get(..2)? != query.get(..2)? || !is_response || !one_question {
        return None;
    }
    // Servers echo the question; some keep its case, some do not.
    let echoed = message.get(HEADER..HEADER + question.len())?;
    if !echoed.eq_ignore_ascii_case(question) {
        return None;
    }
    if message[2] & 0x02 != 0 {
        return Some(Answer::Truncated);
    }
    match message[3] & 0x0f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Failed(code)),
    }
    let kind = u16_at(question, question.len() - 4)?;
    let count = u16_at(message, 6)?;
    let mut at = HEADER + question.len();
    let mut addresses = Vec::new();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let record_kind = u16_at(message, at)?;
        let length = usize::from(u16_at(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if record_kind == kind {
            addresses.push(address(data)?);
        }
    }
    Some(Answer::Addresses(addresses))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(data) {
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    <[u8; 16]>::try_from(data)
        .ok()
        .map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            // A pointer ends a name (RFC 1035, 4.1.4).
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(query: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = query.to_vec();
        out[2..4].copy_from_slice(&flags);
        out[7] = records.len() as u8;
        for (kind, data) in records {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn reads_addresses_past_a_cname() {
        let q = query(7, "registry.example", TYPE_A).unwrap();
        let message = answer(
            &q,
            [0x81, 0x80],
            &[(5, &[1, b'x', 0]), (1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])],
        );
        let want = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(parse(&q, &message), Some(Answer::Addresses(want)));
        // Cut anywhere, it is refused and nothing panics.
        for length in 0..message.len() {
            assert_eq!(parse(&q, &message[..length]), None, "{length}");
        }
    }

    #[test]
    fn reads_ipv6_and_failures() {
        let q = query(7, "a.b", TYPE_AAAA).unwrap();
        let data = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(
            parse(&q, &answer(&q, [0x81, 0x80], &[(28, &data)])),
            Some(Answer::Addresses(vec![IpAddr::V6(Ipv6Addr::LOCALHOST)]))
        );
        let failed = |flags| parse(&q, &answer(&q, flags, &[]));
        assert_eq!(failed([0x81, 0x83]), Some(Answer::NoSuchName));
        assert_eq!(failed([0x81, 0x82]), Some(Answer::Failed(2)));
        assert_eq!(failed([0x83, 0x80]), Some(Answer::Truncated));
        // Another id, a query instead of an answer, another question.
        let other = query(8, "a.b", TYPE_AAAA).unwrap();
        assert_eq!(parse(&other, &answer(&q, [0x81, 0x80], &[])), None);
        assert_eq!(failed([0x01, 0x00]), None);
        let other = query(7, "a.c", TYPE_AAAA).unwrap();
        assert_eq!(parse(&other, &answer(&q, [0x81, 0x80], &[])), None);
    }

    #[test]
    fn refuses_impossible_names() {
        for name in ["", "a..b", &"x".repeat(64), &"abcdefg.".repeat(40)] {
            assert_eq!(query(1, name, TYPE_A), None, "{name}");
        }
    }
}
