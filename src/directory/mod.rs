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
#[cfg(test)]
mod tests;

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
