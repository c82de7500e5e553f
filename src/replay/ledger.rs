use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Reservation, Unavailable, memory::GENERATIONS};

const SHARDS: usize = 16;

/// Who holds how many places, of which there are only so many.
///
/// Its own locks are taken to reserve and to forget; a place that is held or given back is two
/// atomic steps.
pub(super) struct Ledger {
    max: usize,
    max_per_key: usize,
    /// Held and set aside, of all keys.
    taken: AtomicUsize,
    /// Held, of all keys.
    held: AtomicUsize,
    hash: RandomState,
    tallies: [Mutex<HashMap<Box<str>, Arc<Tally>>>; SHARDS],
}

/// What one key has.
#[derive(Default)]
pub(super) struct Tally {
    /// Held and set aside.
    taken: AtomicUsize,
    held: [AtomicUsize; GENERATIONS],
}

impl Ledger {
    pub(super) fn new(max: usize, max_per_key: usize) -> Self {
        Self {
            max,
            max_per_key,
            taken: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            hash: RandomState::new(),
            tallies: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn capacity(&self) -> usize {
        self.max
    }

    /// A place for `api_key`, given back when the reservation is dropped.
    pub(super) fn reserve(self: &Arc<Self>, api_key: &str) -> Result<Reservation, Unavailable> {
        if !one_more(&self.taken, self.max) {
            return Err(Unavailable::Full);
        }
        match self.share(api_key) {
            Ok(tally) => Ok(Reservation { ledger: self.clone(), tally, held: false }),
            Err(unavailable) => {
                self.taken.fetch_sub(1, Ordering::AcqRel);
                Err(unavailable)
            }
        }
    }

    fn share(&self, api_key: &str) -> Result<Arc<Tally>, Unavailable> {
        let shard = &self.tallies[self.hash.hash_one(api_key) as usize % SHARDS];
        let mut tallies = shard.lock().map_err(|_| Unavailable::OutOfReach)?;
        let tally = match tallies.get(api_key) {
            Some(tally) => tally,
            None => tallies.entry(api_key.into()).or_default(),
        };
        // Within the lock: a tally that nobody has taken of goes when it is next looked through.
        if one_more(&tally.taken, self.max_per_key) { Ok(tally.clone()) } else { Err(Unavailable::KeyShare) }
    }

    /// Everything in this generation is forgotten.
    pub(super) fn forget(&self, generation: usize) {
        for shard in &self.tallies {
            let Ok(mut tallies) = shard.lock() else { continue };
            tallies.retain(|_, tally| {
                let forgotten = tally.held[generation].swap(0, Ordering::AcqRel);
                self.held.fetch_sub(forgotten, Ordering::Relaxed);
                self.taken.fetch_sub(forgotten, Ordering::AcqRel);
                tally.taken.fetch_sub(forgotten, Ordering::AcqRel) > forgotten
            });
        }
    }
}

/// One more, unless that were more than `max`.
fn one_more(count: &AtomicUsize, max: usize) -> bool {
    let one_more = |count| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
}

impl Reservation {
    /// The place is held from now on, in this generation, until that is forgotten.
    pub(super) fn hold(mut self, generation: usize) {
        self.tally.held[generation].fetch_add(1, Ordering::AcqRel);
        self.ledger.held.fetch_add(1, Ordering::Relaxed);
        self.held = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.held {
            self.tally.taken.fetch_sub(1, Ordering::AcqRel);
            self.ledger.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
