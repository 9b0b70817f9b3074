//! An HTTP server on a loopback port whose every answer the test decides, also wrong ones.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The start of `Range: bytes=N-`.
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What to do with a request.
pub enum Reply {
    /// A whole answer.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// An answer that announces all of the body, sends this many bytes of it and closes.
    Cut(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// The same, but then says nothing until the client gives up.
    Stall(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// From here on bytes are passed to and from this address.
    Tunnel(SocketAddr),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    pub fn json(status: u16, body: &str) -> Self {
        let header = ("content-type", "application/json".to_owned());
        Self::Answer(status, vec![header], body.as_bytes().to_vec())
    }

    pub fn body(content_type: &str, body: &[u8]) -> Self {
        let header = ("content-type", content_type.to_owned());
        Self::Answer(200, vec![header], body.to_vec())
    }

    /// A challenge.
    pub fn challenge(value: &str) -> Self {
        let header = ("www-authenticate", value.to_owned());
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Self::Answer(401, vec![header], body.as_bytes().to_vec())
    }

    /// The rest of a body, as asked for.
    pub fn range(body: &[u8], from: usize) -> Self {
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        Self::Answer(206, vec![("content-range", range)], body[from..].to_vec())
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A running server; it ends with its value.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server. The handler is told how many requests came before.
    pub fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let thread = std::thread::spawn({
            let (seen, open) = (seen.clone(), open.clone());
            let handler: Arc<Handler> = Arc::new(handler);
            move || accept(&listener, &handler, &seen, &open)
        });
        Self {
            address,
            seen,
            open,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.seen.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "{count} requests did not come");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let open = self.open.lock().unwrap().take();
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that `open` is gone.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    handler: &Arc<Handler>,
    seen: &Arc<Mutex<Vec<Request>>>,
    open: &Arc<Mutex<Option<Vec<TcpStream>>>>,
) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        match open.lock().unwrap().as_mut() {
            Some(open) => open.push(stream.try_clone().unwrap()),
            None => return,
        }
        let (handler, seen) = (handler.clone(), seen.clone());
        std::thread::spawn(move || {
            let closer = stream.try_clone();
            // A client that went away ends its connection, not the test.
            let _ = converse(stream, &*handler, &seen);
            // `open` still has it.
            let _ = closer.map(|stream| stream.shutdown(std::net::Shutdown::Both));
        });
    }
}

fn converse(
    stream: TcpStream,
    handler: &Handler,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader)? {
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let head_only = request.method == "HEAD";
        match handler(&request, before) {
            Reply::Answer(status, headers, body) => {
                let length = if head_only { 0 } else { body.len() };
                write_head(&mut writer, status, &headers, body.len())?;
                writer.write_all(&body[..length])?;
            }
            Reply::Cut(status, headers, body, sent) => {
                write_head(&mut writer, status, &headers, body.len())?;
                writer.write_all(&body[..sent])?;
                return writer.shutdown(std::net::Shutdown::Both);
            }
            Reply::Stall(status, headers, body, sent) => {
                write_head(&mut writer, status, &headers, body.len())?;
                writer.write_all(&body[..sent])?;
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Reply::Raw(bytes) => {
                writer.write_all(&bytes)?;
                return writer.shutdown(std::net::Shutdown::Both);
            }
            Reply::Tunnel(target) => return tunnel(writer, target),
        }
    }
    Ok(())
}

fn write_head(
    writer: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    length: usize,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    // 22: the beginning of a TLS handshake, which would never become a line.
    if matches!(reader.fill_buf()?.first(), None | Some(22)) {
        return Ok(None);
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        target,
        headers,
        body: String::from_utf8(body).unwrap_or_default(),
    }))
}

fn tunnel(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}
