//! The uses that one gateway knows of.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::GatewayUses;
use crate::directory::{Directory, SecretUse};

/// How long the uses of keys are kept that are no longer there: they may come back.
const GONE: Duration = Duration::from_secs(90 * 86_400);

/// What this process knows, and what it knows from the one before it.
#[derive(Debug)]
pub(crate) struct UseLedger {
    gateway: String,
    since: SystemTime,
    lost: Option<(SystemTime, SystemTime)>,
    uses: Mutex<HashMap<(Box<str>, Box<str>), Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    at: SystemTime,
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "a file is always written as a whole"))]
    /// Whether it was given to a place that keeps each use by itself.
    is_sent: bool,
}

impl UseLedger {
    /// Begins where the process before it has ended, if anything is known of that.
    pub(crate) fn new(gateway: String, before: Option<GatewayUses>, now: SystemTime) -> Self {
        let Some(before) = before else {
            return Self { gateway, since: now, lost: None, uses: Mutex::default() };
        };
        // A use in the future was noted by a clock that was wrong.
        let known = |at: SystemTime| Known { at: at.min(now), is_sent: false };
        Self {
            gateway,
            since: before.since.min(now),
            lost: if before.ended { before.lost } else { Some((before.until, now)) },
            uses: Mutex::new(before.uses.into_iter().map(|(key, at)| (key, known(at))).collect()),
        }
    }

    /// Takes what these keys note. Called before a snapshot of them is dropped, too.
    pub(crate) fn collect(&self, directory: &Directory) {
        let collected = directory.collect_uses();
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for SecretUse { api_key, secret, at } in collected {
            uses.insert((api_key, secret), Known { at, is_sent: false });
        }
    }

    /// All that is known at this moment.
    pub(crate) fn known(&self, now: SystemTime, ended: bool) -> GatewayUses {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.retain(|_, known| known.at + GONE > now);
        GatewayUses {
            gateway: self.gateway.clone(),
            since: self.since,
            until: now,
            ended,
            lost: self.lost,
            uses: uses.iter().map(|(key, known)| (key.clone(), known.at)).collect(),
        }
    }

    /// The uses, for keys that were just read.
    pub(crate) fn all(&self) -> Vec<SecretUse> {
        self.list(|_| true)
    }

    /// Those that were not sent yet.
    #[cfg(feature = "postgres")]
    pub(crate) fn unsent(&self) -> Vec<SecretUse> {
        self.list(|known| !known.is_sent)
    }

    fn list(&self, wanted: impl Fn(&Known) -> bool) -> Vec<SecretUse> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = uses.iter().filter(|(_, known)| wanted(known));
        wanted
            .map(|((api_key, secret), known)| SecretUse {
                api_key: api_key.clone(),
                secret: secret.clone(),
                at: known.at,
            })
            .collect()
    }

    /// These were sent.
    #[cfg(feature = "postgres")]
    pub(crate) fn sent(&self, sent: &[SecretUse]) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for SecretUse { api_key, secret, at } in sent {
            if let Some(known) = uses.get_mut(&(api_key.clone(), secret.clone())).filter(|known| known.at == *at) {
                known.is_sent = true;
            }
        }
    }

    /// The gateway, for people.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(minutes * 60)
    }

    fn before(ended: bool) -> GatewayUses {
        let uses = HashMap::from([(("K".into(), "t".into()), at(500))]);
        GatewayUses {
            gateway: "old".into(),
            since: at(100),
            until: at(501),
            ended,
            lost: Some((at(200), at(210))),
            uses,
        }
    }

    #[test]
    fn a_process_that_follows_another_knows_what_that_one_knew_and_what_is_lost() {
        let new = |before| UseLedger::new("g".into(), before, at(600)).known(at(601), false);
        let first = new(None);
        assert_eq!((first.since, first.until, first.lost, first.uses.len()), (at(600), at(601), None, 0));
        let told = new(Some(before(true)));
        assert_eq!((told.since, told.lost), (at(100), Some((at(200), at(210)))));
        assert_eq!((told.last("K", "t"), &*told.gateway), (Some(at(500)), "g"));
        let killed = new(Some(before(false)));
        assert_eq!((killed.since, killed.lost), (at(100), Some((at(501), at(600)))));
        let ledger = UseLedger::new("g".into(), Some(before(true)), at(400));
        assert_eq!(ledger.known(at(400), false).last("K", "t"), Some(at(400)), "by a clock that was ahead");
        assert_eq!(ledger.known(at(400) + GONE, false).uses.len(), 0);
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn what_was_sent_is_sent_again_only_after_another_use() {
        let ledger = UseLedger::new("g".into(), Some(before(true)), at(600));
        let unsent = ledger.unsent();
        assert_eq!((unsent.len(), ledger.all().len()), (1, 1));
        ledger.sent(&[SecretUse { at: at(499), ..unsent[0].clone() }]);
        assert_eq!(ledger.unsent().len(), 1, "an earlier use was sent");
        ledger.sent(&unsent);
        assert_eq!((ledger.unsent().len(), ledger.all().len()), (0, 1));
    }
}
