//! One line after another, each carrying the hash of the one before.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The version of what is written. A reader refuses a newer one by name.
pub(super) const FORMAT: u64 = 1;
/// Digits of an instance.
const INSTANCE: usize = 16;

/// Whether this is the name of a process.
pub(super) fn is_instance(text: &str) -> bool {
    text.len() == INSTANCE && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 of a line, without its line end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    pub(super) fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
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

/// Where a chain has come to: how many lines, and the hash of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) hash: Hash,
}

impl Link {
    /// Appends the line that follows to `into`, and moves on to it. `body` is a JSON object.
    ///
    /// Number and hash come first, so that a line tells its place before it tells anything else.
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

/// The place that a line claims: its number, and the hash of the one before. Read from where they
/// are written, whatever was done to the rest of the line.
pub(super) fn place(line: &[u8]) -> Option<(u64, Hash)> {
    let rest = line.strip_prefix(b"{\"n\":")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let hash = rest[digits..].strip_prefix(b",\"prev\":\"")?.get(..64)?;
    Some((number, std::str::from_utf8(hash).ok()?.parse().ok()?))
}

/// A place in a record that somebody keeps elsewhere: what is before it cannot be changed
/// without being noticed.
///
/// As text: `instance/file/line/hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The process that wrote it.
    pub instance: String,
    /// The number of its file.
    pub file: u64,
    /// Lines of that file up to and with this one.
    pub line: u64,
    /// The hash of that line.
    pub hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, file, line, hash } = self;
        write!(f, "{instance}/{file}/{line}/{hash}")
    }
}

/// A text is no head.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAHead;

impl fmt::Display for NotAHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no head; expected one as `saltgate audit head` prints it: instance/file/line/hash")
    }
}

impl std::error::Error for NotAHead {}

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let [instance, file, line, hash] = parts[..] else { return Err(NotAHead) };
        if !is_instance(instance) {
            return Err(NotAHead);
        }
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or(NotAHead);
        let (file, line) = (number(file)?, number(line)?);
        Ok(Self { instance: instance.into(), file, line, hash: hash.parse().map_err(|()| NotAHead)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_carries_its_number_and_the_hash_of_the_one_before() {
        let (mut link, mut bytes) = (Link::default(), Vec::new());
        link.append(b"{\"a\":1}", &mut bytes);
        let first = link;
        link.append(b"{\"b\":2}", &mut bytes);
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let second: Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(place(lines[1]), Some((2, first.hash)));
        assert_eq!((first.hash, link.hash), (Hash::of(lines[0]), Hash::of(lines[1])));
        assert_eq!(second["b"], 2);
    }

    #[test]
    fn a_head_reads_back() {
        let head = Head { instance: "0123456789abcdef".into(), file: 3, line: 7, hash: Hash::of(b"x") };
        assert_eq!(head.to_string().parse(), Ok(head.clone()));
        let text = head.to_string();
        let wrong = [text.replacen('0', "x", 1), text.replace("/3/", "/0/"), text.replace("/7", ""), text + "0"];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Head>(), Err(NotAHead), "{wrong}");
        }
    }
}
