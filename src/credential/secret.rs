use std::fmt;

use zeroize::Zeroizing;

/// The shared secret of a key: 16 to 256 bytes that no log, error or core text ever shows.
///
/// Overwritten when dropped. There is no `Display`, no `PartialEq`; the way to the bytes is
/// [`Secret::expose`], which is easy to search for.
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Why bytes are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// Fewer than [`Secret::MIN`] bytes, none at all included.
    TooShort,
    /// More than [`Secret::MAX`] bytes.
    TooLong,
}

impl Secret {
    /// The fewest bytes a secret may have.
    pub const MIN: usize = 16;
    /// The most bytes a secret may have.
    pub const MAX: usize = 256;

    /// A secret of these bytes, taken as they are.
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

    /// A secret of random bytes, of which there are as many as there must be.
    pub(super) fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(Box::from(bytes.as_slice())))
    }

    /// The bytes, for whoever computes with them and for nobody who prints.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "is shorter than {} bytes", Secret::MIN),
            Self::TooLong => write!(f, "is longer than {} bytes", Secret::MAX),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_to_two_hundred_and_fifty_six_bytes() {
        assert_eq!(Secret::new(&[]).unwrap_err(), SecretError::TooShort);
        assert_eq!(Secret::new(&[7; 15]).unwrap_err(), SecretError::TooShort);
        assert!(Secret::new(&[7; 16]).is_ok());
        assert!(Secret::new(&[7; 256]).is_ok());
        assert_eq!(Secret::new(&[7; 257]).unwrap_err(), SecretError::TooLong);
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new(b"open sesame, open sesame").unwrap();
        assert!(!format!("{secret:?}").contains("sesame"));
    }
}
