//! When the secrets of keys were last used: what a gateway keeps of it, and whether a secret has been idle (contract §8).
//!
//! 1. A gateway knows of every use from `since` to `until`. It notes uses in memory, and keeps them every [`KEEP_EVERY`], after
//!    each change of its keys, and when it is told to end. No request waits for that.
//! 2. If a gateway ends otherwise, its last uses are lost. They are not forgotten to be missing: a secret counts as idle only if
//!    nobody can have used it.
//! 3. Secrets are named by their short tags. Neither the file nor an answer contains a secret.

mod file;
mod idle;
mod ledger;
mod lines;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

pub(crate) use file::UseFile;
pub(crate) use idle::idle;
pub(crate) use ledger::UseLedger;
pub(crate) use lines::NotUses;

/// How often uses are kept.
pub(crate) const KEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// A gateway that has kept nothing for so long does not run any more, or cannot keep anything.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(11 * 60);

/// What one gateway knows of when secrets were used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayUses {
    /// Its host and its first listener, for people.
    pub gateway: String,
    /// From when on it knows of every use.
    pub since: SystemTime,
    /// Up to when.
    pub until: SystemTime,
    /// Whether it was told to end, so that nothing was used after `until`.
    pub ended: bool,
    /// The latest time of whose uses some may be missing: from when to when.
    pub lost: Option<(SystemTime, SystemTime)>,
    /// The begin of the minute in which a secret was last used, by apiKey and short tag.
    pub uses: HashMap<(Box<str>, Box<str>), SystemTime>,
}

impl GatewayUses {
    /// When this secret was last used.
    pub(crate) fn last(&self, api_key: &str, secret: &str) -> Option<SystemTime> {
        self.uses.get(&(api_key.into(), secret.into())).copied()
    }
}
