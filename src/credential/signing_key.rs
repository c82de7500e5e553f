//! A key derived from a secret, ready to sign and verify.
//!
//! 1. It holds the MAC's keyed state, which is cloned for each use, because half the cost of a MAC is its key. It is
//!    held without the message buffer, which is most of a MAC's size, because there may be 100 000 keys.
//! 2. Everything derived from the secret, except signatures, is a MAC of a text that starts with a zero byte. No date
//!    starts with one, so no header can contain a derived value as its signature.
//! 3. Two secrets are the same if they have the same key block: HMAC pads a short key with zeros and hashes a long
//!    one, so different secrets can produce the same signatures.

use std::fmt;

use hmac::block_api::HmacCore;
use hmac::digest::block_api::{Buffer, CoreProxy};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use siphasher::sip128::SipHasher24;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::signature::to_hex;
use super::{Date, SaltId, Secret, Signature};

/// Signs, verifies, and computes the ids of salts. Overwritten when dropped.
pub struct SigningKey {
    keyed: HmacCore<Sha256>,
    salt_key: Zeroizing<[u8; 16]>,
}

impl SigningKey {
    /// The key of a secret.
    pub fn new(secret: &Secret) -> Self {
        let keyed = HmacCore::<Sha256>::new((&*key_block(secret.expose())).into());
        let mut salt_key = Zeroizing::new([0; 16]);
        salt_key.copy_from_slice(&mac(&keyed, SALT_KEY, b"")[..16]);
        Self { keyed, salt_key }
    }

    /// A random key for unknown apiKeys, so that refusing them costs the same as refusing known ones.
    ///
    /// # Errors
    /// If the operating system has no random bytes.
    pub fn decoy() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self::new(&Secret::from_random(&bytes)))
    }

    /// Whether this key signed this date and this salt as received, by the only constant-time comparison of
    /// signatures in the crate. Returns a [`Choice`], so that two verdicts can be combined without a branch.
    pub fn verify(&self, date: &Date<'_>, salt: &str, signature: &Signature) -> Choice {
        self.made(date.text(), salt, signature)
    }

    /// The same for a client that put the salt before the date. Only `explain` uses it; such a signature is never
    /// admitted.
    pub fn verify_swapped(&self, date: &Date<'_>, salt: &str, signature: &Signature) -> Choice {
        self.made(salt, date.text(), signature)
    }

    fn made(&self, first: &str, second: &str, signature: &Signature) -> Choice {
        let made = mac(&self.keyed, first.as_bytes(), second.as_bytes());
        words(&made).ct_eq(&words(signature.bytes()))
    }

    /// The signature of a date and a salt, in lower-case hexadecimal digits. Checks neither.
    pub fn sign(&self, date_text: &str, salt: &str) -> String {
        to_hex(&mac(&self.keyed, date_text.as_bytes(), salt.as_bytes()))
    }

    /// The id of a salt in the stores: a keyed hash that is the same in every process with the secret, and reveals
    /// nothing without it.
    pub fn salt_id(&self, salt: &str) -> SaltId {
        SaltId::new(self.keyed_hash(salt))
    }

    /// A hash of any text, keyed like the ids of salts, for tables in which nobody must be able to choose collisions.
    pub fn keyed_hash(&self, text: &str) -> [u8; 16] {
        SipHasher24::new_with_key(&self.salt_key).hash(text.as_bytes()).as_bytes()
    }

    /// Whether two secrets produce the same signatures. Only for loading keys, because its time depends on them.
    pub fn same_block(&self, other: &Self) -> bool {
        self.block_digest() == other.block_digest()
    }

    /// A value by which digests tell secrets apart: the same in every process, and nothing without the secret.
    pub fn tag(&self) -> [u8; 32] {
        mac(&self.keyed, TAG, b"")
    }

    /// A few digits by which the secrets of one key are told apart where their use is kept. Too short to confirm a guess of
    /// the secret.
    pub fn short_tag(&self) -> String {
        self.tag()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A value that two keys share exactly if they produce the same signatures, for a map over many keys. It cannot
    /// be computed without the secret: it is the id of a salt that no request can have.
    pub fn block_digest(&self) -> [u8; 16] {
        self.keyed_hash("")
    }
}

const SALT_KEY: &[u8] = b"\0saltgate-replay";
const TAG: &[u8] = b"\0saltgate-tag";

/// The secret as HMAC uses it (RFC 2104): padded with zeros to a SHA-256 block, or hashed first if it is longer.
fn key_block(secret: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut block = Zeroizing::new([0; 64]);
    if secret.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        block[..secret.len()].copy_from_slice(secret);
    }
    block
}

