//! The language between a monitor and its clients, over a unix stream socket.
//!
//! ```text
//! frame:  u32 length of the body, little endian │ u8 kind │ body
//! ```
//! Data and numbers are raw bytes, little endian; only rare messages are JSON. Both sides begin with
//! `Hello` carrying the highest version they speak, and go on in the lower of the two. A client need not
//! wait for the monitor's Hello before its first request. Encoding and decoding are pure functions;
//! whatever bytes arrive, the answer is a frame, "more", or an error that closes this one connection.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The version this program speaks.
pub const VERSION: u16 = 1;

/// Bytes before the body.
pub const HEADER: usize = 5;

/// The longest body. What is longer is not ours.
pub const MAX_BODY: usize = 64 * 1024;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code as Docker shows it: 128 + n for signal n.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

/// Until when a `wait` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// PID 1 ends the next time, even if the container is restarted then.
    NextExit,
    /// The container ends and is not restarted.
    NotRunning,
}

/// What the monitor does with an attached client that reads too slowly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlowClient {
    /// Wait for it: the container blocks on its output when client and pipe are full. Nothing is lost;
    /// what Docker does.
    #[default]
    Wait,
    /// Drop the connection when more than 1 MiB waits for it: the container never feels the client.
    Drop,
}

/// What to attach to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// The client sends stdin.
    pub stdin: bool,
    /// The client receives stdout (with a terminal: all output).
    pub stdout: bool,
    /// The client receives stderr.
    pub stderr: bool,
    /// What happens when it reads too slowly.
    pub slow: SlowClient,
}

/// What a monitor says about itself and its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// PID 1, while it runs.
    pub pid: Option<i32>,
    /// Whether the container waits for its restart.
    pub restarting: bool,
    /// Restarts by policy, with those before this monitor.
    pub restart_count: u32,
    /// Whether somebody asked it to stop.
    pub stop_requested: bool,
    /// Clients attached.
    pub attached: u32,
    /// Log entries lost to write errors (a full disk).
    pub log_entries_lost: u64,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// First frame: the version it speaks.
    Hello(u16),
    /// Stream from now on.
    Attach(AttachOptions),
    /// Bytes for stdin.
    Stdin(Vec<u8>),
    /// No more bytes for stdin from this client.
    StdinEof,
    /// The terminal's size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters per line.
        cols: u16,
    },
    /// End the container; answered when it has ended.
    Stop {
        /// The signal to begin with.
        signal: i32,
        /// How long until SIGKILL; `None` for ever.
        timeout: Option<Duration>,
    },
    /// Send a signal to PID 1.
    Kill(i32),
    /// Answer with [`Answer::Exit`] when the condition holds.
    Wait(WaitCondition),
    /// Answer with [`Answer::Status`].
    Status,
    /// Another policy from now on.
    SetRestartPolicy(barque_types::restart::RestartPolicy),
}

/// What a monitor answers or streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// First frame: the version it speaks.
    Hello(u16),
    /// Output.
    Stdout(Vec<u8>),
    /// Output.
    Stderr(Vec<u8>),
    /// The container ended.
    Exit(ExitStatus),
    /// The status asked for.
    Status(Status),
    /// Done.
    Ok,
    /// Not done, and why.
    Error(String),
    /// To the spawning caller: PID 1 runs.
    Started {
        /// Its pid.
        pid: i32,
        /// What the user should know.
        warnings: Vec<String>,
    },
    /// To the spawning caller: it does not run, and the monitor leaves.
    StartFailed(crate::supervised::StartError),
}

/// Bytes that are no frame of this protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

mod kind {
    pub const HELLO: u8 = 1;
    pub const ATTACH: u8 = 2;
    pub const STDIN: u8 = 3;
    pub const STDIN_EOF: u8 = 4;
    pub const RESIZE: u8 = 5;
    pub const STOP: u8 = 6;
    pub const KILL: u8 = 7;
    pub const WAIT: u8 = 8;
    pub const STATUS: u8 = 9;
    pub const SET_RESTART_POLICY: u8 = 10;

    pub const STDOUT: u8 = 65;
    pub const STDERR: u8 = 66;
    pub const EXIT: u8 = 67;
    pub const OK: u8 = 68;
    pub const ERROR: u8 = 69;
    pub const STARTED: u8 = 70;
    pub const START_FAILED: u8 = 71;
}

