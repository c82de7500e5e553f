//! The hash chain: each line contains the hash of the line before it.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::clock;

/// The version of the format. A reader refuses a newer one with an error that says so.
pub(super) const FORMAT: u64 = 1;
/// The most bytes of a line, including its line end, for readers and writers.
pub(super) const MAX_LINE: usize = 1 << 20;
/// The most bytes of number and hash, which precede the body of a line.
const PREFIX: usize = 128;
/// The number of digits of an instance's name.
const INSTANCE: usize = 16;

/// Whether this is the name of an instance, which is one process that writes.
pub(super) fn is_instance(text: &str) -> bool {
    text.len() == INSTANCE && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a line with this body, and a later one that is `more` bytes longer, are within [`MAX_LINE`].
pub(super) fn fits(body: &[u8], more: usize) -> bool {
    PREFIX + body.len() + more <= MAX_LINE
}

/// SHA-256 of a line, without its line end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    pub(super) fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// The hash of a line that is not kept in memory.
    pub(super) fn of_parts(digest: Sha256) -> Self {
        Self(digest.finalize().into())
    }

    fn digits(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        digits
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut hash = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(());
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let digit = |b: u8| if b <= b'9' { b - b'0' } else { b - b'a' + 10 };
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(hash))
    }
}

/// The end of a chain: how many lines it has, and the hash of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) hash: Hash,
}

impl Link {
    /// Appends the next line to `into`. `body` is a JSON object.
    ///
    /// Number and hash come first, so that they can be read even if the rest of the line is damaged.
    pub(super) fn append(&mut self, body: &[u8], into: &mut Vec<u8>) {
        let start = into.len();
        let number = self.number + 1;
        into.extend_from_slice(b"{\"n\":");
        into.extend_from_slice(number.to_string().as_bytes());
        into.extend_from_slice(b",\"prev\":\"");
        into.extend_from_slice(&self.hash.digits());
        into.extend_from_slice(b"\",");
        into.extend_from_slice(body.strip_prefix(b"{").unwrap_or(body));
        *self = Self { number, hash: Hash::of(&into[start..]) };
        into.push(b'\n');
    }
}

/// The position that a line claims: its number, and the hash of the line before it. Reads only the start of the line,
/// so the rest may be damaged.
pub(super) fn position(line: &[u8]) -> Option<(u64, Hash)> {
    let rest = line.strip_prefix(b"{\"n\":")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let hash = rest[digits..].strip_prefix(b",\"prev\":\"")?.get(..64)?;
    Some((number, std::str::from_utf8(hash).ok()?.parse().ok()?))
}

/// Whether this is a time in the format of the record; such times can be compared as strings.
pub(super) fn is_time(text: &str) -> bool {
    clock::parse(text, SystemTime::UNIX_EPOCH).is_some_and(|time| clock::rfc3339(time) == text)
}

/// The body of a line: without number and hash.
pub(super) fn body(line: &[u8]) -> Option<Vec<u8>> {
    position(line)?;
    let rest = line.splitn(3, |byte| *byte == b',').nth(2)?;
    Some([b"{", rest].concat())
}

/// A position in a chain with its hash. If it is kept on another machine, no change before it goes unnoticed.
///
/// As text: `instance/file/line/hash/time`; an earlier build wrote no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The instance that wrote it.
    pub instance: String,
    /// The number of its file.
    pub file: u64,
    /// The number of the line in that file, from 1.
    pub line: u64,
    /// The hash of that line.
    pub hash: Hash,
    /// The time of that line, as [`crate::clock::rfc3339`] writes it.
    pub time: Option<String>,
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, file, line, hash, time } = self;
        write!(f, "{instance}/{file}/{line}/{hash}")?;
        time.as_ref().map_or(Ok(()), |time| write!(f, "/{time}"))
    }
}

/// A text is not a head.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a head; expected one as `saltgate audit head` prints it: instance/file/line/hash/time")]
pub struct NotAHead;

impl FromStr for ChainHead {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let (instance, file, line, hash, time) = match parts[..] {
            [instance, file, line, hash] => (instance, file, line, hash, None),
            [instance, file, line, hash, time] => (instance, file, line, hash, Some(time)),
            _ => return Err(NotAHead),
        };
        if !is_instance(instance) || time.is_some_and(|time| !is_time(time)) {
            return Err(NotAHead);
        }
        let number = |text: &str| text.parse().ok().filter(|n: &u64| *n > 0 && n.to_string() == text).ok_or(NotAHead);
        let (file, line) = (number(file)?, number(line)?);
        let hash = hash.parse().map_err(|()| NotAHead)?;
        Ok(Self { instance: instance.into(), file, line, hash, time: time.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_contains_its_number_and_the_hash_of_the_line_before() {
        let (mut link, mut bytes) = (Link::default(), Vec::new());
        link.append(b"{\"a\":1}", &mut bytes);
        let first = link;
        link.append(b"{\"b\":2}", &mut bytes);
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let second: Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(position(lines[1]), Some((2, first.hash)));
        assert_eq!((first.hash, link.hash), (Hash::of(lines[0]), Hash::of(lines[1])));
        assert_eq!(second["b"], 2);
        assert_eq!(body(lines[1]).as_deref(), Some(&b"{\"b\":2}"[..]));
    }

    #[test]
    fn a_head_is_parsed_as_it_was_written() {
        let head =
            ChainHead { instance: "0123456789abcdef".into(), file: 3, line: 7, hash: Hash::of(b"x"), time: None };
        let dated = ChainHead { time: Some("2026-11-24T00:00:00.000Z".into()), ..head.clone() };
        for head in [&head, &dated] {
            assert_eq!(head.to_string().parse().as_ref(), Ok(head));
        }
        let (text, dated) = (head.to_string(), dated.to_string());
        let wrong = [
            text.replacen('0', "x", 1),
            text.replace("/3/", "/0/"),
            text.replace("/3/", "/03/"),
            text.replace("/3/", "/+3/"),
            text.replace("/7", ""),
            text.clone() + "0",
            text + "/90m",
            dated.replace(".000Z", "Z"),
            dated + "/",
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<ChainHead>(), Err(NotAHead), "{wrong}");
        }
    }
}
