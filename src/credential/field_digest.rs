//! A digest of several fields.

use sha2::{Digest, Sha256};

use super::signature::to_hex;

/// SHA-256 over fields, each with its length, so that no bytes can move from one field into the next.
pub(crate) struct FieldDigest(Sha256);

impl FieldDigest {
    /// One for this purpose: other purposes have other digests of the same fields.
    pub(crate) fn new(purpose: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.field(purpose.as_bytes());
        digest
    }

    /// Adds a field.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// The digest, in hexadecimal digits.
    pub(crate) fn end(self) -> String {
        to_hex(&self.0.finalize().into())
    }
}
