//! Who the caller is (contract §4): apiKey → key, as one whole snapshot in memory.
//!
//! 1. Authenticating asks nobody; a refresh swaps the snapshot.
//! 2. An unknown apiKey costs the same work as a known one: it is checked against a decoy, and
//!    every check computes two MACs, whether the key has one secret or two.
//! 3. No two secrets sign alike: a signature would not say whose it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use subtle::Choice;

use crate::credential::{Credentials, Secret, SigningKey};
use crate::policy::{Owner, Role};
use crate::throttle::InFlight;

/// A key as its source describes it.
pub struct Entry {
    /// The apiKey.
    pub api_key: String,
    /// One secret, or two while one replaces the other.
    pub secrets: Vec<Secret>,
    /// Account and member.
    pub owner: Owner,
    /// The role; `None` reaches nothing.
    pub role: Option<Role>,
    /// Whether the key is switched on.
    pub active: bool,
    /// From when on the key is as good as unknown.
    pub expires: Option<SystemTime>,
}

/// A caller, as far as a signature says.
#[derive(Debug)]
pub struct Caller {
    /// The apiKey.
    pub api_key: Box<str>,
    /// Account and member.
    pub owner: Owner,
    /// The role; `None` reaches nothing.
    pub role: Option<Role>,
    /// Its requests in flight.
    pub in_flight: InFlight,
    active: bool,
    expires: Option<SystemTime>,
    /// A key with one secret has a decoy for its second.
    signing: [SigningKey; 2],
}

/// A whole snapshot of all keys.
#[derive(Debug)]
pub struct Directory {
    callers: HashMap<Box<str>, Arc<Caller>>,
    decoy: Caller,
}

/// Why there is no snapshot: most often two entries that cannot stand side by side.
#[derive(Debug, PartialEq, Eq)]
pub enum Clash {
    /// The same apiKey twice: the indices of both entries.
    ApiKey(usize, usize),
    /// Secrets that sign alike: the indices of both entries.
    Secret(usize, usize),
    /// The operating system has no random bytes for a decoy.
    NoRandomness,
}

fn decoy() -> Result<SigningKey, Clash> {
    SigningKey::decoy().map_err(|_| Clash::NoRandomness)
}

/// Who signed, and with which secret.
pub struct Identified {
    /// The caller.
    pub caller: Arc<Caller>,
    /// What the salt is remembered by.
    pub salt_id: [u8; 16],
}

/// Why nobody is identified. The caller is told none of this.
#[derive(Clone, Debug)]
pub enum Unidentified {
    /// No such apiKey.
    Unknown,
    /// Switched off or expired.
    Inactive(Arc<Caller>),
    /// Not signed with the key's secret.
    Mismatch(Arc<Caller>),
}

impl Directory {
    /// A snapshot of these entries.
    ///
    /// # Errors
    /// If two entries have one apiKey, or two secrets sign alike, or there is no randomness.
    pub fn new(entries: Vec<Entry>) -> Result<Self, Clash> {
        let mut callers = HashMap::with_capacity(entries.len());
        let mut names: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        let mut blocks: HashMap<[u8; 32], usize> = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            if let Some(&first) = names.get(&entry.api_key) {
                return Err(Clash::ApiKey(first, index));
            }
            names.insert(entry.api_key.clone(), index);
            let mut signing = entry.secrets.iter().map(SigningKey::new);
            let signing = [signing.next().map_or_else(decoy, Ok)?, signing.next().map_or_else(decoy, Ok)?];
            for key in signing.iter().take(entry.secrets.len()) {
                if let Some(first) = blocks.insert(key.block_digest(), index) {
                    return Err(Clash::Secret(first, index));
                }
            }
            let api_key: Box<str> = entry.api_key.into();
            let caller = Caller {
                api_key: api_key.clone(),
                owner: entry.owner,
                role: entry.role,
                in_flight: InFlight::default(),
                active: entry.active,
                expires: entry.expires,
                signing,
            };
            callers.insert(api_key, Arc::new(caller));
        }
        let nobody = Owner { account: "".into(), member: "".into() };
        let decoy = Caller {
            api_key: "".into(),
            owner: nobody,
            role: None,
            in_flight: InFlight::default(),
            active: false,
            expires: None,
            signing: [decoy()?, decoy()?],
        };
        Ok(Self { callers, decoy })
    }

    /// This snapshot after that one: a key's requests in flight are counted on.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        for (api_key, caller) in &mut self.callers {
            // Nobody else has a caller of a snapshot that is not in force yet.
            if let (Some(caller), Some(before)) = (Arc::get_mut(caller), before.callers.get(api_key)) {
                caller.in_flight = before.in_flight.clone();
            }
        }
        self
    }

    /// Whose signature this is. Always one look-up and two MACs.
    ///
    /// # Errors
    /// Why it is nobody's: for the log, never for the caller.
    pub fn identify(&self, credentials: &Credentials<'_>, now: SystemTime) -> Result<Identified, Unidentified> {
        let known = self.callers.get(credentials.api_key());
        let caller = known.map_or(&self.decoy, |caller| &**caller);
        let [first, second] = &caller.signing;
        let date = credentials.date();
        let by_first = first.verify(&date, credentials.salt(), credentials.signature());
        let by_second = second.verify(&date, credentials.salt(), credentials.signature());
        let Some(caller) = known else { return Err(Unidentified::Unknown) };
        if !caller.is_active(now) {
            return Err(Unidentified::Inactive(caller.clone()));
        }
        if !bool::from(by_first | by_second) {
            return Err(Unidentified::Mismatch(caller.clone()));
        }
        let signer = if by_second.into() { second } else { first };
        Ok(Identified { caller: caller.clone(), salt_id: signer.salt_id(credentials.salt()) })
    }

    /// The caller of an apiKey, for those who explain rather than judge.
    pub fn caller(&self, api_key: &str) -> Option<&Arc<Caller>> {
        self.callers.get(api_key)
    }

    /// All callers, in no order.
    pub fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.callers.values()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }
}

