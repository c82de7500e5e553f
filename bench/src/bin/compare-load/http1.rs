//! HTTP/1.1 over keep-alive connections, with or without TLS: one thread, one request in progress on each
//! connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use saltgate_compare::message;
use saltgate_compare::poll::Poll;
use saltgate_compare::sign::{Kind, Signer};

use super::tally::Tally;
use super::{Expected, Options, name};

/// How many headers are spent in advance, to be replayed.
const SPENT: usize = 1024;
/// How long requests in progress have after the window closes.
const GRACE: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

struct Connection {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    received: Vec<u8>,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    segment: u64,
    due: Instant,
}

pub fn drive(options: &Options, mut signer: Signer, mut tally: Tally) -> Result<Tally, Failure> {
    let mut spent = Vec::new();
    if options.kind == Kind::Replayed {
        spend(options, &mut signer, &mut spent)?;
    }
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for number in 0..options.connections {
        let connection = Connection::open(options)?;
        poll.add(&connection.socket, number)?;
        connections.push(connection);
    }
    let mut idle: Vec<usize> = (0..connections.len()).collect();
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut requests = Requests { signer, options, spent, next: 0, text: String::new() };
    let judge = Expected { status: options.expect };
    tally.begin();
    let mut next_due = Instant::now();
    let mut ready = Vec::new();
    loop {
        let now = Instant::now();
        let closed = tally.turn(now)?;
        if closed && (options.rate.is_none() || (waiting.is_empty() && idle.len() == connections.len())) {
            return Ok(tally);
        }
        if now > tally.next_turn() + GRACE {
            return Err(format!("{} requests were still waiting after {GRACE:?}", waiting.len()).into());
        }
        let mut wait = tally.next_turn().saturating_duration_since(now);
        if let Some(rate) = options.rate {
            while next_due <= now && !closed {
                waiting.push_back(next_due);
                next_due += Duration::from_secs_f64(-(1.0 - requests.signer.fraction()).ln() / rate);
            }
            while !waiting.is_empty() && !idle.is_empty() {
                let (Some(due), Some(number)) = (waiting.pop_front(), idle.pop()) else { break };
                connections[number].send(&mut requests, due)?;
            }
            wait = if closed { GRACE } else { wait.min(next_due.saturating_duration_since(Instant::now())) };
        } else {
            while let Some(number) = idle.pop() {
                connections[number].send(&mut requests, Instant::now())?;
            }
        }
        poll.ready(Some(wait), &mut ready)?;
        for &number in &ready {
            let connection = &mut connections[number];
            if !connection.receive()? {
                if connection.under_way.is_some() {
                    return Err("the peer closed a connection with a request under way".into());
                }
                *connection = Connection::open(options)?;
                poll.add(&connection.socket, number)?;
                tally.reopened += 1;
                continue;
            }
            let Some(answer) = message::first(&connection.received) else { continue };
            let Some(UnderWay { segment, due }) = connection.under_way.take() else {
                return Err("an answer nobody asked for".into());
            };
            let now = Instant::now();
            judge.judge(segment, message::status(answer.start), &answer.body)?;
            if options.rate.is_none() || tally.takes(due) {
                tally.answered(due, now);
            }
            let (taken, close) = (answer.length, answer.close);
            if taken != connection.received.len() {
                return Err("more than an answer came".into());
            }
            connection.received.clear();
            if close {
                *connection = Connection::open(options)?;
                poll.add(&connection.socket, number)?;
                tally.reopened += 1;
            }
            if options.rate.is_some() || tally.is_enough() {
                idle.push(number);
            } else {
                connection.send(&mut requests, now)?;
            }
        }
    }
}

/// Sends valid requests, one after another, and keeps their headers.
fn spend(options: &Options, signer: &mut Signer, spent: &mut Vec<String>) -> Result<(), Failure> {
    let good = Options { kind: Kind::Good, expect: 200, tls: options.tls.clone(), ..*options };
    let mut connection = Connection::open(&good)?;
    connection.socket.set_nonblocking(false)?;
    for _ in 0..SPENT {
        let mut header = String::new();
        signer.header(Kind::Good, &mut header);
        let segment = signer.random();
        connection.write(head(segment, &header).as_bytes())?;
        connection.received.clear();
        let answer = loop {
            if !connection.receive()? {
                return Err("the peer closed the connection of the first requests".into());
            }
            if let Some(answer) = message::first(&connection.received) {
                break answer;
            }
        };
        Expected { status: 200 }.judge(segment, message::status(answer.start), &answer.body)?;
        spent.push(header);
    }
    Ok(())
}

struct Requests<'o> {
    signer: Signer,
    options: &'o Options,
    spent: Vec<String>,
    next: usize,
    text: String,
}

fn head(segment: u64, header: &str) -> String {
    format!(
        "DELETE /crm-core/v1/segments/{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {header}\r\nUser-Agent: compare-load\r\nAccept: application/json\r\n\r\n",
        name(segment)
    )
}

impl Connection {
    fn open(options: &Options) -> Result<Self, Failure> {
        let mut socket = TcpStream::connect(options.target)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut tls = None;
        if let Some(config) = &options.tls {
            let mut connection = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
            while connection.is_handshaking() {
                connection.complete_io(&mut socket)?;
            }
            if connection.alpn_protocol() != Some(b"http/1.1") {
                return Err("the peer did not agree to HTTP/1.1 by ALPN".into());
            }
            tls = Some(connection);
        }
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls, received: Vec::with_capacity(16 << 10), under_way: None })
    }

    fn send(&mut self, requests: &mut Requests<'_>, due: Instant) -> Result<(), Failure> {
        let segment = requests.signer.random();
        if requests.spent.is_empty() {
            requests.text.clear();
            requests.signer.header(requests.options.kind, &mut requests.text);
        } else {
            requests.next = (requests.next + 1) % requests.spent.len();
            requests.text.clone_from(&requests.spent[requests.next]);
        }
        self.under_way = Some(UnderWay { segment, due });
        self.write(head(segment, &requests.text).as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut bytes = bytes;
        let mut sealed = Vec::new();
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
            bytes = &sealed;
        }
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what arrived; `false` if the peer closed.
    fn receive(&mut self) -> Result<bool, Failure> {
        let mut part = [0; 8 << 10];
        let Some(tls) = &mut self.tls else {
            let length = match self.socket.read(&mut part) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            self.received.extend_from_slice(&part[..length]);
            return Ok(length > 0);
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        tls.process_new_packets()?;
        loop {
            match tls.reader().read(&mut part) {
                Ok(0) => return Ok(false),
                Ok(length) => self.received.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