#[derive(Serialize, Deserialize)]
struct StopBody {
    signal: i32,
    timeout_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StartedBody {
    pid: i32,
    warnings: Vec<String>,
}

/// Appends one frame.
fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

fn put_json<T: Serialize>(out: &mut Vec<u8>, kind: u8, body: &T) {
    // Plain data with string keys cannot fail to serialise.
    put(out, kind, &serde_json::to_vec(body).unwrap_or_default());
}

fn put_data(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    bytes
        .chunks(MAX_BODY)
        .for_each(|chunk| put(out, kind, chunk));
}

/// Appends output as frames without copying it into an [`Answer`] first.
pub(crate) fn put_output(out: &mut Vec<u8>, is_stderr: bool, bytes: &[u8]) {
    put_data(
        out,
        if is_stderr {
            kind::STDERR
        } else {
            kind::STDOUT
        },
        bytes,
    );
}

/// Appends stdin bytes as frames.
pub(crate) fn put_stdin(out: &mut Vec<u8>, bytes: &[u8]) {
    put_data(out, kind::STDIN, bytes);
}

impl Request {
    /// Appends the request's frames.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(version) => put(out, kind::HELLO, &version.to_le_bytes()),
            Self::Attach(options) => put_json(out, kind::ATTACH, options),
            Self::Stdin(bytes) => put_stdin(out, bytes),
            Self::StdinEof => put(out, kind::STDIN_EOF, &[]),
            Self::Resize { rows, cols } => {
                let [a, b] = rows.to_le_bytes();
                let [c, d] = cols.to_le_bytes();
                put(out, kind::RESIZE, &[a, b, c, d]);
            }
            Self::Stop { signal, timeout } => put_json(
                out,
                kind::STOP,
                &StopBody {
                    signal: *signal,
                    timeout_ms: timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
                },
            ),
            Self::Kill(signal) => put(out, kind::KILL, &signal.to_le_bytes()),
            Self::Wait(condition) => put(out, kind::WAIT, &[*condition as u8]),
            Self::Status => put(out, kind::STATUS, &[]),
            Self::SetRestartPolicy(policy) => put_json(out, kind::SET_RESTART_POLICY, policy),
        }
    }

    /// Understands a frame.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::HELLO => Self::Hello(u16::from_le_bytes(fixed(kind, body)?)),
            kind::ATTACH => Self::Attach(json(kind, body)?),
            kind::STDIN => Self::Stdin(body.to_vec()),
            kind::STDIN_EOF => empty(kind, body, Self::StdinEof)?,
            kind::RESIZE => {
                let [a, b, c, d] = fixed(kind, body)?;
                Self::Resize {
                    rows: u16::from_le_bytes([a, b]),
                    cols: u16::from_le_bytes([c, d]),
                }
            }
            kind::STOP => {
                let stop: StopBody = json(kind, body)?;
                Self::Stop {
                    signal: stop.signal,
                    timeout: stop.timeout_ms.map(Duration::from_millis),
                }
            }
            kind::KILL => Self::Kill(i32::from_le_bytes(fixed(kind, body)?)),
            kind::WAIT => Self::Wait(match fixed(kind, body)? {
                [0] => WaitCondition::NextExit,
                [1] => WaitCondition::NotRunning,
                [n] => return Err(Malformed(format!("unknown wait condition {n}"))),
            }),
            kind::STATUS => empty(kind, body, Self::Status)?,
            kind::SET_RESTART_POLICY => Self::SetRestartPolicy(json(kind, body)?),
            _ => return Err(Malformed(format!("unknown request {kind}"))),
        })
    }
}

impl Answer {
    /// Appends the answer's frames.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(version) => put(out, kind::HELLO, &version.to_le_bytes()),
            Self::Stdout(bytes) => put_output(out, false, bytes),
            Self::Stderr(bytes) => put_output(out, true, bytes),
            Self::Exit(exit) => {
                let mut body = [0; 8];
                body[..4].copy_from_slice(&exit.code.to_le_bytes());
                body[4..].copy_from_slice(&exit.signal.unwrap_or(0).to_le_bytes());
                put(out, kind::EXIT, &body);
            }
            Self::Status(status) => put_json(out, kind::STATUS, status),
            Self::Ok => put(out, kind::OK, &[]),
            Self::Error(message) => {
                let end = message.floor_char_boundary(MAX_BODY);
                put(out, kind::ERROR, &message.as_bytes()[..end]);
            }
            Self::Started { pid, warnings } => put_json(
                out,
                kind::STARTED,
                &StartedBody {
                    pid: *pid,
                    warnings: warnings.clone(),
                },
            ),
            Self::StartFailed(error) => put_json(out, kind::START_FAILED, error),
        }
    }

    /// Understands a frame.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::HELLO => Self::Hello(u16::from_le_bytes(fixed(kind, body)?)),
            kind::STDOUT => Self::Stdout(body.to_vec()),
            kind::STDERR => Self::Stderr(body.to_vec()),
            kind::EXIT => {
                let [a, b, c, d, e, f, g, h] = fixed(kind, body)?;
                let signal = i32::from_le_bytes([e, f, g, h]);
                Self::Exit(ExitStatus {
                    code: i32::from_le_bytes([a, b, c, d]),
                    signal: (signal != 0).then_some(signal),
                })
            }
            kind::STATUS => Self::Status(json(kind, body)?),
            kind::OK => empty(kind, body, Self::Ok)?,
            kind::ERROR => Self::Error(String::from_utf8_lossy(body).into_owned()),
            kind::STARTED => {
                let started: StartedBody = json(kind, body)?;
                Self::Started {
                    pid: started.pid,
                    warnings: started.warnings,
                }
            }
            kind::START_FAILED => Self::StartFailed(json(kind, body)?),
            _ => return Err(Malformed(format!("unknown answer {kind}"))),
        })
    }
}