impl Caller {
    /// Whether the key is switched on and has not expired.
    pub fn is_active(&self, now: SystemTime) -> bool {
        self.active && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether one of the key's secrets made this signature over salt and date, the wrong way
    /// round: for those who explain.
    pub fn signed_swapped(&self, credentials: &Credentials<'_>) -> Choice {
        let date = credentials.date();
        let [first, second] = &self.signing;
        first.verify_swapped(&date, credentials.salt(), credentials.signature())
            | second.verify_swapped(&date, credentials.salt(), credentials.signature())
    }

    /// Whether one of the key's secrets made this signature.
    pub fn signed(&self, credentials: &Credentials<'_>) -> Choice {
        let date = credentials.date();
        let [first, second] = &self.signing;
        first.verify(&date, credentials.salt(), credentials.signature())
            | second.verify(&date, credentials.salt(), credentials.signature())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{PhpDates, header_value};

    const NOW: &str = "2026-11-24T00:00:00Z";
    const SALT: &str = "0123456789abcdef";

    fn entry(api_key: &str, secrets: &[&[u8]]) -> Entry {
        Entry {
            api_key: api_key.into(),
            secrets: secrets.iter().map(|s| Secret::new(s).unwrap()).collect(),
            owner: Owner { account: "account-1".into(), member: "member-1".into() },
            role: Some(Role::Member),
            active: true,
            expires: None,
        }
    }

    fn signed(api_key: &str, secret: &[u8]) -> String {
        let signature = SigningKey::new(&Secret::new(secret).unwrap()).sign(NOW, SALT);
        header_value(api_key, NOW, SALT, &signature)
    }

    fn identify(directory: &Directory, header: &str) -> Result<Identified, Unidentified> {
        let credentials = Credentials::parse(header.as_bytes(), PhpDates::Accept).unwrap();
        directory.identify(&credentials, credentials.date().instant())
    }

    const OLD: &[u8] = b"the old secret, long enough";
    const NEW: &[u8] = b"the new secret, long enough";

    #[test]
    fn either_of_two_secrets_signs_and_each_has_its_own_salts() {
        let directory = Directory::new(vec![entry("KEY", &[OLD, NEW])]).unwrap();
        let old = identify(&directory, &signed("KEY", OLD)).ok().unwrap();
        let new = identify(&directory, &signed("KEY", NEW)).ok().unwrap();
        assert_ne!(old.salt_id, new.salt_id);
    }

    #[test]
    fn nobody_is_identified_by_another_keys_secret_or_an_unknown_key() {
        let directory = Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[NEW])]).unwrap();
        assert!(matches!(identify(&directory, &signed("ONE", NEW)), Err(Unidentified::Mismatch(_))));
        assert!(matches!(identify(&directory, &signed("NONE", OLD)), Err(Unidentified::Unknown)));
        assert!(matches!(identify(&directory, &signed("one", OLD)), Err(Unidentified::Unknown)));
    }

    #[test]
    fn switched_off_or_expired_is_inactive_whatever_the_signature() {
        let now = Credentials::parse(signed("KEY", OLD).as_bytes(), PhpDates::Accept).unwrap().date().instant();
        let off = Entry { active: false, ..entry("KEY", &[OLD]) };
        let expired = Entry { expires: Some(now), ..entry("KEY", &[OLD]) };
        for entry in [off, expired] {
            let directory = Directory::new(vec![entry]).unwrap();
            assert!(matches!(identify(&directory, &signed("KEY", OLD)), Err(Unidentified::Inactive(_))));
            assert!(matches!(identify(&directory, &signed("KEY", NEW)), Err(Unidentified::Inactive(_))));
        }
    }

    #[test]
    fn two_secrets_that_sign_alike_clash_even_when_spelled_differently() {
        let padded = [OLD, b"\0"].concat();
        assert_eq!(
            Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[&padded])]).err(),
            Some(Clash::Secret(0, 1))
        );
        assert_eq!(Directory::new(vec![entry("ONE", &[OLD, OLD])]).err(), Some(Clash::Secret(0, 0)));
        assert_eq!(Directory::new(vec![entry("ONE", &[OLD]), entry("ONE", &[NEW])]).err(), Some(Clash::ApiKey(0, 1)));
    }
}
