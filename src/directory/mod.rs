//! The known keys (contract §4): apiKey → caller, as one immutable snapshot in memory.
//!
//! 1. Authentication asks no other system. A reload replaces the snapshot.
//! 2. An unknown apiKey costs the same work as a known one: another caller stands in for it. Every check computes two
//!    MACs, whether the key has one secret or two. Whether the key is unknown, inactive or the signature wrong is
//!    computed without a branch. `make timing` measures this.
//! 3. No two secrets may produce the same signatures, because a signature would then not say whose it is.

mod changes;
mod entry;
mod index;
mod key_state;
mod last_use;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use subtle::Choice;

use crate::credential::{Credentials, SaltId, SecretSlot, SigningKey};
use crate::policy::{Owner, Role};
use crate::throttle::KeyUse;
use index::{Index, IndexBuilder};
use last_use::LastUse;

pub use entry::KeyEntry;
pub(crate) use key_state::{KeyHealth, KeyState};
pub(crate) use last_use::SecretUse;
pub(crate) use settings::KeysFile;

/// The caller that a key stands for.
#[derive(Debug)]
pub struct Caller {
    /// The apiKey.
    pub api_key: Box<str>,
    /// Account and member.
    pub owner: Owner,
    /// The role; `None` permits nothing.
    pub role: Option<Role>,
    usage: OnceLock<KeyUse>,
    /// When its secrets were last used.
    used: [LastUse; 2],
    /// The index of its entry.
    index: u32,
    active: bool,
    expires: Option<SystemTime>,
    /// From when on the first secret is no longer accepted.
    secret_1_expires: Option<SystemTime>,
    signing: SigningKey,
    /// Boxed, because few keys have a second secret.
    second: Option<Box<SigningKey>>,
}

/// A snapshot of all keys.
#[derive(Debug)]
pub struct Directory {
    callers: Index,
    /// Stands in for the second secret of keys that have only one.
    decoy: SigningKey,
}

/// Why a snapshot cannot be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Clash {
    /// Two entries have the same apiKey: their indices.
    ApiKey(usize, usize),
    /// Two secrets produce the same signatures: the indices of their entries.
    Secret(usize, usize),
    /// The operating system has no random bytes for a decoy.
    NoRandomness,
}

/// Why an entry of a database is disabled (contract §4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyClash {
    /// Several entries have this apiKey, so all of them are disabled.
    #[error("the key {0} is there twice: neither is used")]
    SameApiKey(Box<str>),
    /// The secrets of these two keys produce the same signatures, so both are disabled.
    #[error("the keys {0} and {1} have a secret in common, or one of them has it twice: neither is used")]
    SameSecret(Box<str>, Box<str>),
}

fn decoy() -> Result<SigningKey, Clash> {
    SigningKey::decoy().map_err(|_| Clash::NoRandomness)
}

/// The decoy caller, which stands in for unknown apiKeys where there are no keys. No request can name it, because an apiKey is never
/// empty.
fn decoy_caller() -> Result<Caller, Clash> {
    Ok(Caller {
        api_key: "".into(),
        owner: Owner { account: "".into(), member: "".into() },
        role: None,
        usage: OnceLock::new(),
        used: Default::default(),
        index: 0,
        active: true,
        expires: None,
        secret_1_expires: None,
        signing: decoy()?,
        second: None,
    })
}

impl Caller {
    fn new(entry: KeyEntry, index: u32) -> Result<Self, Clash> {
        let mut keys = entry.secrets.iter().map(SigningKey::new);
        // An entry without a secret gets a decoy, so nobody can sign for it.
        let signing = keys.next().map_or_else(decoy, Ok)?;
        let second = keys.next().map(Box::new);
        Ok(Self {
            api_key: entry.api_key.into(),
            index,
            owner: entry.owner,
            role: entry.role,
            usage: OnceLock::new(),
            used: Default::default(),
            active: entry.active,
            expires: entry.expires,
            secret_1_expires: entry.secret_1_expires,
            signing,
            second,
        })
    }

    fn signing_keys(&self) -> impl Iterator<Item = &SigningKey> {
        [Some(&self.signing), self.second.as_deref()].into_iter().flatten()
    }
}

