use std::fmt;
use std::hash::Hasher;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::{Date, Secret};

/// A claimed signature. It is compared in constant time, and in one place.
pub struct Signature([u8; 32]);

impl Signature {
    /// 64 lower-case hexadecimal digits; there is no other spelling.
    pub fn parse(hex: &[u8]) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Whether two signatures are the same, in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        same(&self.0, other).into()
    }
}

/// The one comparison of signatures.
fn same(computed: &[u8; 32], claimed: &Signature) -> Choice {
    computed.ct_eq(&claimed.0)
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(redacted)")
    }
}

/// A secret made ready: signs and verifies, and names salts.
pub struct SigningKey {
    keyed: Hmac<Sha256>,
    /// Keys the names of salts. The same in every process, so that stores can be shared;
    /// independent of the apiKey, so that a salt stays spent when a secret moves to another.
    salts: Zeroizing<[u8; 16]>,
}

impl SigningKey {
    /// Makes a secret ready.
    pub fn new(secret: &Secret) -> Self {
        Self::keyed(secret.expose())
    }

    /// A key that nobody has: what unknown callers are checked against.
    ///
    /// Without randomness its bytes would be known to everybody; what is signed with it is
    /// refused all the same.
    pub fn decoy() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        let _ = getrandom::fill(&mut *bytes);
        Self::keyed(&*bytes)
    }

    fn keyed(secret: &[u8]) -> Self {
        // HMAC takes keys of any length: the error cannot occur, and a key of zeros is what the
        // type demands in its place.
        let keyed = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
        let derived = mac(&keyed, &[b"\0saltgate-replay"]);
        let mut salts = Zeroizing::new([0; 16]);
        salts.copy_from_slice(&derived[..16]);
        Self { keyed, salts }
    }

    /// Whether `signature` is this key's for `date‖salt`, in constant time.
    pub fn verify(&self, date: &Date<'_>, salt: &str, signature: &Signature) -> Choice {
        same(&mac(&self.keyed, &[date.text().as_bytes(), salt.as_bytes()]), signature)
    }

    /// The signature of a date and a salt, for those who send.
    pub fn sign(&self, date: &str, salt: &str) -> String {
        let bytes = mac(&self.keyed, &[date.as_bytes(), salt.as_bytes()]);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a salt is remembered by: nothing readable, and nobody without the secret can aim.
    pub fn salt_id(&self, salt: &str) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.salts);
        hasher.write(salt.as_bytes());
        hasher.finish128().as_bytes()
    }

    /// The same for two secrets that sign alike, however they are spelled: HMAC pads a short key
    /// with zeros and hashes a long one.
    pub fn block_digest(&self) -> [u8; 32] {
        mac(&self.keyed, &[b"\0saltgate-block"])
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

fn mac(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;
    use crate::credential::{Credentials, PhpDates, header_value};

    const SECRET: &[u8] = b"a secret of the tests, long enough";
    const DATE: &str = "2026-11-23T22:38:08.123+09:00";
    const SALT: &str = "0123456789abcdef-_";

    fn key(secret: &[u8]) -> SigningKey {
        SigningKey::new(&Secret::new(secret).unwrap())
    }

    fn passes(date: &str, salt: &str, signature: &str) -> bool {
        let value = header_value("KEY", date, salt, signature);
        Credentials::parse(value.as_bytes(), PhpDates::Accept)
            .is_ok_and(|c| key(SECRET).verify(&c.date(), c.salt(), c.signature()).into())
    }

    #[test]
    fn every_bit_of_the_signature_counts() {
        let signature = key(SECRET).sign(DATE, SALT);
        assert!(passes(DATE, SALT, &signature));
        for bit in 0..256 {
            let mut bytes = Signature::parse(signature.as_bytes()).unwrap();
            bytes.0[bit / 8] ^= 1 << (bit % 8);
            let flipped: String = bytes.0.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!passes(DATE, SALT, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn every_byte_of_date_and_salt_counts() {
        let signature = key(SECRET).sign(DATE, SALT);
        for (index, byte) in DATE.bytes().enumerate() {
            for other in (b' '..=b'~').filter(|other| *other != byte) {
                let mut date = DATE.as_bytes().to_vec();
                date[index] = other;
                assert!(!passes(std::str::from_utf8(&date).unwrap(), SALT, &signature), "date byte {index}: {other}");
            }
        }
        for (index, byte) in SALT.bytes().enumerate() {
            for other in (b' '..=b'~').filter(|other| *other != byte) {
                let mut salt = SALT.as_bytes().to_vec();
                salt[index] = other;
                assert!(!passes(DATE, std::str::from_utf8(&salt).unwrap(), &signature), "salt byte {index}: {other}");
            }
        }
    }

    #[test]
    fn secrets_that_hmac_cannot_tell_apart_have_one_digest() {
        let long = [b'x'; 100];
        let hashed = Sha256::digest(long);
        assert_eq!(key(&long).block_digest(), key(&hashed).block_digest());
        assert_eq!(key(SECRET).block_digest(), key(&[SECRET, b"\0\0"].concat()).block_digest());
        assert_ne!(key(SECRET).block_digest(), key(&[SECRET, b"\x01"].concat()).block_digest());
    }

    #[test]
    fn salts_are_named_per_secret() {
        assert_eq!(key(SECRET).salt_id(SALT), key(SECRET).salt_id(SALT));
        assert_ne!(key(SECRET).salt_id(SALT), key(b"another secret of the tests").salt_id(SALT));
        assert_ne!(SigningKey::decoy().salt_id(SALT), SigningKey::decoy().salt_id(SALT));
    }

    #[test]
    fn headers_recorded_from_real_clients_verify() {
        let vectors: Vec<serde_json::Value> = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
        assert!(vectors.len() >= 33);
        for vector in vectors {
            let header = vector["header"].as_str().unwrap();
            let credentials = Credentials::parse(header.as_bytes(), PhpDates::Accept).unwrap();
            let key = key(vector["apiSecret"].as_str().unwrap().as_bytes());
            assert!(
                bool::from(key.verify(&credentials.date(), credentials.salt(), credentials.signature())),
                "{header}"
            );
        }
    }
}
