//! Counts how many salts each key holds, so that no key exceeds its share and no claim finds the store full.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::fullness::Fullness;
use super::{Reservation, Room, Unavailable};

/// Four by date, and one for salts that lie outside the window.
pub(super) const GENERATIONS: usize = 5;

const SHARDS: usize = 16;

/// How many salts each key holds or has reserved, within the limits of [`Room`].
///
/// Reserving and forgetting take a lock; occupying or releasing a reservation takes only atomic operations.
pub(super) struct Ledger {
    max: usize,
    max_per_key: usize,
    /// Held and reserved, by all keys.
    taken: AtomicUsize,
    /// Reserved and not held yet, by all keys. It has a counter of its own, because the difference of two counters
    /// that change one after the other is never exact.
    reserved: AtomicUsize,
    tallies: [Mutex<HashMap<KeyTag, Arc<Tally>>>; SHARDS],
    fullness: Fullness,
}

/// A short name for an apiKey, small enough for a journal to keep with each salt: 32 bits of a hash that is the same
/// in every process. Two keys with one tag share one limit; nobody can choose that, because only known keys get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyTag(pub(super) u32);

impl KeyTag {
    pub(super) fn of(api_key: &str) -> Self {
        // FNV-1a, folded.
        let hash =
            api_key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self((hash >> 32) as u32 ^ hash as u32)
    }
}

/// The counts of one key.
#[derive(Default)]
pub(super) struct Tally {
    /// Held and reserved.
    taken: AtomicUsize,
    held: [AtomicUsize; GENERATIONS],
}

impl Ledger {
    pub(super) fn new(room: Room) -> Self {
        Self {
            max: room.max_salts,
            max_per_key: room.max_salts_per_key,
            taken: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            tallies: std::array::from_fn(|_| Mutex::default()),
            fullness: Fullness::default(),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.taken.load(Ordering::Acquire).saturating_sub(self.reserved())
    }

    /// Reserved and not held yet, by all keys.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }

    pub(super) fn capacity(&self) -> usize {
        self.max
    }

    /// Logs if the store has become full, or is no longer. Called periodically.
    pub(super) fn check_fullness(&self) {
        match self.taken.load(Ordering::Acquire) {
            taken if taken >= self.max => self.fullness.begins(self.max),
            taken => self.fullness.ends(taken, self.max),
        }
    }

    /// A text for operators, if the store is full.
    pub(super) fn is_full(&self) -> Option<String> {
        self.fullness.describe(self.max)
    }

    /// Reserves room for one salt of `api_key`. Dropping the reservation releases it.
    pub(super) fn reserve(self: &Arc<Self>, api_key: &str) -> Result<Reservation, Unavailable> {
        if !one_more(&self.taken, self.max) {
            self.fullness.begins(self.max);
            return Err(Unavailable::Full);
        }
        let key = KeyTag::of(api_key);
        match self.share(key) {
            Ok(tally) => {
                self.reserved.fetch_add(1, Ordering::AcqRel);
                Ok(Reservation { ledger: self.clone(), tally, key, held: false })
            }
            Err(unavailable) => {
                self.taken.fetch_sub(1, Ordering::AcqRel);
                Err(unavailable)
            }
        }
    }

    fn share(&self, key: KeyTag) -> Result<Arc<Tally>, Unavailable> {
        let mut tallies = self.shard(key).lock().map_err(|_| Unavailable::OutOfReach)?;
        let tally = tallies.entry(key).or_default();
        // Under the lock, because `forget` removes tallies that are not in use.
        if one_more(&tally.taken, self.max_per_key) { Ok(tally.clone()) } else { Err(Unavailable::KeyShare) }
    }

    /// Counts salts that an earlier run spent. They are counted even if they exceed the present limits.
    pub(super) fn loading(&self) -> Loading<'_> {
        Loading { ledger: self, run: None }
    }

    fn shard(&self, key: KeyTag) -> &Mutex<HashMap<KeyTag, Arc<Tally>>> {
        &self.tallies[key.0 as usize % SHARDS]
    }

    /// Removes the salts of this generation from the counts.
    pub(super) fn forget(&self, generation: usize) {
        for shard in &self.tallies {
            let Ok(mut tallies) = shard.lock() else { continue };
            tallies.retain(|_, tally| {
                let forgotten = tally.held[generation].swap(0, Ordering::AcqRel);
                self.taken.fetch_sub(forgotten, Ordering::AcqRel);
                tally.taken.fetch_sub(forgotten, Ordering::AcqRel) > forgotten
            });
        }
    }
}

/// See [`Ledger::loading`]. Salts of one key mostly follow each other, so they are counted a run at a time.
pub(super) struct Loading<'l> {
    ledger: &'l Ledger,
    run: Option<(KeyTag, [usize; GENERATIONS])>,
}

impl Loading<'_> {
    pub(super) fn hold(&mut self, key: KeyTag, generation: usize) {
        if self.run.is_none_or(|(run, _)| run != key) {
            self.count();
        }
        self.run.get_or_insert((key, [0; GENERATIONS])).1[generation] += 1;
    }

    fn count(&mut self) {
        let Some((key, held)) = self.run.take() else { return };
        let Ok(mut tallies) = self.ledger.shard(key).lock() else { return };
        let tally = tallies.entry(key).or_default();
        let all = held.iter().sum();
        tally.taken.fetch_add(all, Ordering::AcqRel);
        for (count, held) in tally.held.iter().zip(held) {
            count.fetch_add(held, Ordering::AcqRel);
        }
        self.ledger.taken.fetch_add(all, Ordering::AcqRel);
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

/// Increments the counter unless it has reached `max`.
fn one_more(count: &AtomicUsize, max: usize) -> bool {
    let one_more = |count| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
}

impl Reservation {
    /// The key that it was made for.
    pub(super) fn key(&self) -> KeyTag {
        self.key
    }

    /// Turns the reservation into a salt of this generation, counted until the generation is forgotten.
    pub(super) fn hold(mut self, generation: usize) {
        self.tally.held[generation].fetch_add(1, Ordering::AcqRel);
        self.ledger.reserved.fetch_sub(1, Ordering::AcqRel);
        self.held = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.held {
            self.tally.taken.fetch_sub(1, Ordering::AcqRel);
            self.ledger.reserved.fetch_sub(1, Ordering::AcqRel);
            self.ledger.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals keep tags, so they must not change.
    #[test]
    fn the_tag_of_a_key_is_always_the_same() {
        assert_eq!(KeyTag::of("").0, 0x4fd0_bfc1);
        assert_eq!(KeyTag::of("NCSTESTKEY000001").0, 0xd01b_9e99);
    }
}
