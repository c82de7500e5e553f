//! Who the caller is (contract §4): apiKey → key, as one whole snapshot in memory.
//!
//! 1. Authenticating asks nobody; a refresh swaps the snapshot.
//! 2. An unknown apiKey costs the same work as a known one: it is checked against a decoy, and
//!    every check computes two MACs, whether the key has one secret or two. Two decoys do for
//!    all keys, and sign for nobody.
//! 3. No two secrets sign alike: a signature would not say whose it is.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};
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
    in_flight: OnceLock<InFlight>,
    /// Which entry it was.
    index: u32,
    active: bool,
    expires: Option<SystemTime>,
    signing: SigningKey,
    /// Few keys have one at a time, so it is elsewhere.
    second: Option<Box<SigningKey>>,
}

/// A whole snapshot of all keys.
#[derive(Debug)]
pub struct Directory {
    callers: HashSet<Named>,
    /// What stands in for a key that is unknown, and for the second secret of a key that has one.
    decoys: [SigningKey; 2],
}

/// A caller, found by its apiKey.
#[derive(Debug)]
struct Named(Arc<Caller>);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        &self.0.api_key
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.api_key.hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.api_key == other.0.api_key
    }
}

impl Eq for Named {}

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
    /// A snapshot of these entries, each of which is gone before the next is asked for: with its secrets.
    ///
    /// # Errors
    /// If two entries have one apiKey, or two secrets sign alike, or there is no randomness.
    #[allow(clippy::mutable_key_type, reason = "a caller is found by its name, which never changes")]
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Result<Self, Clash> {
        let entries = entries.into_iter();
        let (many, _) = entries.size_hint();
        let mut callers: HashSet<Named> = HashSet::with_capacity(many);
        let mut blocks: HashMap<[u8; 16], u32> = HashMap::with_capacity(many);
        for (index, entry) in (0..).zip(entries) {
            if let Some(Named(first)) = callers.get(&*entry.api_key) {
                return Err(Clash::ApiKey(first.index as usize, index as usize));
            }
            let mut keys = entry.secrets.iter().map(SigningKey::new);
            // An entry without a secret is nobody's.
            let signing = keys.next().map_or_else(decoy, Ok)?;
            let second = keys.next().map(Box::new);
            for key in [Some(&signing), second.as_deref()].into_iter().flatten() {
                if let Some(first) = blocks.insert(key.block_digest(), index) {
                    return Err(Clash::Secret(first as usize, index as usize));
                }
            }
            callers.insert(Named(Arc::new(Caller {
                api_key: entry.api_key.into(),
                index,
                owner: entry.owner,
                role: entry.role,
                in_flight: OnceLock::new(),
                active: entry.active,
                expires: entry.expires,
                signing,
                second,
            })));
        }
        Ok(Self { callers, decoys: [decoy()?, decoy()?] })
    }

    /// This snapshot after that one: a key's requests in flight are counted on.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        for Named(caller) in &self.callers {
            if let Some(before) = before.caller(&caller.api_key) {
                // Nobody has asked a caller of a snapshot that is not in force yet.
                let _ = caller.in_flight.set(before.in_flight().clone());
            }
        }
        self
    }

    /// Whose signature this is. Always one look-up and two MACs.
    ///
    /// # Errors
    /// Why it is nobody's: for the log, never for the caller.
    pub fn identify(&self, credentials: &Credentials<'_>, now: SystemTime) -> Result<Identified, Unidentified> {
        let known = self.caller(credentials.api_key());
        let [first, second] = self.signing(known.map(|caller| &**caller));
        let date = credentials.date();
        let by_first = first.verify(&date, credentials.salt(), credentials.signature());
        let by_second = second.verify(&date, credentials.salt(), credentials.signature());
        let Some(caller) = known else { return Err(Unidentified::Unknown) };
        // Whatever a decoy says, it signs for nobody.
        let by_second = by_second & Choice::from(u8::from(caller.second.is_some()));
        if !caller.is_active(now) {
            return Err(Unidentified::Inactive(caller.clone()));
        }
        if !bool::from(by_first | by_second) {
            return Err(Unidentified::Mismatch(caller.clone()));
        }
        let signer = if by_second.into() { second } else { first };
        Ok(Identified { caller: caller.clone(), salt_id: signer.salt_id(credentials.salt()) })
    }

    /// What a caller signs with, decoys where there is nothing.
    fn signing<'d>(&'d self, caller: Option<&'d Caller>) -> [&'d SigningKey; 2] {
        let [first, second] = &self.decoys;
        match caller {
            None => [first, second],
            Some(caller) => [&caller.signing, caller.second.as_deref().unwrap_or(second)],
        }
    }

    /// The caller of an apiKey, for those who explain rather than judge.
    pub fn caller(&self, api_key: &str) -> Option<&Arc<Caller>> {
        self.callers.get(api_key).map(|Named(caller)| caller)
    }

    /// All callers, in no order.
    pub fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.callers.iter().map(|Named(caller)| caller)
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

    /// Its requests in flight. Most of many keys have none for as long as the process runs.
    pub fn in_flight(&self) -> &InFlight {
        self.in_flight.get_or_init(InFlight::default)
    }

    /// Whether one of the key's secrets made this signature over salt and date, the wrong way
    /// round: for those who explain.
    pub fn signed_swapped(&self, credentials: &Credentials<'_>) -> Choice {
        self.by_any(|key| key.verify_swapped(&credentials.date(), credentials.salt(), credentials.signature()))
    }

    /// Whether one of the key's secrets made this signature.
    pub fn signed(&self, credentials: &Credentials<'_>) -> Choice {
        self.by_any(|key| key.verify(&credentials.date(), credentials.salt(), credentials.signature()))
    }

    fn by_any(&self, verify: impl Fn(&SigningKey) -> Choice) -> Choice {
        verify(&self.signing) | self.second.as_deref().map_or(Choice::from(0), verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{PhpDates, header_value};
    use crate::throttle::Slots;

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
    fn what_stands_in_for_a_second_secret_signs_for_nobody() {
        let directory = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
        for decoy in &directory.decoys {
            let header = header_value("KEY", NOW, SALT, &decoy.sign(NOW, SALT));
            assert!(matches!(identify(&directory, &header), Err(Unidentified::Mismatch(_))));
        }
    }

    #[test]
    fn requests_in_flight_are_counted_on_by_the_snapshot_that_comes_after() {
        let slots = Slots::new(9, 1);
        let before = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
        let after = Directory::new(vec![entry("NEW", &[OLD]), entry("KEY", &[NEW])]).unwrap().after(&before);
        let in_flight = |directory: &Directory, key: &str| directory.caller(key).unwrap().in_flight().clone();
        let held = slots.take(&in_flight(&after, "KEY")).unwrap();
        assert!(slots.take(&in_flight(&before, "KEY")).is_err(), "one key, whichever snapshot a request began with");
        assert!(slots.take(&in_flight(&after, "NEW")).is_ok(), "and no other");
        drop(held);
        assert!(slots.take(&in_flight(&before, "KEY")).is_ok());
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