/// Who signed, and with which secret.
pub struct Identified {
    /// The caller.
    pub caller: Arc<Caller>,
    /// Which secret.
    pub(crate) secret: SecretSlot,
    /// The id under which the stores remember the salt.
    pub salt_id: SaltId,
}

/// Why no caller was identified. The client never learns this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// No such apiKey.
    Unknown,
    /// Switched off or expired.
    Inactive,
    /// Not signed with a secret of the key.
    Mismatch,
}

impl Unidentified {
    /// Read from a table, because branches would take different times.
    fn of(known: Choice, active: Choice) -> Self {
        const TABLE: [Unidentified; 4] =
            [Unidentified::Unknown, Unidentified::Unknown, Unidentified::Inactive, Unidentified::Mismatch];
        TABLE[usize::from(known.unwrap_u8() << 1 | active.unwrap_u8())]
    }
}

impl Directory {
    /// A snapshot of these entries. Each entry and its secrets are dropped before the next one is taken.
    ///
    /// # Errors
    /// If two entries have the same apiKey, two secrets produce the same signatures, or there is no randomness.
    pub fn new(entries: impl IntoIterator<Item = KeyEntry>) -> Result<Self, Clash> {
        let entries = entries.into_iter();
        let (many, _) = entries.size_hint();
        let mut callers = IndexBuilder::new(decoy_caller()?, decoy()?, many);
        let mut blocks: HashMap<[u8; 16], u32> = HashMap::with_capacity(many);
        for (index, entry) in (0..).zip(entries) {
            let caller = Caller::new(entry, index)?;
            let clash = caller.signing_keys().find_map(|key| {
                let first = blocks.insert(key.block_digest(), index)?;
                Some(Clash::Secret(first as usize, index as usize))
            });
            callers.add(caller).map_err(|first| Clash::ApiKey(first.index as usize, index as usize))?;
            // A repeated apiKey is reported before a repeated secret, because it says more.
            clash.map_or(Ok(()), Err)?;
        }
        Ok(Self { callers: callers.build(), decoy: decoy()? })
    }

