//! HTTP/2: the same gates, and the limits of a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;

use crate::harness::{Files, Gate, KEEPS, Latch, PATIENCE, SEGMENT, Upstream, deleting_after, service, signed, until};
use crate::http::{Answer, Kept, delete, exchange};
use crate::tls::{Authority, BOTH};

/// A body, given as frames.
#[derive(Default)]
pub struct Frames(pub VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// An HTTP/2 client with one connection.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    pub connection: SendRequest<Frames>,
    ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Client {
    pub fn by_prior_knowledge(address: SocketAddr) -> Self {
        let runtime = runtime();
        let connecting = async { tokio::net::TcpStream::connect(address).await.unwrap() };
        let stream = runtime.block_on(connecting);
        Self::on(runtime, stream)
    }

    pub fn by_alpn(address: SocketAddr, authority: &Authority) -> Self {
        let runtime = runtime();
        let mut config = authority.client(None, BOTH);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            connector.connect(ServerName::try_from("a.example").unwrap(), tcp).await.unwrap()
        });
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::on(runtime, stream)
    }

    fn on(
        runtime: tokio::runtime::Runtime,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let (connection, ended) = runtime.block_on(async {
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            (sender, tokio::spawn(connection))
        });
        Self { runtime, connection, ended }
    }

    pub fn send(&mut self, request: Request<Frames>) -> Answer {
        self.try_send(request).unwrap()
    }

    pub fn try_send(&mut self, request: Request<Frames>) -> hyper::Result<Answer> {
        let answer = self.connection.send_request(request);
        self.runtime.block_on(async {
            let (parts, body) = tokio::time::timeout(PATIENCE, answer).await.expect("an answer")?.into_parts();
            let body = body.collect().await?.to_bytes();
            let lines = parts.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            let body = String::from_utf8(body.to_vec()).unwrap();
            Ok(Answer { status: parts.status.as_u16(), head: lines.collect(), body })
        })
    }

    pub fn delete(&mut self, authorization: &str) -> Answer {
        self.send(deletion(authorization))
    }

    /// Starts a request and continues; the status is added to `told` when it arrives.
    pub fn begin(&self, uri: &str, told: Arc<std::sync::Mutex<Vec<u16>>>) {
        let mut connection = self.connection.clone();
        let request = Request::get(uri).body(Frames::default()).unwrap();
        self.runtime.spawn(async move {
            if let Ok(answer) = connection.send_request(request).await {
                told.lock().unwrap().push(answer.status().as_u16());
            }
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub fn deletion(authorization: &str) -> Request<Frames> {
    let uri = format!("http://gate/crm-core/v1/segments/{SEGMENT}");
    Request::delete(uri).header("authorization", authorization).body(Frames::default()).unwrap()
}

fn with_tls(upstream: &Upstream, authority: &Authority) -> Gate {
    let files = Files::new(upstream.address, "");
    authority.write(files.dir.path(), "a", &["a.example"]);
    files.listen(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{ chain = \"a.pem\", key = \"a.key\" }]\n",
    );
    Gate::by(files)
}

#[test]
fn http_2_gets_the_same_answers_as_http_1() {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let authority = Authority::new();
    let (plain, secured) = (Gate::before(&upstream), with_tls(&upstream, &authority));
    let mut clients = [Client::by_prior_knowledge(plain.address()), Client::by_alpn(secured.address(), &authority)];
    let good = || signed("OWNER");
    let (spent_1, spent_2) = (good(), [good(), good()]);
    assert_eq!(plain.delete(&spent_1).status, 200);
    for (client, spent) in clients.iter_mut().zip(&spent_2) {
        let answer = client.delete(spent);
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"deleted":true}"#));
        assert_eq!((answer.field("x-kept"), answer.field("x-saltgate-forged")), (Some("yes"), None));
        assert_eq!(answer.field("x-request-id").unwrap().len(), 32);
        for (name, as_http_1, header) in [
            ("a spent salt", spent_1.clone(), spent.clone()),
            ("no right to it", signed("MEMBER"), signed("MEMBER")),
            ("no role", signed(""), signed("")),
            ("another scheme", "Bearer x".into(), "Bearer x".into()),
            ("a wrong signature", good().replace("NCSOWNER", "NCSMEMBER"), good().replace("NCSOWNER", "NCSMEMBER")),
        ] {
            let (expected, answer) = (plain.delete(&as_http_1), client.delete(&header));
            assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{name}");
            for field in ["content-type", "cache-control", "www-authenticate", "content-length"] {
                assert_eq!(answer.field(field), expected.field(field), "{name}: {field}");
            }
            assert!(answer.field("x-request-id").is_some() && answer.field("connection").is_none(), "{name}");
        }
    }
    assert_eq!(upstream.deletes(), 3);
    let seen = upstream.last.lock().unwrap().iter().rfind(|seen| seen.method == "DELETE").unwrap().head.to_lowercase();
    assert!(seen.contains("x-forwarded-host: gate\r\n") && seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
    // Without ALPN it is HTTP/1.1.
    let files = Files::new(upstream.address, "");
    files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n");
    let without = Gate::by(files);
    let answer = exchange(without.address(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(answer.head.starts_with("HTTP/1.1 4") || answer.head.is_empty(), "{answer:?}");
    assert_eq!(without.delete(&good()).status, 200);
}

#[test]
fn oversized_and_malformed_requests_have_their_own_answers() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, KEEPS, saltgate::parts::Clock::system());
    let mut client = Client::by_prior_knowledge(gate.address());
    let trailers = |more: &[(&'static str, &'static str)]| {
        let fields = more.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Frame::trailers(fields.collect::<HeaderMap>())
    };
    let data = |bytes: usize| Frame::data(Bytes::from(vec![b'x'; bytes]));
    let header = signed("OWNER");
    let with = |frames: Vec<Frame<Bytes>>| deletion(&header).map(|_| Frames(frames.into()));
    let but = |change: fn(&mut Request<Frames>)| {
        let mut request = with(Vec::new());
        change(&mut request);
        request
    };
    let rows = [
        ("trailers", with(vec![data(3), trailers(&[("x-late", "1")])]), 400),
        ("trailers alone", with(vec![trailers(&[("authorization", "x")])]), 400),
        ("a tunnel", but(|r| (*r.method_mut(), *r.uri_mut()) = (Method::CONNECT, "gate:80".parse().unwrap())), 400),
        ("another host", but(|r| drop(r.headers_mut().insert("host", "other".parse().unwrap()))), 400),
        (
            "two hosts",
            but(|r| {
                (0..2).for_each(|n| assert!(n == u8::from(r.headers_mut().append("host", "gate".parse().unwrap()))))
            }),
            400,
        ),
        ("large headers", but(|r| drop(r.headers_mut().insert("x", "x".repeat(17 << 10).parse().unwrap()))), 431),
        ("a long target", but(|r| *r.uri_mut() = format!("http://gate/{}", "x".repeat(5000)).parse().unwrap()), 414),
        ("a large body", with(vec![data(40 << 10), data(40 << 10)]), 413),
        ("another method in the query", but(|r| *r.uri_mut() = "http://gate/?_method=GET".parse().unwrap()), 400),
    ];
    for (name, request, status) in rows {
        let answer = client.send(request);
        assert_eq!(answer.status, status, "{name}");
        assert!(!answer.error_code().is_empty() && answer.field("x-request-id").is_some(), "{name}: {answer:?}");
        assert_eq!(answer.field("connection"), None, "{name}");
    }
    assert_eq!(upstream.deletes(), 0);
    let same_host = but(|r| drop(r.headers_mut().insert("host", "gate".parse().unwrap())));
    assert_eq!(client.send(same_host).status, 200, "nothing was spent, and the connection is as good as new");
    let other = deletion(&signed("OWNER")).map(|_| Frames(VecDeque::from([data(10), data(10)])));
    assert_eq!(client.send(other).status, 200);
    assert_eq!(upstream.last.lock().unwrap().last().unwrap().body.len(), 20);
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block with every field as a literal.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let short = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        let rest = text.len().wrapping_sub(127);
        let length = short.map_or_else(
            || vec![127, u8::try_from(rest % 128 + 128).unwrap(), u8::try_from(rest / 128).unwrap()],
            |short| vec![short],
        );
        [&length, text.as_bytes()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

pub fn head(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    let fields = [(":method", method), (":scheme", "http"), (":path", path.as_str())];
    block(&[&fields[..], more].concat())
}

/// A connection on which the test writes every byte.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn to(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The next frame: its kind, stream and payload; `None` at the end.
    pub fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) => {
                let timed_out = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!timed_out, "it is not closed");
                return None;
            }
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Reads until a frame satisfies the condition.
    pub fn until(&mut self, is_so: impl Fn(u8, u32) -> bool) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let next = self.next()?;
            if is_so(next.0, next.1) {
                return Some(next);
            }
        }
    }
}

#[test]
fn malformed_raw_frames_are_refused() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let header = signed("OWNER");
    let authorization = ("authorization", header.as_str());
    let authority = (":authority", "gate");
    // Statuses in HPACK: entry 13 of its static table, as h2 sends it, is 400, and entry 8 is 200.
    const BAD_REQUEST: u8 = 0x8C;
    const OK: u8 = 0x88;
    let mut raw = Raw::to(gate.address(), &[]);
    let mut stream = 1;
    for (name, block, expected) in [
        ("no authority", head("DELETE", &[authorization]), Ok(BAD_REQUEST)),
        ("an invalid host", head("DELETE", &[authorization, ("host", "gate:x")]), Ok(BAD_REQUEST)),
        ("no host", head("DELETE", &[authorization, ("host", "")]), Ok(BAD_REQUEST)),
        ("two hosts", head("DELETE", &[authorization, ("host", "gate"), ("host", "gate")]), Ok(BAD_REQUEST)),
        ("an unlike host", head("DELETE", &[authority, authorization, ("host", "other")]), Ok(BAD_REQUEST)),
        ("a user", head("DELETE", &[(":authority", "me@gate"), authorization]), Ok(BAD_REQUEST)),
        ("an extended tunnel", head("CONNECT", &[(":protocol", "websocket"), authority]), Err(RST_STREAM)),
        ("a field of HTTP/1", head("DELETE", &[authority, authorization, ("connection", "close")]), Err(RST_STREAM)),
        ("a coding", head("DELETE", &[authority, authorization, ("transfer-encoding", "chunked")]), Err(RST_STREAM)),
        ("two paths", head("DELETE", &[authority, (":path", "/"), authorization]), Err(RST_STREAM)),
        (
            "two lengths",
            head("DELETE", &[authority, authorization, ("content-length", "0"), ("content-length", "0")]),
            Ok(BAD_REQUEST),
        ),
        ("a valid request", head("DELETE", &[authority, authorization]), Ok(OK)),
    ] {
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).unwrap();
        let (kind, _, payload) = raw.until(|_, of| of == stream).unwrap_or_else(|| panic!("{name}: closed"));
        match expected {
            // A change of the table size may come first.
            Ok(status) => assert!(kind == HEADERS && payload[..8].contains(&status), "{name}: {kind} {payload:?}"),
            Err(expected) => assert_eq!(kind, expected, "{name}: {payload:?}"),
        }
        stream += 2;
    }
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("DELETE", &[authority, ("X-Large", "1")])))
        .unwrap();
    let told = raw.until(|kind, of| kind == GOAWAY || of == stream);
    assert!(told.is_none_or(|(kind, ..)| kind == GOAWAY || kind == RST_STREAM), "capitals");
    assert_eq!(upstream.deletes(), 1, "nothing but the last was sent, and nothing before it was spent");
}

