//! Which hosts are reached through a proxy.

use crate::config::Proxies;
use crate::url::is_loopback;
use std::net::IpAddr;

/// The proxy for a host, or none. Loopback is never proxied.
pub fn proxy_for(proxies: &Proxies, https: bool, host: &str) -> Option<ureq::Proxy> {
    let url = if https { &proxies.https } else { &proxies.http };
    let url = url.as_deref().filter(|url| !url.is_empty())?;
    if is_loopback(host) || is_exempt(proxies.no_proxy.as_deref().unwrap_or(""), host) {
        return None;
    }
    match ureq::Proxy::new(url) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            // The URL may hold a password.
            tracing::warn!("the configured proxy's URL is unusable and ignored: {error}");
            None
        }
    }
}

/// Whether NO_PROXY names a host: `*`, the host, a parent domain, an address, or a CIDR block.
fn is_exempt(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    no_proxy.split(',').map(str::trim).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = entry
            .split(':')
            .next()
            .filter(|_| !entry.contains("::"))
            .unwrap_or(&entry);
        if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
            return in_block(network, bits, address);
        }
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && (host == domain
                    || host
                        .strip_suffix(domain)
                        .is_some_and(|rest| rest.ends_with('.'))))
    })
}

fn in_block(network: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let value = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((network, width), (address, other)) = (value(network), value(address));
    width == other && bits <= width && (bits == 0 || (network ^ address) >> (128 - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_from_the_proxy() {
        let table = [
            ("*", "a.io", true),
            ("a.io", "a.io", true),
            ("a.io", "x.a.io", true),
            (".a.io, b.io", "x.a.io", true),
            ("*.a.io", "x.a.io", true),
            ("a.io:5000", "a.io", true),
            ("a.io", "ba.io", false),
            ("", "a.io", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/8", "fd12::1", false),
        ];
        for (list, host, want) in table {
            assert_eq!(is_exempt(list, host), want, "{list} {host}");
        }
        let proxies = Proxies {
            https: Some("http://user:pw@proxy:3128".to_owned()),
            ..Proxies::default()
        };
        assert!(proxy_for(&proxies, true, "a.io").is_some());
        assert!(proxy_for(&proxies, false, "a.io").is_none());
        assert!(proxy_for(&proxies, true, "127.0.0.1").is_none());
    }
}
