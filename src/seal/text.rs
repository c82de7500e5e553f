//! The text of a sealed secret. It has one spelling only.

use std::fmt;

use super::is_id;
use crate::credential::Secret;

/// The version of the form, which each text begins with.
const VERSION: &str = "sg1";
/// The number of bytes of a salt.
pub(super) const SALT: usize = 32;
/// The number of bytes of a tag.
const TAG: usize = 16;

/// The parts of a sealed secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sealed<'t> {
    /// The id of the sealing key.
    pub(super) id: &'t str,
    /// From which the one-time key is derived.
    pub(super) salt: [u8; SALT],
    /// Ciphertext and tag.
    pub(super) sealed: Vec<u8>,
}

/// A text does not have the form of a sealed secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a sealed secret; expected sg1:<id>:<salt>:<ciphertext>, as `saltgate keys seal` writes it")]
pub(crate) struct NotSealed;

impl<'t> Sealed<'t> {
    /// Parses a text.
    pub(super) fn parse(text: &'t str) -> Result<Self, NotSealed> {
        let parts: Vec<&str> = text.splitn(5, ':').collect();
        let [VERSION, id, salt, sealed] = parts[..] else { return Err(NotSealed) };
        let (salt, sealed) = (bytes(salt).ok_or(NotSealed)?, bytes(sealed).ok_or(NotSealed)?);
        let fits = (Secret::MIN + TAG..=Secret::MAX + TAG).contains(&sealed.len());
        let salt = salt.try_into().map_err(|_| NotSealed)?;
        if is_id(id) && fits { Ok(Self { id, salt, sealed }) } else { Err(NotSealed) }
    }
}

impl fmt::Display for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:", self.id)?;
        self.salt.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(":")?;
        self.sealed.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lower-case hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
