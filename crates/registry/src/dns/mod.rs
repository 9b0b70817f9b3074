//! Names to addresses without libc's resolver.
//!
//! A static glibc's `getaddrinfo` loads the host's NSS modules with dlopen, which crashes when they are of another
//! glibc than the binary. So this is what nss's `files` and `dns` do: the hosts file, then the servers of
//! resolv.conf, over UDP and, for long answers, TCP. Addresses of IPv4 come first: a host without IPv6 routes is
//! common, a host without IPv4 is not, and the connector tries all of them anyway.

mod files;
mod wire;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use wire::Answer;

const ADDRESSES_MAX: usize = 16;
/// The largest answer that comes over UDP without EDNS is 512 bytes; servers that send more are tolerated.
const UDP_MAX: usize = 4096;

/// The resolver; both files are read anew for each lookup, as they change with the network.
#[derive(Debug)]
pub struct SystemResolver {
    /// hosts(5).
    pub hosts_file: PathBuf,
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
}

/// Why a name has no address.
#[derive(Debug)]
pub struct LookupError {
    name: String,
    reason: String,
    /// Whether asking again may help.
    pub transient: bool,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup of {}: {}", self.name, self.reason)
    }
}

impl std::error::Error for LookupError {}

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or("");
        let default_port = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let deadline = Instant::now().checked_add(*timeout.after);
        let addresses = self
            .lookup(host, deadline)
            .map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let mut out = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            out.push(SocketAddr::new(address, port));
        }
        Ok(out)
    }
}

impl SystemResolver {
    /// The addresses of a host, at least one. A literal address needs no file and no network.
    pub fn lookup(
        &self,
        host: &str,
        deadline: Option<Instant>,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let hosts = std::fs::read_to_string(&self.hosts_file).unwrap_or_default();
        let found = files::hosts(&hosts, host);
        if !found.is_empty() {
            return Ok(found);
        }
        // RFC 6761, 6.3: names under localhost never leave the host.
        if host == "localhost" || host.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        Stub {
            conf: files::resolv_conf(&conf),
            deadline,
        }
        .lookup(host)
    }
}

/// One lookup over the network.
struct Stub {
    conf: files::ResolvConf,
    deadline: Option<Instant>,
}