fn fixed<const N: usize>(kind: u8, body: &[u8]) -> Result<[u8; N], Malformed> {
    body.try_into()
        .map_err(|_| Malformed(format!("message {kind} has {} bytes, want {N}", body.len())))
}

fn empty<T>(kind: u8, body: &[u8], value: T) -> Result<T, Malformed> {
    fixed::<0>(kind, body).map(|_| value)
}

fn json<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|e| Malformed(format!("message {kind}: {e}")))
}

/// The kind and the length of the body that follow from a header.
pub fn parse_header(header: [u8; HEADER]) -> Result<(u8, usize), Malformed> {
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > MAX_BODY {
        return Err(Malformed(format!(
            "a body of {len} bytes, more than {MAX_BODY}"
        )));
    }
    Ok((kind, len))
}

/// Cuts a byte stream into requests. Holds at most one unfinished frame and what was fed last.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Start of what has not been decoded.
    at: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole request; `None` when more bytes are needed.
    pub fn next_request(&mut self) -> Result<Option<Request>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (kind, len) = parse_header(*header)?;
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let request = Request::decode(kind, body)?;
        self.at += HEADER + len;
        if self.at == self.bytes.len() {
            // Give back what a burst of input took: an idle monitor should be small.
            self.bytes = Vec::new();
            self.at = 0;
        }
        Ok(Some(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervised::StartError;

    fn requests() -> Vec<Request> {
        vec![
            Request::Hello(VERSION),
            Request::Attach(AttachOptions {
                stdin: true,
                stdout: true,
                stderr: false,
                slow: SlowClient::Drop,
            }),
            Request::Stdin(b"\0\xff\n".to_vec()),
            Request::StdinEof,
            Request::Resize {
                rows: 24,
                cols: 0x1234,
            },
            Request::Stop {
                signal: 15,
                timeout: Some(Duration::from_millis(1500)),
            },
            Request::Stop {
                signal: 37,
                timeout: None,
            },
            Request::Kill(9),
            Request::Wait(WaitCondition::NextExit),
            Request::Wait(WaitCondition::NotRunning),
            Request::Status,
            Request::SetRestartPolicy("on-failure:3".parse().unwrap()),
        ]
    }

    #[test]
    fn requests_survive_any_cutting() {
        let mut wire = Vec::new();
        requests().iter().for_each(|r| r.encode(&mut wire));
        for piece in [1, 2, 3, 7, wire.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for bytes in wire.chunks(piece) {
                decoder.feed(bytes);
                while let Some(request) = decoder.next_request().unwrap() {
                    seen.push(request);
                }
            }
            assert_eq!(seen, requests(), "pieces of {piece}");
        }
    }

    #[test]
    fn answers_round_trip() {
        let answers = [
            Answer::Hello(7),
            Answer::Stdout(b"out".to_vec()),
            Answer::Stderr(vec![]),
            Answer::Exit(ExitStatus {
                code: 137,
                signal: Some(9),
            }),
            Answer::Exit(ExitStatus {
                code: 0,
                signal: None,
            }),
            Answer::Ok,
            Answer::Error("no".into()),
            Answer::Started {
                pid: 42,
                warnings: vec!["w".into()],
            },
            Answer::StartFailed(StartError {
                message: "x".into(),
                exit_code: 127,
            }),
        ];
        for answer in answers {
            let mut wire = Vec::new();
            answer.encode(&mut wire);
            if answer == Answer::Stderr(vec![]) {
                assert!(wire.is_empty(), "no bytes, no frame");
                continue;
            }
            let (header, body) = wire.split_first_chunk::<HEADER>().unwrap();
            let (kind, len) = parse_header(*header).unwrap();
            assert_eq!(len, body.len());
            assert_eq!(Answer::decode(kind, body), Ok(answer));
        }
    }

    #[test]
    fn long_data_is_cut_into_frames() {
        let mut wire = Vec::new();
        Request::Stdin(vec![7; 2 * MAX_BODY + 1]).encode(&mut wire);
        let mut decoder = Decoder::default();
        decoder.feed(&wire);
        let mut sizes = Vec::new();
        while let Some(Request::Stdin(bytes)) = decoder.next_request().unwrap() {
            sizes.push(bytes.len());
        }
        assert_eq!(sizes, [MAX_BODY, MAX_BODY, 1]);
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..2000 {
            let bytes: Vec<u8> = (0..round % 64)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                })
                .collect();
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_request() {}
            let _ = Answer::decode(bytes.first().copied().unwrap_or(0), &bytes);
        }
        for (kind, body) in [
            (kind::KILL, &b"abc"[..]),
            (kind::WAIT, b"\x09"),
            (kind::STOP, b"{"),
            (kind::STATUS, b"x"),
            (200, b""),
        ] {
            assert!(Request::decode(kind, body).is_err(), "{kind}");
        }
        assert!(parse_header([255, 255, 255, 255, 1]).is_err());
    }
}
