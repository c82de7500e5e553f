use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Reservation, Room, Unavailable};

/// Four by date, and one for what an earlier life spent far ahead of them.
pub(super) const GENERATIONS: usize = 5;

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
    /// Set aside and not held yet, of all keys. Counted by itself: the difference of two counts that
    /// change one after the other is neither's.
    set_aside: AtomicUsize,
    tallies: [Mutex<HashMap<KeyTag, Arc<Tally>>>; SHARDS],
}

/// An apiKey, as small as a journal can keep it beside each salt: 32 bits of a hash that is the
/// same in every process. Two keys that share a tag share a share; only keys that are known get
/// as far as this, so nobody can choose to.
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

/// What one key has.
#[derive(Default)]
pub(super) struct Tally {
    /// Held and set aside.
    taken: AtomicUsize,
    held: [AtomicUsize; GENERATIONS],
}

impl Ledger {
    pub(super) fn new(room: Room) -> Self {
        Self {
            max: room.max_salts,
            max_per_key: room.max_salts_per_key,
            taken: AtomicUsize::new(0),
            set_aside: AtomicUsize::new(0),
            tallies: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.taken.load(Ordering::Acquire).saturating_sub(self.set_aside())
    }

    /// Set aside and not held yet, of all keys.
    pub(super) fn set_aside(&self) -> usize {
        self.set_aside.load(Ordering::Acquire)
    }

    pub(super) fn capacity(&self) -> usize {
        self.max
    }

    /// A place for `api_key`, given back when the reservation is dropped.
    pub(super) fn reserve(self: &Arc<Self>, api_key: &str) -> Result<Reservation, Unavailable> {
        if !one_more(&self.taken, self.max) {
            return Err(Unavailable::Full);
        }
        let key = KeyTag::of(api_key);
        match self.share(key) {
            Ok(tally) => {
                self.set_aside.fetch_add(1, Ordering::AcqRel);
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
        // Within the lock: a tally that nobody has taken of goes when it is next looked through.
        if one_more(&tally.taken, self.max_per_key) { Ok(tally.clone()) } else { Err(Unavailable::KeyShare) }
    }

    /// Places for salts that were spent in an earlier life: they are held, whatever the limits are
    /// now.
    pub(super) fn recalling(&self) -> Recalling<'_> {
        Recalling { ledger: self, run: None }
    }

    fn shard(&self, key: KeyTag) -> &Mutex<HashMap<KeyTag, Arc<Tally>>> {
        &self.tallies[key.0 as usize % SHARDS]
    }

    /// Everything in this generation is forgotten.
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

/// See [`Ledger::recalling`]. Salts of one key come in runs, and are counted a run at a time.
pub(super) struct Recalling<'l> {
    ledger: &'l Ledger,
    run: Option<(KeyTag, [usize; GENERATIONS])>,
}

impl Recalling<'_> {
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
        for (place, held) in tally.held.iter().zip(held) {
            place.fetch_add(held, Ordering::AcqRel);
        }
        self.ledger.taken.fetch_add(all, Ordering::AcqRel);
    }
}

impl Drop for Recalling<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

/// One more, unless that were more than `max`.
fn one_more(count: &AtomicUsize, max: usize) -> bool {
    let one_more = |count| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
}

impl Reservation {
    /// Whose place it is.
    pub(super) fn key(&self) -> KeyTag {
        self.key
    }

    /// The place is held from now on, in this generation, until that is forgotten.
    pub(super) fn hold(mut self, generation: usize) {
        self.tally.held[generation].fetch_add(1, Ordering::AcqRel);
        self.ledger.set_aside.fetch_sub(1, Ordering::AcqRel);
        self.held = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.held {
            self.tally.taken.fetch_sub(1, Ordering::AcqRel);
            self.ledger.set_aside.fetch_sub(1, Ordering::AcqRel);
            self.ledger.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
