//! The differential check: where [`Reader`] accepts, hyper must read the same messages with the
//! same ends. Runs over structured messages in the tests and over anything in the fuzz target,
//! which includes this file.

#![allow(unreachable_pub, reason = "the fuzz target is outside")]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Empty};

use super::{Part, Reader, Sizes};

/// No message of the check is refused for its size.
const SIZES: Sizes = Sizes { max_header_bytes: 64 << 10, max_target_bytes: 16 << 10 };

/// A message as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    method: String,
    target: String,
    /// Names in lower case, values without the space around them, sorted by name.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What is known of a sequence of bytes.
pub struct Agreed {
    /// The messages that both read.
    pub messages: usize,
    /// Whether the strict reader refused what follows them.
    pub refused: bool,
}

/// Reads `bytes`, so many at once, with both readers.
///
/// # Panics
/// If they do not agree.
pub fn check(bytes: &[u8], at_once: usize) -> Agreed {
    let strict = strictly(bytes, at_once.max(1));
    let theirs = hypers(bytes, at_once.max(1));
    let shown = || format!("{:?}\nours:   {strict:#?}\nhyper's: {theirs:#?}", String::from_utf8_lossy(bytes));
    let messages = strict.messages.len().min(theirs.len());
    for (n, (ours, theirs)) in strict.messages.iter().zip(&theirs).enumerate() {
        assert!(same(ours, theirs), "message {n} is read differently: {}", shown());
    }
    if theirs.len() < strict.messages.len() {
        let last = theirs.last().map(|_| &strict.messages[messages - 1]);
        assert!(last.is_some_and(closes), "hyper stopped without reason: {}", shown());
    } else if !strict.refused {
        assert_eq!(theirs.len(), strict.messages.len(), "hyper read more: {}", shown());
    }
    // What goes through the wire ends where the wire refuses: there hyper reads no more than was accepted.
    let through = hypers(&bytes[..strict.accepted], at_once.max(1));
    assert_eq!(through.len(), messages, "of what was accepted hyper read other messages: {}", shown());
    Agreed { messages, refused: strict.refused }
}

/// The version does not show in the target; it is ours to keep for [`closes`].
#[derive(Debug)]
struct Strict {
    messages: Vec<(Message, bool)>,
    accepted: usize,
    refused: bool,
}

fn same((ours, _): &(Message, bool), theirs: &Message) -> bool {
    ours.method == theirs.method
        && ours.fields == theirs.fields
        && ours.body == theirs.body
        && (ours.target == theirs.target || theirs.target == format!("{}/", ours.target))
}

/// Whether no message follows this one.
fn closes((message, old): &(Message, bool)) -> bool {
    let mut options = message.fields.iter().filter(|(name, _)| name == "connection").flat_map(|(_, value)| {
        value.split(|byte| *byte == b',').map(|option| option.trim_ascii().to_ascii_lowercase()).collect::<Vec<_>>()
    });
    *old || options.any(|option| option == b"close")
}

fn strictly(bytes: &[u8], at_once: usize) -> Strict {
    let mut reader = Reader::default();
    let mut strict = Strict { messages: Vec::new(), accepted: 0, refused: false };
    let mut message: Option<(Message, bool)> = None;
    let mut there = 0;
    while there < bytes.len() {
        there = (there + at_once).min(bytes.len());
        loop {
            let fresh = &bytes[strict.accepted..there];
            let accepted = match reader.accept(fresh, &SIZES) {
                Ok(None) => break,
                Ok(Some(accepted)) => accepted,
                Err(_) => {
                    strict.refused = true;
                    return strict;
                }
            };
            let part = &fresh[..accepted.bytes];
            strict.accepted += accepted.bytes;
            match accepted.part {
                Part::Head => message = Some(head(part)),
                Part::Body => message.as_mut().expect("a body has a head").0.body.extend_from_slice(part),
                Part::Framing => {}
            }
            if accepted.ends {
                strict.messages.push(message.take().expect("what ends has begun"));
            }
        }
    }
    strict
}

/// A head that leaves no two readings, read in the simplest way.
fn head(bytes: &[u8]) -> (Message, bool) {
    let text: Vec<u8> = bytes.strip_prefix(b"\r\n").unwrap_or(bytes).to_vec();
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8(lines.next().unwrap_or_default().to_vec()).expect("a request line is ASCII");
    let parts: Vec<&str> = first.split(' ').collect();
    let mut fields: Vec<(String, Vec<u8>)> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_vec())
        })
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    let message = Message { method: parts[0].into(), target: parts[1].into(), fields, body: Vec::new() };
    (message, parts[2] == "HTTP/1.0")
}

/// The messages that hyper reads to their ends.
fn hypers(bytes: &[u8], at_once: usize) -> Vec<Message> {
    let whole = Rc::new(RefCell::new(Vec::new()));
    let collected = whole.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let collected = collected.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let mut fields: Vec<(String, Vec<u8>)> =
                    parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect();
                fields.sort_by(|one, other| one.0.cmp(&other.0));
                let target = parts.uri.to_string();
                let body = body.to_bytes().to_vec();
                collected.borrow_mut().push(Message { method: parts.method.to_string(), target, fields, body });
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<&'static [u8]>::new()))
        }
    });
    let pipe = Pipe { bytes: bytes.to_vec(), read: Cell::new(0), at_once };
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .header_read_timeout(None)
            .serve_connection(pipe, service)
    );
    let mut cx = Context::from_waker(Waker::noop());
    // The pipe is always ready and nothing waits for anything else: it ends, or it never will.
    let turns = bytes.len() + 64;
    assert!((0..turns).any(|_| connection.as_mut().poll(&mut cx).is_ready()), "hyper does not end");
    whole.take()
}

/// Bytes that are all there, then the end; what is written is lost.
struct Pipe {
    bytes: Vec<u8>,
    read: Cell<usize>,
    at_once: usize,
}

impl hyper::rt::Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.bytes[self.read.get()..];
        let taken = left.len().min(self.at_once).min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.read.set(self.read.get() + taken);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
