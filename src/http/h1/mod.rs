//! HTTP/1: requests from clients, requests to the service and its responses, by one grammar.
//!
//! Requests from clients are read strictly (contract §7):
//!
//! 1. A proxy in front of us may read the same bytes in another way. So every HTTP/1 head, and every line that frames a
//!    body, is judged by a grammar that allows one reading only. What is ambiguous is refused; nothing is ever rewritten.
//! 2. [`RequestReader`] reads by that grammar; it is pure and incremental. [`StrictStream`] is a stream with such a reader
//!    in it: it passes on only accepted bytes, and never more than one message at a time. [`Server`] makes requests of them,
//!    from where the reader saw their parts, and writes the answers.
//! 3. When a head is refused, the server sees the stream end there and answers the messages before it. Then
//!    [`StrictStream::finish`] writes the one answer to the refused head, and closes so that the client can read it.
//! 4. When a body is refused, its request is already being handled: whoever reads the body gets an error, and answers.
//! 5. [`StrictStream`] enforces every timeout of a connection: for its first byte, for a head from its first byte, for a
//!    body, between messages, and for the client to take what is written.
//! 6. While a request is answered the stream is still read, a little: a reset by the client is noticed at once, and what
//!    was pipelined behind a request that must stand alone is never passed on.
//!
//! It is stricter than a recipient must be, on purpose. It refuses a bare LF, chunk extensions, white space around the
//! values of framing fields, `CONNECT`, `user@` in a Host, and bytes beyond ASCII in a target.
//!
//! Responses of the service are read as every client reads them, with one exception: a response that could end in two
//! places is refused, because the next one on its connection would begin with what is left of it.

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
    /// For a whole head, from its first byte.
    pub head: Duration,
    /// For a whole body, renewed by each kibibyte of it that arrives.
    pub body: Duration,
    /// For the client to take some of what is written.
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

    /// Says whether the message under way has arrived whole, with nothing behind it. Called whenever that becomes known.
    fn stands_alone(&self, alone: bool);

    /// Whether the message under way must stand alone: what arrives behind it before its answer is not read.
    fn must_stand_alone(&self) -> bool;

    /// Says that nothing is under way: the last message is answered, and the head of the next is not whole. May be called again.
    fn idles(&self);

    /// Counts and logs a refusal, and returns its answer, which says that the connection closes.
    /// `request` is the method and the target, where they are known for certain.
    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8>;
}
