//! The body of a response, and where it ends. Pure: bytes go in, content comes out.

use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};

use super::grammar::{self, field, is_value};

/// The most bytes of one line that frames a chunk.
const MAX_LINE: usize = 4096;
/// The most bytes of trailers.
const MAX_TRAILERS: usize = 16 << 10;

/// The rest of the body of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(At),
    /// Whatever comes until the connection ends.
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Size,
    /// How many bytes of a chunk are left.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// How many bytes of trailers have arrived.
    Trailers(usize),
    End,
}

/// What is wrong with a response: it is not HTTP, or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedResponse {
    /// It has no valid head.
    Head,
    /// The head has over 100 fields.
    TooManyFields,
    /// The head is over 64 KiB.
    TooLarge,
    /// It is ambiguous where the body ends.
    Framing,
    /// The body ends with the connection, and TLS did not announce that end (`close_notify`): somebody on the way may have
    /// cut it off.
    NoEnd,
}

impl fmt::Display for MalformedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "is not HTTP",
            Self::TooManyFields => "has more than 100 header fields",
            Self::TooLarge => "has a header section of over 64 KiB",
            Self::Framing => "does not say clearly where it ends (Content-Length, Transfer-Encoding or a chunk)",
            Self::NoEnd => {
                "has no length, and its connection ended without TLS' close_notify: a part of it may be missing"
            }
        })
    }
}

impl std::error::Error for MalformedResponse {}

impl From<MalformedResponse> for io::Error {
    fn from(malformed: MalformedResponse) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

impl Framing {
    /// There is no body, or nothing is left of it.
    pub(crate) const NOTHING: Self = Self::Length(0);
    /// Chunks, before the first one has arrived.
    pub(crate) const CHUNKED: Self = Self::Chunked(At::Size);

    /// Whether the message has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(At::End))
    }

    /// How many bytes are left, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(At::End) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next piece of content out of the bytes that were read; `None` if more must be read first, or the
    /// message has ended. Bytes after the end of the message are left.
    pub(crate) fn take(&mut self, unread: &mut BytesMut) -> Result<Option<Bytes>, MalformedResponse> {
        match self {
            Self::Length(left) => Ok(content(left, unread)),
            Self::UntilClose => {
                let content = unread.split().freeze();
                Ok(Some(content).filter(|content| !content.is_empty()))
            }
            Self::Chunked(at) => at.take(unread),
        }
    }
}

/// As much of the `left` bytes as has arrived.
fn content(left: &mut u64, unread: &mut BytesMut) -> Option<Bytes> {
    let there = usize::try_from(*left).map_or(unread.len(), |left| left.min(unread.len()));
    *left -= there as u64;
    if there == 0 {
        return None;
    }
    // Most often it fills a buffer of exactly its size, which need not be shared. A larger buffer is used again.
    let content = if there == unread.capacity() { std::mem::take(unread) } else { unread.split_to(there) };
    Some(content.freeze())
}