impl Stub {
    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let error = |reason: String, transient| LookupError {
            name: host.to_owned(),
            reason,
            transient,
        };
        let mut failure = None;
        for name in self.conf.names(host) {
            match self.ask_servers(&name) {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => return Ok(addresses),
                Err(reason) => failure = Some(reason),
            }
        }
        Err(match failure {
            Some(reason) => error(reason, true),
            None => error("no such host".to_owned(), false),
        })
    }

    /// All addresses of one absolute name, none if it does not exist; an error if no server could tell.
    fn ask_servers(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut failure = "no server was asked".to_owned();
        for _ in 0..self.conf.attempts {
            for server in &self.conf.servers {
                match self.ask(*server, name) {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => failure = format!("name server {server}: {error}"),
                }
                if self.left().is_zero() {
                    return Err(failure);
                }
            }
        }
        Err(failure)
    }

    fn ask(&self, server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
        let id = random();
        let query = |id, kind| {
            wire::query(id, name, kind)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))
        };
        let queries = [
            query(id, wire::TYPE_A)?,
            query(id.wrapping_add(1), wire::TYPE_AAAA)?,
        ];
        let answers = self.exchange_udp(server, &queries)?;
        let mut out = Vec::new();
        for (query, answer) in queries.iter().zip(answers) {
            let answer = match answer {
                Answer::Truncated => self.exchange_tcp(server, query)?,
                answer => answer,
            };
            match answer {
                Answer::Addresses(addresses) => out.extend(addresses),
                Answer::NoSuchName => {}
                Answer::Failed(code) => {
                    // A server that knows one family but fails on the other is common enough to be tolerated.
                    if out.is_empty() {
                        return Err(io::Error::other(format!("failed with code {code}")));
                    }
                }
                Answer::Truncated => return Err(io::Error::other("truncated answer over tcp")),
            }
        }
        Ok(out)
    }

    /// Both questions at once over one socket, whose kernel-chosen port and connected peer keep strangers out.
    fn exchange_udp(&self, server: SocketAddr, queries: &[Vec<u8>; 2]) -> io::Result<[Answer; 2]> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        for query in queries {
            socket.send(query)?;
        }
        let until = Instant::now() + self.conf.timeout.min(self.left());
        let mut answers = [None, None];
        let mut buffer = [0; UDP_MAX];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_timeout(&error) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for (query, answer) in queries.iter().zip(&mut answers) {
                if let Some(parsed) = wire::parse(query, &buffer[..length]) {
                    *answer = Some(parsed);
                }
            }
            answers = match answers {
                [Some(a), Some(b)] => return Ok([a, b]),
                waiting => waiting,
            };
        }
    }

    fn exchange_tcp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
        let timeout = self
            .conf
            .timeout
            .min(self.left())
            .max(Duration::from_millis(1));
        let mut stream = TcpStream::connect_timeout(&server, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(query);
        stream.write_all(&framed)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        wire::parse(query, &message).ok_or_else(|| io::Error::other("malformed answer"))
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// A query id that cannot be guessed: std's hasher keys come from the kernel's random source.
fn random() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn stub(server: SocketAddr) -> Stub {
        Stub {
            conf: files::ResolvConf {
                servers: vec![server],
                search: vec!["test".to_owned()],
                ndots: 1,
                timeout: Duration::from_secs(5),
                attempts: 2,
            },
            deadline: None,
        }
    }

    /// Turns a query into an answer with one address record, or an empty one with these flags.
    fn reply(query: &[u8], flags: [u8; 2], address: Option<&[u8]>) -> Vec<u8> {
        let mut out = query.to_vec();
        out[2..4].copy_from_slice(&flags);
        if let Some(address) = address {
            out[7] = 1;
            let kind = query[query.len() - 3];
            out.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
            out.extend_from_slice(address);
        }
        out
    }

    /// A server for `queries` datagrams.
    fn serve(queries: usize, answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..queries {
                let mut buffer = [0; 512];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(b"stray", from).unwrap();
                socket.send_to(&answer(&buffer[..length]), from).unwrap();
            }
        });
        address
    }

    fn is_a(query: &[u8]) -> bool {
        query[query.len() - 3] == 1
    }

    #[test]
    fn asks_for_both_families() {
        let server = serve(2, |query| {
            let v6 = Ipv6Addr::LOCALHOST.octets();
            let address: &[u8] = if is_a(query) { &[10, 0, 0, 9] } else { &v6 };
            reply(query, [0x81, 0x80], Some(address))
        });
        let addresses = stub(server).lookup("registry.example").unwrap();
        assert_eq!(addresses.len(), 2);
        assert_eq!(addresses[0].to_string(), "10.0.0.9");
    }

    #[test]
    fn goes_through_the_search_list() {
        // "short" has no dot: short.test first, which exists only as IPv4.
        let server = serve(2, |query| {
            assert!(query.windows(5).any(|w| w == b"\x04test"));
            reply(query, [0x81, 0x80], is_a(query).then_some(&[10, 0, 0, 7]))
        });
        assert_eq!(
            stub(server).lookup("short").unwrap(),
            ["10.0.0.7".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let server = serve(4, |query| reply(query, [0x81, 0x83], None));
        let error = stub(server).lookup("no.where").unwrap_err();
        assert_eq!(error.to_string(), "lookup of no.where: no such host");
        assert!(!error.transient);
        let server = serve(8, |query| reply(query, [0x81, 0x82], None));
        let error = stub(server).lookup("no.where").unwrap_err();
        assert!(
            error.transient && error.to_string().contains("code 2"),
            "{error}"
        );
    }

    #[test]
    fn long_answers_come_over_tcp() {
        // The same port number for both protocols, so that one resolv.conf entry means both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let server = udp.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (length, from) = udp.recv_from(&mut buffer).unwrap();
                let query = &buffer[..length];
                let flags = if is_a(query) {
                    [0x83, 0x80]
                } else {
                    [0x81, 0x80]
                };
                udp.send_to(&reply(query, flags, None), from).unwrap();
            }
            let (mut stream, _) = tcp.accept().unwrap();
            let mut query = [0; 512];
            stream.read_exact(&mut query[..2]).unwrap();
            let length = usize::from(query[1]);
            stream.read_exact(&mut query[..length]).unwrap();
            let message = reply(&query[..length], [0x81, 0x80], Some(&[10, 0, 0, 5]));
            stream
                .write_all(&(message.len() as u16).to_be_bytes())
                .unwrap();
            stream.write_all(&message).unwrap();
        });
        let addresses = stub(server).lookup("long.example").unwrap();
        assert_eq!(addresses, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn literals_and_localhost_need_no_network() {
        let resolver = SystemResolver {
            hosts_file: PathBuf::from("/nonexistent"),
            resolv_conf: PathBuf::from("/nonexistent"),
        };
        for (host, want) in [
            ("127.0.0.2", "127.0.0.2"),
            ("[::1]", "::1"),
            ("localhost", "127.0.0.1"),
        ] {
            assert_eq!(resolver.lookup(host, None).unwrap()[0].to_string(), want);
        }
    }
}
