//! The id of a salt in the stores of spent salts.

/// A salt as stores keep it: a keyed hash of 16 bytes that does not reveal the salt.
///
/// [`SigningKey::salt_id`](super::SigningKey::salt_id) makes it, and only the directory has the callers' keys. A
/// store also reads back the ids that it kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaltId([u8; 16]);

impl SaltId {
    /// The id with these bytes, which a store kept.
    pub const fn from_stored(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn new(hash: [u8; 16]) -> Self {
        Self(hash)
    }

    /// Its bytes, for a store to keep.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
