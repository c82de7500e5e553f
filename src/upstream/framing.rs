//! Where the body of an answer ends. Pure: bytes go in, content comes out.

use bytes::{Buf, Bytes, BytesMut};

/// The most bytes of one line that frames a chunk.
const MAX_LINE: usize = 4096;
/// The most bytes of trailers.
const MAX_TRAILERS: usize = 16 << 10;
const MAX_SIZE_DIGITS: usize = 16;

/// What is left of the body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(At),
    /// Whatever comes until the connection ends.
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// So many bytes of trailers have come.
    Trailers(usize),
    End,
}

/// What came is not HTTP, or not beyond doubt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Framing {
    /// What is left where nothing is.
    pub(super) const NOTHING: Self = Self::Length(0);

    /// Whether the message has ended.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(At::End))
    }

    /// How many bytes are left, where that was told.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(At::End) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next bit of content out of what was read; `None` if there must be more of it first,
    /// or the message has ended. What lies behind the end of the message is left.
    pub(super) fn take(&mut self, unread: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
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

/// As much of what is left as has come.
fn content(left: &mut u64, unread: &mut BytesMut) -> Option<Bytes> {
    let there = usize::try_from(*left).map_or(unread.len(), |left| left.min(unread.len()));
    *left -= there as u64;
    (there > 0).then(|| unread.split_to(there).freeze())
}

impl At {
    fn take(&mut self, unread: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
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
                    _ => return Err(Malformed),
                },
                Self::Size => {
                    let Some(line) = line(unread, MAX_LINE)? else { return Ok(None) };
                    *self = match size(&line)? {
                        0 => Self::Trailers(0),
                        size => Self::Chunk(size),
                    };
                }
                // They go no further; but what is none may be the beginning of something else.
                Self::Trailers(came) => {
                    let Some(line) = line(unread, MAX_TRAILERS - *came)? else { return Ok(None) };
                    *self = match line.len() {
                        0 => Self::End,
                        _ if !is_field(&line) => return Err(Malformed),
                        length => Self::Trailers(*came + length + 2),
                    };
                }
            }
        }
    }
}

/// A whole line of at most so many bytes, without its end.
fn line(unread: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = unread.iter().position(|byte| *byte == b'\n') else {
        return if unread.len() > most { Err(Malformed) } else { Ok(None) };
    };
    if end > most || end == 0 || unread[end - 1] != b'\r' {
        return Err(Malformed);
    }
    let line = unread.split_to(end - 1);
    unread.advance(2);
    // Alone it ends a line for some.
    if line.contains(&b'\r') { Err(Malformed) } else { Ok(Some(line)) }
}

/// Whether a line is a field and nothing else.
fn is_field(line: &[u8]) -> bool {
    let mut one = [httparse::EMPTY_HEADER];
    httparse::parse_headers(&[line, b"\r\n\r\n"].concat(), &mut one).is_ok_and(|read| read.is_complete())
}

/// The size that begins a line; extensions say nothing to us.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let spaces = line[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let ends = matches!(line[digits + spaces..], [] | [b';', ..]);
    if !(1..=MAX_SIZE_DIGITS).contains(&digits) || !ends {
        return Err(Malformed);
    }
    let value = |digit: &u8| u64::from((*digit as char).to_digit(16).unwrap_or_default());
    Ok(line[..digits].iter().fold(0, |size, digit| (size << 4) | value(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content, and what lies behind the end, if it was reached; read so many bytes at once.
    fn read(mut framing: Framing, bytes: &[u8], at_once: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), Malformed> {
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
            // What lies behind came whole or in part: it is not content.
            assert_eq!(behind.unwrap(), b"HTTP/1.1", "{at_once} at once");
            let cut = read(Framing::Chunked(At::Size), &whole[..whole.len() - 9], at_once).unwrap();
            assert_eq!(cut.1, None, "without its last byte it has not ended");
        }
    }

    #[test]
    fn chunks_in_doubt_are_malformed() {
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
                assert_eq!(read(Framing::Chunked(At::Size), odd.as_bytes(), at_once), Err(Malformed), "{odd:.40?}");
            }
        }
    }

    #[test]
    fn a_length_is_as_long_as_it_says() {
        assert_eq!(read(Framing::Length(3), b"abcd", 2).unwrap(), (b"abc".to_vec(), Some(b"d".to_vec())));
        assert_eq!(read(Framing::Length(3), b"ab", 1).unwrap(), (b"ab".to_vec(), None));
        assert_eq!(read(Framing::UntilClose, b"ab", 1).unwrap(), (b"ab".to_vec(), None));
    }
}