/// The MAC of two parts in sequence.
fn mac(keyed: &HmacCore<Sha256>, first: &[u8], second: &[u8]) -> [u8; 32] {
    let message = Hmac::<Sha256>::compose(keyed.clone(), Buffer::<HmacCore<Sha256>>::default());
    message.chain_update(first).chain_update(second).finalize().into_bytes().into()
}

/// A MAC as four words, which takes fewer steps to compare than bytes.
fn words(mac: &[u8; 32]) -> [u64; 4] {
    let (words, _) = mac.as_chunks();
    std::array::from_fn(|n| u64::from_ne_bytes(words[n]))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::PhpDates;
    use super::*;

    const DATE: &str = "2026-11-23T22:38:08Z";
    const SALT: &str = "cAhvtSQ1pU4NANjoBjRj6Er6v4C1roc5";
    const SIGNED: &str = "69f8adbe49c8658112ba2f6a8a5c4175d28823a006c7f3f766b1e234e0f4cd1e";

    fn key(secret: &[u8]) -> SigningKey {
        SigningKey::new(&Secret::new(secret).unwrap())
    }

    fn verifies(key: &SigningKey, signature: &str) -> bool {
        let date = Date::parse(DATE, PhpDates::Accept).unwrap();
        key.verify(&date, SALT, &Signature::parse(signature.as_bytes()).unwrap()).into()
    }

    #[test]
    fn a_key_verifies_its_own_signatures_and_those_of_clients() {
        let key = key(b"THROWAWAYSECRET0123456789ABCDEFG");
        assert_eq!(key.sign(DATE, SALT), SIGNED);
        assert!(verifies(&key, SIGNED));
        assert!(!verifies(&key, &"0".repeat(64)));
        // Every byte is compared.
        for at in 0..SIGNED.len() {
            let other = if &SIGNED[at..=at] == "0" { "1" } else { "0" };
            assert!(!verifies(&key, &[&SIGNED[..at], other, &SIGNED[at + 1..]].concat()), "{at}");
        }
    }

    #[test]
    fn another_secret_makes_another_signature() {
        assert!(!verifies(&key(b"THROWAWAYSECRET0123456789ABCDEFg"), SIGNED));
    }

    #[test]
    fn secrets_are_equal_if_their_key_blocks_are() {
        let long = [b'x'; 65];
        let hashed = Sha256::digest(long);
        let cases: [(&str, &[u8], &[u8], bool); 6] = [
            ("itself", b"0123456789abcdef", b"0123456789abcdef", true),
            ("another", b"0123456789abcdef", b"0123456789abcdeF", false),
            ("a zero behind it", b"0123456789abcdef", b"0123456789abcdef\0", true),
            ("a zero before it", b"0123456789abcdef", b"\x000123456789abcdef", false),
            ("a long one and its hash", &long, &hashed, true),
            ("64 bytes and their hash", &long[..64], &Sha256::digest(&long[..64]), false),
        ];
        for (name, one, other, same) in cases {
            let (one, other) = (key(one), key(other));
            assert_eq!(one.same_block(&other), same, "{name}");
            assert_eq!(one.block_digest() == other.block_digest(), same, "{name}");
            assert_eq!(one.sign(DATE, SALT) == other.sign(DATE, SALT), same, "{name}: as they sign");
        }
    }

    #[test]
    fn a_salt_has_one_id_per_secret() {
        let (one, other) = (key(b"0123456789abcdef"), key(b"fedcba9876543210"));
        assert_eq!(one.salt_id(SALT), key(b"0123456789abcdef").salt_id(SALT));
        assert_ne!(one.salt_id(SALT), one.salt_id("cAhvtSQ1pU4NANjoBjRj6Er6v4C1roc6"));
        assert_ne!(one.salt_id(SALT), other.salt_id(SALT));
        // Pinned, because stores outlive releases: with another value, spent salts could be spent again.
        assert_eq!(one.salt_id(SALT).bytes(), &SALT_ID);
    }

    // From an independent implementation of RFC 2104 and the SipHash paper.
    const SALT_ID: [u8; 16] = [166, 0, 47, 3, 121, 7, 205, 40, 159, 135, 217, 128, 146, 238, 76, 213];

    #[test]
    fn the_size_of_a_key_is_bounded() {
        // A hash state and its block count. There may be 100 000 keys in memory.
        assert!(size_of::<SigningKey>() <= 2 * (32 + 8) + 16, "{}", size_of::<SigningKey>());
    }

    #[test]
    fn decoys_differ() {
        assert!(!SigningKey::decoy().unwrap().same_block(&SigningKey::decoy().unwrap()));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", key(b"0123456789abcdef")), "SigningKey(redacted)");
    }
}