#[test]
fn a_flood_closes_its_own_connection_and_no_other() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let mut neighbour = Kept::to(gate.address());
    let mut neighbour_2 = Client::by_prior_knowledge(gate.address());
    let request = head("DELETE", &[(":authority", "gate"), ("authorization", "Bearer x")]);
    let floods: &[(&str, &dyn Fn(u32) -> Vec<u8>)] = &[
        ("PING", &|_| frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", &|_| frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", &|n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", &|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", &|_| frame(0x77, 0, 0, &[])),
        ("rapid reset", &|n| {
            let opened = frame(HEADERS, END_HEADERS, 2 * n + 1, &request);
            [opened, frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
        }),
        ("empty DATA", &|n| match n {
            0 => frame(HEADERS, END_HEADERS, 1, &request),
            _ => frame(DATA, 0, 1, &[]),
        }),
        ("CONTINUATION", &|n| match n {
            0 => frame(HEADERS, 0, 1, &request),
            _ => frame(CONTINUATION, 0, 1, &[]),
        }),
        ("long CONTINUATION", &|n| match n {
            0 => frame(HEADERS, 0, 1, &request),
            _ => frame(CONTINUATION, 0, 1, &block(&[("x", &"x".repeat(8000))])),
        }),
    ];
    for (name, flood) in floods {
        let mut raw = Raw::to(gate.address(), &[]);
        let mut reading = Raw(raw.0.try_clone().unwrap());
        // The answers are read, so that only the gateway can stop the flood.
        let closed = std::thread::spawn(move || while reading.next().is_some() {});
        let sent = (0..50_000).take_while(|n| raw.send(&flood(*n)).is_ok()).count();
        assert!(sent < 50_000, "{name}: all of it was taken");
        closed.join().unwrap();
        assert_eq!(neighbour.delete(&signed("OWNER")), 200, "{name}");
        assert_eq!(neighbour_2.delete(&signed("OWNER")).status, 200, "{name}");
    }
    assert!(gate.metrics().contains("saltgate_connections_refused_total{reason=\"flood\"}"), "{}", gate.metrics());
    // A client that does much useful work is not a flood.
    for _ in 0..300 {
        assert_eq!(neighbour_2.delete("Bearer x").status, 401);
    }
}

