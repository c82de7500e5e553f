//! Sealed secrets (contract §9): a secret as it may stand in a file or a database that others read.
//!
//! 1. A *sealing key* is 32 random bytes with a name, its id. The first of a [`KeyRing`] seals, all open. Which one opens
//!    a text is said by the id in it and never found by trial. An unknown id is an error, and so is a ring without keys.
//! 2. Each text is sealed by a key of its own: HKDF-SHA256 of the sealing key, with 32 random bytes as salt and the id in
//!    the info. So AES-256-GCM may use one nonce for all, and there is no limit to how many texts a sealing key makes.
//! 3. The apiKey and the slot are authenticated, so a text that is moved to another key, or to the other slot of its key,
//!    does not open.
//! 4. What was opened is in memory that is overwritten when dropped. No error contains a part of it.
//!
//! A whole content, such as a file, is sealed in the same way ([`Sealing`]), with keys that are derived for that purpose;
//! its head takes the place of apiKey and slot.
//!
//! ```text
//! sg1:<id>:<salt, 64 digits>:<ciphertext and tag, hexadecimal digits>
//! ```

mod kek;
mod text;
mod whole;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::credential::{Secret, SecretError};

pub(crate) use crate::credential::SecretSlot;
pub(crate) use kek::{Kek, is_id};
pub(crate) use text::NotSealed;
use text::{SALT, Sealed};
pub(crate) use whole::Sealing;

/// What the derived keys are for.
const PURPOSE: &[u8] = b"saltgate seal 1";

/// Whose secret is sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// The apiKey.
    pub api_key: &'p str,
    /// Which of its secrets.
    pub slot: SecretSlot,
}

impl Place<'_> {
    fn authenticated(self) -> Vec<u8> {
        let slot = match self.slot {
            SecretSlot::First => b'1',
            SecretSlot::Second => b'2',
        };
        [self.api_key.as_bytes(), &[0, slot]].concat()
    }
}

/// The sealing keys by their ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyRing(Vec<(String, Kek)>);

/// Why a text cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// It does not have the form of a sealed secret.
    #[error(transparent)]
    Form(#[from] NotSealed),
    /// There are no sealing keys.
    #[error("is sealed, and [seal] names no keys")]
    NoKeys,
    /// None of the sealing keys has its id.
    #[error("is sealed by the key {0:?}, which [seal] does not name")]
    UnknownId(String),
    /// It was changed, or sealed by another key of this id, for another apiKey or for the other slot.
    #[error(
        "does not open by the key {0:?}: it was changed, moved here from another api_key or slot, or that key is another one"
    )]
    Changed(String),
    /// What is in it cannot be a secret.
    #[error("{0}")]
    Secret(SecretError),
}

/// A secret cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// There are no sealing keys.
    #[error("[seal] names no keys to seal by")]
    NoKeys,
    /// The operating system has no random bytes, or the secret is too long for the cipher.
    #[error("the secret cannot be sealed: no random bytes")]
    NoRandomness,
}

impl KeyRing {
    /// A ring of these keys; the first one seals.
    pub(crate) fn new(keys: Vec<(String, Kek)>) -> Self {
        Self(keys)
    }

    /// The id of the key that seals.
    pub(crate) fn sealing(&self) -> Option<&str> {
        self.0.first().map(|(id, _)| id.as_str())
    }

    /// Opens a sealed secret that stands at this place.
    ///
    /// # Errors
    /// If it cannot be opened; the error says why, and nothing of the secret.
    pub(crate) fn open(&self, place: Place<'_>, text: &str) -> Result<Secret, OpenError> {
        let sealed = Sealed::parse(text)?;
        if self.0.is_empty() {
            return Err(OpenError::NoKeys);
        }
        let id = || sealed.id.to_owned();
        let (_, kek) = self.0.iter().find(|(id, _)| id == sealed.id).ok_or_else(|| OpenError::UnknownId(id()))?;
        let mut bytes = Zeroizing::new(sealed.sealed);
        let key = one_time_key(kek, &sealed.salt, sealed.id, PURPOSE).map_err(|_| OpenError::Changed(id()))?;
        let opened = key.open_in_place(nonce(), Aad::from(place.authenticated()), &mut bytes);
        let opened = opened.map_err(|_| OpenError::Changed(id()))?;
        Secret::new(opened).map_err(OpenError::Secret)
    }

    /// Seals a secret for this place by the first key.
    ///
    /// # Errors
    /// If there is no key, or there are no random bytes.
    pub(crate) fn seal(&self, place: Place<'_>, secret: &Secret) -> Result<String, SealError> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| SealError::NoRandomness)?;
        self.seal_with(&salt, place, secret)
    }

    fn seal_with(&self, salt: &[u8; SALT], place: Place<'_>, secret: &Secret) -> Result<String, SealError> {
        let (id, kek) = self.0.first().ok_or(SealError::NoKeys)?;
        // Room for the tag, so that no copy of the secret is left behind by a growing buffer.
        let mut bytes = Zeroizing::new(Vec::with_capacity(secret.expose().len() + AES_256_GCM.tag_len()));
        bytes.extend_from_slice(secret.expose());
        let key = one_time_key(kek, salt, id, PURPOSE).map_err(|_| SealError::NoRandomness)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(place.authenticated()), &mut *bytes)
            .map_err(|_| SealError::NoRandomness)?;
        Ok(Sealed { id, salt: *salt, sealed: bytes.to_vec() }.to_string())
    }
}

/// Each key seals one text, so the nonce need not differ.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn one_time_key(
    kek: &Kek,
    salt: &[u8; SALT],
    id: &str,
    purpose: &[u8],
) -> Result<LessSafeKey, ring::error::Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(kek.expose());
    let info = [purpose, id.as_bytes()];
    Ok(LessSafeKey::new(UnboundKey::from(derived.expand(&info, &AES_256_GCM)?)))
}

/// The id in a sealed text, whether or not it opens.
///
/// # Errors
/// If it is no sealed text.
pub(crate) fn id_of(text: &str) -> Result<&str, NotSealed> {
    Sealed::parse(text).map(|sealed| sealed.id)
}

#[cfg(test)]
mod tests;
