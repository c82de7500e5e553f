//! The differential check of requests: for everything that [`RequestReader`] accepts, [`Server`] and hyper must
//! read the same messages with the same ends. Runs on structured messages in the tests, and on any bytes in the
//! fuzz target.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnectionPolicy, MessagePart, RequestReader, Server, Sizes, StrictStream, Times};
use crate::clock::Clock;
use crate::http::fault::MessageFault;

/// No message of the check is refused for its size.
const SIZES: Sizes = Sizes { max_header_bytes: 64 << 10, max_target_bytes: 16 << 10 };

/// A message as a reader understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    method: String,
    target: String,
    /// Names in lower case, values without the space around them, sorted by name.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The result of the check of a sequence of bytes.
pub(super) struct Agreed {
    /// How many messages both readers read.
    pub(super) messages: usize,
    /// Whether the strict reader refused the bytes after them.
    pub(super) refused: bool,
}

/// Reads any bytes as the messages of a connection. The first byte sets the size of the pieces.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let whole = check(bytes, bytes.len());
    let cut = check(bytes, 1 + usize::from(*cut));
    assert_eq!((whole.messages, whole.refused), (cut.messages, cut.refused), "the cut matters");
}

/// Reads `bytes` in pieces with both readers.
///
/// # Panics
/// If they disagree.
pub(super) fn check(bytes: &[u8], at_once: usize) -> Agreed {
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
    let served = served(bytes, at_once.max(1));
    // hyper does not see a `close` beside bytes that are no ASCII, and goes on.
    let last = strict.messages.iter().position(|(message, _)| says_close(message));
    let ours = last.map_or(messages, |last| messages.min(last + 1));
    assert_eq!(served.len(), ours, "other messages are served: {served:#?}: {}", shown());
    for (n, (ours, served)) in strict.messages.iter().zip(&served).enumerate() {
        assert!(same(ours, served), "message {n} is served differently, as {served:#?}: {}", shown());
    }
    // The stream ends where the strict reader refuses: hyper must read no more there than was accepted.
    let through = hypers(&bytes[..strict.accepted], at_once.max(1));
    assert_eq!(through.len(), messages, "of what was accepted hyper read other messages: {}", shown());
    Agreed { messages, refused: strict.refused }
}

/// Whether two readers understood the same message. The version is not compared; [`closes`] uses it.
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
    *old || says_close(message)
}

fn says_close(message: &Message) -> bool {
    let values = message.fields.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
    let mut options = values.flat_map(|value| value.split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn strictly(bytes: &[u8], at_once: usize) -> Strict {
    let mut reader = RequestReader::default();
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
                MessagePart::Head => message = Some(head(part)),
                MessagePart::Body => message.as_mut().expect("a body has a head").0.body.extend_from_slice(part),
                MessagePart::Framing => {}
            }
            if accepted.ends {
                strict.messages.push(message.take().expect("what ends has begun"));
            }
        }
    }
    strict
}

/// Parses an unambiguous head in the simplest way.
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

/// A request as a message, once its body has ended.
async fn message<B: http_body::Body>(request: http::Request<B>) -> Option<Message> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let mut fields: Vec<(String, Vec<u8>)> =
        parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    Some(Message { method: parts.method.to_string(), target: parts.uri.to_string(), fields, body })
}

/// The messages that the server read to their ends.
fn served(bytes: &[u8], at_once: usize) -> Vec<Message> {
    let whole = Rc::new(RefCell::new(Vec::new()));
    let call = |request| {
        let collected = whole.clone();
        async move {
            let message = message(request).await;
            collected.borrow_mut().extend(message);
            Box::new(http::Response::new(Empty::<bytes::Bytes>::new()))
        }
    };
    let pipe = Pipe { bytes: bytes.to_vec(), read: Cell::new(0), at_once };
    let mut server = Server::new(StrictStream::new(pipe, Lenient), Clock::system(), call);
    let mut cx = Context::from_waker(Waker::noop());
    let turns = bytes.len() + 64;
    assert!((0..turns).any(|_| server.poll(&mut cx).is_ready()), "the server does not end");
    drop(server);
    whole.take()
}

/// A policy without limits except [`SIZES`].
struct Lenient;

impl ConnectionPolicy for Lenient {
    fn limits(&self) -> (Sizes, Times) {
        let long = Duration::from_secs(3600);
        (SIZES, Times { head: long, body: long, write: long, first: long, idle: long })
    }

    fn stands_alone(&self, _: bool) {}

    fn must_stand_alone(&self) -> bool {
        false
    }

    fn idles(&self) {}

    fn refuse(&self, _: MessageFault, _: Option<(&[u8], &[u8])>) -> Vec<u8> {
        Vec::new()
    }
}

/// The messages that hyper reads to their ends.
fn hypers(bytes: &[u8], at_once: usize) -> Vec<Message> {
    let whole = Rc::new(RefCell::new(Vec::new()));
    let collected = whole.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let collected = collected.clone();
        async move {
            let message = message(request).await;
            collected.borrow_mut().extend(message);
            Ok::<_, Infallible>(http::Response::new(Empty::<&'static [u8]>::new()))
        }
    });
    let pipe = Pipe { bytes: bytes.to_vec(), read: Cell::new(0), at_once };
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(pipe), service)
    );
    let mut cx = Context::from_waker(Waker::noop());
    // The pipe is always ready and nothing else is awaited, so the connection ends within these iterations or
    // never.
    let turns = bytes.len() + 64;
    assert!((0..turns).any(|_| connection.as_mut().poll(&mut cx).is_ready()), "hyper does not end");
    whole.take()
}

