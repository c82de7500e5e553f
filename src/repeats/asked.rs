//! What a request asks for, kept to recognize repeats: short requests as a copy, long ones as a hash.

use std::hash::Hasher;

use crate::credential::SaltId;
use siphasher::sip128::{Hasher128, SipHasher24};

/// What a request asks for: apiKey, method, target and body. Short requests, which are nearly all, are copied, which
/// costs a tenth of a hash. Of long ones only the hash is kept, so that memory is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Short(Box<[u8]>),
    Long(Print),
}

/// The same as a hash keyed by the request's salt, for a shared store and for the record. Without the header it
/// reveals nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print([u8; 16]);

/// The longest request that is copied, in bytes.
const SHORT: usize = 256;

impl Asked {
    /// What a request with this salt asks for.
    pub fn new(salt: &SaltId, api_key: &str, method: &str, target: &str, body: &[u8]) -> Self {
        let parts = [api_key.as_bytes(), method.as_bytes(), target.as_bytes(), body];
        let length = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        if length > SHORT {
            return Self(Kept::Long(Print::of(salt, parts.into_iter())));
        }
        let mut whole = Vec::with_capacity(length);
        for part in parts {
            // Each part is preceded by its length, so that two different requests never give the same bytes.
            whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
            whole.extend_from_slice(part);
        }
        Self(Kept::Short(whole.into()))
    }

    /// The hash, keyed by the same salt.
    pub fn print(&self, salt: &SaltId) -> Print {
        match &self.0 {
            Kept::Short(whole) => {
                let mut hasher = SipHasher24::new_with_key(salt.bytes());
                hasher.write(whole);
                Print(hasher.finish128().as_bytes())
            }
            Kept::Long(print) => *print,
        }
    }
}

impl Print {
    fn of<'p>(salt: &SaltId, parts: impl Iterator<Item = &'p [u8]>) -> Self {
        let mut hasher = SipHasher24::new_with_key(salt.bytes());
        for part in parts {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        Self(hasher.finish128().as_bytes())
    }

    /// Its bytes, for storing it elsewhere.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The same in hexadecimal digits.
    pub fn text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: SaltId = SaltId::from_stored([1; 16]);

    fn asked([api_key, method, target, body]: [&str; 4]) -> Asked {
        Asked::new(&SALT, api_key, method, target, body.as_bytes())
    }

    #[test]
    fn a_request_that_differs_in_any_part_is_another_request() {
        let long = "x".repeat(SHORT);
        for target in ["/a/1", &long] {
            let first = ["KEY", "DELETE", target, "x"];
            assert_eq!(asked(first), asked(first));
            let cut = &target[..target.len() - 1];
            let tail = format!("{}x", &target[target.len() - 1..]);
            for other in [
                ["KEZ", "DELETE", target, "x"],
                ["KEY", "POST", target, "x"],
                ["KEY", "DELETE", "/a/2", "x"],
                ["KEY", "DELETE", target, ""],
                ["KEY", "DELETE", cut, &tail],
                ["KEYD", "ELETE", target, "x"],
            ] {
                assert_ne!(asked(other), asked(first), "{other:?}");
                assert_ne!(asked(other).print(&SALT), asked(first).print(&SALT), "{other:?}");
            }
        }
    }

    #[test]
    fn the_hash_covers_the_whole_request_and_is_keyed() {
        for length in [0, 1, 100, SHORT, 10_000] {
            let body = "b".repeat(length);
            let parts = ["KEY", "DELETE", "/", &body];
            assert_eq!(asked(parts).print(&SALT), Print::of(&SALT, parts.iter().map(|part| part.as_bytes())));
        }
        let other = SaltId::from_stored([2; 16]);
        let same = Asked::new(&other, "KEY", "DELETE", "/", b"");
        assert_ne!(same.print(&other), asked(["KEY", "DELETE", "/", ""]).print(&SALT), "another salt");
    }
}