    /// A snapshot of the entries of a database, in which those that clash are disabled.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn without_clashes(entries: impl IntoIterator<Item = KeyEntry>) -> Result<(Self, Vec<KeyClash>), Clash> {
        let entries = entries.into_iter();
        let (many, _) = entries.size_hint();
        let mut callers = IndexBuilder::new(decoy_caller()?, decoy()?, many);
        let mut blocks: HashMap<[u8; 16], Box<str>> = HashMap::with_capacity(many);
        let mut clashes = Vec::new();
        for (index, entry) in (0..).zip(entries) {
            let mut caller = Caller::new(entry, index)?;
            let digests: Vec<_> = caller.signing_keys().map(SigningKey::block_digest).collect();
            for digest in digests {
                if let Some(first) = blocks.insert(digest, caller.api_key.clone()) {
                    callers.disable(&first);
                    caller.active = false;
                    clashes.push(KeyClash::SameSecret(first, caller.api_key.clone()));
                }
            }
            let api_key = caller.api_key.clone();
            if callers.add(caller).is_err() {
                callers.disable(&api_key);
                clashes.push(KeyClash::SameApiKey(api_key));
            }
        }
        Ok((Self { callers: callers.build(), decoy: decoy()? }, clashes))
    }

    /// Makes this snapshot the successor of `before`: the keys' requests in flight and spent salts continue to count,
    /// and the last use of each secret is that of the same secret before.
    pub fn inherit(&self, before: &Self) {
        for caller in self.callers.callers() {
            if let Some(before) = before.caller(&caller.api_key) {
                // The value cannot be set already: nobody uses this snapshot yet.
                let _ = caller.usage.set(before.usage().clone());
                caller.inherit_use(before);
            }
        }
    }

    /// Identifies the signer. This always takes one look-up, two MACs and one branch (whether the signature is
    /// valid).
    ///
    /// # Errors
    /// Why no caller was identified, for the log and never for the client.
    pub fn identify(&self, credentials: &Credentials<'_>, now: SystemTime) -> Result<Identified, Unidentified> {
        let (caller, known) = self.callers.find(credentials.api_key());
        let second = caller.second.as_deref().unwrap_or(&self.decoy);
        let date = credentials.date();
        let by_first = caller.signing.verify(&date, credentials.salt(), credentials.signature());
        let by_second = second.verify(&date, credentials.salt(), credentials.signature());
        // A match with the decoy does not count.
        let by_second = by_second & Choice::from(u8::from(caller.second.is_some()));
        // A secret that has ended makes its key inactive for whoever signs with it.
        let ended = by_first & !Choice::from(u8::from(caller.is_accepted(SecretSlot::First, now)));
        let active = Choice::from(u8::from(caller.is_active(now))) & !ended;
        if !bool::from(known & active & (by_first | by_second)) {
            return Err(Unidentified::of(known, active));
        }
        let (secret, signer) =
            if by_second.into() { (SecretSlot::Second, second) } else { (SecretSlot::First, &caller.signing) };
        Ok(Identified { caller: caller.clone(), secret, salt_id: signer.salt_id(credentials.salt()) })
    }

    /// The caller of an apiKey, for explanations and not for authentication.
    pub fn caller(&self, api_key: &str) -> Option<&Arc<Caller>> {
        let (caller, known) = self.callers.find(api_key);
        bool::from(known).then_some(caller)
    }

    /// All callers, in the order of their entries.
    pub fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.callers.callers().iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.callers.callers().len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Caller {
    /// Whether the key is switched on and has not expired.
    pub fn is_active(&self, now: SystemTime) -> bool {
        // Without a branch, because this also runs for the decoy caller.
        self.active & self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether the key is switched on, whether or not it has expired.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_switched_on(&self) -> bool {
        self.active
    }

    /// Whether the key has expired. Reads the time only if the key has an expiry.
    pub fn has_expired(&self, now: impl FnOnce() -> SystemTime) -> bool {
        self.expires.is_some_and(|expires| now() >= expires)
    }

    /// Whether the key or this secret of it has expired. Reads the time only if one of them has an expiry.
    pub(crate) fn has_ended(&self, secret: SecretSlot, now: impl Fn() -> SystemTime) -> bool {
        self.has_expired(&now) || self.secret_expires(secret).is_some_and(|expires| now() >= expires)
    }

    /// Whether this secret has not ended, whatever the key is.
    pub(crate) fn is_accepted(&self, secret: SecretSlot, now: SystemTime) -> bool {
        // Without a branch on the expiry, like that of the key.
        self.secret_expires(secret).is_none_or(|expires| now < expires)
    }

    /// From when on this secret is no longer accepted.
    pub(crate) fn secret_expires(&self, secret: SecretSlot) -> Option<SystemTime> {
        match secret {
            SecretSlot::First => self.secret_1_expires,
            SecretSlot::Second => None,
        }
    }

    /// When the secret that made this signature has ended, for explanations.
    pub(crate) fn signed_by_ended(&self, credentials: &Credentials<'_>, now: SystemTime) -> Option<SystemTime> {
        let made = self.signing.verify(&credentials.date(), credentials.salt(), credentials.signature());
        self.secret_1_expires.filter(|_| made.into() && !self.is_accepted(SecretSlot::First, now))
    }

    /// From when on the key is no longer accepted.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// What the key uses. Created on first use, because most keys are never used.
    pub fn usage(&self) -> &KeyUse {
        self.usage.get_or_init(KeyUse::default)
    }

    /// Whether one of the key's secrets made this signature over salt and date in the wrong order, for explanations.
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
    use crate::credential::{PhpDates, Secret, header_value};
    use crate::throttle::Slots;

    const NOW: &str = "2026-11-24T00:00:00Z";
    const SALT: &str = "0123456789abcdef";

    fn entry(api_key: &str, secrets: &[&[u8]]) -> KeyEntry {
        KeyEntry {
            api_key: api_key.into(),
            secrets: secrets.iter().map(|s| Secret::new(s).unwrap()).collect(),
            owner: Owner { account: "account-1".into(), member: "member-1".into() },
            role: Some(Role::Member),
            active: true,
            expires: None,
            secret_1_expires: None,
            line: 1,
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
    fn both_secrets_of_a_key_are_valid_and_have_their_own_salts() {
        let directory = Directory::new(vec![entry("KEY", &[OLD, NEW])]).unwrap();
        let old = identify(&directory, &signed("KEY", OLD)).ok().unwrap();
        let new = identify(&directory, &signed("KEY", NEW)).ok().unwrap();
        assert_ne!(old.salt_id, new.salt_id);
    }

    #[test]
    fn nobody_is_identified_by_another_keys_secret_or_an_unknown_key() {
        let directory = Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[NEW])]).unwrap();
        assert!(matches!(identify(&directory, &signed("ONE", NEW)), Err(Unidentified::Mismatch)));
        assert!(matches!(identify(&directory, &signed("NONE", OLD)), Err(Unidentified::Unknown)));
        assert!(matches!(identify(&directory, &signed("one", OLD)), Err(Unidentified::Unknown)));
    }

    #[test]
    fn every_caller_of_many_is_found_and_nobody_else() {
        let secret = |n: u32| format!("a secret of its own, number {n:06}");
        let entries = (0..5_000).map(|n| entry(&format!("KEY{n}"), &[secret(n).as_bytes()]));
        // An iterator without a size hint.
        let directory = Directory::new(entries.filter(|_| true)).unwrap();
        assert_eq!(directory.len(), 5_000);
        for n in 0..5_000 {
            assert_eq!(&*directory.caller(&format!("KEY{n}")).unwrap().api_key, format!("KEY{n}"));
            assert!(directory.caller(&format!("KEZ{n}")).is_none() && directory.caller("").is_none());
        }
        let header = signed("KEY4999", secret(4_999).as_bytes());
        assert_eq!(&*identify(&directory, &header).ok().unwrap().caller.api_key, "KEY4999");
    }

    #[test]
    fn a_disabled_or_expired_key_is_inactive_whatever_the_signature() {
        let now = Credentials::parse(signed("KEY", OLD).as_bytes(), PhpDates::Accept).unwrap().date().instant();
        let off = KeyEntry { active: false, ..entry("KEY", &[OLD]) };
        let expired = KeyEntry { expires: Some(now), ..entry("KEY", &[OLD]) };
        for entry in [off, expired] {
            let directory = Directory::new(vec![entry]).unwrap();
            assert!(matches!(identify(&directory, &signed("KEY", OLD)), Err(Unidentified::Inactive)));
            assert!(matches!(identify(&directory, &signed("KEY", NEW)), Err(Unidentified::Inactive)));
        }
        let moment = std::time::Duration::from_nanos(1);
        let expiring = KeyEntry { expires: Some(now + moment), ..entry("KEY", &[OLD]) };
        let directory = Directory::new(vec![expiring]).unwrap();
        assert!(identify(&directory, &signed("KEY", OLD)).is_ok(), "until then it is active");
        let caller = directory.caller("KEY").unwrap();
        assert_eq!(caller.expires(), Some(now + moment));
        assert!(!caller.has_expired(|| now) && caller.has_expired(|| now + moment));
        assert!(!caller.is_active(now + moment) && !caller.is_active(now + 2 * moment));
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn a_key_that_has_expired_is_still_switched_on() {
        let past = KeyEntry { expires: Some(SystemTime::UNIX_EPOCH), ..entry("PAST", &[OLD]) };
        let off = KeyEntry { active: false, ..entry("OFF", &[NEW]) };
        let directory = Directory::new(vec![past, off]).unwrap();
        let is_on = |key: &str| directory.caller(key).unwrap().is_switched_on();
        assert!(is_on("PAST") && !is_on("OFF"));
    }

    #[test]
    fn the_first_of_two_secrets_ends_by_itself() {
        let now = Credentials::parse(signed("KEY", OLD).as_bytes(), PhpDates::Accept).unwrap().date().instant();
        let later = now + std::time::Duration::from_nanos(1);
        for (expires, accepted) in [(later, true), (now, false)] {
            let entry = KeyEntry { secret_1_expires: Some(expires), ..entry("KEY", &[OLD, NEW]) };
            let directory = Directory::new(vec![entry]).unwrap();
            let old = identify(&directory, &signed("KEY", OLD));
            assert!(if accepted { old.is_ok() } else { matches!(old, Err(Unidentified::Inactive)) });
            assert!(identify(&directory, &signed("KEY", NEW)).is_ok(), "the second goes on");
            assert!(matches!(
                identify(&directory, &signed("KEY", b"another secret of theirs")),
                Err(Unidentified::Mismatch)
            ));
            let caller = directory.caller("KEY").unwrap();
            assert_eq!(caller.has_ended(SecretSlot::First, || now), !accepted);
            assert!(!caller.has_ended(SecretSlot::Second, || now));
        }
    }

    #[test]
    fn the_decoy_for_a_second_secret_signs_for_nobody() {
        let directory = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
        let header = header_value("KEY", NOW, SALT, &directory.decoy.sign(NOW, SALT));
        assert!(matches!(identify(&directory, &header), Err(Unidentified::Mismatch)));
        // The only caller stands in for every unknown apiKey, and its own signature does not make one known.
        let (stands_in, known) = directory.callers.find("NONE");
        assert!(&*stands_in.api_key == "KEY" && !bool::from(known));
        assert!(matches!(identify(&directory, &signed("NONE", OLD)), Err(Unidentified::Unknown)));
        let none = Directory::new(vec![]).unwrap();
        assert!(matches!(
            identify(&none, &signed("", OLD).replace("apiKey=,", "apiKey=NONE,")),
            Err(Unidentified::Unknown)
        ));
    }

    #[test]
    fn requests_in_flight_still_count_after_a_reload() {
        let slots = Slots::new(9, 1);
        let before = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
        let after = Directory::new(vec![entry("NEW", &[OLD]), entry("KEY", &[NEW])]).unwrap();
        after.inherit(&before);
        let in_flight = |directory: &Directory, key: &str| directory.caller(key).unwrap().usage().in_flight().clone();
        let held = slots.take(&in_flight(&after, "KEY")).unwrap();
        assert!(slots.take(&in_flight(&before, "KEY")).is_err(), "one key, whichever snapshot a request began with");
        assert!(slots.take(&in_flight(&after, "NEW")).is_ok(), "and no other");
        drop(held);
        assert!(slots.take(&in_flight(&before, "KEY")).is_ok());
    }

    #[test]
    fn entries_of_a_database_that_clash_are_disabled_and_no_others() {
        let padded = [OLD, b"\0"].concat();
        const THIRD: &[u8] = b"the third secret, long enough";
        let entries = [
            entry("ONE", &[OLD]),
            entry("TWO", &[NEW]),
            entry("SAME", &[b"a secret of its own, the first"]),
            entry("SAME", &[b"a secret of its own, the second"]),
            entry("THREE", &[THIRD, &padded]),
        ];
        let (directory, clashes) = Directory::without_clashes(entries).unwrap();
        let same_secret = KeyClash::SameSecret("ONE".into(), "THREE".into());
        assert_eq!(clashes, [KeyClash::SameApiKey("SAME".into()), same_secret]);
        for (api_key, secret) in [
            ("ONE", OLD),
            ("THREE", THIRD),
            ("SAME", b"a secret of its own, the first".as_slice()),
            ("SAME", b"a secret of its own, the second"),
        ] {
            assert!(identify(&directory, &signed(api_key, secret)).is_err(), "{api_key}");
        }
        assert!(identify(&directory, &signed("TWO", NEW)).is_ok());
    }

    #[test]
    fn secrets_with_equal_signatures_clash_even_if_they_differ() {
        let padded = [OLD, b"\0"].concat();
        assert_eq!(
            Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[&padded])]).err(),
            Some(Clash::Secret(0, 1))
        );
        assert_eq!(Directory::new(vec![entry("ONE", &[OLD, OLD])]).err(), Some(Clash::Secret(0, 0)));
        assert_eq!(Directory::new(vec![entry("ONE", &[OLD]), entry("ONE", &[NEW])]).err(), Some(Clash::ApiKey(0, 1)));
    }
}
