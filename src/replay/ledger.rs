use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Reservation, Unavailable, memory::GENERATIONS};

const SHARDS: usize = 16;

/// Who holds how many places, of which there are only so many.
///
/// Locked after a shard of the memory, never before.
pub(super) struct Ledger {
    max: usize,
    max_per_key: usize,
    /// Held and set aside, of all keys.
    taken: AtomicUsize,
    /// Held, of all keys.
    held: AtomicUsize,
    hash: RandomState,
    tallies: [Mutex<HashMap<Arc<str>, Tally>>; SHARDS],
}

#[derive(Default)]
struct Tally {
    reserved: usize,
    held: [usize; GENERATIONS],
}

impl Tally {
    fn taken(&self) -> usize {
        self.reserved + self.held.iter().sum::<usize>()
    }
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
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            return Err(Unavailable::Full);
        }
        let reserved = self.reserve_share(api_key);
        if reserved.is_err() {
            self.taken.fetch_sub(1, Ordering::AcqRel);
        }
        reserved.map(|api_key| Reservation { ledger: self.clone(), api_key })
    }

    fn reserve_share(&self, api_key: &str) -> Result<Arc<str>, Unavailable> {
        let mut tallies = self.shard(api_key).lock().map_err(|_| Unavailable::OutOfReach)?;
        if let Some((name, _)) = tallies.get_key_value(api_key) {
            let name = name.clone();
            let tally = tallies.entry(name.clone()).or_default();
            if tally.taken() >= self.max_per_key {
                return Err(Unavailable::KeyShare);
            }
            tally.reserved += 1;
            return Ok(name);
        }
        if self.max_per_key == 0 {
            return Err(Unavailable::KeyShare);
        }
        let name: Arc<str> = api_key.into();
        tallies.insert(name.clone(), Tally { reserved: 1, ..Tally::default() });
        Ok(name)
    }

    /// The reservation's place is held from now on, in this generation.
    pub(super) fn hold(&self, api_key: &str, generation: usize) {
        self.held.fetch_add(1, Ordering::Relaxed);
        // The reservation's drop takes one off what is taken; the place is taken still.
        self.taken.fetch_add(1, Ordering::AcqRel);
        if let Ok(mut tallies) = self.shard(api_key).lock() {
            if let Some(tally) = tallies.get_mut(api_key) {
                tally.held[generation] += 1;
            }
        }
    }

    /// Everything in this generation is forgotten.
    pub(super) fn forget(&self, generation: usize) {
        for shard in &self.tallies {
            let Ok(mut tallies) = shard.lock() else { continue };
            tallies.retain(|_, tally| {
                let forgotten = std::mem::take(&mut tally.held[generation]);
                self.held.fetch_sub(forgotten, Ordering::Relaxed);
                self.taken.fetch_sub(forgotten, Ordering::AcqRel);
                tally.taken() > 0
            });
        }
    }

    fn give_back(&self, api_key: &str) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        if let Ok(mut tallies) = self.shard(api_key).lock() {
            if let Some(tally) = tallies.get_mut(api_key) {
                tally.reserved -= 1;
                if tally.taken() == 0 {
                    tallies.remove(api_key);
                }
            }
        }
    }

    fn shard(&self, api_key: &str) -> &Mutex<HashMap<Arc<str>, Tally>> {
        &self.tallies[self.hash.hash_one(api_key) as usize % SHARDS]
    }
}

impl Reservation {
    /// Whose place it is.
    pub(super) fn api_key(&self) -> &str {
        &self.api_key
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.give_back(&self.api_key);
    }
}
