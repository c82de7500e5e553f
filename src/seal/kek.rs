//! A sealing key: 32 random bytes.

use std::fmt;

use zeroize::Zeroizing;

/// The number of bytes.
const BYTES: usize = 32;
/// The most characters of an id.
const MAX_ID: usize = 32;

/// A sealing key. Overwritten when dropped; never printed. Compared only with itself of before a reload.
#[derive(PartialEq, Eq)]
pub(crate) struct Kek(Zeroizing<[u8; BYTES]>);

/// What is wrong with the content of a file of a sealing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not hold 32 bytes, or 64 hexadecimal digits; make it with: openssl rand -hex 32")]
pub(crate) struct NotAKek;

/// Whether this can be the id of a sealing key.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl Kek {
    /// The key in a file: its 32 bytes, or 64 hexadecimal digits and perhaps a line end.
    ///
    /// # Errors
    /// If it is neither.
    pub(crate) fn of_file(content: &[u8]) -> Result<Self, NotAKek> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        if content.len() == BYTES {
            bytes.copy_from_slice(content);
            return Ok(Self(bytes));
        }
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        let digits = line.strip_suffix(b"\r").unwrap_or(line);
        if digits.len() != 2 * BYTES {
            return Err(NotAKek);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).ok_or(NotAKek);
            *byte = (digit(high)? << 4 | digit(low)?) as u8;
        }
        Ok(Self(bytes))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &*self.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(redacted)")
    }
}