/// A stream of these bytes, then its end. Discards what is written.
struct Pipe {
    bytes: Vec<u8>,
    read: Cell<usize>,
    at_once: usize,
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.bytes[self.read.get()..];
        let taken = left.len().min(self.at_once).min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.read.set(self.read.get() + taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// Lines that are nearly correct, so that complete messages are common.
    fn message() -> impl Strategy<Value = String> {
        let line = select(
            &[
                "DELETE /x HTTP/1.1",
                "GET / HTTP/1.1",
                "POST /?a=b HTTP/1.0",
                "GET http://a/ HTTP/1.1",
                "GET http://a HTTP/1.1",
                "OPTIONS * HTTP/1.1",
                "GET /{\"a\"|b}?`^ HTTP/1.1",
                "get /%00%zz HTTP/1.1",
                "GET http://a?x HTTP/1.1",
                "CONNECT a HTTP/1.1",
            ][..],
        );
        let field = select(
            &[
                "X: y",
                "X:",
                "Y:  spaced\t ",
                "Connection: close",
                "Connection: keep-alive",
                "Connection: a, Close",
                "Expect: 100-continue",
                "Upgrade: h2c",
                "TE: trailers",
                "Trailer: X",
                "Z: \u{ad8c}\u{d55c}",
                "Content_Length: 3",
                "Keep-Alive: 5",
                "Proxy-Connection: close",
            ][..],
        );
        let host = prop_oneof![9 => Just("Host: a"), 1 => select(&["", "Host: b", "host:a", "Host: a\r\nHost: a"][..])];
        let body = prop_oneof![
            3 => Just((String::new(), String::new())),
            3 => (0_usize..6, 0_usize..6, any::<bool>()).prop_map(|(said, there, honest)| {
                let there = if honest { said } else { there };
                (format!("Content-Length: {said}\r\n"), "GET / ".chars().take(there).collect())
            }),
            4 => (vec((0_usize..12, any::<bool>()), 0..4), select(&["", "T: u\r\n", "T: u\r\nV:w\r\n", "Content-Length: 1\r\n"][..]))
                .prop_map(|(chunks, trailers)| {
                    let chunk = |(size, upper): &(usize, bool)| match size {
                        0 => String::new(),
                        _ if *upper => format!("{size:X}\r\n{}\r\n", "\r\n0\r\n\r\nGET / ".chars().cycle().take(*size).collect::<String>()),
                        _ => format!("00{size:x}\r\n{}\r\n", "x".repeat(*size)),
                    };
                    let chunks: String = chunks.iter().map(chunk).collect();
                    ("Transfer-Encoding: chunked\r\n".into(), format!("{chunks}0\r\n{trailers}\r\n"))
                }),
        ];
        (select(&["", "", "", "\r\n"][..]), line, host, vec(field, 0..3), body).prop_map(
            |(blank, line, host, fields, (framing, body))| {
                let host = if host.is_empty() { String::new() } else { format!("{host}\r\n") };
                let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
                format!("{blank}{line}\r\n{host}{fields}{framing}\r\n{body}")
            },
        )
    }

    /// A small change at some position, as in smuggling attacks.
    fn change() -> impl Strategy<Value = Option<(Index, bool, &'static str)>> {
        let text = select(
            &[
                "\r",
                "\n",
                "\0",
                " ",
                "\t",
                ":",
                ";",
                ",",
                "0",
                "1",
                "f",
                "+",
                "-",
                "\r\n",
                "\r\n ",
                "\r\n\r\n",
                "\n\n",
                "#",
                "\u{b}",
                "\u{85}",
                "Content-Length: 1\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Transfer-Encoding: identity\r\n",
                "Content-Length: 0\r\n",
                "Host: b\r\n",
            ][..],
        );
        proptest::option::of((any::<Index>(), any::<bool>(), text))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hyper_reads_accepted_requests_the_same_way(
            messages in vec(message(), 1..4),
            changes in vec(change(), 0..3),
            at_once in select(&[1_usize, 2, 5, 64, 4096][..]),
        ) {
            let mut bytes = messages.concat().into_bytes();
            for (at, instead, text) in changes.into_iter().flatten() {
                let at = at.index(bytes.len());
                let end = if instead { at + 1 } else { at };
                bytes.splice(at..end, text.bytes());
            }
            check(&bytes, at_once);
        }
    }

    #[test]
    fn the_agreement_check_can_fail() {
        let sound = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".repeat(3);
        let agreed = check(sound.as_bytes(), 7);
        assert_eq!((agreed.messages, agreed.refused), (3, false));
        let agreed = check(format!("{sound}GET / HTTP/1.1\nHost: a\r\n\r\n").as_bytes(), 7);
        assert_eq!((agreed.messages, agreed.refused), (3, true));
    }

    #[test]
    fn generated_messages_are_often_but_not_always_accepted() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let made = (0..500).map(|_| message().new_tree(&mut runner).unwrap().current());
        let agreed: Vec<_> = made.map(|message| check(message.as_bytes(), 4096)).collect();
        let passed = agreed.iter().filter(|agreed| agreed.messages == 1 && !agreed.refused).count();
        let refused = agreed.iter().filter(|agreed| agreed.refused).count();
        assert!(passed > 150 && refused > 50, "{passed} passed, {refused} were refused");
    }
}
