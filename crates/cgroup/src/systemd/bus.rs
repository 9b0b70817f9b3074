//! A synchronous D-Bus connection: connect, authenticate, call, wait for a signal.
//!
//! Nothing is shared or queued beyond what one caller needs: a call is written and its answer read,
//! and signals that come meanwhile are kept for [`Bus::wait_signal`].

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use super::message::{self, Call, Message};
use super::value::Value;

/// Why something on the bus failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other side answered with an error: its name and its words.
    Refused { name: String, text: String },
    /// The connection failed, or spoke no D-Bus.
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { name, text } => write!(f, "{text} ({name})"),
            Self::Broken(text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// Whether the other side answered with this error.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == wanted)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        Self::Broken(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
            ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
            _ => error.to_string(),
        })
    }
}

fn broken<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Broken(text.into()))
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
    /// Not a bus, but the one that is talked to itself.
    peer: bool,
    /// What was asked for by [`Bus::add_match_once`].
    rules: BTreeSet<String>,
}

/// Who we say we are to a peer.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// Our effective user id: what systemd before 247 wants.
    Uid,
    /// Whoever the kernel says: in a user namespace our id is not the one outside.
    Nothing,
}

/// The effective user id in decimal digits, in hexadecimal.
fn own_uid() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    uid.bytes().map(|b| format!("{b:02x}")).collect()
}

