//! HTTP for the tests: one builder of requests and one reader of messages, for clients and for services. A test
//! about the bytes themselves writes them out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::{PATIENCE, SEGMENT};

/// A request for HTTP/1.1 or HTTP/2. Its host is `gate`.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), fields: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Deletes the one segment that exists.
    pub fn delete(authorization: &str) -> Self {
        Self::delete_at(&format!("/crm-core/v1/segments/{SEGMENT}"), authorization)
    }

    pub fn delete_at(target: &str, authorization: &str) -> Self {
        Self::new("DELETE", target).field("Authorization", authorization)
    }

    #[must_use]
    pub fn query(mut self, query: &str) -> Self {
        self.target = format!("{}?{query}", self.target);
        self
    }

    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds fields, given as lines.
    #[must_use]
    pub fn fields(self, lines: &str) -> Self {
        let fields = lines.lines().map(|line| line.split_once(':').unwrap());
        fields.fold(self, |request, (name, value)| request.field(name, value.trim()))
    }

    /// Asks the gateway to close the connection after the answer.
    #[must_use]
    pub fn closing(self) -> Self {
        self.field("Connection", "close")
    }

    /// Gives it a body of this many bytes.
    #[must_use]
    pub fn body(mut self, length: usize) -> Self {
        self.body.resize(length, b'x');
        self
    }

    #[must_use]
    pub fn text(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub fn content(&self) -> &[u8] {
        &self.body
    }

    /// Its head in HTTP/1.1 without the empty line that ends a head.
    pub fn unfinished(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: gate\r\n", self.method, self.target);
        self.fields.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head
    }

    /// All of it in HTTP/1.1. A body has a `Content-Length`.
    pub fn http1(&self) -> String {
        if self.body.is_empty() {
            return format!("{}\r\n", self.unfinished());
        }
        let body = std::str::from_utf8(&self.body).unwrap();
        format!("{}Content-Length: {}\r\n\r\n{body}", self.unfinished(), body.len())
    }

    /// Its head in HTTP/2.
    pub fn http2(&self) -> http::Request<()> {
        let uri = format!("http://gate{}", self.target);
        let request = http::Request::builder().method(self.method.as_str()).uri(uri);
        self.fields.iter().fold(request, |request, (name, value)| request.header(name, value)).body(()).unwrap()
    }
}

/// What a client received.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Zero if the connection was closed without an answer.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// An HTTP/1 answer whose body was not read yet.
    pub fn with_head(head: String) -> Self {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head, body: String::new() }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.head, name).next()
    }

    pub fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

/// A request as a service received it.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub head: String,
    pub body: String,
}

impl Received {
    /// Reads one request and nothing after it. Returns `None` once the connection is closed.
    pub fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut stream = Exactly::of(stream);
        let head = read_head(&mut stream).ok()?;
        let mut line = head.lines().next()?.split(' ');
        let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
        let length = values(&head, "content-length").find_map(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        Some(Self { method, target, head, body: String::from_utf8(body).ok()? })
    }
}

/// Why there is no answer, or an incomplete one.
#[derive(Debug)]
pub struct Lost(pub String);

impl Lost {
    /// Whether the exchange was reset: in HTTP/1 its connection, in HTTP/2 its stream.
    pub fn is_reset(&self) -> bool {
        self.0.contains("Connection reset") || self.0.contains("internal error")
    }

    /// Whether a GOAWAY of HTTP/2 says that this request was not taken and may be sent again.
    pub fn was_not_taken(&self) -> bool {
        self.0.contains("not a result of an error")
    }
}

/// A connection with a read timeout, so that a test cannot wait forever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends these bytes on a connection of their own and reads until it is closed.
pub fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    // A gateway that refuses early may have closed by now.
    let _ = stream.write_all(request.as_bytes());
    read_until_closed(&mut stream)
}

pub fn delete(gate: SocketAddr, authorization: &str) -> Answer {
    exchange(gate, &Request::delete(authorization).closing().http1())
}

/// A deletion of this segment.
pub fn delete_segment(gate: SocketAddr, authorization: &str, segment: &str) -> Answer {
    let target = format!("/crm-core/v1/segments/{segment}");
    exchange(gate, &Request::delete_at(&target, authorization).closing().http1())
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, &Request::get(path).closing().http1())
}

/// A connection that is kept, and replaced once the gateway has announced its end.
pub struct Kept {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Kept {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// The status of a deletion.
    pub fn delete(&mut self, authorization: &str) -> u16 {
        self.send(authorization);
        self.status()
    }

    pub fn send(&mut self, authorization: &str) {
        let stream = self.stream.get_or_insert_with(|| BufReader::new(connect(self.address)));
        stream.get_mut().write_all(Request::delete(authorization).http1().as_bytes()).unwrap();
    }

    /// The status of the answer to what was sent.
    pub fn status(&mut self) -> u16 {
        let answer = read_answer(self.stream.as_mut().unwrap()).unwrap();
        if answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        answer.status
    }

    /// Whether there is a connection whose end was not announced.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }
}

/// Reads one HTTP/1 answer and nothing after it.
pub fn next_answer(stream: &mut TcpStream) -> Answer {
    read_answer(&mut Exactly::of(stream)).unwrap()
}

/// Reads one HTTP/1 answer.
pub fn read_answer(stream: &mut impl BufRead) -> Result<Answer, Lost> {
    let mut answer = Answer::with_head(read_head(stream)?);
    answer.body = read_body(stream, &answer)?;
    Ok(answer)
}

/// Reads everything until the connection is closed. A chunked body stays chunked.
pub fn read_until_closed(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    // A reset ends it as well; the bytes before it stay in `bytes`.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer { body: body.to_owned(), ..Answer::with_head(head.to_owned()) }
}

/// Reads the head of an HTTP/1 message, with the empty line that ends it.
pub fn read_head(stream: &mut impl BufRead) -> Result<String, Lost> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).map_err(|error| Lost(error.to_string()))? == 0 {
            return Err(Lost(format!("closed behind {:?}", String::from_utf8_lossy(&head))));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Reads the body after the head of an answer: by its length, by its chunks, or until the connection is closed.
pub fn read_body(stream: &mut impl BufRead, answer: &Answer) -> Result<String, Lost> {
    let lost = |error: std::io::Error| Lost(error.to_string());
    let mut all = Vec::new();
    if let Some(length) = answer.field("content-length") {
        all.resize(length.trim().parse().unwrap(), 0);
        stream.read_exact(&mut all).map_err(lost)?;
    } else if answer.field("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).map_err(lost)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Lost(format!("no chunk: {size:?}")))?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).map_err(lost)?;
            all.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if answer.status != 204 && answer.status != 304 {
        stream.read_to_end(&mut all).map_err(lost)?;
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// The values of all fields of this name in a head.
pub fn values<'h>(head: &'h str, name: &str) -> impl Iterator<Item = &'h str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Reads from a connection without reading ahead, so that bytes after a message stay there for others.
struct Exactly<'s> {
    stream: &'s mut TcpStream,
    peeked: Vec<u8>,
}

impl<'s> Exactly<'s> {
    fn of(stream: &'s mut TcpStream) -> Self {
        Self { stream, peeked: vec![0; 4096] }
    }
}

impl Read for Exactly<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(into)
    }
}

impl BufRead for Exactly<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let there = self.stream.peek(&mut self.peeked)?;
        Ok(&self.peeked[..there])
    }

    fn consume(&mut self, length: usize) {
        self.stream.read_exact(&mut self.peeked[..length]).expect("the peeked bytes are still there");
    }
}