const PASSES: &str = "[passthrough]\nmethods = [\"GET\", \"HEAD\", \"POST\"]\nprefixes = [\"/p/\"]\n";

#[test]
fn a_busy_client_is_not_taken_for_a_flood() {
    let upstream = Upstream::start(Arc::new(|seen, stream| match seen.method.as_str() {
        "HEAD" => drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")),
        _ => drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")),
    }));
    let gate = Gate::with(upstream.address, PASSES, saltgate::parts::Clock::system());
    let mut client = Client::by_prior_knowledge(gate.address());
    for (method, status) in [(Method::GET, 204), (Method::HEAD, 200)] {
        for n in 0..1500 {
            let request = Request::builder().method(&method).uri("http://gate/p/x").body(Frames::default()).unwrap();
            let answer = client.try_send(request).unwrap_or_else(|error| panic!("{method} {n}: {error}"));
            assert_eq!(answer.status, status);
        }
    }
    assert!(!gate.metrics().contains("reason=\"flood\""), "{}", gate.metrics());
}

#[test]
fn a_passing_body_that_trickles_is_timed_out() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = format!("{PASSES}[limits]\nbody_timeout = \"1s\"\n");
    let gate = Gate::with(upstream.address, &more, saltgate::parts::Clock::system());
    let mut raw = Raw::to(gate.address(), &[]);
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/p/x"),
        (":authority", "gate"),
        ("content-length", "5000"),
    ];
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).unwrap();
    let mut sending = Raw(raw.0.try_clone().unwrap());
    let (over, ended) = std::sync::mpsc::channel::<()>();
    let trickle = std::thread::spawn(move || {
        // Often enough for the service to see progress.
        while ended.recv_timeout(Duration::from_millis(100)).is_err() {
            let _ = sending.send(&frame(DATA, 0, 1, b"x"));
        }
    });
    let (kind, _, told) = raw.until(|kind, of| of == 1 && (kind == DATA || kind == RST_STREAM)).expect("an answer");
    assert!(kind == DATA && String::from_utf8_lossy(&told).contains("RequestTimeout"), "{kind} {told:?}");
    over.send(()).unwrap();
    trickle.join().unwrap();
    assert_eq!(upstream.gets(), 0, "the service saw no whole message");
}