/// How long the other side may take for an answer, when it is not a job that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bus {
    /// Connects to the first of the addresses that answers, `unix:path=…` or `unix:abstract=…`
    /// separated by `;`, and says hello when it is a bus and not a peer.
    pub(super) fn connect(address: &str, peer: bool) -> Result<Self, Failure> {
        let mut last = Failure::Broken(format!("{address:?} names no Unix socket"));
        for one in address.split(';').filter(|one| !one.is_empty()) {
            let Some(at) = parse_address(one) else {
                continue;
            };
            match UnixStream::connect_addr(&at) {
                Ok(stream) if peer => {
                    return Self::over(stream, Some(Claim::Uid)).or_else(|_| {
                        Self::over(UnixStream::connect_addr(&at)?, Some(Claim::Nothing))
                    });
                }
                Ok(stream) => return Self::over(stream, None),
                Err(error) => last = Failure::Broken(format!("{one}: {error}")),
            }
        }
        Err(last)
    }

    /// `peer`: not a bus, but systemd itself, and what to claim to be.
    fn over(stream: UnixStream, peer: Option<Claim>) -> Result<Self, Failure> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self {
            stream,
            serial: 0,
            signals: VecDeque::new(),
            peer: peer.is_some(),
            rules: BTreeSet::new(),
        };
        match peer {
            Some(claim) => bus.authenticate_to_peer(claim)?,
            None => {
                bus.authenticate()?;
                bus.call(&daemon("Hello"), &[])?;
            }
        }
        Ok(bus)
    }

    /// All of the authentication in one write.
    ///
    /// systemd's server side reads `BEGIN` and a message behind it at once when they come together,
    /// and then sleeps until more comes (seen: 252). With `BEGIN` sent before the answer is waited
    /// for, as systemd's own client does, the message comes alone.
    fn authenticate_to_peer(&mut self, claim: Claim) -> Result<(), Failure> {
        let lines = match claim {
            Claim::Uid => format!("\0AUTH EXTERNAL {}\r\nBEGIN\r\n", own_uid()),
            Claim::Nothing => "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_owned(),
        };
        self.stream.write_all(lines.as_bytes())?;
        let mut answer = self.line()?;
        if answer.starts_with("DATA") {
            answer = self.line()?;
        }
        if answer.starts_with("OK") {
            return Ok(());
        }
        broken(format!("authentication failed: {answer:?}"))
    }

    /// SASL EXTERNAL: the kernel tells the other side who we are, we only claim it.
    ///
    /// In a user namespace we are somebody else than outside, and the claim is refused; then
    /// without a claim, which systemd takes since 247 and dbus-daemon always did.
    fn authenticate(&mut self) -> Result<(), Failure> {
        self.stream
            .write_all(format!("\0AUTH EXTERNAL {}\r\n", own_uid()).as_bytes())?;
        let mut answer = self.line()?;
        if answer.starts_with("REJECTED") {
            self.stream.write_all(b"AUTH EXTERNAL\r\n")?;
            answer = self.line()?;
            if answer.starts_with("DATA") {
                self.stream.write_all(b"DATA\r\n")?;
                answer = self.line()?;
            }
        }
        if !answer.starts_with("OK") {
            return broken(format!("authentication failed: {answer:?}"));
        }
        Ok(self.stream.write_all(b"BEGIN\r\n")?)
    }

    /// One line of the authentication, byte by byte so that nothing behind it is lost.
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let mut byte = [0u8];
        while !line.ends_with(b"\r\n") {
            if line.len() > 4096 {
                return broken("the other side does not speak D-Bus");
            }
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(
        &mut self,
        call: &Call<'_>,
        arguments: &[Value],
    ) -> Result<Vec<Value>, Failure> {
        self.serial += 1;
        let serial = self.serial;
        self.stream
            .write_all(&message::call(serial, call, arguments))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.read(deadline)?;
            match message.kind {
                message::METHOD_RETURN if message.reply_serial == serial => {
                    return Ok(message.body);
                }
                message::ERROR if message.reply_serial == serial => {
                    let text = message.body.first().and_then(Value::as_str);
                    return Err(Failure::Refused {
                        text: text.unwrap_or("no reason given").to_owned(),
                        name: message.error_name,
                    });
                }
                message::SIGNAL => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Has a bus deliver the signals that match from now on, told once; a peer delivers all.
    pub(super) fn add_match_once(&mut self, rule: &str) -> Result<(), Failure> {
        if !self.peer && self.rules.insert(rule.to_owned()) {
            self.call(&daemon("AddMatch"), &[Value::str(rule)])?;
        }
        Ok(())
    }

    /// The first signal for which `pick` gives something, among those that came and those to come.
    pub(super) fn wait_signal<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            while let Some(signal) = self.signals.pop_front() {
                if let Some(found) = pick(&signal) {
                    return Ok(found);
                }
            }
            let message = self.read(deadline)?;
            if message.kind == message::SIGNAL {
                self.signals.push_back(message);
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> Result<Message, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return broken("no answer in time");
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = vec![0u8; message::FIXED];
        self.stream.read_exact(&mut bytes)?;
        let Some(total) = message::total(&bytes) else {
            return broken("the other side does not speak D-Bus");
        };
        bytes.resize(total, 0);
        self.stream.read_exact(&mut bytes[message::FIXED..])?;
        message::parse(&bytes)
            .ok_or_else(|| Failure::Broken("the other side sent a broken message".to_owned()))
    }
}

/// A method of the bus itself.
fn daemon(member: &str) -> Call<'_> {
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
    }
}

/// One address of the form `unix:key=value,…` (D-Bus specification, "Server Addresses").
fn parse_address(address: &str) -> Option<SocketAddr> {
    let pairs = address.strip_prefix("unix:")?.split(',');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| match key {
        "path" => SocketAddr::from_pathname(unescape(value)?).ok(),
        "abstract" => SocketAddr::from_abstract_name(unescape(value)?).ok(),
        _ => None,
    })
}

