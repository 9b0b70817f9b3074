//! `/etc/hosts` (hosts(5)) and `/etc/resolv.conf` (resolv.conf(5)), as far as a stub resolver needs them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The addresses that a hosts file gives a name, in its order.
pub fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !out.contains(&address) {
            out.push(address);
        }
    }
    out
}

/// What resolv.conf says.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers, in order of preference.
    pub servers: Vec<SocketAddr>,
    /// Suffixes to try for short names.
    pub search: Vec<String>,
    /// A name with at least as many dots is tried as it is first.
    pub ndots: usize,
    /// How long one server may take.
    pub timeout: Duration,
    /// How often the list of servers is gone through.
    pub attempts: u32,
}

/// The limit of resolv.conf(5) (MAXNS).
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;

/// Reads resolv.conf; what cannot be read is skipped, as libc does. Without a server it is the local one.
pub fn resolv_conf(text: &str) -> ResolvConf {
    let mut out = ResolvConf {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone (`fe80::1%eth0`) cannot be kept in an address; such servers are skipped.
                let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                if let Some(address) = address.filter(|_| out.servers.len() < SERVERS_MAX) {
                    out.servers.push(SocketAddr::new(address, 53));
                }
            }
            Some("search" | "domain") => {
                out.search = words.take(SEARCH_MAX).map(str::to_owned).collect();
            }
            Some("options") => words.for_each(|word| option(&mut out, word)),
            _ => {}
        }
    }
    if out.servers.is_empty() {
        out.servers
            .push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53));
    }
    out
}

fn option(out: &mut ResolvConf, word: &str) {
    let Some((key, value)) = word.split_once(':') else {
        return;
    };
    let Ok(value) = value.parse::<u32>() else {
        return;
    };
    // The caps are libc's (RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY).
    match key {
        "ndots" => out.ndots = value.min(15) as usize,
        "timeout" => out.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
        "attempts" => out.attempts = value.clamp(1, 5),
        _ => {}
    }
}

impl ResolvConf {
    /// The names to ask for, in order.
    pub fn names(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut names: Vec<String> = self
            .search
            .iter()
            .map(|suffix| format!("{name}.{}", suffix.trim_matches('.')))
            .collect();
        let dots = name.bytes().filter(|c| *c == b'.').count();
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, name.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let text =
            "127.0.0.1 localhost # x\n::1\tlocalhost ip6\n\nbad line\n10.0.0.1 Reg.Local reg\n";
        let find =
            |name| -> Vec<String> { hosts(text, name).iter().map(ToString::to_string).collect() };
        assert_eq!(find("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(find("reg.local"), ["10.0.0.1"]);
        assert!(find("x").is_empty());
        assert!(find("line").is_empty());
    }

    #[test]
    fn resolv_conf_file() {
        let text = "# c\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver ::1 ; x\n\
                    search a.test b.test\noptions ndots:2 timeout:3 attempts:99 rotate\n";
        let conf = resolv_conf(text);
        assert_eq!(conf.servers[0].to_string(), "10.0.0.2:53");
        assert_eq!(conf.servers[1].to_string(), "[::1]:53");
        assert_eq!(
            (conf.ndots, conf.timeout.as_secs(), conf.attempts),
            (2, 3, 5)
        );
        assert_eq!(conf.names("x.y"), ["x.y.a.test", "x.y.b.test", "x.y"]);
        assert_eq!(
            conf.names("x.y.z"),
            ["x.y.z", "x.y.z.a.test", "x.y.z.b.test"]
        );
        assert_eq!(conf.names("x."), ["x"]);
        assert_eq!(resolv_conf("").servers[0].to_string(), "127.0.0.1:53");
    }
}