#[test]
fn http_2_requests_are_valid_http_1_upstream() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, PASSES, saltgate::parts::Clock::system());
    let mut client = Client::by_prior_knowledge(gate.address());
    let request = |uri: &str| Request::get(uri).header("cookie", "a=b");
    // Cookies arrive one by one, and are sent as one field.
    let sent = request("http://gate/p/x").header("cookie", "c=d").header("cookie", "e=f").body(Frames::default());
    client.send(sent.unwrap());
    let head = upstream.last.lock().unwrap()[0].head.to_lowercase();
    let cookies: Vec<&str> = head.lines().filter(|line| line.starts_with("cookie")).collect();
    assert_eq!(cookies, ["cookie: a=b; c=d; e=f"]);
    // What is refused on the wire of HTTP/1 is refused here, too.
    for (uri, name) in [("http://gate:x/p/x", "x"), ("http://a,b/p/x", "x"), ("http://gate/p/x", "content_length")] {
        let answer = client.send(request(uri).header(name, "3").body(Frames::default()).unwrap());
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "BadRequest"), "{uri} {name}");
    }
    assert_eq!(upstream.gets(), 1);
}

#[test]
fn observe_mode_also_refuses_ambiguous_framing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
    let gate = Gate::by(files);
    let mut raw = Raw::to(gate.address(), &[]);
    let authority = (":authority", "gate");
    let rows: [(&str, Vec<u8>, bool); 6] = [
        ("a tunnel", block(&[(":method", "CONNECT"), (":authority", "gate:80")]), false),
        ("another host", head("GET", &[authority, ("host", "other")]), false),
        ("an odd host", head("GET", &[(":authority", "gate:x")]), false),
        ("an alias", head("GET", &[authority, ("transfer_encoding", "chunked")]), false),
        ("two lengths", head("GET", &[authority, ("content-length", "0"), ("content-length", "0")]), false),
        ("anything else", head("GET", &[("host", "gate")]), true),
    ];
    for (n, (name, block, passes)) in rows.iter().enumerate() {
        let (stream, before) = (2 * u32::try_from(n).unwrap() + 1, upstream.gets());
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, block)).unwrap();
        let (_, _, told) = raw.until(|kind, of| of == stream && kind == DATA).expect(name);
        assert_eq!(String::from_utf8_lossy(&told).contains("BadRequest"), !passes, "{name}: {told:?}");
        assert_eq!(upstream.gets() - before, usize::from(*passes), "{name}");
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let mut raw = Raw::to(gate.address(), &[]);
    let request = head("HEAD", &[(":authority", "gate")]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request)).unwrap();
    assert!(raw.until(|kind, stream| kind == HEADERS && stream == 1).is_some());
    // The client's next request finds the connection working.
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &request)).unwrap();
    assert!(raw.until(|kind, stream| kind == DATA || (kind == HEADERS && stream == 3)).unwrap().0 == HEADERS);
    let mut client = Client::by_prior_knowledge(gate.address());
    let answer = client.send(Request::head("http://gate/other").body(Frames::default()).unwrap());
    assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    assert_eq!(answer.field("content-length"), Some("69"), "as long as it would be for GET");
}

