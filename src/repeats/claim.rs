//! A request from its claim of a salt to its end. If the claim is granted, it is the salt's first request.

use std::sync::Arc;

use super::Became;
use super::first::First;
use super::kept::KeptAnswer;
use super::memory::{Repeats, key};
use crate::credential::SaltId;

impl Repeats {
    /// Registers a request that is about to claim this salt.
    pub fn claims(&self, salt: SaltId) -> Claimant {
        self.memory().by_salt.entry(key(salt)).or_default().claiming += 1;
        Claimant { repeats: self.clone(), salt, is_decided: false }
    }
}

/// A request whose claim of a salt is undecided. Dropping it means that it did not get the salt.
pub struct Claimant {
    repeats: Repeats,
    salt: SaltId,
    is_decided: bool,
}

impl Claimant {
    /// The claim was granted: this is the first request of the salt.
    pub fn begins(mut self, first: First) -> UnderWay {
        self.is_decided = true;
        let first = Arc::new(first);
        let mut memory = self.repeats.memory();
        let entry = memory.by_salt.entry(key(self.salt)).or_default();
        entry.claiming = entry.claiming.saturating_sub(1);
        entry.first = Some(first.clone());
        drop(memory);
        self.repeats.0.tell_settled();
        UnderWay::new(self.repeats.clone(), self.salt, first)
    }
}

impl Drop for Claimant {
    fn drop(&mut self) {
        if self.is_decided {
            return;
        }
        let mut memory = self.repeats.memory();
        if let Some(entry) = memory.by_salt.get_mut(&key(self.salt)) {
            entry.claiming = entry.claiming.saturating_sub(1);
            if entry.claiming == 0 && entry.first.is_none() {
                memory.by_salt.remove(&key(self.salt));
            }
        }
        drop(memory);
        self.repeats.0.tell_settled();
    }
}

/// A first request that is under way. If it is dropped without [`UnderWay::became`], it ended as [`Became::Unknown`].
pub struct UnderWay {
    repeats: Repeats,
    salt: SaltId,
    first: Arc<First>,
    kept: Option<Box<KeptAnswer>>,
    became: Became,
}

impl UnderWay {
    pub(super) fn new(repeats: Repeats, salt: SaltId, first: Arc<First>) -> Self {
        Self { repeats, salt, first, kept: None, became: Became::Unknown }
    }

    /// Whether its answer should be kept.
    pub fn keeps(&self) -> bool {
        self.repeats.answers()
    }

    /// Its salt.
    pub fn salt(&self) -> SaltId {
        self.salt
    }

    /// The hash of what it asked for, if the record should hold it.
    pub fn print_for_record(&self) -> Option<String> {
        self.repeats.goes_on_record().then(|| self.first.asked.print(&self.salt).text())
    }

    /// Keeps its answer.
    pub fn answered(&mut self, kept: KeptAnswer) {
        self.kept = Some(Box::new(kept));
    }

    /// Sets how it ended.
    pub fn became(&mut self, became: Became) {
        self.became = became;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.first.conclude(self.became, self.kept.take());
        self.repeats.ended(self.salt, &self.first);
    }
}
