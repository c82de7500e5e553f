//! What is frozen at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Lease;

/// What can be frozen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Everything.
    All,
    /// All keys of an account.
    Account(String),
    /// One key, by its apiKey.
    Key(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Account(account) => write!(f, "account {account}"),
            Self::Key(key) => write!(f, "key {key}"),
        }
    }
}

/// Who froze something, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When, as [`crate::clock::rfc3339`] writes it.
    pub since: String,
    /// The user id of the operator.
    pub uid: u32,
    /// Why, if the operator gave a reason.
    pub reason: Option<String>,
}

/// What is frozen at one moment.
#[derive(Debug)]
pub(super) struct FreezeState {
    /// The version of the fleet's state; 0 for a gateway by itself, and before the first change.
    pub(super) version: u64,
    /// For how long the state is known to be the fleet's. `None` for a gateway by itself. Each state has its own: a later
    /// one renews nothing of what an earlier one permitted.
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) all: Option<Note>,
    pub(super) accounts: BTreeMap<String, Note>,
    pub(super) keys: BTreeMap<String, Note>,
    /// Dropped with the state, which wakes whoever waits for it.
    pub(super) _held: watch::Sender<()>,
}

impl FreezeState {
    pub(super) fn new(all: Option<Note>, accounts: BTreeMap<String, Note>, keys: BTreeMap<String, Note>) -> Self {
        Self { version: 0, lease: None, all, accounts, keys, _held: watch::Sender::new(()) }
    }

    /// The same with a target more. Returns whether it was not frozen before; if it was, its first note stays.
    pub(super) fn with(&self, target: &Target, note: Note) -> (Self, bool) {
        let (mut all, mut accounts, mut keys) = (self.all.clone(), self.accounts.clone(), self.keys.clone());
        let is_new = !self.names(target);
        match target {
            Target::All => drop(all.get_or_insert(note)),
            Target::Account(name) => drop(accounts.entry(name.clone()).or_insert(note)),
            Target::Key(name) => drop(keys.entry(name.clone()).or_insert(note)),
        }
        (Self { version: self.version, ..Self::new(all, accounts, keys) }, is_new)
    }

    /// The same without this target.
    pub(super) fn without(&self, target: &Target) -> Self {
        let (mut all, mut accounts, mut keys) = (self.all.clone(), self.accounts.clone(), self.keys.clone());
        match target {
            Target::All => all = None,
            Target::Account(name) => drop(accounts.remove(name)),
            Target::Key(name) => drop(keys.remove(name)),
        }
        Self { version: self.version, ..Self::new(all, accounts, keys) }
    }

    pub(super) fn names(&self, target: &Target) -> bool {
        match target {
            Target::All => self.all.is_some(),
            Target::Account(name) => self.accounts.contains_key(name),
            Target::Key(name) => self.keys.contains_key(name),
        }
    }

    pub(super) fn copied(&self) -> Self {
        Self::new(self.all.clone(), self.accounts.clone(), self.keys.clone())
    }

    pub(super) fn is_known(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.holds())
    }

    pub(super) fn renew(&self, asked: Duration) {
        if let Some(lease) = &self.lease {
            lease.renew(asked);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_none() && self.accounts.is_empty() && self.keys.is_empty()
    }

    pub(super) fn nothing() -> Self {
        Self::new(None, BTreeMap::new(), BTreeMap::new())
    }

    /// Everything that is frozen in one of both.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let (mut accounts, mut keys) = (other.accounts.clone(), other.keys.clone());
        accounts.extend(self.accounts.clone());
        keys.extend(self.keys.clone());
        let all = self.all.clone().or_else(|| other.all.clone());
        Self { version: self.version, ..Self::new(all, accounts, keys) }
    }

    /// The text of the same state with the next version.
    pub(super) fn following(&self) -> String {
        let mut state = self.json();
        state["version"] = self.version.saturating_add(1).into();
        state.to_string()
    }

    pub(super) fn is_frozen(&self, account: &str, key: &str) -> bool {
        self.all.is_some() || self.keys.contains_key(key) || self.accounts.contains_key(account)
    }

    pub(super) fn json(&self) -> Value {
        let note = |note: &Note| json!({ "since": note.since, "uid": note.uid, "reason": note.reason });
        let notes = |notes: &BTreeMap<String, Note>| -> serde_json::Map<_, _> {
            notes.iter().map(|(name, it)| (name.clone(), note(it))).collect()
        };
        let mut state = json!({
            "all": self.all.as_ref().map(note),
            "accounts": notes(&self.accounts),
            "keys": notes(&self.keys),
        });
        if self.version > 0 {
            state["version"] = self.version.into();
        }
        state
    }

    /// `None` for anything that [`FreezeState::json`] does not write.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let notes = |name: &str| -> Option<BTreeMap<String, Note>> {
            value.get(name)?.as_object()?.iter().map(|(name, it)| Some((name.clone(), note(it)?))).collect()
        };
        let all = match value.get("all")? {
            Value::Null => None,
            it => Some(note(it)?),
        };
        let version = value.get("version").map_or(Some(0), Value::as_u64)?;
        let state = Self { version, ..Self::new(all, notes("accounts")?, notes("keys")?) };
        (state.json() == *value).then_some(state)
    }
}

fn note(value: &Value) -> Option<Note> {
    let reason = match value.get("reason")? {
        Value::Null => None,
        reason => Some(reason.as_str()?.to_owned()),
    };
    let uid = u32::try_from(value.get("uid")?.as_u64()?).ok()?;
    Some(Note { since: value.get("since")?.as_str()?.to_owned(), uid, reason })
}
