use super::bytes::find_stop;
use super::head::{Body, Head, field, framing_field};
use super::{Fault, Sizes};

/// The HTTP reader takes 100 and 16 KiB.
const MAX_TRAILERS: usize = 64;
const MAX_TRAILER_BYTES: usize = 8 << 10;
const MAX_SIZE_DIGITS: usize = 16;

/// Reads the messages of one connection, one after another, and nothing of them twice.
///
/// Pure: bytes go in, verdicts come out. It never looks beyond the end of the message that it is
/// in, and takes no byte back that it accepted.
#[derive(Debug, Default)]
pub struct Reader {
    at: At,
    refused: Option<Fault>,
    head: Head,
    trailers: usize,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// So many bytes of a body that told its length are left.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
}

/// Bytes that are beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many.
    pub bytes: usize,
    /// What they are.
    pub part: Part,
    /// Whether the message ends with them.
    pub ends: bool,
}

/// The parts of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A whole head.
    Head,
    /// Bytes of the body.
    Body,
    /// What frames the body: chunk sizes, line ends, trailers.
    Framing,
}

impl Reader {
    /// Judges the bytes that follow what was accepted; `None` if there must be more of them
    /// first. Call it again with all bytes that were not accepted.
    ///
    /// # Errors
    /// What is wrong with them. Nothing is accepted after that.
    pub fn accept(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<Accepted>, Fault> {
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

    /// Whether the head of a message was accepted, and not all of its body.
    pub fn is_in_body(&self) -> bool {
        self.at != At::Head
    }

    /// Whether nothing of the next message was seen.
    pub fn is_between_messages(&self) -> bool {
        self.at == At::Head && self.head.is_nothing()
    }

    /// Method and target of the head that is being judged, where they are beyond doubt. `bytes`
    /// begin where it does.
    pub fn request<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        self.head.request(bytes)
    }

    fn judge(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<Accepted>, Fault> {
        let accepted = |bytes, part, ends| Ok(Some(Accepted { bytes, part, ends }));
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.at {
            At::Head => {
                let Some((length, body)) = self.head.judge(bytes, sizes)? else { return Ok(None) };
                self.head = Head::default();
                self.at = match body {
                    Body::Length(length) => At::Body(length),
                    Body::Chunked => At::ChunkSize,
                };
                accepted(length, Part::Head, body == Body::Length(0))
            }
            At::Body(left) => {
                let (taken, left) = take(bytes, left);
                self.at = At::Body(left);
                accepted(taken, Part::Body, left == 0)
            }
            At::Chunk(left) => {
                let (taken, left) = take(bytes, left);
                self.at = if left == 0 { At::ChunkEnd } else { At::Chunk(left) };
                accepted(taken, Part::Body, false)
            }
            At::ChunkSize => {
                let Some((size, length)) = chunk_size(bytes)? else { return Ok(None) };
                (self.trailers, self.trailer_bytes) = (0, 0);
                self.at = if size == 0 { At::Trailers } else { At::Chunk(size) };
                accepted(length, Part::Framing, false)
            }
            At::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.at = At::ChunkSize;
                    accepted(2, Part::Framing, false)
                }
                [b'\r'] => Ok(None),
                _ => Err(Fault::ChunkEnd),
            },
            At::Trailers => self.trailer(bytes),
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Option<Accepted>, Fault> {
        let end = find_stop(bytes);
        if self.trailer_bytes + end.unwrap_or(bytes.len()) > MAX_TRAILER_BYTES {
            return Err(Fault::Trailer);
        }
        let Some(end) = end else { return Ok(None) };
        if bytes[end] != b'\n' {
            return Err(Fault::ControlByte);
        }
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Fault::BareLf)?;
        if !line.is_empty() {
            (self.trailers, self.trailer_bytes) = (self.trailers + 1, self.trailer_bytes + end + 1);
            let (name, _) = field(line)?;
            if self.trailers > MAX_TRAILERS || framing_field(name)?.is_some() {
                return Err(Fault::Trailer);
            }
        }
        Ok(Some(Accepted { bytes: end + 1, part: Part::Framing, ends: line.is_empty() }))
    }
}

/// How much of `bytes` belongs to what is left, and what is left then.
fn take(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (taken, left - taken as u64)
}

/// The size that a whole line says, and how long the line is.
fn chunk_size(bytes: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_SIZE_DIGITS {
        return Err(Fault::ChunkSize);
    }
    match (digits, &bytes[digits..]) {
        (1.., [b'\r', b'\n', ..]) => {
            let value = |digit: &u8| u64::from((*digit as char).to_digit(16).unwrap_or_default());
            let size = bytes[..digits].iter().fold(0, |size, digit| (size << 4) | value(digit));
            Ok(Some((size, digits + 2)))
        }
        (1.., [] | [b'\r']) => Ok(None),
        (1.., [b';', ..]) => Err(Fault::ChunkExtension),
        _ => Err(Fault::ChunkSize),
    }
}
