//! A collector that takes OTLP over HTTP, with a decoder of protobuf of its own.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use saltgate::parts::Clock;

use crate::harness::until;
use crate::http::{read_head, values};

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status, with these fields.
    Status(&'static str, &'static str),
    /// Nothing, while the connection lasts.
    Silence,
    /// It is taken this much later.
    Late(Duration),
}

/// A span as it arrived. Ids are in hexadecimal digits; the values of attributes are text.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub name: String,
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<(String, u64)>,
    /// Trace and span.
    pub links: Vec<(String, String)>,
    pub status: u64,
    pub flags: u64,
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct Taken {
    /// Head, body and time of each request.
    requests: Vec<(String, Vec<u8>, Duration)>,
    replies: VecDeque<Reply>,
    spans: Vec<Span>,
}

pub struct Collector {
    pub address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    /// Takes everything.
    pub fn start() -> Self {
        Self::replying([])
    }

    /// Gives these replies first, the last of them for ever if it is silence, and takes everything after them.
    pub fn replying<const N: usize>(replies: [Reply; N]) -> Self {
        Self::serving(replies.into(), |stream, taken| serve(BufReader::new(stream), taken))
    }

    /// With this certificate and key, in PEM.
    pub fn by_tls((chain, key): (String, String)) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
        Self::serving(VecDeque::new(), move |stream, taken| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            serve(BufReader::new(StreamOwned::new(connection, stream)), taken);
        })
    }

    fn serving(replies: VecDeque<Reply>, serve: impl Fn(TcpStream, &Mutex<Taken>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Taken { replies, ..Taken::default() }));
        let (all, serve) = (taken.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, serve) = (all.clone(), serve.clone());
                std::thread::spawn(move || serve(stream, &all));
            }
        });
        Self { address, taken }
    }

    /// The settings that send everything to it.
    pub fn settings(&self, ratio: &str, more: &str) -> String {
        format!("[trace]\nendpoint = \"http://{}\"\nratio = {ratio}\n{more}", self.address)
    }

    /// Head, body and time of each request so far.
    pub fn requests(&self) -> Vec<(String, Vec<u8>, Duration)> {
        self.taken.lock().unwrap().requests.clone()
    }

    /// Every span that it has taken so far.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// The spans of the request with this id, once they are there.
    pub fn of(&self, request_id: &str) -> Vec<Span> {
        let trace = || {
            let spans = self.spans();
            let own = spans.iter().find(|span| span.attribute("saltgate.request_id") == request_id)?;
            let (trace, own) = (own.trace.clone(), own.id.clone());
            let belongs = |span: &Span| span.trace == trace && (span.id == own || span.parent == own);
            Some(spans.into_iter().filter(belongs).collect::<Vec<_>>())
        };
        until("its spans arrive", || trace().is_some());
        trace().unwrap()
    }
}

fn serve<S: Read + Write>(mut stream: BufReader<S>, taken: &Mutex<Taken>) {
    while let Ok(head) = read_head(&mut stream) {
        let length = values(&head, "content-length").find_map(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let reply = {
            let late = taken.lock().unwrap().replies.pop_front_if(|reply| matches!(reply, Reply::Late(_)));
            if let Some(Reply::Late(pause)) = late {
                std::thread::sleep(pause);
            }
            let mut taken = taken.lock().unwrap();
            taken.requests.push((head, body.clone(), Clock::system().elapsed()));
            let reply = taken.replies.pop_front().unwrap_or(Reply::Status("200 OK", ""));
            match reply {
                Reply::Silence => taken.replies.push_front(Reply::Silence),
                Reply::Status("200 OK", _) => taken.spans.extend(decoded(&body)),
                Reply::Status(..) | Reply::Late(_) => {}
            }
            reply
        };
        match reply {
            Reply::Silence | Reply::Late(_) => drop(stream.fill_buf()),
            Reply::Status(status, fields) => {
                let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n");
                drop(stream.get_mut().write_all(answer.as_bytes()));
            }
        }
    }
}

/// A field of a protobuf message.
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message, with their numbers. Panics if it is not protobuf.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = message.split_first().expect("a whole number");
            *message = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return number;
            }
        }
        panic!("a number has at most ten bytes");
    }
    fn fixed<'b>(message: &mut &'b [u8], length: usize) -> &'b [u8] {
        let (bytes, rest) = message.split_at(length);
        *message = rest;
        bytes
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(fixed(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message);
                Field::Bytes(fixed(&mut message, usize::try_from(length).unwrap()))
            }
            5 => Field::Number(u32::from_le_bytes(fixed(&mut message, 4).try_into().unwrap()).into()),
            other => panic!("{other} is no wire type"),
        };
        found.push((tag >> 3, field));
    }
    found
}

/// The inner messages of this number.
fn inner(message: &[u8], number: u64) -> Vec<&[u8]> {
    let bytes = |(at, field)| match field {
        Field::Bytes(bytes) if at == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

/// Every span of an `ExportTraceServiceRequest`.
fn decoded(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in inner(request, 1) {
        let resource = attributes(inner(resource_spans, 1)[0], 1);
        assert_eq!(resource["service.name"], "saltgate");
        assert!(!resource["service.version"].is_empty() && !resource["service.instance.id"].is_empty());
        for scope_spans in inner(resource_spans, 2) {
            spans.extend(inner(scope_spans, 2).into_iter().map(span));
        }
    }
    spans
}

fn span(message: &[u8]) -> Span {
    let mut span = Span { attributes: attributes(message, 9), ..Span::default() };
    for (number, field) in fields(message) {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace = hexadecimal(id),
            (2, Field::Bytes(id)) => span.id = hexadecimal(id),
            (3, Field::Bytes(state)) => span.state = text(state),
            (4, Field::Bytes(id)) => span.parent = hexadecimal(id),
            (5, Field::Bytes(name)) => span.name = text(name),
            (6, Field::Number(kind)) => span.kind = kind,
            (7, Field::Number(start)) => span.start = start,
            (8, Field::Number(end)) => span.end = end,
            (9, Field::Bytes(_)) => {}
            (11, Field::Bytes(event)) => {
                let at = fields(event).into_iter().find_map(|field| match field {
                    (1, Field::Number(at)) => Some(at),
                    _ => None,
                });
                span.events.push((text(inner(event, 2)[0]), at.unwrap()));
            }
            (13, Field::Bytes(link)) => {
                span.links.push((hexadecimal(inner(link, 1)[0]), hexadecimal(inner(link, 2)[0])))
            }
            (15, Field::Bytes(status)) => {
                for (number, code) in fields(status) {
                    if let (3, Field::Number(code)) = (number, code) {
                        span.status = code;
                    }
                }
            }
            (16, Field::Number(flags)) => span.flags = flags,
            (other, _) => panic!("{other} is no field of a span"),
        }
    }
    span
}

fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let attribute = |pair: &[u8]| {
        let value = match fields(inner(pair, 2)[0]).remove(0) {
            (1, Field::Bytes(value)) => text(value),
            (3, Field::Number(value)) => value.to_string(),
            (other, _) => panic!("{other} is neither a text nor a whole number"),
        };
        (text(inner(pair, 1)[0]), value)
    };
    inner(message, number).into_iter().map(attribute).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
