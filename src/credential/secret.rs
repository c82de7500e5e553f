//! The shared secret of a key.

use std::fmt;

use zeroize::Zeroizing;

/// The shared secret of a key: 16 to 256 bytes that never appear in a log or error.
///
/// Overwritten when dropped. There is no `Display` and no `PartialEq`; only [`Secret::expose`], which is easy to
/// search for, gives the bytes.
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Which of the two secrets of a key one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretSlot {
    /// The first, or the only one.
    First,
    /// The second.
    Second,
}

impl SecretSlot {
    /// Both, in their order.
    pub(crate) const BOTH: [Self; 2] = [Self::First, Self::Second];
}

/// Why bytes cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Fewer than [`Secret::MIN`] bytes.
    #[error("is shorter than {} bytes", Secret::MIN)]
    TooShort,
    /// More than [`Secret::MAX`] bytes.
    #[error("is longer than {} bytes", Secret::MAX)]
    TooLong,
}

/// Why a secret probably contains bytes by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It begins with a byte order mark, which some editors add.
    ByteOrderMark,
    /// It ends in a line end.
    LineEnd,
    /// It begins or ends with white space.
    Blank,
    /// It contains a line end or another control character.
    Control,
    /// It is in quotes.
    Quotes,
}

impl Doubt {
    /// What looks like a mistake in the bytes of a secret or password, if anything does.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (first, last) = (bytes.first()?, bytes.last()?);
        let marks: [&[u8]; 3] = [b"\xEF\xBB\xBF", b"\xFF\xFE", b"\xFE\xFF"];
        if marks.iter().any(|mark| bytes.starts_with(mark)) {
            Some(Self::ByteOrderMark)
        } else if matches!(last, b'\r' | b'\n') {
            Some(Self::LineEnd)
        } else if [first, last].iter().any(|byte| byte.is_ascii_whitespace()) {
            Some(Self::Blank)
        } else if bytes.iter().any(u8::is_ascii_control) {
            Some(Self::Control)
        } else if bytes.len() > 1 && first == last && matches!(first, b'"' | b'\'' | b'`') {
            Some(Self::Quotes)
        } else {
            None
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::ByteOrderMark => "begins with a byte order mark",
            Self::LineEnd => "ends in a line end",
            Self::Blank => "begins or ends with a blank",
            Self::Control => "holds a control character or a line end",
            Self::Quotes => "is in quotes",
        };
        write!(f, "{what}, which is part of it; take it away if it is not meant")
    }
}

impl Secret {
    /// The shortest secret, in bytes.
    pub const MIN: usize = 16;
    /// The longest secret, in bytes.
    pub const MAX: usize = 256;

    /// A secret with exactly these bytes.
    ///
    /// # Errors
    /// If there are too few or too many of them (contract §4).
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        match bytes.len() {
            ..Self::MIN => Err(SecretError::TooShort),
            Self::MIN..=Self::MAX => Ok(Self(Zeroizing::new(bytes.into()))),
            _ => Err(SecretError::TooLong),
        }
    }

    /// The secret in a file's content: its bytes without one final line end.
    ///
    /// # Errors
    /// If there are too few or too many of them (contract §4).
    pub fn of_file(bytes: &[u8]) -> Result<Self, SecretError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Self::new(if line.len() < bytes.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line })
    }

    /// Why it probably contains bytes by mistake. Clients sign without them, so all their requests would be refused.
    pub fn doubt(&self) -> Option<Doubt> {
        Doubt::of(self.expose())
    }

    /// A secret with the given random bytes, whose number is valid by type.
    pub(super) fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(Box::from(bytes.as_slice())))
    }

    /// The bytes, for computing and never for printing.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_16_to_256_bytes() {
        assert_eq!(Secret::new(&[]).unwrap_err(), SecretError::TooShort);
        assert_eq!(Secret::new(&[7; 15]).unwrap_err(), SecretError::TooShort);
        assert!(Secret::new(&[7; 16]).is_ok());
        assert!(Secret::new(&[7; 256]).is_ok());
        assert_eq!(Secret::new(&[7; 257]).unwrap_err(), SecretError::TooLong);
    }

    #[test]
    fn one_quote_is_not_a_pair() {
        assert_eq!(Doubt::of(b"\""), None);
        assert_eq!(Doubt::of(b"\"\""), Some(Doubt::Quotes));
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new(b"open sesame, open sesame").unwrap();
        assert!(!format!("{secret:?}").contains("sesame"));
    }

    #[test]
    fn one_final_line_end_of_a_file_is_dropped() {
        let secret = b"0123456789abcdef";
        for (end, dropped) in [("", ""), ("\n", ""), ("\r\n", ""), ("\r", "\r"), ("\n\n", "\n"), ("\r\n\r\n", "\r\n")] {
            let read = Secret::of_file(&[secret, end.as_bytes()].concat()).unwrap();
            assert_eq!(read.expose(), [secret, dropped.as_bytes()].concat(), "{end:?}");
        }
    }

    #[test]
    fn likely_mistakes_in_a_secret_are_reported() {
        for (text, doubt) in [
            ("0123456789abcdef", None),
            ("two words are a secret", None),
            ("\"quotes within\" are one", None),
            ("높은 곳에 있는 비밀", None),
            ("0123456789abcdef\r\n", Some(Doubt::LineEnd)),
            ("0123456789abcdef\r", Some(Doubt::LineEnd)),
            ("0123456789abcdef ", Some(Doubt::Blank)),
            ("\t0123456789abcdef", Some(Doubt::Blank)),
            ("01234567\n89abcdef", Some(Doubt::Control)),
            ("0\x001\x002\x003\x004\x005\x006\x007\x00", Some(Doubt::Control)),
            ("\"0123456789abcdef\"", Some(Doubt::Quotes)),
            ("'0123456789abcdef'", Some(Doubt::Quotes)),
            ("\u{FEFF}0123456789abcdef", Some(Doubt::ByteOrderMark)),
        ] {
            assert_eq!(Secret::new(text.as_bytes()).unwrap().doubt(), doubt, "{text:?}");
        }
    }
}
