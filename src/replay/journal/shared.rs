//! State that claims and the background thread of a journal share, and the calls from the one to the other.

#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use super::log::Log;
#[cfg(test)]
use super::witness::End;
use crate::replay::salt_set::SaltSet;
use crate::replay::{Claim, ClaimRefused, StoreHealth};

/// State that claims and the background thread share.
pub(super) struct Shared {
    pub(super) salts: SaltSet,
    pub(super) log: Log,
    each: bool,
    /// How many records of this run are on disk; `None` once a sync has failed.
    pub(super) on_disk: watch::Sender<Option<u64>>,
    /// What is wrong, as a text for operators.
    trouble: Mutex<Option<String>>,
    calls: Mutex<Sender<Call>>,
    /// Whether the thread was asked to allocate a segment and has not done it yet.
    pub(super) asked_for_room: AtomicBool,
    /// The date up to which the reach on disk lets claims be admitted, in nanoseconds since 1970.
    pub(super) covered: AtomicI64,
    /// Set when a test ends the journal as a kill would.
    #[cfg(test)]
    pub(super) killed: AtomicBool,
    /// The end of the log that was last written to the witness.
    #[cfg(test)]
    pub(super) shown: Mutex<Option<End>>,
    /// How many times the background thread has finished all work that was due.
    #[cfg(test)]
    pub(super) rounds: AtomicU64,
}

pub(super) enum Call {
    /// A record waits for a sync, or space is getting short.
    Wake,
    /// The floor has risen.
    Forgot,
    /// Extends the reach on disk to this date, and replies whether that succeeded.
    Cover(i64, oneshot::Sender<bool>),
}

impl Shared {
    /// Nothing is known to be on disk yet; `covered` is what the reach on disk admits.
    pub(super) fn new(salts: SaltSet, log: Log, each: bool, covered: i64, calls: Sender<Call>) -> Self {
        Self {
            salts,
            log,
            each,
            on_disk: watch::Sender::new(Some(0)),
            trouble: Mutex::default(),
            calls: Mutex::new(calls),
            asked_for_room: AtomicBool::new(false),
            covered: AtomicI64::new(covered),
            #[cfg(test)]
            killed: AtomicBool::new(false),
            #[cfg(test)]
            shown: Mutex::default(),
            #[cfg(test)]
            rounds: AtomicU64::new(0),
        }
    }

    /// The result of a claim whose record was number `appended` of this run.
    pub(super) fn on_disk(&self, appended: u64) -> Claim<'_> {
        // Ask once, not with every claim until the segment is there.
        if self.log.is_short() && !self.asked_for_room.swap(true, Ordering::AcqRel) {
            self.call(Call::Wake);
        }
        if !self.each {
            return Claim::Now(Ok(()));
        }
        self.call(Call::Wake);
        let mut on_disk = self.on_disk.subscribe();
        Claim::Later(Box::pin(async move {
            let known = on_disk.wait_for(|so_far| so_far.is_none_or(|so_far| so_far >= appended)).await;
            match known.map(|so_far| *so_far) {
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => Err(ClaimRefused::Unknown),
            }
        }))
    }

    /// Makes the next sync fail.
    #[cfg(test)]
    pub(super) fn fail_next_sync(&self) {
        self.log.fail_next_sync();
    }

    /// Whether the fence of the next start would cover this date if the journal were lost now.
    pub(super) fn covers(&self, nanos: i64) -> bool {
        nanos <= self.covered.load(Ordering::Acquire)
    }

    /// Extends the reach on disk to this date. Returns whether that succeeded.
    pub(super) async fn cover(&self, nanos: i64) -> bool {
        let (reply, covered) = oneshot::channel();
        self.call(Call::Cover(nanos, reply));
        covered.await.unwrap_or(false)
    }

    pub(super) fn forgot(&self) {
        self.call(Call::Forgot);
    }

    pub(super) fn health(&self) -> StoreHealth {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match trouble {
            Some(why) if self.log.room() <= self.salts.reserved() => StoreHealth::Gone(why),
            Some(why) => StoreHealth::Degraded(why),
            None => self.salts.is_full().map_or(StoreHealth::Ok, StoreHealth::Degraded),
        }
    }

    pub(super) fn call(&self, call: Call) {
        // If the thread has ended, it has reported why.
        drop(self.calls.lock().unwrap_or_else(PoisonError::into_inner).send(call));
    }

    pub(super) fn trouble(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &why) {
            (None, Some(why)) => tracing::error!("the replay journal: {why}"),
            (Some(_), None) => tracing::warn!("the replay journal works again"),
            _ => {}
        }
        *trouble = why;
    }
}