const SHORT: &str = "[limits]\nheader_timeout = \"300ms\"\nwrite_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n";

#[test]
fn an_http_2_connection_that_keeps_the_gateway_waiting_is_closed() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, SHORT, saltgate::parts::Clock::system());
    let request = head("DELETE", &[(":authority", "gate"), ("authorization", "Bearer x")]);
    // An idle connection is told to end, and closed.
    let mut idle = Raw::to(gate.address(), &[]);
    assert!(idle.until(|kind, _| kind == GOAWAY).is_some(), "an idle connection is told to end");
    while idle.next().is_some() {}
    // A header block that does not end, although a little of it arrives from time to time.
    let mut trickle = Raw::to(gate.address(), &[]);
    trickle.send(&frame(HEADERS, 0, 1, &request)).unwrap();
    let mut reading = Raw(trickle.0.try_clone().unwrap());
    let closed = std::thread::spawn(move || while reading.next().is_some() {});
    until("it is closed", || {
        std::thread::sleep(Duration::from_millis(100));
        (&trickle.0).write_all(&frame(CONTINUATION, 0, 1, &[])).is_err()
    });
    closed.join().unwrap();
    // A frame that does not end.
    let mut half = Raw::to(gate.address(), &[]);
    half.send(&frame(HEADERS, END_HEADERS, 1, &request)[..20]).unwrap();
    while half.next().is_some() {}
    // An answer that is not read: its window is zero, and PINGs keep the connection alive.
    let mut unread = Raw::to(gate.address(), &[0, 4, 0, 0, 0, 0]);
    unread.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request)).unwrap();
    assert!(unread.until(|kind, _| kind == HEADERS).is_some());
    while let Some((kind, ..)) = unread.next() {
        assert_ne!(kind, DATA);
        if kind == PING {
            let _ = unread.send(&frame(PING, 1, 0, &[0; 8]));
        }
    }
    until("they are counted", || gate.metrics().contains("{reason=\"too_slow\"} 3"));
    until("they are gone", || gate.metrics().contains("saltgate_connections 0"));
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
}

#[test]
fn a_drain_is_announced_and_requests_in_progress_are_answered() {
    let answers = Latch::default();
    let upstream = Upstream::start(deleting_after(&answers));
    let mut gate = Gate::before(&upstream);
    let mut client = Client::by_prior_knowledge(gate.address());
    let mut raw = Raw::to(gate.address(), &[]);
    let under_way = std::thread::spawn(move || (client.delete(&signed("OWNER")).status, client));
    until("it is under way", || upstream.deletes() == 1);
    let draining = std::thread::spawn(move || gate.drain());
    assert!(raw.until(|kind, _| kind == GOAWAY).is_some(), "the drain is announced while a deletion is under way");
    answers.open();
    let (status, client) = under_way.join().unwrap();
    assert_eq!(status, 200);
    assert!(client.runtime.block_on(client.ended).unwrap().is_ok());
    assert!(draining.join().unwrap(), "all of it ended by itself");
}