/// `%20` and the like.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = parse_address("unix:path=/run/user/1000/b%20s,guid=12").unwrap();
        assert_eq!(
            path.as_pathname(),
            Some(std::path::Path::new("/run/user/1000/b s"))
        );
        let name = parse_address("unix:abstract=/tmp/dbus-1").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"/tmp/dbus-1"[..]));
        assert!(parse_address("tcp:host=1.2.3.4").is_none());
        assert!(parse_address("unix:path=/a%zz").is_none());
    }

    /// The other side of a connection: reads a line or a message, answers with bytes.
    fn peer(
        mut stream: UnixStream,
        claims: &'static [&'static str],
    ) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let mut zero = [1u8];
            stream.read_exact(&mut zero).unwrap();
            assert_eq!(zero, [0]);
            let mut bus = Bus {
                stream,
                serial: 0,
                signals: VecDeque::new(),
                peer: true,
                rules: BTreeSet::new(),
            };
            for claim in claims {
                let (expected, answer) = claim.split_once('>').unwrap();
                let line = bus.line().unwrap();
                assert!(line.starts_with(expected), "{line}");
                bus.stream.write_all(answer.as_bytes()).unwrap();
            }
            assert_eq!(bus.line().unwrap(), "BEGIN");
            // A signal and an answer to something else come before the answer to the call.
            let call = bus.read_call();
            for (kind, serial, member) in [
                (message::SIGNAL, 0, "Tick"),
                (message::METHOD_RETURN, 99, ""),
                (message::ERROR, call, "no.such.Thing"),
            ] {
                bus.stream.write_all(&answer(kind, serial, member)).unwrap();
            }
        })
    }

    impl Bus {
        fn read_call(&mut self) -> u32 {
            let mut bytes = vec![0u8; message::FIXED];
            self.stream.read_exact(&mut bytes).unwrap();
            bytes.resize(message::total(&bytes).unwrap(), 0);
            self.stream
                .read_exact(&mut bytes[message::FIXED..])
                .unwrap();
            u32::from_le_bytes(bytes[8..12].try_into().unwrap())
        }
    }

    fn answer(kind: u8, serial: u32, name: &str) -> Vec<u8> {
        use super::super::value::Writer;
        let field = |code: u8, value: Value| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        };
        let fields = vec![
            field(
                if kind == message::SIGNAL { 3 } else { 4 },
                Value::str(name),
            ),
            field(5, Value::Uint32(serial)),
            field(8, Value::Signature("s".into())),
        ];
        let mut body = Writer::default();
        body.value(&Value::str("words"));
        let mut writer = Writer::default();
        writer.bytes.extend([b'l', kind, 1, 1]);
        writer.u32(body.bytes.len() as u32);
        writer.u32(1);
        writer.value(&Value::Array("(yv)".into(), fields));
        writer.pad(8);
        writer.bytes.extend(body.bytes);
        writer.bytes
    }

    fn check_calls(bus: &mut Bus) {
        let failure = bus.call(&daemon("Anything"), &[]).unwrap_err();
        assert!(failure.is("no.such.Thing"), "{failure}");
        assert_eq!(failure.to_string(), "words (no.such.Thing)");
        let text = bus
            .wait_signal(PATIENCE, |signal| {
                (signal.member == "Tick").then(|| signal.body[0].clone())
            })
            .unwrap();
        assert_eq!(text, Value::str("words"));
        let over = bus.wait_signal(PATIENCE, |_| None::<()>).unwrap_err();
        assert!(over.to_string().contains("closed"), "{over}");
    }

    #[test]
    fn a_peer_is_told_all_at_once_and_answers_find_their_call() {
        for (claim, claims) in [
            (Claim::Uid, &["AUTH EXTERNAL 3>OK 123\r\n"][..]),
            (
                Claim::Nothing,
                &["AUTH EXTERNAL>DATA\r\n", "DATA>OK 123\r\n"][..],
            ),
        ] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let peer = peer(theirs, claims);
            check_calls(&mut Bus::over(ours, Some(claim)).unwrap());
            peer.join().unwrap();
        }
    }

    #[test]
    fn a_claim_that_a_bus_refuses_is_dropped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = peer(
            theirs,
            &[
                "AUTH EXTERNAL 3>REJECTED EXTERNAL\r\n",
                "AUTH EXTERNAL>DATA\r\n",
                "DATA>OK 123\r\n",
            ],
        );
        // The answer to Hello is the refusal that the other side has for every call.
        let failure = Bus::over(ours, None).unwrap_err();
        assert!(failure.is("no.such.Thing"), "{failure}");
        peer.join().unwrap();
    }
}