impl At {
    fn take(&mut self, unread: &mut BytesMut) -> Result<Option<Bytes>, MalformedResponse> {
        loop {
            match self {
                Self::End => return Ok(None),
                Self::Chunk(left) => {
                    let content = content(left, unread);
                    if *left == 0 {
                        *self = Self::ChunkEnd;
                    }
                    return Ok(content);
                }
                Self::ChunkEnd => match unread[..] {
                    [b'\r', b'\n', ..] => {
                        unread.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(MalformedResponse::Framing),
                },
                Self::Size => {
                    let Some(line) = line(unread, MAX_LINE)? else { return Ok(None) };
                    *self = match size(&line)? {
                        0 => Self::Trailers(0),
                        size => Self::Chunk(size),
                    };
                }
                // Trailers are dropped. A line that is not a trailer may be the beginning of another response.
                Self::Trailers(came) => {
                    let Some(line) = line(unread, MAX_TRAILERS - *came)? else { return Ok(None) };
                    *self = match line.len() {
                        0 => Self::End,
                        _ if !is_field(&line) => return Err(MalformedResponse::Framing),
                        length => Self::Trailers(*came + length + 2),
                    };
                }
            }
        }
    }
}

/// A complete line of at most `most` bytes, without its end.
fn line(unread: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, MalformedResponse> {
    let Some(end) = unread.iter().position(|byte| *byte == b'\n') else {
        return if unread.len() > most { Err(MalformedResponse::Framing) } else { Ok(None) };
    };
    if end > most || end == 0 || unread[end - 1] != b'\r' {
        return Err(MalformedResponse::Framing);
    }
    let line = unread.split_to(end - 1);
    unread.advance(2);
    // Some readers end a line at a bare CR.
    if line.contains(&b'\r') { Err(MalformedResponse::Framing) } else { Ok(Some(line)) }
}

/// Whether a line is a field and nothing else.
fn is_field(line: &[u8]) -> bool {
    field(line).is_ok_and(|(_, value)| is_value(value))
}

/// The size that a chunk line begins with. Tolerant, as every client is: space and extensions may follow it.
fn size(line: &[u8]) -> Result<u64, MalformedResponse> {
    let (size, digits) = grammar::chunk_size(line).ok_or(MalformedResponse::Framing)?;
    let spaces = line[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match line[digits + spaces..] {
        [] | [b';', ..] => Ok(size),
        _ => Err(MalformedResponse::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content, and the bytes after the end if it was reached, when this many bytes are read at once.
    fn read(
        mut framing: Framing,
        bytes: &[u8],
        at_once: usize,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), MalformedResponse> {
        let (mut content, mut unread) = (Vec::new(), BytesMut::new());
        for piece in bytes.chunks(at_once) {
            unread.extend_from_slice(piece);
            while let Some(bit) = framing.take(&mut unread)? {
                content.extend_from_slice(&bit);
            }
        }
        Ok((content, framing.is_over().then(|| unread.to_vec())))
    }

    #[test]
    fn chunks_are_read_to_their_end_and_no_further() {
        let whole = b"3\r\nabc\r\nA ;x=\"y\"\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\nHTTP/1.1";
        for at_once in 1..=whole.len() {
            let (content, behind) = read(Framing::Chunked(At::Size), whole, at_once).unwrap();
            assert_eq!(content, b"abc0123456789", "{at_once} at once");
            // The bytes after the end arrived completely or in part: they are not content.
            assert_eq!(behind.unwrap(), b"HTTP/1.1", "{at_once} at once");
            let cut = read(Framing::Chunked(At::Size), &whole[..whole.len() - 9], at_once).unwrap();
            assert_eq!(cut.1, None, "without its last byte it has not ended");
        }
    }

    #[test]
    fn ambiguous_chunks_are_malformed() {
        let long = format!("0\r\n{}\r\n\r\n", "x".repeat(MAX_TRAILERS + 1));
        let trailers = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(MAX_TRAILERS / 6 + 1));
        let extension = format!("1;{}\r\na\r\n", "x".repeat(MAX_LINE));
        for odd in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n",
            "1 1\r\na\r\n",
            "10000000000000000\r\n",
            "1\r\nab\r\n",
            "1;\r\r\na\r\n",
            "1\x0c\r\na\r\n",
            "0\r\nX:\r1\r\n\r\n",
            "0\r\nHTTP/1.1 200 OK\r\n\r\n",
            "0\r\n folded: 1\r\n\r\n",
            "0\r\nX : 1\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            &long,
            &trailers,
            &extension,
        ] {
            for at_once in [1, odd.len()] {
                assert_eq!(
                    read(Framing::Chunked(At::Size), odd.as_bytes(), at_once),
                    Err(MalformedResponse::Framing),
                    "{odd:.40?}"
                );
            }
        }
    }

    #[test]
    fn a_body_with_a_length_has_exactly_that_length() {
        assert_eq!(read(Framing::Length(3), b"abcd", 2).unwrap(), (b"abc".to_vec(), Some(b"d".to_vec())));
        assert_eq!(read(Framing::Length(3), b"ab", 1).unwrap(), (b"ab".to_vec(), None));
        assert_eq!(read(Framing::UntilClose, b"ab", 1).unwrap(), (b"ab".to_vec(), None));
    }
}
