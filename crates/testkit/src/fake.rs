//! A registry that does what a test tells it: garbage, wrong digests, cut connections, tokens.

use crate::http::{find, header_lines};
use crate::registry::Wire;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header (its name in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Beside `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The whole body; its length is what `Content-Length` promises.
    pub body: Vec<u8>,
    /// Cut the connection after this many bytes of the body.
    pub cut: Option<usize>,
    /// Wait before each 64 KiB of the body.
    pub slow: Option<Duration>,
}

impl Answer {
    /// A body of a media type.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), media_type.into())],
            body: body.into(),
            cut: None,
            slow: None,
        }
    }

    /// The registry's word for "no such thing".
    pub fn not_found(code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"not known here"}}]}}"#);
        Self::new(404, "application/json", body)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// See [`Answer::cut`].
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// See [`Answer::slow`].
    #[must_use]
    pub fn slowly(mut self, pause: Duration) -> Self {
        self.slow = Some(pause);
        self
    }
}

/// Serves what a closure answers, one thread per connection. Stopped when dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    /// Starts on a free port of 127.0.0.1.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let addr = listener.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&seen));
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                // A client that goes away in the middle is part of the game.
                std::thread::spawn(move || drop(serve(stream, &*answer, &log)));
            }
        });
        Self { addr, stop, seen }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// `127.0.0.1:PORT/name`
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.addr)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("log").clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
    }
}

/// The honest answers for one image under any tag of any repository, to be spoiled by a test.
pub fn honest(wire: &Wire, request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or("");
    if path == "/v2/" {
        return Answer::new(200, "application/json", "{}");
    }
    if path.contains("/manifests/") {
        return Answer::new(200, wire.media_type, wire.manifest.clone())
            .header("Docker-Content-Digest", wire.digest());
    }
    let blob = wire.blobs.iter().find(|(digest, _)| path.ends_with(digest));
    match blob {
        Some((digest, bytes)) => Answer::new(200, "application/octet-stream", bytes.clone())
            .header("Docker-Content-Digest", digest.clone()),
        None => Answer::not_found("BLOB_UNKNOWN"),
    }
}

fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Answer + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader)? {
        log.lock().expect("log").push(request.clone());
        let answer = answer(&request);
        let range = range(&request, &answer);
        if !send(&mut stream, &request, answer, range)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head.len() - before == 2 {
            break;
        }
    }
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut words = first.split(' ');
    let request = Request {
        method: words.next().unwrap_or("").to_owned(),
        path: words.next().unwrap_or("").to_owned(),
        headers: header_lines(rest),
    };
    let length = request
        .header("content-length")
        .and_then(|n| n.parse().ok());
    if let Some(length) = length {
        std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    }
    Ok(Some(request))
}

/// The `first-` (or `first-last`) of a range request on a good answer.
fn range(request: &Request, answer: &Answer) -> Option<(usize, usize)> {
    let text = request.header("range")?.strip_prefix("bytes=")?;
    let (first, last) = text.split_once('-')?;
    let first = first.parse().ok()?;
    let end = last
        .parse::<usize>()
        .map_or(answer.body.len(), |last| (last + 1).min(answer.body.len()));
    (answer.status == 200 && first < end).then_some((first, end))
}

/// Whether the connection may be used again.
fn send(
    stream: &mut TcpStream,
    request: &Request,
    answer: Answer,
    range: Option<(usize, usize)>,
) -> std::io::Result<bool> {
    let total = answer.body.len();
    let (status, body) = match range {
        Some((first, end)) => (206, &answer.body[first..end]),
        None => (answer.status, &answer.body[..]),
    };
    let mut head = format!(
        "HTTP/1.1 {status} Testkit\r\nContent-Length: {}\r\n",
        body.len()
    );
    if let Some((first, end)) = range {
        head += &format!("Content-Range: bytes {first}-{}/{total}\r\n", end - 1);
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    let end = answer.cut.map_or(body.len(), |cut| cut.min(body.len()));
    for piece in body[..end].chunks(65536) {
        if let Some(pause) = answer.slow {
            std::thread::sleep(pause);
        }
        stream.write_all(piece)?;
    }
    Ok(answer.cut.is_none())
}
