//! Seals and opens whole contents, such as a file, with what has to be known before they are opened.

use ring::aead::{AES_256_GCM, Aad};
use zeroize::Zeroizing;

use super::text::SALT;
use super::{Kek, KeyRing, OpenError, SealError, nonce, one_time_key};

/// What the derived keys are for.
const PURPOSE: &[u8] = b"saltgate seal whole 1";

/// How something is sealed: by which key, and from which salt its one-time key is derived.
pub(crate) struct Sealing<'k> {
    id: &'k str,
    kek: &'k Kek,
    salt: [u8; SALT],
}

impl Sealing<'_> {
    /// The bytes that a sealed content has beyond the content.
    pub(crate) const TAG: usize = 16;

    /// The id of the sealing key.
    pub(crate) fn id(&self) -> &str {
        self.id
    }

    /// The salt, which no other content has.
    pub(crate) fn salt(&self) -> &[u8; SALT] {
        &self.salt
    }

    /// Seals the content in place. `head` is authenticated: the content does not open under another one.
    ///
    /// # Errors
    /// If the cipher cannot take so much.
    pub(crate) fn seal(self, head: &[u8], content: &mut Zeroizing<Vec<u8>>) -> Result<(), SealError> {
        let key = one_time_key(self.kek, &self.salt, self.id, PURPOSE).map_err(|_| SealError::NoRandomness)?;
        // A buffer that grows would leave a copy of the content behind.
        if content.capacity() < content.len() + AES_256_GCM.tag_len() {
            let mut larger = Zeroizing::new(Vec::with_capacity(content.len() + AES_256_GCM.tag_len()));
            larger.extend_from_slice(content);
            *content = larger;
        }
        key.seal_in_place_append_tag(nonce(), Aad::from(head), &mut **content).map_err(|_| SealError::NoRandomness)
    }
}

impl KeyRing {
    /// How the next content is sealed: by the first key, with a salt of its own.
    ///
    /// # Errors
    /// If there is no key, or there are no random bytes.
    pub(crate) fn sealing_whole(&self) -> Result<Sealing<'_>, SealError> {
        let (id, kek) = self.0.first().ok_or(SealError::NoKeys)?;
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| SealError::NoRandomness)?;
        Ok(Sealing { id, kek, salt })
    }

    /// Opens in place what was sealed by the key of this id, with this salt, under this head.
    ///
    /// # Errors
    /// If there is no such key, or anything of it was changed.
    pub(crate) fn open_whole(
        &self,
        id: &str,
        salt: &[u8; SALT],
        head: &[u8],
        mut sealed: Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if self.0.is_empty() {
            return Err(OpenError::NoKeys);
        }
        let found = self.0.iter().find(|(known, _)| known == id);
        let (_, kek) = found.ok_or_else(|| OpenError::UnknownId(id.to_owned()))?;
        let changed = || OpenError::Changed(id.to_owned());
        let key = one_time_key(kek, salt, id, PURPOSE).map_err(|_| changed())?;
        let length = key.open_in_place(nonce(), Aad::from(head), &mut sealed).map_err(|_| changed())?.len();
        sealed.truncate(length);
        Ok(sealed)
    }
}
