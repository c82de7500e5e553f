//! The strict reader of requests: the messages of one connection, one after another.

use super::Sizes;
use super::grammar::{self, field, find_stop};
use super::request_head::{AcceptedHead, Body, FieldSpan, PartialHead};
use crate::http::fault::MessageFault;
use crate::http::fields::framing_field;

/// hyper accepts 100 trailers in 16 KiB.
const MAX_TRAILERS: usize = 64;
const MAX_TRAILER_BYTES: usize = 8 << 10;

/// Reads the messages of one connection, one after another. Reads no byte twice.
///
/// Pure: bytes go in, verdicts come out. It never looks beyond the end of the current message, and never takes back
/// a byte that it accepted.
#[derive(Debug, Default)]
pub struct RequestReader {
    at: At,
    refused: Option<MessageFault>,
    head: PartialHead,
    accepted: Option<AcceptedHead>,
    trailers: usize,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// How many bytes are left of a body with a length.
    Body(u64),
    ChunkSize,
    /// How many bytes of a chunk are left.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailers,
}

/// Bytes that were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many.
    pub bytes: usize,
    /// What they are.
    pub part: MessagePart,
    /// Whether the message ends with them.
    pub ends: bool,
}

/// The parts of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// A complete head.
    Head,
    /// The part of the message that they are.
    Body,
    /// What frames the body: chunk sizes, line ends, trailers.
    Framing,
}

impl RequestReader {
    /// Judges the bytes that follow those accepted before; `None` if more of them are needed. Call it again with all bytes
    /// that were not accepted.
    ///
    /// # Errors
    /// What is wrong with them. Nothing is accepted after that.
    pub fn accept(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<Accepted>, MessageFault> {
        if let Some(fault) = self.refused {
            return Err(fault);
        }
        let accepted = self.judge(bytes, sizes);
        match accepted {
            Err(fault) => self.refused = Some(fault),
            Ok(Some(Accepted { ends: true, .. })) => self.at = At::Head,
            Ok(_) => {}
        }
        accepted
    }

    /// Whether the head of a message was accepted, and its body is not complete.
    pub fn is_in_body(&self) -> bool {
        self.at != At::Head
    }

    /// Whether nothing of the next message has arrived.
    pub fn is_between_messages(&self) -> bool {
        self.at == At::Head && self.head.is_nothing()
    }

    /// Method and target of the head that is being read, once the request line was accepted. `bytes` begin where
    /// the head begins.
    pub fn request<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        self.head.request(bytes)
    }

    /// The head that was accepted last, once.
    pub(super) fn take_head(&mut self) -> Option<AcceptedHead> {
        self.accepted.take()
    }

    /// Returns the allocation of the field positions, to reuse it for the next head.
    pub(super) fn reuse(&mut self, spans: Vec<FieldSpan>) {
        if self.head.is_nothing() {
            self.head = PartialHead::with(spans);
        }
    }

    fn judge(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<Accepted>, MessageFault> {
        let accepted = |bytes, part, ends| Ok(Some(Accepted { bytes, part, ends }));
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.at {
            At::Head => {
                let Some(head) = self.head.judge(bytes, sizes)? else { return Ok(None) };
                self.at = match head.body {
                    Body::Length(length) => At::Body(length),
                    Body::Chunked => At::ChunkSize,
                };
                let (length, ends) = (head.length, head.body == Body::Length(0));
                // The allocation of a head that nobody took is reused.
                let spans = self.accepted.replace(head).map(|before| before.fields);
                self.head = PartialHead::with(spans.unwrap_or_default());
                accepted(length, MessagePart::Head, ends)
            }
            At::Body(left) => {
                let (taken, left) = take(bytes, left);
                self.at = At::Body(left);
                accepted(taken, MessagePart::Body, left == 0)
            }
            At::Chunk(left) => {
                let (taken, left) = take(bytes, left);
                self.at = if left == 0 { At::ChunkEnd } else { At::Chunk(left) };
                accepted(taken, MessagePart::Body, false)
            }
            At::ChunkSize => {
                let Some((size, length)) = chunk_size(bytes)? else { return Ok(None) };
                (self.trailers, self.trailer_bytes) = (0, 0);
                self.at = if size == 0 { At::Trailers } else { At::Chunk(size) };
                accepted(length, MessagePart::Framing, false)
            }
            At::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.at = At::ChunkSize;
                    accepted(2, MessagePart::Framing, false)
                }
                [b'\r'] => Ok(None),
                _ => Err(MessageFault::ChunkEnd),
            },
            At::Trailers => self.trailer(bytes),
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Option<Accepted>, MessageFault> {
        let end = find_stop(bytes);
        if self.trailer_bytes + end.unwrap_or(bytes.len()) > MAX_TRAILER_BYTES {
            return Err(MessageFault::Trailer);
        }
        let Some(end) = end else { return Ok(None) };
        if bytes[end] != b'\n' {
            return Err(MessageFault::ControlByte);
        }
        let line = bytes[..end].strip_suffix(b"\r").ok_or(MessageFault::BareLf)?;
        if !line.is_empty() {
            (self.trailers, self.trailer_bytes) = (self.trailers + 1, self.trailer_bytes + end + 1);
            let (name, _) = field(line)?;
            if self.trailers > MAX_TRAILERS || !matches!(framing_field(name), Ok(None)) {
                return Err(MessageFault::Trailer);
            }
        }
        Ok(Some(Accepted { bytes: end + 1, part: MessagePart::Framing, ends: line.is_empty() }))
    }
}

/// How many of `bytes` belong to the `left` bytes of a body, and how many are left after them.
fn take(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (taken, left - taken as u64)
}

/// The size in a complete chunk line, and the length of the line. Strict: spaces and extensions are refused.
fn chunk_size(bytes: &[u8]) -> Result<Option<(u64, usize)>, MessageFault> {
    let (size, digits) = grammar::chunk_size(bytes).ok_or(MessageFault::ChunkSize)?;
    match &bytes[digits..] {
        [b'\r', b'\n', ..] => Ok(Some((size, digits + 2))),
        [] | [b'\r'] => Ok(None),
        [b';', ..] => Err(MessageFault::ChunkExtension),
        _ => Err(MessageFault::ChunkSize),
    }
}

#[cfg(test)]
mod tests;
