//! The framing of messages as it stands on the wire, before the HTTP reader has it (contract §7).
//!
//! 1. The reader forgives, and forgets that it did: of a length beside a coding or beside an equal
//!    length it shows one, and a bare LF is a line end to it. A proxy in front of us may have read
//!    the same bytes otherwise. So heads are looked at as they pass, and [`Doubt`] says what was
//!    seen; nothing is held back or changed.
//! 2. Where a body ends is told by the framing that is beyond doubt: one length, or chunks. Bytes
//!    of a body are never taken for a head.
//! 3. Doubt is for good: whatever comes on such a connection is refused, and it is closed. What
//!    was pipelined before the doubtful message, and not judged yet, is refused with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a line that are looked at: more than any name and any number has.
const LOOKED_AT: usize = 64;

/// Whether the framing of a connection is in doubt.
#[derive(Clone, Default)]
pub(super) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    pub(super) fn is_cast(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose framing is looked at as it is read.
pub(super) struct Watched<S> {
    stream: S,
    framing: Framing,
    doubt: Doubt,
}

impl<S> Watched<S> {
    /// The stream, and what is seen of it from now on.
    pub(super) fn new(stream: S) -> (Self, Doubt) {
        let doubt = Doubt::default();
        (Self { stream, framing: Framing::default(), doubt: doubt.clone() }, doubt)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.framing.see(&buf.filled()[before..]).is_err() {
            this.doubt.0.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Two readers could disagree about where this message ends.
#[derive(Debug, PartialEq, Eq)]
struct InDoubt;

/// Where in the messages of a connection the next byte belongs.
#[derive(Default)]
struct Framing {
    at: At,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    /// The last byte before this one, across lines and reads.
    after_cr: bool,
    lengths: usize,
    codings: usize,
    length: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before or in the request line.
    #[default]
    Start,
    Fields,
    /// So many bytes of a body that told its length are left.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    Doubt,
}

impl Framing {
    /// Looks at what was read.
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), InDoubt> {
        while !bytes.is_empty() {
            let seen = match &mut self.at {
                At::Doubt => return Err(InDoubt),
                At::Body(left) | At::Chunk(left) => {
                    let seen = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= seen as u64;
                    self.at = match self.at {
                        At::Body(0) => At::Start,
                        At::Chunk(0) => At::ChunkEnd,
                        at => at,
                    };
                    seen
                }
                _ => self.see_line(bytes),
            };
            bytes = &bytes[seen..];
        }
        if self.at == At::Doubt { Err(InDoubt) } else { Ok(()) }
    }

    /// Looks at what belongs to this line, and says how much that is.
    fn see_line(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = LOOKED_AT - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        if let Some(last) = part.last() {
            self.after_cr = *last == b'\r';
        }
        let Some(end) = end else { return bytes.len() };
        // A bare LF ends a line for one reader and not for another.
        let next = if self.after_cr { self.next() } else { Err(InDoubt) };
        self.at = next.unwrap_or(At::Doubt);
        self.line.clear();
        self.after_cr = false;
        end + 1
    }

    /// What follows a whole line.
    fn next(&mut self) -> Result<At, InDoubt> {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        match self.at {
            // Readers pass over empty lines between messages.
            At::Start if line.is_empty() => Ok(At::Start),
            At::Start => {
                (self.lengths, self.codings, self.length) = (0, 0, 0);
                Ok(At::Fields)
            }
            At::Fields if line.is_empty() => match (self.lengths, self.codings) {
                (0, 0) => Ok(At::Start),
                (1, 0) if self.length == 0 => Ok(At::Start),
                (1, 0) => Ok(At::Body(self.length)),
                (0, 1) => Ok(At::ChunkSize),
                _ => Err(InDoubt),
            },
            At::Fields => {
                let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
                if name.eq_ignore_ascii_case(b"content-length") {
                    self.lengths += 1;
                    self.length = number(value.get(1..).unwrap_or_default(), 10)?;
                } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                    self.codings += 1;
                }
                Ok(At::Fields)
            }
            At::ChunkSize => {
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                Ok(match number(size, 16)? {
                    0 => At::Trailers,
                    size => At::Chunk(size),
                })
            }
            At::ChunkEnd if line.is_empty() => Ok(At::ChunkSize),
            At::Trailers if line.is_empty() => Ok(At::Start),
            At::Trailers => Ok(At::Trailers),
            At::ChunkEnd | At::Body(_) | At::Chunk(_) | At::Doubt => Err(InDoubt),
        }
    }
}

/// A number that is nothing but digits, and not so long that its end was not looked at.
fn number(text: &[u8], radix: u32) -> Result<u64, InDoubt> {
    let text = std::str::from_utf8(text.trim_ascii()).map_err(|_| InDoubt)?;
    if text.len() >= LOOKED_AT / 2 || !text.chars().all(|digit| digit.is_digit(radix)) {
        return Err(InDoubt);
    }
    u64::from_str_radix(text, radix).map_err(|_| InDoubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], at_once: usize) -> Result<(), InDoubt> {
        let mut framing = Framing::default();
        bytes.chunks(at_once).try_for_each(|read| framing.see(read))
    }

    #[test]
    fn what_two_readers_could_end_differently_is_in_doubt_however_it_is_cut() {
        let long = "0".repeat(200);
        let rows: &[(&str, String, bool)] = &[
            ("no body", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), false),
            ("two messages", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n".into(), false),
            ("an empty line between two", "GET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n".into(), false),
            ("a length", "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".into(), false),
            ("a length of nothing", "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".into(), false),
            (
                "a length each",
                "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".into(),
                false,
            ),
            (
                "a body that looks like a head",
                "GET / HTTP/1.1\r\nContent-Length: 38\r\n\r\nContent-Length: 1\nContent-Length: 1\n\n\n".into(),
                false,
            ),
            (
                "chunks that look like a head",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 14;ext=1\r\nContent-Length: 1\n\n\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"
                    .into(),
                false,
            ),
            ("a long field", format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), false),
            (
                "the same length twice",
                "GET / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi".into(),
                true,
            ),
            (
                "a length, then a coding",
                "GET / HTTP/1.1\r\nContent-Length: 2\r\ntransfer-encoding: chunked\r\n\r\n".into(),
                true,
            ),
            (
                "a coding, then a length",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nCONTENT-LENGTH: 2\r\n\r\n".into(),
                true,
            ),
            (
                "two codings",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                true,
            ),
            (
                "in the second message",
                "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n".into(),
                true,
            ),
            (
                "behind a body",
                "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
                    .into(),
                true,
            ),
            (
                "behind chunks",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
                 GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
                    .into(),
                true,
            ),
            ("no number", "GET / HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\n".into(), true),
            ("a signed number", "GET / HTTP/1.1\r\nContent-Length: +2\r\n\r\n".into(), true),
            ("an endless number", format!("GET / HTTP/1.1\r\nContent-Length: {long}2\r\n\r\n"), true),
            ("no size", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n".into(), true),
            (
                "a chunk longer than it says",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n".into(),
                true,
            ),
            ("a bare LF behind a field", "GET / HTTP/1.1\r\nX: y\nZ: z\r\n\r\n".into(), true),
            ("a bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n".into(), true),
            ("a bare LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), true),
            ("a bare LF behind a long field", format!("GET / HTTP/1.1\r\nX: {long}\n\r\n"), true),
        ];
        for (name, bytes, in_doubt) in rows {
            for at_once in [1, 2, 3, 7, bytes.len()] {
                assert_eq!(told(bytes.as_bytes(), at_once).is_err(), *in_doubt, "{name}, {at_once} bytes at once");
            }
        }
    }
}
