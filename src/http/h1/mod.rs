//! HTTP/1: requests from clients, requests to the service and its responses, with one grammar.
//!
//! Requests from clients are read strictly (contract §7):
//!
//! 1. A proxy in front of Saltgate may read the same bytes differently. So every HTTP/1 head, and every line that
//!    frames a body, must match a grammar that allows one reading only. Ambiguous bytes are refused; nothing is
//!    ever rewritten.
//! 2. [`RequestReader`] implements that grammar; it is pure and incremental. [`StrictStream`] is a stream with such
//!    a reader in it: it passes on only accepted bytes, and never more than one message at a time. [`Server`] turns
//!    the messages into requests, using the positions that the reader found, and writes the answers.
//! 3. When a head is refused, the server sees the stream end there and answers the messages before it. Then
//!    [`StrictStream::finish`] writes the one answer to the refused head, and closes so that the client can read
//!    it.
//! 4. When a body is refused, its request is already being handled: the reader of the body gets an error, and its
//!    handler answers.
//! 5. [`StrictStream`] enforces every timeout of a connection: for its first byte, for a head from its first byte,
//!    for a body, between messages, and for the client to read what is written.
//! 6. While a request is answered, a little of the stream is still read. So a reset by the client is noticed at
//!    once, and bytes pipelined behind a request that must stand alone are never passed on.
//!
//! It is deliberately stricter than HTTP requires. It refuses a bare LF, chunk extensions, white space around the
//! values of framing fields, `CONNECT`, `user@` in a Host, and bytes beyond ASCII in a target.
//!
//! Responses of the service are read as every client reads them, with one exception: a response that could end in
//! two places is refused, because the rest of it would become the next response on the connection.

mod date;
mod deadline;
pub(super) mod grammar;
mod request_body;
mod request_head;
mod request_parts;
mod request_reader;
mod request_writer;
mod response_body;
mod response_head;
mod response_writer;
mod server;
mod strict_stream;
mod upload;

#[cfg(any(test, fuzzing))]
mod request_agreement;
#[cfg(any(test, fuzzing))]
mod response_agreement;

use std::time::Duration;

use super::fault::MessageFault;

#[cfg(any(test, fuzzing))]
pub(crate) use request_agreement::fuzz as fuzz_requests;
pub(crate) use request_body::Broken;
pub use request_body::Outgoing;
pub(crate) use request_reader::MessagePart;
pub use request_reader::RequestReader;
pub(crate) use request_writer::InvalidRequestHead;
pub use request_writer::RequestHead;
#[cfg(any(test, fuzzing))]
pub(crate) use response_agreement::fuzz as fuzz_responses;
pub(crate) use response_body::Framing;
pub(crate) use response_body::MalformedResponse;
pub(crate) use response_head::{ResponseHead, take as take_head};
pub(crate) use response_writer::whole_answer;
pub(crate) use server::{ServeError, Server};
pub(crate) use strict_stream::StrictStream;
pub(crate) use upload::Upload;

/// The limits on the size of a head.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of the header section, from the first field to the last CRLF before the empty line.
    pub max_header_bytes: usize,
    /// Bytes of the request target.
    pub max_target_bytes: usize,
}

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For a complete head, from its first byte.
    pub head: Duration,
    /// For a complete body; renewed by each kibibyte of it that arrives.
    pub body: Duration,
    /// For the client to read some of what is written.
    pub write: Duration,
    /// For the first message to begin.
    pub first: Duration,
    /// For the next message to begin.
    pub idle: Duration,
}

/// What a [`StrictStream`] asks of the connection that it serves.
pub(crate) trait ConnectionPolicy: Unpin {
    /// The limits and timeouts for the next message.
    fn limits(&self) -> (Sizes, Times);

    /// Called when it becomes known whether the current message has arrived completely, with nothing behind it.
    fn stands_alone(&self, alone: bool);

    /// Whether the current message must stand alone: bytes that arrive behind it before its answer are not read.
    fn must_stand_alone(&self) -> bool;

    /// Called when nothing is in progress: the last message is answered, and the head of the next is incomplete.
    /// May be called again.
    fn idles(&self);

    /// Counts and logs a refusal, and returns its answer, which says that the connection closes. `request` is the
    /// method and the target, if they are unambiguous.
    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8>;
}
